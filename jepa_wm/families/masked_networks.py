"""The networks of families that predict what a mask hides."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import fields, units
from jepa_wm.families import regularizers
from jepa_wm.networks import masked, rotary
from jepa_wm.types import Params

ENCODERS = ('target_encoder', 'encoder')
"""The two encoders of a trained model: the moving average, and what it follows.

V-JEPA's evaluations use the average, its torch.hub models the other.
"""


@dataclasses.dataclass(frozen=True)
class MaskedNetworks(regularizers.Regularized):
  """Encoder and predictor of tokens, by size, and what a trained one gives.

  Without actions there are no dynamics: such a model encodes. Every default is
  V-JEPA 2's ViT-L/16.

  Attributes, beside those of `regularizers.Regularized` (whose latents are the
  context's tokens, averaged):
    image_size: side of the square frames, pixels.
    patch_size: side of a patch.
    tubelet_size: frames of a token.
    num_frames: frames `T` of a clip.
    frame_stride: steps of the recording from one frame of a clip to the next.
    encoder_dim: width of the encoder.
    encoder_depth: its blocks.
    encoder_heads: its attention heads.
    encoder_mlp_dim: hidden width of its MLPs.
    predictor_dim: width of the predictor.
    predictor_depth: its blocks.
    predictor_heads: its attention heads.
    predictor_mlp_dim: hidden width of its MLPs.
    num_mask_tokens: mask tokens of the predictor.
    mask_token_std: in which they start.
    positions: one of `masked.POSITIONS`.
    rope_style: one of `rotary.STYLES`, for 'rotary' positions.
    init_style: one of `masked.INITS`.
    num_levels: depths of the target encoder that are predicted, evenly spread
      and the last among them; each is normalised, and they lie side by side
      (V-JEPA 2.1 has 4).
    inference_encoder: one of `ENCODERS`, which `encode` and `tokens` use.
    dtype: of the networks' computation; parameters, norms, softmax, losses and
      latents are float32.
  """

  regularizer: str = 'none'
  image_size: int = 256
  patch_size: int = 16
  tubelet_size: int = 2
  num_frames: int = 16
  frame_stride: int = 4
  encoder_dim: int = 1024
  encoder_depth: int = 24
  encoder_heads: int = 16
  encoder_mlp_dim: int = 4096
  predictor_dim: int = 384
  predictor_depth: int = 12
  predictor_heads: int = 12
  predictor_mlp_dim: int = 1536
  num_mask_tokens: int = 10
  mask_token_std: float = 0.0
  positions: str = 'rotary'
  rope_style: str = 'vjepa2'
  init_style: str = 'depth_scaled'
  num_levels: int = 1
  inference_encoder: str = 'target_encoder'
  dtype: str = 'float32'

  def check(self, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Checks every field.

    Args:
      choices: values of the fields of text that a subclass adds.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(
      self,
      choices={
        'regularizer': regularizers.REGULARIZERS,
        'positions': masked.POSITIONS,
        'rope_style': rotary.STYLES,
        'init_style': masked.INITS,
        'inference_encoder': ENCODERS,
        'dtype': ('float32', 'bfloat16'),
        **choices,
      },
    )
    regularizers.Regularized.__post_init__(self)
    for size, part in (
      ('image_size', 'patch_size'),
      ('num_frames', 'tubelet_size'),
      ('encoder_dim', 'encoder_heads'),
      ('predictor_dim', 'predictor_heads'),
      ('encoder_depth', 'num_levels'),
    ):
      if getattr(self, size) % getattr(self, part):
        raise ValueError(
          f'{size}={getattr(self, size)} must be a multiple of '
          f'{part}={getattr(self, part)}.'
        )
    for part in ('encoder', 'predictor'):
      size, heads = (getattr(self, f'{part}_{x}') for x in ('dim', 'heads'))
      if self.positions == 'rotary' and size // heads < 6:
        raise ValueError(
          f'{part}_dim={size} over {part}_heads={heads} leaves {size // heads} '
          'channels a head, rotary positions need 6: take fewer heads.'
        )
      if self.positions == 'sincos' and size % 2:
        raise ValueError(
          f"{part}_dim={size} must be even for positions='sincos'."
        )

  @property
  def table_order(self) -> str:
    """One of `sincos.ORDERS`."""
    return 'time_first'

  @property
  def grid(self) -> tuple[int, int, int]:
    """Tokens of a clip in time, height and width."""
    side = self.image_size // self.patch_size
    return self.num_frames // self.tubelet_size, side, side

  @property
  def latent_dim(self) -> int:
    """Size `D` of a latent: that of a token."""
    return self.encoder_dim

  @property
  def _positions(self) -> dict[str, Any]:
    return {
      'grid': self.grid,
      'positions': self.positions,
      'rope_style': self.rope_style,
      'table_order': self.table_order,
      'init_style': self.init_style,
      'dtype': jnp.dtype(self.dtype),
    }

  def encoder(self) -> masked.VideoViT:
    """Builds the encoder."""
    return masked.VideoViT(
      width=self.encoder_dim,
      depth=self.encoder_depth,
      num_heads=self.encoder_heads,
      mlp_dim=self.encoder_mlp_dim,
      patch_size=self.patch_size,
      tubelet_size=self.tubelet_size,
      **self._positions,
    )

  def predictor(self) -> masked.MaskedPredictor:
    """Builds the predictor."""
    return masked.MaskedPredictor(
      width=self.predictor_dim,
      depth=self.predictor_depth,
      num_heads=self.predictor_heads,
      mlp_dim=self.predictor_mlp_dim,
      features=self.num_levels * self.encoder_dim,
      num_mask_tokens=self.num_mask_tokens,
      mask_token_std=self.mask_token_std,
      **self._positions,
    )

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables `{'params': {'encoder', 'predictor'}, ...}`, float32.

    Args:
      rng_key: key of the parameters, consumed.
    """
    encoder_key, predictor_key = jax.random.split(rng_key)
    ids = jnp.zeros((1, 1), jnp.int32)
    size = self.image_size
    pixels = jnp.zeros((1, self.num_frames, size, size, 3))
    tokens = jnp.zeros((1, 1, self.encoder_dim))
    return {
      'params': {
        'encoder': self.encoder().init(encoder_key, pixels, ids)['params'],
        'predictor': self.predictor().init(predictor_key, tokens, ids, ids)[
          'params'
        ],
      },
      'batch_stats': {},
    }

  def tokens(self, variables: Params, pixels: jax.Array) -> jax.Array:
    """Encodes all tokens of clips.

    Args:
      variables: as `inference_variables` gives them.
      pixels: uint8 `[..., T, image_size, image_size, 3]`, `T` a multiple of
        `tubelet_size`.

    Returns:
      float32 `[..., P, D]`, after the encoder's last LayerNorm; token
      `(t * H + h) * W + w`.

    Raises:
      ValueError: pixels of another size or dtype, or variables without the
        encoder that `inference_encoder` names.
    """
    self._check_pixels(pixels)
    encoder_params = variables['params'].get(self.inference_encoder)
    if encoder_params is None:
      raise ValueError(
        f'The variables hold {sorted(variables["params"])} and no '
        f'{self.inference_encoder!r}; give those of inference_variables, or '
        "set inference_encoder='encoder'."
      )
    tokens, _ = self.encoder().apply(
      {'params': encoder_params}, units.normalize_pixels(pixels)
    )
    return tokens.astype(jnp.float32)

  def encode(self, variables: Params, pixels: jax.Array) -> jax.Array:
    """Encodes clips, as the mean of their `tokens`.

    Args:
      variables: as `inference_variables` gives them.
      pixels: uint8 `[..., T, image_size, image_size, 3]`.

    Returns:
      float32 `[..., D]`.

    Raises:
      ValueError: what `tokens` refuses.
    """
    return jnp.mean(self.tokens(variables, pixels), axis=-2)

  def predict(
    self,
    variables: Params,
    context: jax.Array,
    context_ids: jax.Array,
    target_ids: jax.Array,
    *,
    mask_index: int = 1,
  ) -> jax.Array:
    """Predicts tokens of a clip from others of it.

    Args:
      variables: of the model.
      context: `[..., Kc, D]`, encoded by the encoder alone.
      context_ids: integers `[..., Kc]`.
      target_ids: integers `[..., Kt]`.
      mask_index: which mask token stands at the places asked about; 1 is what
        V-JEPA 2's evaluations use.

    Returns:
      float32 `[..., Kt, num_levels * D]`.
    """
    predicted, _ = self.predictor().apply(
      {'params': variables['params']['predictor']},
      context,
      context_ids,
      target_ids,
      mask_index=mask_index,
    )
    return predicted.astype(jnp.float32)

  def inference_variables(
    self, variables: Params, target_variables: Params | None
  ) -> Params:
    """What evaluations and an export hold: the moving average as well.

    Args:
      variables: of the model.
      target_variables: of the moving average.

    Returns:
      `variables` with `params` of a `target_encoder`.
    """
    assert target_variables is not None
    target = target_variables['params']['encoder']
    params = {**variables['params'], 'target_encoder': target}
    return {**variables, 'params': params}

  def _check_pixels(self, pixels: jax.Array) -> None:
    size = (self.image_size, self.image_size, 3)
    if (
      pixels.ndim < 4
      or pixels.shape[-3:] != size
      or pixels.shape[-4] % self.tubelet_size
      or not pixels.shape[-4]
    ):
      raise ValueError(
        f'pixels must be clips [..., T, {size[0]}, {size[1]}, 3] with T a '
        f'multiple of tubelet_size={self.tubelet_size}, got shape '
        f'{pixels.shape}.'
      )
