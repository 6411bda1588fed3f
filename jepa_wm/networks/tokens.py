"""Tokens of any encoder as the latent of a frame: pooled, normalised, flat."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import dinov2, encoders
from jepa_wm.types import Observation, ObservationSpec

NORMS = ('none', 'token', 'frame', 'dataset')
"""What tokens are normalised by.

  'token': each to mean 0 and variance 1 over its features (V-JEPA 2-AC);
  'frame': all of a frame's together, which keeps what is strong in it strong;
  'dataset': less its mean over the dataset, and all divided by one deviation
    (`TokensConfig.fitted`), so that what never changes counts nothing;
  'none': they are left as the encoder gives them.
"""

KEPT = ('places', 'class')
"""What is kept of a frame: its places, or one vector of all of it."""

TOKENS = fields.Registry('encoder of tokens', 'jepa_wm.networks')
"""Encoders whose latents are tokens in a row."""

_EPSILON = 1e-5


@TOKENS.register
@dataclasses.dataclass(frozen=True)
class TokensConfig:
  """The settings of a `TokenEncoder`.

  Attributes:
    encoder: one that keeps its tokens or its feature map. One of clips is shown
      a frame, repeated, as a clip.
    kept: 'places', the tokens of the picture, or 'class', the one vector that
      the encoder makes of all of it: DINOv2's class token.
    pool: side of the squares of tokens that are averaged into one.
    norm: one of `NORMS`.
    proprio_dim: numbers of the body's own state that follow the tokens as they
      are; 0 for none.
  """

  name: ClassVar[str] = 'tokens'
  clip_length: ClassVar[int] = 0

  encoder: encoders.Encoder = fields.one_of(
    encoders.ENCODERS, dinov2.Dinov2Config()
  )
  kept: str = 'places'
  pool: int = 1
  norm: str = 'none'
  proprio_dim: int = 0

  def __post_init__(self) -> None:
    """Checks every field, and that squares of tokens fill the grid."""
    choices = {'norm': NORMS, 'kept': KEPT}
    fields.check(self, choices, may_be_zero=('proprio_dim',))
    if self.pool == 1:
      # Not traced where nothing can be wrong: these are defaults of others.
      return
    rows, columns, _ = self._map_shape
    if rows % self.pool or columns % self.pool:
      raise ValueError(
        f"pool must divide the encoder's grid of {rows} x {columns} tokens, "
        f'got {self.pool}.'
      )

  @functools.cached_property
  def _map_shape(self) -> tuple[int, int, int]:
    """Rows, columns and features of what the encoder gives a frame."""
    module = self.encoder.build(jnp.float32)

    def look() -> jax.Array:
      inputs = self._of_frames(encoders.zeros(self.encoder.spec))
      (features, kept), _ = module.init_with_output(jax.random.key(0), inputs)
      return _feature_map(features, kept, self.kept)

    shape = jax.eval_shape(look).shape
    return shape[-3], shape[-2], shape[-1]

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of the tokens of a frame."""
    rows, columns, _ = self._map_shape
    return rows // self.pool, columns // self.pool

  @property
  def num_tokens(self) -> int:
    """Tokens `P` of a frame."""
    return math.prod(self.grid)

  @property
  def token_features(self) -> int:
    """Features `F` of a token."""
    return self._map_shape[2]

  @property
  def features(self) -> int:
    """Size of what a frame becomes: its tokens in a row, and the state."""
    return self.num_tokens * self.token_features + self.proprio_dim

  @property
  def spec(self) -> ObservationSpec:
    """See `encoders.Encoder`."""
    if not self.proprio_dim:
      return self.encoder.spec
    proprio = jax.ShapeDtypeStruct((self.proprio_dim,), jnp.float32)
    return {**self.encoder.spec, 'proprio': proprio}

  def inputs(self, observation: Observation) -> tuple[Any, jax.Array | None]:
    """See `encoders.Encoder`; goals may come without a state."""
    proprio = None
    if self.proprio_dim and 'proprio' in observation:
      spec = self.spec['proprio']
      proprio = encoders.array(observation, 'proprio', spec)
    return self._of_frames(observation), proprio

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    return TokenEncoder(
      encoder=self.encoder.build(dtype),
      kept=self.kept,
      pool=self.pool,
      norm=self.norm,
    )

  def fitted(self, variables: Any, observation: Observation) -> Any:
    """Statistics of tokens over a dataset, for the norm 'dataset'.

    Args:
      variables: `{'params', 'batch_stats'}` of the module.
      observation: frames of the dataset `[..., *shape]`.

    Returns:
      `variables` with them; as they were for another norm.
    """
    if self.norm != 'dataset':
      return variables
    module = self.build(jnp.float32)
    inputs = self._of_frames(observation)
    tokens: Any = module.apply(variables, inputs, method='pooled')
    tokens = tokens.reshape(-1, *tokens.shape[-2:])
    mean = tokens.mean(0)
    square = jnp.mean(jnp.square(tokens - mean[None]))
    statistics = {
      'token_mean': mean,
      'token_deviation': jnp.sqrt(square + _EPSILON),
    }
    before = variables.get('batch_stats', {})
    return {**variables, 'batch_stats': {**before, **statistics}}

  def _of_frames(self, observation: Observation) -> Any:
    """Inputs of the encoder, for which a frame may have to be a clip."""
    count = self.encoder.clip_length
    if count:
      pixels = jnp.expand_dims(observation['pixels'], -4)
      pixels = jnp.repeat(pixels, count, axis=-4)
      observation = {**observation, 'pixels': pixels}
    return self.encoder.inputs(observation)


class TokenEncoder(nn.Module):
  """Any encoder's tokens, pooled, normalised and in a row, without gradient.

  Attributes:
    encoder: inputs to features and intermediates.
    kept: one of `KEPT`.
    pool: side of the squares of tokens that are averaged into one.
    norm: one of `NORMS`.
  """

  encoder: nn.Module
  kept: str = 'places'
  pool: int = 1
  norm: str = 'none'

  @nn.compact
  def __call__(
    self, inputs: tuple[Any, jax.Array | None], *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes frames.

    Args:
      inputs: what the encoder takes, and a state `[..., S]` or None.
      train: accepted as by every encoder; nothing here depends on it.

    Returns:
      float32 `[..., P * F + S]`, tokens row by row and then the state, and
      `{'tokens': [..., P, F]}`.
    """
    del train
    frames, proprio = inputs
    tokens = self.pooled(frames)
    if self.norm == 'dataset':
      mean = self.variable(
        'batch_stats', 'token_mean', jnp.zeros, tokens.shape[-2:]
      ).value
      deviation = self.variable(
        'batch_stats', 'token_deviation', jnp.ones, ()
      ).value
      mean = mean.reshape((1,) * (tokens.ndim - 2) + mean.shape)
      tokens = (tokens - mean) / deviation
    tokens = jax.lax.stop_gradient(normalized(tokens, self.norm))
    flat = tokens.reshape(*tokens.shape[:-2], -1)
    if proprio is not None:
      state = proprio.astype(jnp.float32)
      flat = jnp.concatenate([flat, state], axis=-1)
    return flat, {'tokens': tokens}

  def pooled(self, frames: Any) -> jax.Array:
    """Tokens `[..., P, F]` as the encoder gives them, pooled, float32."""
    features, found = self.encoder(frames)
    maps = _feature_map(features, found, self.kept).astype(jnp.float32)
    *lead, rows, columns, features = maps.shape
    if self.pool > 1:
      shape = (rows // self.pool, self.pool, columns // self.pool, self.pool)
      maps = maps.reshape(*lead, *shape, features).mean((-4, -2))
    return maps.reshape(*lead, rows * columns // self.pool**2, features)


def normalized(tokens: jax.Array, norm: str) -> jax.Array:
  """Tokens `[..., P, F]` as float32, normalised if that takes them alone."""
  tokens = tokens.astype(jnp.float32)
  if norm in ('none', 'dataset'):
    return tokens
  axes = -1 if norm == 'token' else (-2, -1)
  centred = tokens - tokens.mean(axes, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
  return centred * jax.lax.rsqrt(variance + _EPSILON)


def _feature_map(
  features: jax.Array, found: encoders.Intermediates, kept: str
) -> jax.Array:
  """What is kept of frames, `[..., rows, columns, F]`."""
  if kept == 'class':
    return jnp.expand_dims(features, (-3, -2))
  if 'feature_map' in found:
    return found['feature_map']
  # Those of a clip are the output itself; a class token is no place in it.
  tokens = found.get('tokens', features)
  side = math.isqrt(tokens.shape[-2])
  tokens = tokens[..., tokens.shape[-2] - side**2 :, :]
  return tokens.reshape(*tokens.shape[:-2], side, side, -1)
