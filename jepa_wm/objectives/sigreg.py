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
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.objectives import normality, terms

STATISTICS = ('epps_pulley', *normality.STATISTICS)


class _Knots(NamedTuple):
  """Nodes of the quadrature, evenly on an interval that is not negative.

  The integral over it is doubled, for the integrand is even.

  Attributes:
    number: how many, both ends among them.
    low: the first.
    high: the last.
  """

  number: int
  low: float
  high: float

  def check(self) -> None:
    """Makes sure that there is an interval.

    Raises:
      ValueError: fewer than two knots, or ends that are not in order.
    """
    if self.number < 2:
      raise ValueError(f'num_knots must be at least 2, got {self.number!r}.')
    if not 0.0 <= self.low < self.high < float('inf'):
      raise ValueError(
        't_min must be at least 0 and below t_max, got '
        f't_min={self.low} and t_max={self.high}.'
      )


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class SIGReg(terms.Shaping):
  """Tests every frame's batch of latents for a Gaussian, `sigreg`.

  Attributes:
    weight: LeWM's lambda; .09 in the code, .1 in the paper's text.
    statistic: one of `STATISTICS`; the default of `weight` is that of
      'epps_pulley'.
    num_projections: random directions.
    num_knots: nodes of the quadrature, any number from 2 on.
    t_min: the first of them; 0 in LeWM's code, .2 in its text.
    t_max: the last; 3 in the code, 4 in the text.
  """

  name: ClassVar[str] = 'sigreg'

  weight: float = 0.09
  statistic: str = 'epps_pulley'
  num_projections: int = 1024
  num_knots: int = 17
  t_min: float = 0.0
  t_max: float = 3.0

  def __post_init__(self) -> None:
    fields.check(self, {'statistic': STATISTICS})
    _Knots(self.num_knots, self.t_min, self.t_max).check()
    for name in ('num_knots', 't_min', 't_max'):
      value = getattr(self, name)
      if self.statistic != STATISTICS[0] and value != getattr(SIGReg, name):
        raise ValueError(
          f'{name}={value} would do nothing: only {STATISTICS[0]!r} has knots, '
          f'and statistic is {self.statistic!r}.'
        )

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`."""
    return self._of(outcome.latents.swapaxes(0, 1), rng_key)

  def _of(self, latents: jax.Array, rng_key: jax.Array) -> jax.Array:
    """The mean over what is tested of `latents` `[..., B, D]`."""
    return sigreg(
      latents,
      rng_key,
      num_projections=self.num_projections,
      num_knots=self.num_knots,
      t_min=self.t_min,
      t_max=self.t_max,
      statistic=self.statistic,
    ).mean()


def sigreg(
  latents: jax.Array,
  rng_key: jax.Array,
  *,
  num_projections: int = 1024,
  num_knots: int = 17,
  t_min: float = 0.0,
  t_max: float = 3.0,
  statistic: str = 'epps_pulley',
) -> jax.Array:
  """How far the batch is from a standard normal, in random directions.

  LeWM's convention, and so its scale: 17 knots evenly on [0, 3], trapezoid rule
  doubled, Gaussian weight, times the batch size, mean over fresh directions.
  (LeJEPA's with `t_max` 3 is the same; others do not multiply by the batch, and
  their weights of the term do not carry over.) Statistics are those of the
  whole batch, also where it is sharded, and in float32 whatever the input.

  Args:
    latents: `[..., B, D]`; every leading index is tested on its own.
    rng_key: draws the directions; consumed.
    num_projections: how many directions.
    num_knots: how many frequencies.
    t_min: the first of them.
    t_max: the last.
    statistic: one of `STATISTICS`, which test; only Epps and Pulley's has
      knots, and the others have other scales (see `normality`).

  Returns:
    `[...]`, float32. For standard normal latents 1.05 on average, whatever the
    batch size; for anything else it grows with `B` (0.4 `B` for a batch
    collapsed to zero).

  Raises:
    ValueError: latents without a batch axis or with fewer than two samples, no
      projections, knots on no interval, or no such test.

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
    latents,
    directions,
    num_knots=num_knots,
    t_min=t_min,
    t_max=t_max,
    statistic=statistic,
  )


def sigreg_statistic(
  latents: jax.Array,
  directions: jax.Array,
  *,
  num_knots: int = 17,
  t_min: float = 0.0,
  t_max: float = 3.0,
  statistic: str = 'epps_pulley',
) -> jax.Array:
  """`sigreg` in given directions.

  Args:
    latents: `[..., B, D]`; every leading index is tested on its own.
    directions: `[D, num_projections]`, columns of length 1 (not checked).
    num_knots: how many frequencies.
    t_min: the first of them.
    t_max: the last.
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
  knots = _Knots(num_knots, t_min, t_max)
  knots.check()
  fields.check_choice('statistic', statistic, STATISTICS)
  views = jnp.einsum(
    '...d,dp->...p', latents.astype(jnp.float32), directions.astype(jnp.float32)
  )
  batches = views.reshape(-1, *views.shape[-2:])
  if statistic == 'epps_pulley':
    statistics = _epps_pulley(batches, knots)
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
def _epps_pulley(views: jax.Array, knots: _Knots) -> jax.Array:
  """Statistics `[L, P]` of `views` `[L, B, P]`, over `B`."""
  return _run(views, knots, with_slopes=False)[0]


def _epps_pulley_forward(views, knots):
  return _run(views, knots, with_slopes=True)


def _epps_pulley_backward(knots, slopes, cotangents):
  del knots
  return (slopes * jnp.expand_dims(cotangents, -2),)


_epps_pulley.defvjp(_epps_pulley_forward, _epps_pulley_backward)


def _run(
  views: jax.Array, knots: _Knots, *, with_slopes: bool
) -> tuple[jax.Array, jax.Array | None]:
  """Statistics `[L, P]`, and their derivatives by `views` `[L, B, P]`."""
  step = (knots.high - knots.low) / (knots.number - 1)
  # A knot at 0 is left out: any characteristic function is 1 there.
  first = 0 if knots.low else 1
  t = step * np.arange(first, knots.number, dtype=np.float32)
  t += np.float32(knots.low)
  phi = np.exp(-np.square(t) / 2)  # the normal's characteristic function
  weights = 2 * step * phi
  weights[-1] /= 2
  if knots.low:
    weights[0] /= 2
  num_samples = views.shape[-2]

  def test(turns):
    # `power` is cos(t x) + i sin(t x) at the knot t, for every sample: [B, P].
    base, origin = turns[0], turns[-1]

    def test_knot(carry, knot):
      power, statistic = carry
      t_k, phi_k, weight = knot
      gap, sine = power[0].mean(0) - phi_k, power[1].mean(0)
      statistic += num_samples * weight * (jnp.square(gap) + jnp.square(sine))
      by_cosine, by_sine = 2 * weight * t_k * sine, -2 * weight * t_k * gap
      return (_multiply(power, base), statistic), (by_cosine, by_sine)

    start = origin, jnp.zeros_like(base[0][0])
    (_, statistic), slopes_k = jax.lax.scan(
      test_knot, start, (t, phi, weights), unroll=4
    )
    if not with_slopes:
      return statistic, None
    # Unrolled, unlike the first pass: without sums over the batch, XLA makes
    # all of it one loop over the samples, and `power` stays in registers.
    slope = jnp.zeros_like(base[0])
    power = origin
    for by_cosine, by_sine in zip(*slopes_k):
      slope += jnp.expand_dims(by_cosine, 0) * power[0]
      slope += jnp.expand_dims(by_sine, 0) * power[1]
      power = _multiply(power, base)
    return statistic, slope

  # One leading index at a time fits the cache; and what enters a loop is
  # computed once, where XLA would else repeat the cosine at every use.
  turns = [(jnp.cos(step * views), jnp.sin(step * views))]
  if knots.low:
    turns.append((jnp.cos(knots.low * views), jnp.sin(knots.low * views)))
  return jax.lax.map(test, turns)


def _multiply(
  a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Product of complex numbers, given as real and imaginary parts."""
  return a[0] * b[0] - a[1] * b[1], a[1] * b[0] + a[0] * b[1]
