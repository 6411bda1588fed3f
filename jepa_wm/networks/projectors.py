"""Projection heads, and the batch normalisation inside them."""

import dataclasses
import math
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import layers

PROJECTORS = fields.Registry('projector', 'jepa_wm.networks')

NORMS = ('batch', 'none')


class ProjectorConfig(fields.Named, Protocol):
  """The settings of a projector."""

  def build(self, features: int, dtype: Any) -> nn.Module:
    """Builds the module, inputs `[..., C]` to `[..., features]`."""
    ...


@PROJECTORS.register
@dataclasses.dataclass(frozen=True)
class MLPConfig:
  """The settings of a `Projector`; the defaults are LeWM's.

  Attributes:
    hidden_dim: width between its two maps.
    norm: one of `NORMS`.
  """

  name: ClassVar[str] = 'mlp'

  hidden_dim: int = 2048
  norm: str = 'batch'

  def __post_init__(self) -> None:
    fields.check(self, {'norm': NORMS})

  def build(self, features: int, dtype: Any) -> nn.Module:
    """Builds the module, inputs `[..., C]` to `[..., features]`."""
    return Projector(features, **vars(self), dtype=dtype)


@PROJECTORS.register
@dataclasses.dataclass(frozen=True)
class LinearConfig:
  """The settings of a `LinearProjector`, of which there are none."""

  name: ClassVar[str] = 'linear'

  def build(self, features: int, dtype: Any) -> nn.Module:
    """Builds the module, inputs `[..., C]` to `[..., features]`."""
    return LinearProjector(features, dtype=dtype)


@PROJECTORS.register
@dataclasses.dataclass(frozen=True)
class NoneConfig:
  """The settings of no projector: features are the latent."""

  name: ClassVar[str] = 'none'

  def build(self, features: int, dtype: Any) -> nn.Module:
    """Builds the module, inputs `[..., features]` to themselves."""
    del dtype
    return Unprojected(features)


class Unprojected(nn.Module):
  """Gives back what it is given.

  Attributes:
    features: size of it.
  """

  features: int

  def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
    """Inputs `[..., features]`.

    Raises:
      ValueError: they are of another size.
    """
    del train
    if inputs.shape[-1] != self.features:
      raise ValueError(
        f"With the projector 'none' a latent is what the encoder makes, "
        f'{inputs.shape[-1]} numbers: set latent_dim to that, got '
        f'{self.features}.'
      )
    return inputs


class BatchNorm(layers.Module):
  """Batch normalisation over all axes but the last, as PyTorch counts it.

  A batch is normalised by its biased variance, and the running variance learns
  the unbiased one, `n / (n - 1)` larger (`flax.linen.BatchNorm` keeps the
  biased one). Statistics are in float32 and, under `jax.jit`, those of the
  whole batch however it is sharded.

  Source: Batch Normalization, arXiv 1502.03167, algorithms 1 and 2.

  Attributes:
    momentum: share of the new batch in the running statistics.
    epsilon: added to the variance.
  """

  momentum: float = 0.1
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
    """Normalises `inputs` `[..., D]`: by their own statistics in training.

    Args:
      inputs: `[..., D]`.
      train: whether to use the statistics of `inputs` and, if the collection
        `batch_stats` is mutable, to blend them into the running ones.

    Returns:
      `[..., D]`.

    Raises:
      ValueError: fewer than two rows in training, which have no variance.
    """
    features = inputs.shape[-1]
    running_mean = self.variable(
      'batch_stats', 'mean', jnp.zeros, (features,), jnp.float32
    )
    running_var = self.variable(
      'batch_stats', 'var', jnp.ones, (features,), jnp.float32
    )
    shape = (features,)
    scale = self.param('scale', nn.initializers.ones, shape, self.param_dtype)
    bias = self.param('bias', nn.initializers.zeros, shape, self.param_dtype)

    # One leading axis: strict rank promotion, and one reduction to shard.
    rows = inputs.reshape(-1, features).astype(jnp.float32)
    if train:
      count = math.prod(inputs.shape[:-1])
      if count < 2:
        raise ValueError(
          'BatchNorm needs at least two rows of inputs in training, got shape '
          f'{inputs.shape}; give it a larger batch.'
        )
      mean = rows.mean(axis=0)
      var = jnp.square(rows - mean[None]).mean(axis=0)
      updates = self.is_mutable_collection('batch_stats')
      if updates and not self.is_initializing():
        unbiased = var * (count / (count - 1))
        running_mean.value += self.momentum * (mean - running_mean.value)
        running_var.value += self.momentum * (unbiased - running_var.value)
    else:
      mean, var = running_mean.value, running_var.value
    factor = scale.astype(jnp.float32) * jax.lax.rsqrt(var + self.epsilon)
    outputs = (rows - mean[None]) * factor[None] + bias[None]
    return outputs.astype(self.dtype).reshape(inputs.shape)


class Projector(layers.Module):
  """Linear, normalisation, exact GELU, linear: LeWM's projection head.

  Attributes:
    features: size of the output.
    hidden_dim: width between the two maps.
    norm: 'batch', or 'none'.
  """

  features: int
  hidden_dim: int
  norm: str = 'batch'

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps `inputs` `[..., C]` to `[..., features]`."""
    hidden = layers.uniform_dense(
      self.hidden_dim, inputs.shape[-1], name='hidden', **self.dtypes
    )(inputs)
    if self.norm == 'batch':
      hidden = BatchNorm(name='norm', **self.dtypes)(hidden, train=train)
    else:
      fields.check_choice('norm', self.norm, NORMS)
    return layers.uniform_dense(
      self.features, self.hidden_dim, name='out', **self.dtypes
    )(layers.gelu(hidden))


class LinearProjector(layers.Module):
  """One linear map, started with the variance of its inputs (LeCun's).

  For encoders whose features are hidden units already, and for losses that the
  scale at the start matters to.

  Attributes:
    features: size of the output.
  """

  features: int

  @nn.compact
  def __call__(self, inputs: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps `inputs` `[..., C]` to `[..., features]`, training or not."""
    del train
    return nn.Dense(self.features, name='out', **self.dtypes)(inputs)


class InverseDynamics(layers.Module):
  """The action between two latents, by `Projector` of the two side by side.

  Source: PLDM, arXiv 2502.14819 (hidden width 512 in stable-worldmodel).

  Attributes:
    features: size of an action block.
    hidden_dim: width between the two maps.
    num_seen: leading numbers of the latents that it sees; 0 for all.
  """

  features: int
  hidden_dim: int = 512
  num_seen: int = 0

  @nn.compact
  def __call__(self, latents_t: jax.Array, latents_tp1: jax.Array) -> jax.Array:
    """Infers the action blocks that lead from one to the other.

    Args:
      latents_t: `[..., D]`.
      latents_tp1: `[..., D]`, one step later.

    Returns:
      float32 `[..., features]`.
    """
    seen = [x[..., : self.num_seen or None] for x in (latents_t, latents_tp1)]
    pairs = jnp.concatenate(seen, axis=-1)
    head = Projector(
      features=self.features,
      hidden_dim=self.hidden_dim,
      norm='none',
      **self.dtypes,
      name='head',
    )
    return head(pairs.astype(self.dtype)).astype(jnp.float32)
