"""Guardrails of a plan: what a head says of blocks, and what came of it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, planning
from jepa_wm.envs import worlds, zones
from jepa_wm.evaluation.planning import pairs as pairs_lib
from jepa_wm.types import LatentState, Params

ReadFn = Callable[[LatentState], jax.Array]

FORMS = planning.GUARDRAIL_FORMS
"""How a guardrail can be kept."""


_CHECKS_ABOVE = 4
"""Places that are looked at on the way to a waypoint, itself among them."""


@dataclasses.dataclass(frozen=True)
class Guard:
  """A head that says what is forbidden, and how its bounds are kept.

  Attributes:
    name: of it, with what is needed to tell it from others like it.
    price_fn: latents `[..., D]` to prices `[...]`. Two of one name are one.
    zone: that is not to be entered.
    bounds: what a price must stay below, first of encoded latents and then of
      those predicted 1 and more blocks ahead, as many as are played before the
      next plan; farther ones have the last, and are looked at again before
      they are played.
    num_checks: places in a block that are looked at.
    delta: share of unsafe latents that is promised to pass at most.
    form: how it is kept, one of `FORMS`.
    penalty: what a unit of excess costs where it has a price.

  Raises:
    ValueError: no such form, a delta that is no share, a bound that is not
      finite, or a penalty below 0.
  """

  name: str
  price_fn: Callable[[jax.Array], jax.Array] = dataclasses.field(compare=False)
  zone: zones.Zone
  bounds: tuple[float, ...]
  num_checks: int = 1
  delta: float = 0.1
  form: str = 'hard'
  penalty: float = 100.0

  def __post_init__(self) -> None:
    check(self.delta, self.form, self.penalty)
    if not np.all(np.isfinite(self.bounds)):
      raise ValueError(
        f'guardrail_delta={self.delta:g} of {self.name} needs more unsafe '
        'latents than its bounds were found on: take a larger delta, or train '
        'it on more episodes that go inside.'
      )

  def of_blocks(self, read_fn: ReadFn) -> planning.Guardrail:
    """The guardrail of a plan of blocks.

    Args:
      read_fn: the newest latent of a state.
    """
    last = len(self.bounds) - 1
    bounds = jnp.asarray(self.bounds, jnp.float32)

    def excess(params: Params, moment: planning.Moment, goal: Any) -> jax.Array:
      del params, goal
      both = read_fn(moment.before), read_fn(moment.state)
      ahead = jnp.minimum(moment.step + 1, last)
      return of_block(self.price_fn, *both, self.num_checks) - bounds[ahead]

    return self._kept(planning.timed(excess))

  def of_waypoints(self) -> planning.Guardrail:
    """The guardrail of a level above: a filter on where it wants to go.

    It has the bound of encoded latents, at the waypoints and at places on the
    straight lines between them, which no plan need follow.
    """

    def excess(params: Params, moment: planning.Moment, goal: Any) -> jax.Array:
      del params, goal
      price = of_block(
        self.price_fn, moment.before, moment.state, _CHECKS_ABOVE
      )
      return price - self.bounds[0]

    return self._kept(planning.timed(excess))

  def _kept(self, cost_fn: Any) -> planning.Guardrail:
    return planning.Guardrail(cost_fn, 0.0, self.penalty, self.form)

  def to_dict(self) -> dict[str, Any]:
    """What a result record says of it."""
    said = {
      'name': self.name,
      'zone': self.zone.spec,
      'delta': self.delta,
      'form': self.form,
      'bounds': [round(bound, 4) for bound in self.bounds],
      'num_checks': self.num_checks,
    }
    if self.form in ('soft', 'lagrangian'):
      said['penalty'] = self.penalty
    return said


def of_block(
  price_fn: Callable[[jax.Array], jax.Array],
  before: jax.Array,
  after: jax.Array,
  num_checks: int,
) -> jax.Array:
  """The highest price on the way of a block, `[...]`.

  Args:
    price_fn: latents `[..., D]` to prices `[...]`.
    before: `[..., D]`, where the block began.
    after: `[..., D]`, where it led.
    num_checks: places that are looked at, evenly spaced on the straight line
      between the two; the last is `after`.
  """
  shares = jnp.arange(1, num_checks + 1) / num_checks
  shares = shares.reshape(-1, *(1,) * after.ndim)
  before, after = (jnp.expand_dims(x, 0) for x in (before, after))
  between = before + shares * (after - before)
  return jnp.max(price_fn(between), axis=0)


def told(plan: planning.Plan) -> dict[str, jax.Array]:
  """What a plan says of its guardrail, leaves `[B, ...]`.

  `excess` `[B, H]` of every block, whether it `stopped` `[B]`, and by how much
  the levels above pass theirs, `above` `[B, L]`, the lowest first.
  """
  assert plan.excess is not None
  num_problems = plan.excess.shape[0]
  above, level = [], plan.subgoal
  while level is not None:
    above.append(level.violation)
    level = level.above
  stopped = plan.stopped
  return {
    'excess': plan.excess[..., 0],
    'stopped': jnp.zeros(num_problems, bool) if stopped is None else stopped,
    'above': jnp.stack(above, 1) if above else jnp.zeros((num_problems, 0)),
  }


def outside(
  pairs: pairs_lib.Pairs, zone: zones.Zone, environment: str
) -> pairs_lib.Pairs:
  """The pairs whose start and goal lie outside a zone.

  Raises:
    ValueError: there is none.
  """
  with worlds.get(environment).stage() as stage:
    ends = [stage.vectors(x, pairs.worlds) for x in (pairs.starts, pairs.goals)]
  is_inside = np.any([zone.margin(x) > 0 for x in ends], axis=0)
  rows = np.flatnonzero(~is_inside)
  if not len(rows):
    raise ValueError(
      f'guardrail: its zone {zone.spec} holds the start or the goal of each of '
      f'the {len(pairs)} pairs; train one for a smaller zone, or ask for more '
      'pairs.'
    )
  left = len(pairs) - len(rows)
  return dataclasses.replace(pairs.take(rows), num_forbidden=left)


class Watch:
  """What came of a guardrail: what plans said, and where the world went.

  Attributes:
    inside: `[P]`, environment steps played inside the zone.
    played: `[P]`, environment steps played.
    stopped: `[P]`, plans that stood still since nothing was allowed.
  """

  def __init__(self, zone: zones.Zone, num_problems: int):
    """Watches a zone; nothing is played yet."""
    self._zone = zone
    self.inside = np.zeros(num_problems, int)
    self.played = np.zeros(num_problems, int)
    self.stopped = np.zeros(num_problems, int)
    self._plans: list[tuple[np.ndarray, ...]] = []

  def note(
    self, problems: np.ndarray, said: dict[str, Any], vectors: np.ndarray
  ) -> None:
    """Writes down what plans said and what was played of them.

    Args:
      problems: `[n]`.
      said: see `told`, leaves `[n, ...]`, `excess` of the blocks played alone.
      vectors: `[n, k, V]`, true states after each step that was played.
    """
    is_inside = self._zone.margin(vectors) > 0
    self.inside[problems] += is_inside.sum(axis=1)
    self.played[problems] += is_inside.shape[1]
    self.stopped[problems] += said['stopped']
    foreseen = np.any(said['excess'] > 0, axis=1)
    enters = np.any(is_inside, axis=1)
    above = np.asarray(said['above']) > 0
    self._plans.append((foreseen, enters, said['stopped'], above))

  def to_dict(self) -> dict[str, Any]:
    """What a result record says came of it, see `levels`.

    `levels` has, of the blocks that were played of each plan: how often they
    were `predicted` to pass the bound, how often the zone was entered
    (`realised`), and how often so where they were predicted not to
    (`realised_where_allowed`); of the levels above how often their plan passes.
    """
    foreseen, enters, stopped, above = (
      np.concatenate([plan[i] for plan in self._plans]) for i in range(4)
    )
    entered = self.inside > 0
    levels: list[dict[str, Any]] = [
      {
        'level': 'of the actions',
        'predicted': _share(foreseen),
        'realised': _share(enters),
        'realised_where_allowed': _share(enters[~foreseen]),
      }
    ]
    levels += [
      {'level': f'above ({number})', 'predicted': _share(above[:, number - 1])}
      for number in range(1, above.shape[1] + 1)
    ]
    return {
      'num_entered': int(entered.sum()),
      'share_entered': _share(entered),
      'share_of_steps': float(self.inside.sum() / max(self.played.sum(), 1)),
      'share_stopped': _share(stopped),
      'num_that_stopped': int(np.sum(self.stopped > 0)),
      'levels': levels,
    }


def describe(watch: Watch | None, pairs: pairs_lib.Pairs) -> dict[str, Any]:
  """What a record says where something is forbidden, else nothing."""
  if watch is None:
    return {}
  left_out = {'num_left_out': pairs.num_forbidden}
  return {'guardrail': {**watch.to_dict(), **left_out}}


def _share(values: np.ndarray | Sequence[bool]) -> float | None:
  """The mean, None of nothing."""
  return float(np.mean(values)) if len(values) else None


def check(delta: float, form: str, penalty: float) -> None:
  """Refuses settings of a guardrail that mean nothing, by their flags.

  Raises:
    ValueError: a delta that is no share, no such form, or a penalty that is
      negative or not finite.
  """
  fields.check_choice('guardrail_form', form, FORMS)
  if not 0 < delta < 1:
    raise ValueError(
      f'guardrail_delta must be above 0 and below 1, got {delta}.'
    )
  if not 0 <= penalty < math.inf:
    raise ValueError(
      f'guardrail_penalty must be finite and at least 0, got {penalty}.'
    )
