"""How much of a latent space is used, and whether it is collapsing."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding

VERDICTS = ('healthy', 'shrinking', 'collapsed')

# A spread below this share of the latents' own size is rounding, of float32
# and nearly so of bfloat16, whose digits end at 0.004.
_LEAST_SPREAD = 1e-3
# One direction takes nearly all variance below this effective rank.
_LEAST_RANK = 1.5
# Shares of the largest deviation so far, and of the variance that predictions
# leave unexplained: collapsed is what is below one and above the other. Tried
# without SIGReg: 0.3 and 0.5 after 400 steps, 0.6 of that at the start and 1.07
# after 3000. A healthy run ends at 1 and 0.03, but begins unpredictable: hence
# both. What shrinks and stays predictable only changes its unit.
_COLLAPSED = ((2 / 3, 0.8), (0.3, 0.3), (0.03, 0.0))
_SHRINKING = (0.5, 0.1)


class Verdict(NamedTuple):
  """What the numbers of a latent space come to.

  Attributes:
    verdict: one of `VERDICTS`.
    sentence: why, with the numbers.
  """

  verdict: str
  sentence: str


def latent_std(latents: jax.Array) -> jax.Array:
  """Standard deviation of every latent dimension (biased).

  Args:
    latents: `[M, D]`, one row per frame.

  Returns:
    `[D]`; about 1 everywhere under SIGReg, 0 where a dimension is dead.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  _check(latents)
  return jnp.std(latents.astype(jnp.float32), axis=0)


def effective_rank(latents: jax.Array) -> jax.Array:
  """Number of directions in which `latents` vary, however little they do.

  The exponential of the entropy of the covariance's normalised eigenvalues
  (effective rank of Roy and Vetterli, 2007, with eigenvalues of the covariance
  as the weights): `D` for white latents, 1 on a line, 0 where nothing varies
  but by rounding. It has no scale: what has collapsed into small noise has the
  largest rank of all, so `judge` looks at more than this.

  Args:
    latents: `[M, D]`, one row per frame. With `M` not much larger than `D`, the
      value is bounded by `M - 1` and underestimates.

  Returns:
    Scalar in `[0, D]`.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  _check(latents)
  centred = latents.astype(jnp.float32)
  centred = centred - jnp.mean(centred, axis=0, keepdims=True)
  covariance = centred.T @ centred / centred.shape[0]
  eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0.0)
  total = jnp.sum(eigenvalues)
  # Rounding leaves a constant of size c about (1e-7 c)^2 of variance per
  # dimension, which must not pass for a full-rank latent space.
  floor = latents.shape[1] * (1e-6 * jnp.max(jnp.abs(latents))) ** 2
  weights = eigenvalues / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
  entropy = -jnp.sum(jax.scipy.special.xlogy(weights, weights))
  return jnp.where(total > floor, jnp.exp(entropy), 0.0)


def latent_spread(latents: jax.Array) -> jax.Array:
  """Deviation of `latents` from their mean, as a share of their own size.

  Args:
    latents: `[M, D]`, one row per frame.

  Returns:
    Scalar in `[0, 1]`: root mean squares of the deviations and of the latents,
    divided; 1 about a mean of zero, 0 for a constant and for zero.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  deviation = jnp.sqrt(jnp.mean(jnp.square(latent_std(latents))))
  size = jnp.sqrt(jnp.mean(jnp.square(latents.astype(jnp.float32))))
  return deviation / jnp.maximum(size, jnp.finfo(jnp.float32).tiny)


@jax.jit
def telemetry(latents: jax.Array) -> dict[str, jax.Array]:
  """The scalars worth a line in a training log.

  Args:
    latents: `[M, D]`, one row per frame.

  Returns:
    `latent_std_mean`, `latent_std_min`, `latent_spread` and `effective_rank`,
    all scalars.

  Raises:
    ValueError: `latents` is not `[M, D]` with at least two rows.
  """
  std = latent_std(latents)
  return {
    'latent_std_mean': jnp.mean(std),
    'latent_std_min': jnp.min(std),
    'latent_spread': latent_spread(latents),
    'effective_rank': effective_rank(latents),
  }


def judge(
  measured: Mapping[str, float],
  *,
  largest: float | None = None,
  prediction_error: float | None = None,
) -> Verdict:
  """Tells a latent space in use from one that collapses, whatever its rank.

  Collapsed is what is constant but for noise, what lies along one direction,
  and what deviates less than it did while its predictions explain little of
  what is left.

  Args:
    measured: what `telemetry` says now.
    largest: `latent_std_mean` where it was largest so far, of the same windows,
      the untrained model's among them; without it a space that shrinks as a
      whole is not noticed.
    prediction_error: mean squared error of one step ahead, per dimension.

  Returns:
    The verdict and a sentence with the numbers that it rests on.
  """
  std, rank = (
    float(measured[name]) for name in ('latent_std_mean', 'effective_rank')
  )
  spread = float(measured['latent_spread'])
  if not np.isfinite([std, rank, spread]).all():
    return Verdict('collapsed', 'The latents are not finite.')
  if spread < _LEAST_SPREAD or rank == 0.0:
    return Verdict(
      'collapsed',
      f'The latents are constant: they deviate by {spread:.1g} of their size.',
    )
  if rank < _LEAST_RANK:
    return Verdict(
      'collapsed',
      f'The latents lie along one direction: effective rank {rank:.2f}.',
    )
  share = min(1.0, std / largest) if largest else 1.0
  kept = f'they deviate by {std:.2g}, {share:.0%} of what they did'
  # Not told, it is no proof of a collapse and no excuse for shrinking.
  least, most = 0.0, np.inf
  if prediction_error is not None:
    least = most = prediction_error / std**2
    kept += f', and predictions leave {least:.0%} of that unexplained'
  if any(share < x and least >= y for x, y in _COLLAPSED):
    return Verdict('collapsed', f'The latents have collapsed: {kept}.')
  if share < _SHRINKING[0] and most > _SHRINKING[1]:
    return Verdict('shrinking', f'The latents shrink: {kept}.')
  return Verdict(
    'healthy', f'The latents deviate by {std:.2g} along {rank:.1f} directions.'
  )


def _check(latents: jax.Array) -> None:
  if latents.ndim != 2 or latents.shape[0] < 2:
    raise ValueError(
      'latents must be [M, D] with at least two rows, got shape '
      f'{tuple(latents.shape)}; flatten batch and time first.'
    )


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Collapse:
  """Telemetry of held-out latents, judged by what the run has logged of it."""

  name = group = 'collapse'

  def __call__(self, question: diagnostic.Question) -> Finding:
    looked = question.look()
    measured = {k: float(x) for k, x in telemetry(looked.rows).items()}
    deviation = f'{self.group}/latent_std_mean'
    verdict = judge(
      measured,
      largest=max(
        (x.get(deviation) or 0.0 for x in question.episodes.records),
        default=None,
      ),
      prediction_error=looked.metrics.get('prediction_error'),
    )
    return Finding(
      title='Whether the latent space is in use',
      scalars=measured,
      verdict=verdict.verdict,
      sentence=verdict.sentence,
    )
