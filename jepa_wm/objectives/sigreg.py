"""SIGReg: keeps latents spread like an isotropic Gaussian, so none collapse.

A distribution is Gaussian when its every one-dimensional view is. Each view (a
projection on a random direction) is tested by the Epps-Pulley statistic: how
far its empirical characteristic function is from the one of a normal, on a grid
of frequencies called knots.

The direct formula holds `[..., B, projections, knots]` cosines and as many
sines. Here those of knot `k` are turned into those of knot `k + 1` by one angle
addition, and the slope of the statistic is worked out on the way forward, so
that no array grows with the knots.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.objectives import normality, terms

STATISTICS = ('epps_pulley', *normality.STATISTICS)

# LeWM integrates over t in [0, 3] and doubles: the integrand is even.
_T_MAX = 3.0


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class SIGReg(terms.Shaping):
  """Tests every frame's batch of latents for a Gaussian, `sigreg`.

  Attributes:
    weight: LeWM's lambda; .09 in the code, .1 in the paper's text.
    statistic: one of `STATISTICS`; the default of `weight` is that of
      'epps_pulley'.
    num_projections: random directions.
    num_knots: nodes of the quadrature on [0, 3].
  """

  name: ClassVar[str] = 'sigreg'

  weight: float = 0.09
  statistic: str = 'epps_pulley'
  num_projections: int = 1024
  num_knots: int = 17

  def __post_init__(self) -> None:
    fields.check(self, {'statistic': STATISTICS})
    if self.num_knots < 3 or self.num_knots % 2 == 0:
      raise ValueError(
        f'num_knots must be odd and at least 3, got {self.num_knots!r}.'
      )
    if self.statistic != STATISTICS[0] and self.num_knots != SIGReg.num_knots:
      raise ValueError(
        f'num_knots={self.num_knots} would do nothing: only '
        f'{STATISTICS[0]!r} has knots, and statistic is {self.statistic!r}.'
      )

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`."""
    return sigreg(
      outcome.latents.swapaxes(0, 1),
      rng_key,
      num_projections=self.num_projections,
      num_knots=self.num_knots,
      statistic=self.statistic,
    ).mean()


def sigreg(
  latents: jax.Array,
  rng_key: jax.Array,
  *,
  num_projections: int = 1024,
  num_knots: int = 17,
  statistic: str = 'epps_pulley',
) -> jax.Array:
  """How far the batch is from a standard normal, in random directions.

  LeWM's convention, and so its scale: knots evenly on [0, 3], trapezoid rule
  doubled, Gaussian weight, times the batch size, mean over fresh directions.
  (LeJEPA's with `t_max` 3 is the same; others do not multiply by the batch, and
  their weights of the term do not carry over.) Statistics are those of the
  whole batch, also where it is sharded, and in float32 whatever the input.

  Args:
    latents: `[..., B, D]`; every leading index is tested on its own.
    rng_key: draws the directions; consumed.
    num_projections: how many directions.
    num_knots: how many frequencies, odd, 0 among them.
    statistic: one of `STATISTICS`, which test; only Epps and Pulley's has
      knots, and the others have other scales (see `normality`).

  Returns:
    `[...]`, float32. For standard normal latents 1.05 on average, whatever the
    batch size; for anything else it grows with `B` (0.4 `B` for a batch
    collapsed to zero).

  Raises:
    ValueError: latents without a batch axis or with fewer than two samples, no
      projections, a number of knots that is even or below 3, or no such test.

  Source: LeJEPA (arXiv 2511.08544), LeWM (arXiv 2603.19312).
  """
  _check_latents(latents)
  if num_projections < 1:
    raise ValueError(
      f'num_projections must be at least 1, got {num_projections}.'
    )
  directions = jax.random.normal(rng_key, (latents.shape[-1], num_projections))
  directions /= jnp.linalg.norm(directions, axis=0, keepdims=True)
  return sigreg_statistic(
    latents, directions, num_knots=num_knots, statistic=statistic
  )


def sigreg_statistic(
  latents: jax.Array,
  directions: jax.Array,
  *,
  num_knots: int = 17,
  statistic: str = 'epps_pulley',
) -> jax.Array:
  """`sigreg` in given directions.

  Args:
    latents: `[..., B, D]`; every leading index is tested on its own.
    directions: `[D, num_projections]`, columns of length 1 (not checked).
    num_knots: how many frequencies, odd, 0 among them.
    statistic: one of `STATISTICS`.

  Returns:
    `[...]`, float32.

  Raises:
    ValueError: as `sigreg`, or directions that do not fit the latents.
  """
  _check_latents(latents)
  if directions.ndim != 2 or directions.shape[0] != latents.shape[-1]:
    raise ValueError(
      f'directions must be [D, num_projections] with D = {latents.shape[-1]} '
      f'as in latents, got shape {directions.shape}.'
    )
  if num_knots < 3 or num_knots % 2 == 0:
    raise ValueError(f'num_knots must be odd and at least 3, got {num_knots}.')
  fields.check_choice('statistic', statistic, STATISTICS)
  views = jnp.einsum(
    '...d,dp->...p', latents.astype(jnp.float32), directions.astype(jnp.float32)
  )
  batches = views.reshape(-1, *views.shape[-2:])
  if statistic == 'epps_pulley':
    statistics = _epps_pulley(batches, num_knots)
  else:
    statistics = jax.vmap(normality.STATISTICS[statistic])(batches)
  return statistics.mean(-1).reshape(views.shape[:-2])


def _check_latents(latents: jax.Array) -> None:
  if latents.ndim < 2 or latents.shape[-2] < 2:
    raise ValueError(
      'latents must be [..., B, D] with at least two samples B, got shape '
      f'{latents.shape}.'
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _epps_pulley(views: jax.Array, num_knots: int) -> jax.Array:
  """Statistics `[L, P]` of `views` `[L, B, P]`, over `B`."""
  return _run(views, num_knots, with_slopes=False)[0]


def _epps_pulley_forward(views, num_knots):
  return _run(views, num_knots, with_slopes=True)


def _epps_pulley_backward(num_knots, slopes, cotangents):
  del num_knots
  return (slopes * jnp.expand_dims(cotangents, -2),)


_epps_pulley.defvjp(_epps_pulley_forward, _epps_pulley_backward)


def _run(
  views: jax.Array, num_knots: int, *, with_slopes: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Statistics `[L, P]`, and their derivatives by `views` `[L, B, P]`."""
  step = _T_MAX / (num_knots - 1)
  # Knot 0 is left out: any characteristic function is 1 there.
  t = step * np.arange(1, num_knots, dtype=np.float32)
  phi = np.exp(-np.square(t) / 2)  # the normal's characteristic function
  weights = 2 * step * phi
  weights[-1] /= 2
  num_samples = views.shape[-2]

  def test(base):
    # base**k is cos(k step x) + i sin(k step x), for every sample: [B, P].
    def test_knot(carry, knot):
      power, statistic = carry
      t_k, phi_k, weight = knot
      gap, sine = power[0].mean(0) - phi_k, power[1].mean(0)
      statistic += num_samples * weight * (jnp.square(gap) + jnp.square(sine))
      by_cosine, by_sine = 2 * weight * t_k * sine, -2 * weight * t_k * gap
      return (_multiply(power, base), statistic), (by_cosine, by_sine)

    start = base, jnp.zeros_like(base[0][0])
    (_, statistic), slopes_k = jax.lax.scan(
      test_knot, start, (t, phi, weights), unroll=4
    )
    if not with_slopes:
      return statistic, None
    # Unrolled, unlike the first pass: without sums over the batch, XLA makes
    # all of it one loop over the samples, and `power` stays in registers.
    slope = jnp.zeros_like(base[0])
    power = base
    for by_cosine, by_sine in zip(*slopes_k):
      slope += jnp.expand_dims(by_cosine, 0) * power[0]
      slope += jnp.expand_dims(by_sine, 0) * power[1]
      power = _multiply(power, base)
    return statistic, slope

  # One leading index at a time fits the cache; and what enters a loop is
  # computed once, where XLA would else repeat the cosine at every use.
  return jax.lax.map(test, (jnp.cos(step * views), jnp.sin(step * views)))


def _multiply(
  a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Product of complex numbers, given as real and imaginary parts."""
  return a[0] * b[0] - a[1] * b[1], a[1] * b[0] + a[0] * b[1]
