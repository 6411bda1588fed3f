"""VCReg: keeps every dimension of the latents moving, and no two alike.

Two statistics of a batch of samples, the spread of every dimension and what
pairs of dimensions share, taken over the batch or over time. The terms of
VICReg (arXiv 2105.04906) without its invariance, which is the prediction loss
of a world model.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.objectives import terms

# Added to the variance: a finite slope of the root where a dimension is dead.
_EPSILON = 1e-4


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class VCReg:
  """Bounds the variance of latents from below and decorrelates them.

  Attributes:
    variance: weight of the variance over the batch; it and the next three are
      those of PLDM in stable-worldmodel.
    covariance: weight of the covariance over the batch.
    time_variance: weight of the variance over time.
    time_covariance: weight of the covariance over time.
  """

  name: ClassVar[str] = 'vcreg'

  variance: float = 18.0
  covariance: float = 12.0
  time_variance: float = 0.7
  time_covariance: float = 0.0

  def __post_init__(self) -> None:
    fields.check(self)

  @property
  def shapes_latents(self) -> bool:
    """See `terms.Term`."""
    weights = self.variance, self.covariance
    return max(*weights, self.time_variance, self.time_covariance) > 0

  def price(self, outcome: terms.Outcome, rng_key: jax.Array) -> terms.Priced:
    """See `terms.Term`; images (`T` of 1) have no statistics over time."""
    del rng_key
    if outcome.latents.shape[-2] == 1:
      samples = outcome.latents[..., 0, :]
      values = {
        'variance': variance(samples),
        'covariance': covariance(samples),
      }
    else:
      values = vcreg(outcome.latents)._asdict()
    weights = {name: getattr(self, name) for name in values}
    return terms.Priced(values, weights, {})


class Terms(NamedTuple):
  """What `vcreg` returns, every term `[...]`, float32.

  Attributes:
    variance: over the batch, averaged over time.
    covariance: over the batch, averaged over time.
    time_variance: over time, averaged over the batch.
    time_covariance: over time, averaged over the batch.
  """

  variance: jax.Array
  covariance: jax.Array
  time_variance: jax.Array
  time_covariance: jax.Array


def vcreg(latents: jax.Array) -> Terms:
  """Variance and covariance terms over the batch and over time.

  Latents are centred over the batch first, once for all terms, so that what all
  sequences do alike over time counts for nothing. The variance over time is
  then taken around the mean of every sequence; the covariance over time is
  not, the convention of the golden file.

  Statistics are those of the whole batch, also where it is sharded, and in
  float32 whatever the input.

  Args:
    latents: `[..., B, T, D]`.

  Returns:
    The four terms, `[...]` each.

  Raises:
    ValueError: no batch or no time axis, or fewer than two samples or frames.

  Source: PLDM (arXiv 2502.14819), in the convention of stable-worldmodel.
  EB-JEPA (arXiv 2602.03604) has no terms over time: it takes `variance` and
  `covariance` of all frames of all sequences as one batch.
  """
  if latents.ndim < 3 or min(latents.shape[-3:-1]) < 2:
    raise ValueError(
      'latents must be [..., B, T, D] with at least two samples B and two '
      f'frames T, got shape {latents.shape}.'
    )
  latents = latents.astype(jnp.float32)
  centered = latents - latents.mean(-3, keepdims=True)
  samples = jnp.swapaxes(centered, -3, -2)
  return Terms(
    variance(samples).mean(-1),
    covariance(samples).mean(-1),
    variance(centered).mean(-1),
    covariance(centered, center=False).mean(-1),
  )


def variance(latents: jax.Array) -> jax.Array:
  """How far the standard deviation of a dimension falls short of 1, on average.

  `relu(1 - sqrt(var + 1e-4))` with the unbiased variance: .99 for collapsed
  samples, 0 where every dimension spreads by 1 or more.

  Args:
    latents: `[..., B, D]`; every leading index has its own statistics.

  Returns:
    `[...]`, float32.

  Raises:
    ValueError: no batch axis, or fewer than two samples.

  Source: VICReg (arXiv 2105.04906), equations 1 and 2.
  """
  centered = _center(latents)
  squares = jnp.sum(jnp.square(centered), axis=-2) / (latents.shape[-2] - 1)
  return jax.nn.relu(1 - jnp.sqrt(squares + _EPSILON)).mean(-1)


def covariance(latents: jax.Array, *, center: bool = True) -> jax.Array:
  """Mean squared covariance of two different dimensions.

  The unbiased covariance; 0 for a single dimension. It knows no collapse: what
  does not vary does not vary together. It needs `variance` beside it.

  Args:
    latents: `[..., B, D]`; every leading index has its own statistics.
    center: whether to subtract the mean over `B`; False for samples that were
      centred some other way.

  Returns:
    `[...]`, float32.

  Raises:
    ValueError: no batch axis, or fewer than two samples.

  Source: VICReg (arXiv 2105.04906), equations 3 and 4, divided by `D - 1` once
  more as PLDM does, so that its size does not depend on `D`.
  """
  samples = _center(latents, center=center)
  num_samples, size = latents.shape[-2:]
  matrix = jnp.einsum('...bi,...bj->...ij', samples, samples)
  matrix /= num_samples - 1
  # It is symmetric: half of it, twice.
  above = jnp.sum(jnp.square(jnp.triu(matrix, k=1)), axis=(-2, -1))
  return 2 * above / max(size * (size - 1), 1)


def _center(latents: jax.Array, *, center: bool = True) -> jax.Array:
  """Checked samples `[..., B, D]` in float32, less their mean."""
  if latents.ndim < 2 or latents.shape[-2] < 2:
    raise ValueError(
      'latents must be [..., B, D] with at least two samples B, got shape '
      f'{latents.shape}.'
    )
  latents = latents.astype(jnp.float32)
  return latents - latents.mean(-2, keepdims=True) if center else latents
