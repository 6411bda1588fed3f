"""The networks of families whose latent is one vector a frame."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import fields, jepa, units
from jepa_wm.families import regularizers
from jepa_wm.networks import (
  encoders,
  predictors,
  projectors,
  recurrent,
  resnet,
  states,
)
from jepa_wm.types import Params

ENCODERS = (
  *encoders.VIT_PRESETS,
  'impala',
  'conv',
  'keypoints',
  'resnet18',
  'state',
)
PREDICTORS = ('causal', 'recurrent')
PROJECTORS = ('mlp', 'linear')
PREDICTIONS = ('latent', 'change')

ENCODING_MODULES = ('encoder', 'projector')
"""The modules that a latent depends on, and nothing else does."""

ENCODING_FIELDS = (
  'image_size',
  'pixel_norm',
  'latent_dim',
  'encoder',
  'patch_size',
  'encoder_features',
  'encoder_channels',
  'encoder_strides',
  'encoder_blocks',
  'proprio_dim',
  'proprio_scale',
  'proprio_features',
  'projector',
  'projector_dim',
  'projector_norm',
)
"""The fields that a latent depends on."""


@dataclasses.dataclass(frozen=True)
class LatentNetworks(regularizers.Regularized):
  """Encoder, projectors, action encoder and predictor, by name and size.

  Every default is LeWM's.

  Attributes, beside those of `regularizers.Regularized`:
    image_size: side of the square frames, pixels.
    pixel_norm: one of `units.PIXEL_NORMS`, what frames are normalised
      by.
    action_dim: raw action dimensions of one environment step.
    action_block: environment steps, so raw actions, per latent step.
    history: longest window of latents the predictor sees.
    latent_dim: size of a latent.
    encoder: one of `ENCODERS`; 'conv' is 'impala' with strided convolutions in
      place of max-pooling, 'keypoints' is 'conv' with its maps read as points
      (for small things whose place and angle matter), 'resnet18' has fixed
      sizes, 'state' looks at `proprio` in place of pixels.
    patch_size: side of a patch, of the ViT encoders.
    encoder_features: size of the output of 'impala', 'conv', 'keypoints' and
      'state', and of the hidden layers of the last two.
    encoder_channels: channels of the stages of 'impala', 'conv', 'keypoints'.
    encoder_strides: how many times each stage shrinks the image.
    encoder_blocks: residual blocks of each stage.
    proprio_dim: numbers of the body's own state that are encoded beside the
      pixels, 0 for none.
    proprio_scale: what they are divided by first.
    proprio_features: size of their embedding, DINO-WM's.
    projector: one of `PROJECTORS`, the form of the two that give the encoder's
      and the predictor's latents.
    projector_dim: hidden width of both, of 'mlp'.
    projector_norm: 'batch', or 'none', of 'mlp'.
    smoothed_dim: bottleneck of the action encoder.
    predictor: one of `PREDICTORS`: 'causal' is LeWM's transformer, 'recurrent'
      PLDM's GRU, whose hidden state is the latent.
    prediction: one of `PREDICTIONS`: what the predictor gives is the next
      'latent', or the 'change' from this one to it.
    memory_dim: numbers that the GRU carries beside the latent.
    predictor_dim: width of the predictor, published as the encoder's, and of
      the encoded action, published as the latent's (all are 192 there);
      of 'recurrent' the latter only, as all sizes below.
    predictor_depth: blocks of the predictor.
    predictor_heads: its attention heads.
    predictor_head_dim: size of each.
    predictor_mlp_dim: hidden width of its MLPs.
    dropout: rate in the predictor.
    inverse_dynamics_weight: of the error of the action inferred from two
      successive latents, by a head that is there when this is not 0.
    inverse_dynamics_dim: hidden width of that head.
    dtype: of the networks' computation; parameters, norms, softmax, losses and
      latents are float32.
  """

  image_size: int = 224
  pixel_norm: str = 'imagenet'
  action_dim: int = 2
  action_block: int = 5
  history: int = 3
  latent_dim: int = 192
  encoder: str = 'vit_tiny'
  patch_size: int = 14
  encoder_features: int = 256
  encoder_channels: tuple[int, ...] = (16, 32, 32)
  encoder_strides: tuple[int, ...] = (2, 2, 2)
  encoder_blocks: tuple[int, ...] = (2, 2, 2)
  proprio_dim: int = 0
  proprio_scale: float = 1.0
  proprio_features: int = 10
  projector: str = 'mlp'
  projector_dim: int = 2048
  projector_norm: str = 'batch'
  smoothed_dim: int = 10
  predictor: str = 'causal'
  prediction: str = 'latent'
  memory_dim: int = 0
  predictor_dim: int = 192
  predictor_depth: int = 6
  predictor_heads: int = 16
  predictor_head_dim: int = 64
  predictor_mlp_dim: int = 2048
  dropout: float = 0.1
  inverse_dynamics_weight: float = 0.0
  inverse_dynamics_dim: int = 512
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
        'encoder': ENCODERS,
        'pixel_norm': tuple(units.PIXEL_NORMS),
        'predictor': PREDICTORS,
        'prediction': PREDICTIONS,
        'projector': PROJECTORS,
        'projector_norm': projectors.NORMS,
        'dtype': ('float32', 'bfloat16'),
        **choices,
      },
      may_be_zero=('proprio_dim', 'memory_dim'),
    )
    regularizers.Regularized.__post_init__(self)
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')
    if self.encoder == 'state' and not self.proprio_dim:
      raise ValueError(
        "encoder='state' looks at proprio alone: set proprio_dim to the size "
        'of the state, got 0.'
      )
    if not self.proprio_scale:
      raise ValueError('proprio_scale must be positive, got 0.')
    if self.memory_dim and self.predictor != 'recurrent':
      raise ValueError(
        f'memory_dim={self.memory_dim} is of the GRU: set '
        f"predictor='recurrent', got {self.predictor!r}."
      )
    is_vit = self.encoder in encoders.VIT_PRESETS
    if is_vit and self.image_size % self.patch_size:
      raise ValueError(
        f'image_size={self.image_size} must be a multiple of '
        f'patch_size={self.patch_size} for encoder={self.encoder!r}.'
      )
    stages = self.encoder_channels, self.encoder_strides, self.encoder_blocks
    if len({len(x) for x in stages}) > 1:
      raise ValueError(
        'encoder_channels, encoder_strides and encoder_blocks must have one '
        f'entry per stage each, got {stages[0]}, {stages[1]} and {stages[2]}.'
      )
    if min(self.encoder_channels + self.encoder_strides) < 1:
      raise ValueError(
        'encoder_channels and encoder_strides must be positive, got '
        f'{self.encoder_channels} and {self.encoder_strides}.'
      )

  def model(self) -> jepa.Jepa:
    """Builds the networks."""
    dtypes: Any = {'dtype': jnp.dtype(self.dtype)}
    inverse_dynamics = None
    if self.inverse_dynamics_weight:
      inverse_dynamics = projectors.InverseDynamics(
        features=self.action_block * self.action_dim,
        hidden_dim=self.inverse_dynamics_dim,
        **dtypes,
      )
    return jepa.Jepa(
      encoder=self._encoder(dtypes),
      projector=self._projector(dtypes),
      action_encoder=predictors.ActionEncoder(
        features=self.predictor_dim,
        smoothed_dim=self.smoothed_dim,
        hidden_dim=4 * self.predictor_dim,
        **dtypes,
      ),
      predictor=self._predictor(dtypes),
      prediction_projector=self._projector(dtypes),
      inverse_dynamics=inverse_dynamics,
      predicts_change=self.prediction == 'change',
    )

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables `{'params': ..., 'batch_stats': ...}`.

    Args:
      rng_key: key of the parameters, consumed.

    Returns:
      The variables, float32; `batch_stats` is empty without batch norm.
    """
    size = self.image_size
    pixels = jnp.zeros((1, 1, size, size, 3), jnp.uint8)
    proprio = None
    if self.proprio_dim:
      proprio = jnp.zeros((1, 1, self.proprio_dim))
    actions = jnp.zeros((1, 1, self.action_block * self.action_dim))
    variables = self.model().init(
      rng_key, self.observation(pixels, proprio), actions
    )
    return {'batch_stats': {}, **variables}

  def observation(self, pixels: jax.Array, proprio: jax.Array | None) -> Any:
    """What the encoder takes of a frame and the body's state.

    Args:
      pixels: uint8 `[..., image_size, image_size, 3]` in 0..255.
      proprio: `[..., proprio_dim]`, None if that is 0.

    Returns:
      Normalised pixels; with `proprio_dim` these and the state, or for
      `encoder='state'` the state alone.

    Raises:
      ValueError: pixels of another size or dtype, or a state that is missing,
        not asked for or of another size.
    """
    size = self.image_size
    if pixels.ndim < 3 or pixels.shape[-3:] != (size, size, 3):
      raise ValueError(
        f'pixels must be [..., {size}, {size}, 3] for image_size={size}, got '
        f'shape {pixels.shape}.'
      )
    expected = (*pixels.shape[:-3], self.proprio_dim)
    if (proprio is None) != (not self.proprio_dim) or (
      proprio is not None and proprio.shape != expected
    ):
      got = None if proprio is None else list(proprio.shape)
      wanted = list(expected) if self.proprio_dim else None
      raise ValueError(
        f'proprio must be {wanted} for proprio_dim={self.proprio_dim}, got '
        f'{got}.'
      )
    mean, std = units.PIXEL_NORMS[self.pixel_norm]
    normalized = units.normalize_pixels(pixels, mean=mean, std=std)
    if self.encoder == 'state':
      return proprio
    return normalized if proprio is None else (normalized, proprio)

  def slide(self, cache: Any) -> Any:
    """What is left of the predictor's cache when a full window moves on."""
    rooms = {'causal': predictors, 'recurrent': recurrent}
    return rooms[self.predictor].slide(cache)

  def _encoder(self, dtypes: Any) -> Any:
    """Builds the encoder of what `observation` returns."""
    features = self.encoder_features
    if self.encoder == 'state':
      return states.StateEncoder(
        features=features,
        hidden_dims=(features, features),
        scale=self.proprio_scale,
        **dtypes,
      )
    encoder: Any
    if self.encoder in encoders.VIT_PRESETS:
      sizes: Any = encoders.VIT_PRESETS[self.encoder]
      encoder = encoders.ViT(
        patch_size=self.patch_size,
        image_size=self.image_size,
        **sizes,
        **dtypes,
      )
    elif self.encoder == 'resnet18':
      encoder = resnet.ResNet18(**dtypes)
    else:
      encoder = encoders.ConvEncoder(
        features=features,
        channels=self.encoder_channels,
        strides=self.encoder_strides,
        blocks=self.encoder_blocks,
        pooling=self.encoder == 'impala',
        keypoints=self.encoder == 'keypoints',
        **dtypes,
      )
    if not self.proprio_dim:
      return encoder
    return states.FusedEncoder(
      pixels=encoder,
      proprio=states.StateEncoder(
        features=self.proprio_features,
        hidden_dims=(),
        scale=self.proprio_scale,
        **dtypes,
      ),
    )

  def _projector(self, dtypes: Any) -> Any:
    if self.projector == 'linear':
      return projectors.LinearProjector(self.latent_dim, **dtypes)
    return projectors.Projector(
      features=self.latent_dim,
      hidden_dim=self.projector_dim,
      norm=self.projector_norm,
      **dtypes,
    )

  def _predictor(self, dtypes: Any) -> Any:
    if self.predictor == 'recurrent':
      return recurrent.RecurrentPredictor(
        history=self.history, memory_dim=self.memory_dim, **dtypes
      )
    return predictors.CausalPredictor(
      width=self.predictor_dim,
      history=self.history,
      depth=self.predictor_depth,
      num_heads=self.predictor_heads,
      head_dim=self.predictor_head_dim,
      mlp_dim=self.predictor_mlp_dim,
      dropout=self.dropout,
      **dtypes,
    )
