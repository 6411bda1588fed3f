"""Low-dimensional states to features, alone or beside those of pixels."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import conv, encoders, layers
from jepa_wm.types import Observation, ObservationSpec


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class StateConfig(encoders.Unfitted):
  """The settings of a `StateEncoder` of one of the arrays observed.

  Attributes:
    key: name of the array.
    dim: its size `S`.
    features: size of the output, and of two hidden layers.
    num_hidden: hidden layers, as wide as the output; 0 leaves a linear map.
    scale: what the state is divided by first.
  """

  name: ClassVar[str] = 'state'
  clip_length: ClassVar[int] = 0

  key: str = 'proprio'
  dim: int = 4
  features: int = 256
  num_hidden: int = 2
  scale: float = 1.0

  def __post_init__(self) -> None:
    if not isinstance(self.key, str) or not self.key:
      raise ValueError(f'key must be the name of an array, got {self.key!r}.')
    fields.check(self, {'key': (self.key,)}, may_be_zero=('num_hidden',))
    if not self.scale:
      raise ValueError('scale must be positive, got 0.')

  @property
  def spec(self) -> ObservationSpec:
    """See `encoders.Encoder`."""
    return {self.key: jax.ShapeDtypeStruct((self.dim,), jnp.float32)}

  def inputs(self, observation: Observation) -> jax.Array:
    """See `encoders.Encoder`."""
    return encoders.array(observation, self.key, self.spec[self.key])

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    return StateEncoder(
      features=self.features,
      hidden_dims=(self.features,) * self.num_hidden,
      scale=self.scale,
      dtype=dtype,
    )


@encoders.ENCODERS.register
@dataclasses.dataclass(frozen=True)
class FusedConfig(encoders.Unfitted):
  """The settings of a `FusedEncoder`.

  Attributes:
    pixels: encodes the frame.
    proprio: encodes the state; one linear map to 10 features is DINO-WM's.
  """

  name: ClassVar[str] = 'fused'
  clip_length: ClassVar[int] = 0

  pixels: encoders.Encoder = fields.one_of(encoders.ENCODERS, conv.ConvConfig())
  proprio: encoders.Encoder = fields.one_of(
    encoders.ENCODERS, StateConfig(features=10, num_hidden=0)
  )

  @property
  def spec(self) -> ObservationSpec:
    """See `encoders.Encoder`."""
    return {**self.pixels.spec, **self.proprio.spec}

  def inputs(self, observation: Observation) -> tuple[Any, Any]:
    """See `encoders.Encoder`."""
    return self.pixels.inputs(observation), self.proprio.inputs(observation)

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`."""
    return FusedEncoder(
      pixels=self.pixels.build(dtype), proprio=self.proprio.build(dtype)
    )


class StateEncoder(layers.Module):
  """An MLP with a LayerNorm and a ReLU after every hidden map.

  Attributes:
    features: size of the output.
    hidden_dims: widths of the hidden maps; none leaves one linear map.
    scale: what the state is divided by first, so that it comes in units of
      about one.
  """

  features: int
  hidden_dims: tuple[int, ...] = (256, 256)
  scale: float = 1.0

  @nn.compact
  def __call__(
    self, state: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes `state`.

    Args:
      state: `[..., S]`.
      train: accepted as by every encoder; nothing here depends on it.

    Returns:
      `[..., features]` and `{'hidden_0': [..., hidden_dims[0]], ...}`.
    """
    del train
    dtypes = self.dtypes
    intermediates: encoders.Intermediates = {}
    hidden = state / self.scale
    for index, width in enumerate(self.hidden_dims):
      hidden = nn.Dense(width, name=f'hidden_{index}', **dtypes)(hidden)
      hidden = nn.LayerNorm(1e-5, name=f'norm_{index}', **dtypes)(hidden)
      hidden = nn.relu(hidden)
      intermediates[f'hidden_{index}'] = hidden
    return nn.Dense(self.features, name='out', **dtypes)(hidden), intermediates


class FusedEncoder(nn.Module):
  """Features of pixels and of the body's own state, side by side.

  Source: PLDM (arXiv 2502.14819) and DINO-WM (arXiv 2411.04983) concatenate an
  embedding of the proprioception to the features of the frame.

  Attributes:
    pixels: encodes the frame.
    proprio: encodes the state.
  """

  pixels: nn.Module
  proprio: nn.Module

  def __call__(
    self, observation: tuple[jax.Array, jax.Array], *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes a frame and a state.

    Args:
      observation: normalised pixels `[..., height, width, C]` and the state
        `[..., S]`.
      train: as for every encoder.

    Returns:
      `[..., F + G]`, features of the frame first, and the intermediates of the
      two, those of the state with 'proprio_' before their names.

    Raises:
      ValueError: the leading axes of the two differ.
    """
    pixels, proprio = observation
    if pixels.shape[:-3] != proprio.shape[:-1]:
      raise ValueError(
        'pixels and proprio must agree in their leading axes, got '
        f'{pixels.shape} and {proprio.shape}.'
      )
    frame, intermediates = self.pixels(pixels, train=train)
    state, of_state = self.proprio(proprio, train=train)
    beside = {f'proprio_{name}': value for name, value in of_state.items()}
    return (
      jnp.concatenate([frame, state], axis=-1),
      {**intermediates, **beside},
    )
