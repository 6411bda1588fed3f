"""What planners share that plan for one of several agents at a time.

Each agent's part of the actions is searched by a planner of one's choice, as
one of a problem in which the others' parts are given.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import driver, keys, moments
from jepa_wm.planning.agents import Agents, Held
from jepa_wm.planning.limits import Limits
from jepa_wm.planning.problem import Diagnostics, Plan, Problem, WarmStart
from jepa_wm.planning.task import Answer, Start, Task
from jepa_wm.planning.traits import Traits

PRICES = ('all', 'own')
"""Whose cost an agent looks at."""

_AGENT = 2**32 - 3
"""Folded into a problem's key for the agents' searches; nobody else does so."""


class Found(NamedTuple):
  """What the agents plan so far.

  Attributes:
    actions: `[B, H, A]`.
    mean: `[B, H, A]`, where their next searches should start.
    std: `[B, H, A]`, standard deviation of their last searches.
    elites: `[B, E, H, A]`, of the last search.
  """

  actions: jax.Array
  mean: jax.Array
  std: jax.Array
  elites: jax.Array


class Searching(NamedTuple):
  """What a round leaves to the next.

  Attributes:
    found: what is planned so far.
    start: where every search begins, but for the mean.
  """

  found: Found
  start: Start


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentSearch(Traits, abc.ABC):
  """A planner around another, which plans for one agent at a time.

  The problem says who acts (`Problem.agents`). Proposals and kept elites are
  joint sequences, of which every agent's search looks at its own part. In the
  diagnostics a round is one row: costs are those of the last agent's search,
  or where each looks at its own they are added up; counts are added up, and
  the rest is the agents' mean. For one agent that is alone `planner` plans.

  Attributes:
    planner: searches for one agent.
    price: whose cost an agent looks at: 'all', the problem's own, or 'own'
      (`Agents.costs_fn`).

  Raises:
    ValueError: a planner that chooses among actions, does not search or plans
      agent by agent itself, or no such price; and when it is asked for a plan,
      a problem that names no agents.
  """

  planner: driver.Planner[Any]
  price: str = 'all'

  def __post_init__(self) -> None:
    name, inner = type(self).__name__, type(self.planner).__name__
    if self.planner.discrete or self.planner.follows:
      what = 'chooses among joint actions' if self.planner.discrete else 'acts'
      raise ValueError(
        f'{name} searches for each agent on its own, and {inner} {what} for '
        'all of them at once; take a planner that searches numbers, such as '
        'CEM.'
      )
    if self.price not in PRICES:
      raise ValueError(
        f'price must be one of {", ".join(PRICES)}, got {self.price!r}.'
      )

  @property
  @abc.abstractmethod
  def rounds(self) -> int:
    """How often every agent searches."""

  @abc.abstractmethod
  def others(self, task: Task, start: Start, found: Found) -> jax.Array:
    """What an agent takes the others to do, `[B, H, A]`."""

  @property
  def keeps(self) -> tuple[str, ...]:
    """Guardrails that the planner within can keep."""
    return self.planner.keeps

  @property
  def num_kept(self) -> int:
    """As many as the planner within keeps."""
    return self.planner.num_kept

  @property
  def patience(self) -> int | None:
    """All rounds are played; the planner within may have patience."""
    return None

  def populations(self) -> list[int]:
    """A round is one iteration."""
    return self.planner.populations()[:1] * self.rounds

  def num_keys(self) -> int:
    """Those of the planner within, which agents draw from keys of their own."""
    return self.planner.num_keys()

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """See `driver.Planner`."""
    return self.planner.shift(left, num_played)

  def among(  # type: ignore[override]
    self, agents: Agents | None
  ) -> driver.Planner[Any]:
    """The planner within, of one agent that is alone."""
    is_alone = agents is not None and agents.number == 1
    return self.planner if is_alone else self

  def begin(self, task: Task, start: Start) -> Searching:
    """Where all agents start from."""
    self._agents(task)
    num_problems, *size = task.shape
    elites = jnp.zeros((num_problems, self.num_kept, *size), jnp.float32)
    zeros = jnp.zeros(task.shape, jnp.float32)
    return Searching(Found(start.mean, start.mean, zeros, elites), start)

  def iterate(
    self, task: Task, carry: Searching, size: int, iteration: jax.Array
  ) -> tuple[Searching, Diagnostics]:
    """A round: every agent searches once."""
    del size
    acting, start = self._agents(task), carry.start
    round_keys = keys.fold_keys(task.rng_keys, jnp.uint32(_AGENT))

    def search(found: Found, agent: jax.Array) -> tuple[Found, Diagnostics]:
      rng_keys = keys.fold_keys(round_keys, iteration * acting.number + agent)
      is_own = jnp.asarray(acting.owners) == agent
      problem = self._problem(
        task, agent, is_own, self.others(task, start, found)
      )
      plan = self._search(task, start, found.mean, rng_keys, problem)
      actions, mean, std = (
        jnp.where(is_own.reshape(1, 1, -1), new, old)
        for new, old in zip((plan.actions, plan.mean, plan.std), found)
      )
      told = jax.tree.map(lambda rows: rows[-1], plan.diagnostics)
      return Found(actions, mean, std, plan.elites), told

    numbers = jnp.arange(acting.number)
    found, told = jax.lax.scan(search, carry.found, numbers)
    return carry._replace(found=found), self._together(told)

  def finish(self, task: Task, carry: Searching) -> tuple[Answer, jax.Array]:
    """What all agents plan, moved to where limits hold that couple them."""
    found = carry.found
    actions, mean = task.project(found.actions), task.project(found.mean)
    return Answer(actions, mean, found.std), task.project(found.elites)

  def _agents(self, task: Task) -> Agents:
    """Who acts.

    Raises:
      ValueError: the problem does not say.
    """
    acting = task.problem.agents
    if acting is None:
      raise ValueError(
        f'{type(self).__name__} plans for one of several agents at a time, and '
        'the problem names none: give it agents (planning.Agents), or plan '
        f'with {type(self.planner).__name__} alone.'
      )
    acting.check(task.shape[2])
    return acting

  def _problem(
    self, task: Task, agent: jax.Array, is_own: jax.Array, others: jax.Array
  ) -> Problem:
    """The problem of one agent, in which the others do as they are held."""
    problem, acting = task.problem, self._agents(task)
    held = Held(problem.limits.actions, others, is_own)
    limits: Limits = dataclasses.replace(problem.limits, actions=(held,))
    cost_fn = problem.cost_fn
    if self.price == 'own':
      if isinstance(cost_fn, moments.Timed):
        raise ValueError(
          "price='own' would do nothing of a timed cost, which prices all "
          "agents at once; take price='all'."
        )
      is_soonest = isinstance(cost_fn, moments.Soonest)
      cost_fn = acting.own_cost(agent)
      cost_fn = moments.soonest(cost_fn) if is_soonest else cost_fn
    return dataclasses.replace(problem, limits=limits, cost_fn=cost_fn)

  def _search(
    self,
    task: Task,
    start: Start,
    mean: jax.Array,
    rng_keys: jax.Array,
    problem: Problem,
  ) -> Plan:
    """One search of the planner within; what is given are proposals to it."""
    given = start.given
    counts = jnp.arange(given.shape[1]).reshape(1, -1, 1, 1) < start.num_given
    given = jnp.where(counts, given, jnp.inf)
    problem = dataclasses.replace(
      problem, proposal_fn=(lambda *_: given) if given.shape[1] else None
    )
    return driver.search(
      self.planner,
      task.params,
      rng_keys,
      problem,
      warm_start=WarmStart(mean),
    )

  def _together(self, told: Diagnostics) -> Diagnostics:
    """The row of a round, of rows of agents `[G, B]`."""

    def add(costs: jax.Array) -> jax.Array:
      return jnp.sum(costs, axis=0) if self.price == 'own' else costs[-1]

    norm = told.grad_norm
    return Diagnostics(
      best_cost=add(told.best_cost),
      mean_cost=add(told.mean_cost),
      elite_cost=add(told.elite_cost),
      spread=jnp.mean(told.spread, axis=0),
      num_nonfinite=jnp.sum(told.num_nonfinite, axis=0, dtype=jnp.int32),
      grad_norm=None if norm is None else jnp.mean(norm, axis=0),
    )
