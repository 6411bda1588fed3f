"""Action blocks, and states of a body, to vectors."""

import dataclasses
import functools
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax

from jepa_wm import fields
from jepa_wm.networks import layers

ACTION_ENCODERS = fields.Registry('action encoder', 'jepa_wm.networks')


class ActionEncoderConfig(fields.Named, Protocol):
  """The settings of an action encoder."""

  def build(self, dtype: Any) -> nn.Module:
    """Builds the module, actions `[..., A]` to conditions `[..., C]`."""
    ...


@ACTION_ENCODERS.register
@dataclasses.dataclass(frozen=True)
class BottleneckConfig:
  """The settings of an `ActionEncoder`; the defaults are LeWM's.

  Attributes:
    features: size of a condition, published as the latent's; the hidden layer
      is four times as wide.
    smoothed_dim: size of the bottleneck.
  """

  name: ClassVar[str] = 'bottleneck'

  features: int = 192
  smoothed_dim: int = 10

  def __post_init__(self) -> None:
    fields.check(self)

  def build(self, dtype: Any) -> nn.Module:
    """See `ActionEncoderConfig`."""
    return ActionEncoder(
      features=self.features,
      smoothed_dim=self.smoothed_dim,
      hidden_dim=4 * self.features,
      dtype=dtype,
    )


class ActionEncoder(layers.Module):
  """Action blocks to conditions: a linear bottleneck, then a SiLU MLP.

  Source: LeWM. Its first map is published as a convolution of kernel one.

  Attributes:
    features: size of a condition.
    smoothed_dim: size of the bottleneck.
    hidden_dim: width of the MLP.
  """

  features: int
  smoothed_dim: int
  hidden_dim: int

  @nn.compact
  def __call__(self, actions: jax.Array) -> jax.Array:
    """Encodes `actions` `[..., A]` as `[..., features]`."""
    dense: layers.DenseFn = functools.partial(
      layers.uniform_dense, **self.dtypes
    )
    smoothed = dense(self.smoothed_dim, actions.shape[-1], name='smoothing')(
      actions
    )
    hidden = dense(self.hidden_dim, self.smoothed_dim, name='hidden')(smoothed)
    return dense(self.features, self.hidden_dim, name='out')(nn.silu(hidden))


class LinearEncoder(layers.Module):
  """One linear map, of a state or an action.

  Attributes:
    features: size of the output.
  """

  features: int

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Encodes `[..., S]` as `[..., features]`."""
    return layers.uniform_dense(
      self.features, inputs.shape[-1], name='out', **self.dtypes
    )(inputs)
