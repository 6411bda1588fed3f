"""Frozen encoders whose tokens are the latents of a world model."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import fields, jepa, units
from jepa_wm.networks import block_causal, dinov2
from jepa_wm.types import Params

TOKEN_NORMS = ('none', 'token', 'frame', 'dataset')

_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class FrozenTokens:
  """Fields and methods of a family that predicts a frozen encoder's tokens.

  The encoder's weights are the collection 'frozen' of the family's variables:
  part of every checkpoint and export, and nothing that an optimiser or an
  average over steps sees. `init` draws them at random; `experiments.train`
  puts those of a trained model there (`--config.frozen_encoder`).

  A latent is a frame's tokens in a row, `P * F` numbers, so that whatever
  takes latents `[..., D]` takes these; `split` gives `[..., P, F]` back.

  Attributes:
    image_size: side of the square frames, pixels.
    action_dim: raw action dimensions of one environment step.
    action_block: environment steps, so raw actions, per latent step.
    history: longest window of frames that the predictor sees.
    encoder: a name out of `dinov2.PRESETS`, or a family of ours, whose encoder
      keeps its tokens or its feature map, or takes clips (V-JEPA); each frame
      is then repeated to be one.
    encoder_image_size: side that DINOv2 sees frames at, a multiple of 14;
      DINO-WM keeps as many patches of 14 as the frame has of 16.
    pool: side of the squares of tokens that are averaged into one.
    token_norm: 'token' gives every token mean 0 and variance 1 over its
      features (V-JEPA 2-AC); 'frame' does so over all of a frame's, which
      keeps what is strong in it strong; 'dataset' subtracts from each token
      its mean over the dataset and divides all by one deviation
      (`fit_tokens`), so that what never changes counts nothing; 'none' leaves
      the encoder's.
    predictor_depth: blocks of the predictor.
    predictor_heads: its attention heads.
    predictor_mlp_dim: hidden width of its MLPs.
    dtype: of the networks' computation; parameters, norms, softmax, losses and
      latents are float32.
  """

  image_size: int = 224
  action_dim: int = 2
  action_block: int = 5
  history: int = 3
  encoder: Any = 'dinov2_small'
  encoder_image_size: int = 196
  pool: int = 1
  token_norm: str = 'none'
  predictor_depth: int = 6
  predictor_heads: int = 16
  predictor_mlp_dim: int = 2048
  dtype: str = 'float32'

  def check(
    self,
    choices: Mapping[str, tuple[str, ...]],
    may_be_zero: Sequence[str] = (),
  ) -> None:
    """Checks every field.

    Args:
      choices: values of the fields of text that a subclass adds.
      may_be_zero: its integers for which zero means something.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    own = {
      'token_norm': TOKEN_NORMS,
      'dtype': ('float32', 'bfloat16'),
      'encoder': tuple(dinov2.PRESETS),
    }
    if not isinstance(self.encoder, str):
      own['encoder'] = (self.encoder,)
    fields.check(self, {**own, **choices}, may_be_zero=may_be_zero)
    if isinstance(self.encoder, str):
      if self.encoder_image_size % dinov2.PATCH_SIZE:
        raise ValueError(
          f'encoder_image_size must be a multiple of {dinov2.PATCH_SIZE}, got '
          f'{self.encoder_image_size}.'
        )
    elif self.encoder.image_size != self.image_size:
      raise ValueError(
        f'image_size must be that of the frozen encoder, '
        f'{self.encoder.image_size}, got {self.image_size}.'
      )
    rows, columns = self.encoder_grid[:2]
    if rows % self.pool or columns % self.pool:
      raise ValueError(
        f"pool must divide the frozen encoder's grid of {rows} x {columns} "
        f'tokens, got {self.pool}.'
      )

  @functools.cached_property
  def encoder_grid(self) -> tuple[int, int, int]:
    """Rows, columns and features of what the frozen encoder gives a frame."""
    if hasattr(self.encoder, 'tubelet_size'):
      # Known without tracing 40 blocks.
      _, rows, columns = self.encoder.grid
      return rows, columns, self.encoder.latent_dim
    size = self.image_size

    def look(rng_key):
      pixels = jnp.zeros((size, size, 3), jnp.uint8)
      return self._feature_map(self.init_encoder(rng_key), pixels)

    rows, columns, features = jax.eval_shape(look, jax.random.key(0)).shape
    return rows, columns, features

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of a latent's tokens."""
    rows, columns, _ = self.encoder_grid
    return rows // self.pool, columns // self.pool

  @property
  def num_tokens(self) -> int:
    """Tokens `P` of a frame."""
    return math.prod(self.grid)

  def init_frozen(self, rng_key: jax.Array) -> Params:
    """The collection 'frozen', drawn at random.

    Args:
      rng_key: consumed.

    Returns:
      The encoder's variables, and with the 'dataset' norm `tokens`: `mean`
      `[P, D]` and `deviation`, a scalar.
    """
    variables = self.init_encoder(rng_key)
    if self.token_norm != 'dataset':
      return variables
    shape = (self.num_tokens, self.encoder_grid[2])
    neutral = {'mean': jnp.zeros(shape), 'deviation': jnp.ones(())}
    return {**variables, 'tokens': neutral}

  def fit_tokens(self, frozen: Params, pixels: jax.Array) -> Params:
    """Statistics of tokens, for the 'dataset' norm.

    Args:
      frozen: variables of the encoder.
      pixels: uint8 `[..., image_size, image_size, 3]`, frames of the dataset.

    Returns:
      `frozen` with them; as it was for another norm.
    """
    if self.token_norm != 'dataset':
      return frozen
    tokens = self._tokens(frozen, pixels)
    tokens = tokens.reshape(-1, *tokens.shape[-2:])
    mean = tokens.mean(0)
    square = jnp.mean(jnp.square(tokens - mean[None]))
    statistics = {'mean': mean, 'deviation': jnp.sqrt(square + _EPSILON)}
    return {**frozen, 'tokens': statistics}

  def init_encoder(self, rng_key: jax.Array) -> Params:
    """The frozen encoder's variables, drawn at random.

    Args:
      rng_key: consumed.

    Returns:
      `{'params': ...}`, and `batch_stats` where the encoder has such.
    """
    size = self.image_size
    if isinstance(self.encoder, str):
      size = self.encoder_image_size
    pixels = jnp.zeros((1, size, size, 3))
    variables: Any = self._encoder().init(rng_key, self._inputs(pixels))
    return variables

  def split(self, latents: jax.Array) -> jax.Array:
    """Latents `[..., P * F]` as tokens `[..., P, F]`."""
    return latents.reshape(*latents.shape[:-1], self.num_tokens, -1)

  def join(self, tokens: jax.Array) -> jax.Array:
    """Tokens `[..., P, F]` as latents `[..., P * F]`."""
    return tokens.reshape(*tokens.shape[:-2], -1)

  def tokens(self, variables: Params, pixels: jax.Array) -> jax.Array:
    """Tokens `[..., P, D]` of frames, for probes; see `encode_tokens`."""
    return self.encode_tokens(variables['frozen'], pixels)

  def encode_tokens(self, frozen: Params, pixels: jax.Array) -> jax.Array:
    """Tokens of frames, without gradient.

    Args:
      frozen: variables of the frozen encoder.
      pixels: uint8 `[..., image_size, image_size, 3]`.

    Returns:
      float32 `[..., P, D]`, row by row, pooled and normalised.

    Raises:
      ValueError: pixels of another size.
    """
    size = (self.image_size, self.image_size, 3)
    if pixels.ndim < 3 or pixels.shape[-3:] != size:
      raise ValueError(
        f'pixels must be [..., {size[0]}, {size[1]}, 3] for '
        f'image_size={self.image_size}, got shape {pixels.shape}.'
      )
    tokens = self._tokens(frozen, pixels)
    if self.token_norm == 'dataset':
      mean, deviation = (frozen['tokens'][x] for x in ('mean', 'deviation'))
      mean = mean.reshape((1,) * (tokens.ndim - 2) + mean.shape)
      tokens = (tokens - mean) / deviation
    return jax.lax.stop_gradient(self.normalize_tokens(tokens))

  def normalize_tokens(self, tokens: jax.Array) -> jax.Array:
    """Tokens `[..., P, D]` as float32, normalised if that takes them alone."""
    tokens = tokens.astype(jnp.float32)
    if self.token_norm in ('none', 'dataset'):
      return tokens
    axes = -1 if self.token_norm == 'token' else (-2, -1)
    centred = tokens - tokens.mean(axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON)

  def initial_state(
    self, variables: Params, latents: jax.Array, actions: jax.Array
  ) -> jepa.LatentState:
    """Starts a state, and lets the predictor look at its past once.

    Args:
      variables: of the family.
      latents: `[..., L, P * F]`, `L` from 1 to `history`, oldest first.
      actions: `[..., L - 1, action_block * action_dim]`, normalised, between
        them.

    Returns:
      A state for `step`.
    """
    memory = None
    if actions.shape[-2]:
      _, past = self.apply_predictor(
        variables, latents[..., :-1, :], actions, last_only=True
      )
      memory = block_causal.Memory((actions,), past)
    return jepa.LatentState(latents, memory)

  def step(
    self, variables: Params, state: jepa.LatentState, action: jax.Array
  ) -> jepa.LatentState:
    """Steps a state by one action block, as `predict` of its window would.

    Keys and values of a growing window are computed once, and the last block
    answers for the newest frame alone.

    Args:
      variables: of the family.
      state: leaves `[..., L, *]`, but for keys and values.
      action: `[..., action_block * action_dim]`, normalised.
    """
    actions, past = jnp.expand_dims(action, -2), None
    if state.cache is not None:
      (before,), past = state.cache
      actions = jnp.concatenate([before, actions], axis=-2)
    predicted, past = self.apply_predictor(
      variables, state.latents, actions, past=past, last_only=True
    )
    memory = block_causal.Memory((actions,), past)
    return jepa.advance(
      state,
      predicted,
      memory,
      history=self.history,
      slide_fn=block_causal.slide,
    )

  def predict(
    self, variables: Params, latents: jax.Array, actions: jax.Array
  ) -> jax.Array:
    """Predicts one latent step on for every frame of a window, in eval mode.

    Args:
      variables: of the family.
      latents: `[..., L, P * F]`, `L` at most `history`.
      actions: `[..., L, action_block * action_dim]`, normalised, the block
        taken at each frame.

    Returns:
      float32 `[..., L, P * F]`; the last one is the latent after the window.

    Raises:
      ValueError: too long a window, or actions that do not fit it.
    """
    return self.apply_predictor(variables, latents, actions)[0]

  def apply_predictor(
    self,
    variables: Params,
    latents: jax.Array,
    actions: jax.Array,
    *,
    past: block_causal.Past | None = None,
    last_only: bool = False,
    dropout_key: jax.Array | None = None,
  ) -> tuple[jax.Array, block_causal.Past]:
    """Latents after a window, and what the predictor remembers of it.

    Args:
      variables: of the family.
      latents: `[..., L, P * F]`.
      actions: `[..., L, A]`.
      past: of the first frames of this window.
      last_only: whether only the latent after the window is asked for.
      dropout_key: turns dropout on; consumed.
    """
    raise NotImplementedError

  def init_target(self, variables: Params) -> None:
    """There is no target encoder: the frozen one gives the targets."""
    del variables

  def update_target(
    self,
    target_variables: None,
    variables: Params,
    step: jax.Array | int,
  ) -> None:
    """Nothing to update."""
    del target_variables, variables, step

  def check_batch(
    self, batch: Mapping[str, Any], num_frames: int
  ) -> tuple[jax.Array, jax.Array]:
    """Pixels and actions of a batch.

    Args:
      batch: see `loss`.
      num_frames: fewest frames that the loss can use.

    Returns:
      `pixels` and `actions`.

    Raises:
      ValueError: they do not fit the family or each other.
    """
    pixels, actions = batch['observation']['pixels'], batch['action']
    if pixels.ndim != 5 or pixels.shape[1] < num_frames:
      raise ValueError(
        'pixels must be [B, T, height, width, 3] with T at least '
        f'{num_frames}, got shape {pixels.shape}.'
      )
    size = self.action_block * self.action_dim
    expected = (pixels.shape[0], pixels.shape[1] - 1, size)
    if actions.shape != expected:
      raise ValueError(
        f'actions must be {list(expected)}: one block of '
        f'action_block={self.action_block} actions of '
        f'action_dim={self.action_dim} between any two frames, got shape '
        f'{actions.shape}.'
      )
    return pixels, actions

  def _tokens(self, frozen: Params, pixels: jax.Array) -> jax.Array:
    """Pooled tokens `[..., P, D]` as the encoder gives them, float32."""
    maps = self._feature_map(frozen, pixels).astype(jnp.float32)
    *lead, rows, columns, features = maps.shape
    if self.pool > 1:
      shape = (rows // self.pool, self.pool, columns // self.pool, self.pool)
      maps = maps.reshape(*lead, *shape, features).mean((-4, -2))
    return maps.reshape(*lead, self.num_tokens, features)

  def _encoder(self) -> Any:
    """The frozen module: inputs to features and intermediates."""
    if isinstance(self.encoder, str):
      sizes: Any = dinov2.PRESETS[self.encoder]
      return dinov2.Dinov2(**sizes, dtype=jnp.dtype(self.dtype))
    if hasattr(self.encoder, 'tubelet_size'):
      return self.encoder.encoder()
    return self.encoder.model().encoder

  def _inputs(self, pixels: jax.Array) -> jax.Array:
    """Normalised frames as the encoder takes them."""
    if hasattr(self.encoder, 'tubelet_size'):
      # V-JEPA 2-AC: a frame, repeated, is a clip of its own.
      count = self.encoder.tubelet_size
      return jnp.repeat(jnp.expand_dims(pixels, -4), count, axis=-4)
    if isinstance(self.encoder, str):
      size = self.encoder_image_size
      shape = (*pixels.shape[:-3], size, size, 3)
      return jax.image.resize(pixels, shape, 'bilinear')
    return pixels

  def _feature_map(self, frozen: Params, pixels: jax.Array) -> jax.Array:
    """What the encoder keeps of frames, `[..., rows, columns, D]`."""
    # What the encoder was trained on, where that is a matter of its fields.
    norm = getattr(self.encoder, 'pixel_norm', 'imagenet')
    mean, std = units.PIXEL_NORMS[norm]
    inputs = self._inputs(units.normalize_pixels(pixels, mean=mean, std=std))
    variables = {k: x for k, x in frozen.items() if k != 'tokens'}
    tokens, intermediates = self._encoder().apply(variables, inputs)
    if 'feature_map' in intermediates:
      return intermediates['feature_map']
    # Those of a clip are the output itself; a class token is no place in it.
    tokens = intermediates.get('tokens', tokens)
    side = math.isqrt(tokens.shape[-2])
    tokens = tokens[..., tokens.shape[-2] - side**2 :, :]
    return tokens.reshape(*tokens.shape[:-2], side, side, -1)
