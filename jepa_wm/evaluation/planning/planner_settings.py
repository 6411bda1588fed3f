"""Which planner, and how it is set: what a result record says about it."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import fields, files, planning
from jepa_wm.evaluation.planning import (
  agent_plans,
  guarding,
  levels,
  planning_model,
)
from jepa_wm.evaluation.planning import replanning as replanning_lib
from jepa_wm.types import DynamicsFn, LatentState, Params, Root

_PLAIN = (bool, int, float, str, type(None))
"""What a command line can give and a JSON record can keep."""

_DEFAULT = planning.CEM()

_APART = (
  'planner',
  'memory',
  'proposals',
  'cost_head',
  'upper',
  'replanning',
  'guard',
  'agents',
)
"""Fields that a record describes in words of their own."""


@dataclasses.dataclass(frozen=True)
class Proposals:
  """Who gives a search its first candidates.

  Attributes:
    name: of it, with what is needed to tell it from others like it.
    make_fn: called with the dynamics, what reads the newest latent of a state,
      and the horizon: the `ProposalFn` of a search. Two of one name are one.
    make_first_fn: the same of a `planning.FirstFn`, whose one proposal is what
      planners follow that do; None of who cannot act alone.
  """

  name: str
  make_fn: Callable[
    [DynamicsFn, Callable[[LatentState], jax.Array], int], planning.ProposalFn
  ] = dataclasses.field(compare=False)
  make_first_fn: (
    Callable[
      [DynamicsFn, Callable[[LatentState], jax.Array], int], planning.FirstFn
    ]
    | None
  ) = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True)
class CostHead:
  """Who prices latents in place of a distance.

  Attributes:
    name: of it, with what is needed to tell it from others like it.
    cost_fn: `(latents [..., D], goal [..., D]) -> [...]`, lower is better; it
      broadcasts. Two of one name are one.
  """

  name: str
  cost_fn: Callable[[jax.Array, jax.Array], jax.Array] = dataclasses.field(
    compare=False
  )


@dataclasses.dataclass(frozen=True)
class PlannerSettings:
  """A planner, and how it is used.

  Attributes:
    planner: who searches, one of those in `planning.PLANNERS` or another.
    cost: which steps of a rollout count, one of `planning.COSTS`.
    distance: of a latent from the goal's, a key of `planning.DISTANCES`.
    bounded: whether candidates are clipped to the world's action bounds.
    warm_start: whether a plan starts from what is left of the one before it.
    history: observations that the model sees at most, one action block apart.
    memory: what is remembered, one of `planning_model.MEMORIES`.
    proposals: who gives the first candidates beside the planner.
    cost_head: who prices latents, in place of a `distance`.
    upper: the levels above, the lowest first; each says what the one below it
      is to reach first.
    replanning: when a plan is given up early; None for never.
    guard: who says what is forbidden, at this level and those above.
    agents: how it plans for one of several agents at a time; None where it
      plans for all at once.

  Raises:
    ValueError: no such cost, distance or memory, no history, a history beside
      a state, a distance beside who prices in its place, or agents that each
      look at a cost of their own where one is asked for that nobody can share
      out.
  """

  planner: planning.Planner[Any] = _DEFAULT
  cost: str = 'last'
  distance: str = 'squared'
  bounded: bool = True
  warm_start: bool = True
  history: int = 1
  memory: str = 'frames'
  proposals: Proposals | None = None
  cost_head: CostHead | None = None
  upper: tuple[levels.Above, ...] = ()
  replanning: replanning_lib.Replanning | None = None
  guard: guarding.Guard | None = None
  agents: agent_plans.AgentsPlan | None = None

  def __post_init__(self) -> None:
    fields.check_choice('cost', self.cost, planning.COSTS)
    fields.check_choice('distance', self.distance, planning.DISTANCES)
    fields.check_counts(self, {'history': 1}, {'history': 10_000})
    fields.check_choice('memory', self.memory, planning_model.MEMORIES)
    if self.memory == 'state' and self.history > 1:
      raise ValueError(
        f"history={self.history} would do nothing beside memory='state': the "
        "model's own state remembers what it can; leave one of the two out."
      )
    if self.guard is not None and self.replanning is not None:
      raise ValueError(
        'guardrail and replan_on_surprise do not go together: a plan that is '
        'kept is looked at no more; leave one of the two out.'
      )
    if self.cost_head is not None and self.distance != 'squared':
      raise ValueError(
        f'distance={self.distance} would do nothing: the head '
        f'{self.cost_head.name} prices latents; leave one of the two out.'
      )

    if self.agents is None or not self.agents.prices_each:
      return
    if self.cost_head is not None or self.distance != 'squared':
      raise ValueError(
        'agents_plan=decentralised looks at what the model says that a step '
        'costs each agent, and distance and cost_head price all at once; leave '
        'them out, or choose agents_plan=coordinate.'
      )

  @property
  def name(self) -> str:
    """The planner's key in `planning.PLANNERS`, or what its class is called."""
    kind = type(self.planner)
    names = {known: name for name, known in planning.PLANNERS.items()}
    return names.get(kind, kind.__name__)

  def dry_run(self, horizon: int) -> planning.Plan:
    """Plans a problem of one dimension without computing anything.

    Args:
      horizon: H, blocks in a plan.

    Returns:
      Shapes and dtypes of what the planner answers, for B = A = 1.

    Raises:
      ValueError: what the planner says about numbers that make no sense, or
        nobody acts whom it could follow.
    """
    self._check_followed()
    if self.agents is not None:
      self.agents.around(self.planner)

    def dynamics(
      params: Params, rng_key: jax.Array, action: jax.Array, state: jax.Array
    ) -> jax.Array:
      del params, rng_key
      return state + action

    def propose(params: Params, rng_keys: jax.Array, root: Root) -> jax.Array:
      del params, rng_keys, root
      return jnp.zeros((1, 1, horizon, 1))

    def plan(rng_key: jax.Array, origin: jax.Array) -> planning.Plan:
      problem = planning.Problem(
        Root(origin, origin),
        dynamics,
        planning.squared_distance,
        horizon,
        1,
        proposal_fn=propose if self.planner.follows else None,
        limits=self._toy_limits(),
        surprise=jnp.zeros(1),
      )
      return planning.search(self.planner, {}, rng_key, problem)

    try:
      return jax.eval_shape(plan, jax.random.key(0), jnp.zeros((1, 1)))
    except ValueError as error:
      raise ValueError(f'planner {self.name}: {error}') from error

  def _toy_limits(self) -> planning.Limits:
    """A guardrail that is kept as this one is, for a dry run."""
    if self.guard is None:
      return planning.NO_LIMITS
    rail = planning.Guardrail(planning.squared_distance, form=self.guard.form)
    stop = None if self.planner.discrete else jnp.zeros(1)
    return planning.Limits(guardrails=(rail,), stop=stop)

  def _check_followed(self) -> None:
    """Refuses a planner that follows whoever is not there."""
    if not self.planner.follows:
      return
    if self.proposals is None:
      raise ValueError(
        f'planner {self.name} does what a policy says, and there is none: name '
        'the folder of a head that acts, such as policy, gcivl or '
        'actor_critic, with --proposals.'
      )
    if self.proposals.make_first_fn is None:
      raise ValueError(
        f'planner {self.name} does what a policy says, and '
        f'{self.proposals.name} has none; take a head that acts.'
      )

  def to_dict(self) -> dict[str, Any]:
    """All of it, the planner's defaults too, for a result record."""
    planner: Any = self.planner
    options = {
      name: _recorded(value)
      for name in _options(type(planner))
      for value in [getattr(planner, name)]
    }
    usage = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in _APART
    }
    if self.memory != 'frames':
      usage['memory'] = self.memory
    if self.proposals is not None:
      usage['proposals'] = self.proposals.name
    if self.cost_head is not None:
      usage |= {'cost_head': self.cost_head.name, 'distance': None}
    if self.replanning is not None:
      usage['replan_on_surprise'] = self.replanning.to_dict()
    if self.upper:
      usage['upper'] = [one.to_dict() for one in self.upper]
    if self.guard is not None:
      usage['guardrail'] = self.guard.to_dict()
    if self.agents is not None:
      usage['agents_plan'] = self.agents.to_dict()
    return {'name': self.name, **options, **usage}


def make_planner(
  name: str, options: Mapping[str, Any] | None = None
) -> planning.Planner[Any]:
  """Makes a planner of what a command line can say.

  Args:
    name: a key of `planning.PLANNERS`.
    options: settings of that planner by name, plain values only; its own
      defaults stand for the others.

  Raises:
    ValueError: no such planner or option, an option of the wrong type, or
      settings that make no sense.
  """
  fields.check_choice('planner', name, planning.PLANNERS, is_open=True)
  kind = planning.PLANNERS[name]
  known = _options(kind)
  for option, value in (options or {}).items():
    if option not in known:
      raise ValueError(
        f'planner {name!r} has no option {option!r}.'
        f'{files.nearest(option, known)} It has '
        f'{", ".join(sorted(known)) or "none"}.'
      )
    kinds = known[option]
    # A whole number may stand for any number, but True is none.
    if type(value) not in (*kinds, *([int] if float in kinds else [])):
      wanted = ' or '.join(
        'None' if kind is type(None) else kind.__name__ for kind in kinds
      )
      raise ValueError(
        f'option {option!r} of planner {name!r} must be {wanted}, got'
        f' {value!r}.'
      )
  return kind(**(options or {}))


def has_option(planner: str, option: str) -> bool:
  """Whether a planner has a setting that a command line can give."""
  return option in _options(planning.PLANNERS[planner])


def _options(planner: type[Any]) -> dict[str, list[type]]:
  """Plain types of each setting that a command line can give."""
  options = {}
  for field in dataclasses.fields(planner):
    members = typing.get_args(field.type) or (field.type,)
    kinds = [kind for kind in members if kind in _PLAIN]
    if set(kinds) - {type(None)}:
      options[field.name] = kinds
  return options


def _recorded(value: Any) -> Any:
  """A setting as JSON has it; an optimiser without a name by its kind."""
  if isinstance(value, optax.GradientTransformation):
    return type(value).__name__
  return value if type(value) in _PLAIN else np.asarray(value).tolist()
