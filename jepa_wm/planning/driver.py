"""The driver: what every search does, whoever the planner is.

It opens the door, hands out keys, projects, prices, stops early, keeps the
record, and prices the answer. What a planner does in between is `Planner`'s.
"""

import functools
import itertools
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import keeping, keys
from jepa_wm.planning.agents import Agents
from jepa_wm.planning.problem import Diagnostics, Plan, Problem, WarmStart
from jepa_wm.planning.task import Answer, Start, Task, open_task
from jepa_wm.types import Params

Carry = TypeVar('Carry')


class Planner(Protocol[Carry]):
  """What the driver asks of a planner, a frozen dataclass of its settings.

  `sampling.Sampling` answers all but four of these for planners that draw
  candidates, `descent.Descent` for those that follow gradients. The leaves
  of a carry lead with `[B]`, or hold one number for all problems.
  """

  @property
  def discrete(self) -> bool:
    """Whether actions are one-hot rows."""
    ...

  @property
  def follows(self) -> bool:
    """Whether it does what is proposed first, where it can; so it needs one."""
    ...

  @property
  def expects(self) -> bool:
    """Whether it asks how far what is seen is from what was predicted."""
    ...

  @property
  def keeps(self) -> tuple[str, ...]:
    """Forms of guardrails that it can keep, of `limits.FORMS`."""
    ...

  @property
  def searches(self) -> bool:
    """Whether it looks at candidates of its own."""
    ...

  @property
  def num_kept(self) -> int:
    """E, how many elites a plan leaves, and a warm start may bring."""
    ...

  @property
  def patience(self) -> int | None:
    """Iterations without a cheaper `elite_cost` after which to stop."""
    ...

  def among(self, agents: Agents | None) -> 'Planner[Any]':
    """Who plans for these agents: itself, if it is no matter how many."""
    ...

  def populations(self) -> list[int]:
    """N of each iteration; the first is the largest."""
    ...

  def num_keys(self) -> int:
    """The first number whose `Task.keys` no iteration uses."""
    ...

  def begin(self, task: Task, start: Start) -> Carry:
    """What the first iteration is given."""
    ...

  def iterate(
    self, task: Task, carry: Carry, size: int, iteration: jax.Array
  ) -> tuple[Carry, Diagnostics]:
    """One iteration of `size` candidates; diagnostics `[B]` tell of it."""
    ...

  def finish(self, task: Task, carry: Carry) -> tuple[Answer, jax.Array]:
    """The answer, and the elites `[B, E, H, A]` that it leaves."""
    ...

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """What a plan leaves when so many of its blocks have been played."""
    ...


def search(
  planner: Planner[Any],
  params: Params,
  rng_key: jax.Array,
  problem: Problem,
  *,
  warm_start: WarmStart | None = None,
) -> Plan:
  """Plans a batch of problems.

  All problems are planned together. A problem's plan depends on its own key
  and not on the batch it is in or the devices that share the work (but for
  the rounding of the model's arithmetic). A pure function: wrap it in
  `jax.jit`, together with whatever encodes the root. Under a mesh with the
  axes 'data' and 'samples' (`sharding`), problems are split over the one and
  candidates over the other.

  A problem without a cheaper `elite_cost` for `planner.patience` iterations
  is left as it is, and when all are, the rest is skipped. Shapes stay: the
  diagnostics of its last iteration are repeated.

  Args:
    planner: settings, such as `cem.CEM(num_samples=100)`.
    params: first argument of the problem's functions.
    rng_key: one key (problem i uses `fold_in(rng_key, i)`) or `[B]` keys, one
      per problem; consumed.
    problem: the problems.
    warm_start: where to start from.

  Returns:
    A `Plan`; its `cost` is NaN or infinite where the model cannot price it.

  Raises:
    ValueError: an empty horizon, an argument of the wrong shape, limits that
      cannot be met or mean nothing to the planner, settings of the planner
      that make no sense, and a function of the problem that returns the wrong
      shape.
  """
  task = open_task(params, rng_key, problem, warm_start)
  planner = planner.among(problem.agents)
  _check_limits(planner, task)
  state = _State(planner.begin(task, _start(planner, task, warm_start)))
  if planner.patience is not None:
    state = _with_patience(planner, task, state)
  traces, first = [], 0
  for size, group in itertools.groupby(planner.populations()):
    numbers = jnp.arange(first, first := first + len(list(group)))
    one = functools.partial(_iterate, planner, task, size)
    state, trace = jax.lax.scan(one, state, numbers)
    traces.append(trace)
  diagnostics = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *traces)
  answer, elites = planner.finish(task, state.carry)
  _, model_keys = task.keys(planner.num_keys())
  answer, cost, excess, stopped = keeping.settle(task, answer, model_keys)
  return Plan(
    actions=answer.actions,
    cost=cost,
    violation=jnp.max(excess, axis=(1, 2), initial=0.0),
    mean=answer.mean,
    std=answer.std,
    elites=elites,
    diagnostics=diagnostics,
    searched=answer.searched,
    excess=excess if task.watched else None,
    stopped=stopped,
  )


class _State(NamedTuple):
  """What one iteration leaves to the next; all but the carry for patience."""

  carry: Any
  best: jax.Array | None = None  # [B], cheapest mean of elites so far
  stale: jax.Array | None = None  # [B], iterations since then
  diagnostics: Diagnostics | None = None  # [B], of the last iteration


def _with_patience(planner: Planner[Any], task: Task, state: _State) -> _State:
  size, zero = planner.populations()[0], jnp.int32(0)
  _, told = jax.eval_shape(
    functools.partial(planner.iterate, task, state.carry, size), zero
  )
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), told)
  num_problems = task.shape[:1]
  best = jnp.full(num_problems, jnp.inf, jnp.float32)
  return _State(state.carry, best, jnp.zeros(num_problems, jnp.int32), zeros)


def _iterate(
  planner: Planner[Any],
  task: Task,
  size: int,
  state: _State,
  iteration: jax.Array,
) -> tuple[_State, Diagnostics]:
  """One iteration for the problems whose patience is not at its end."""
  best, stale = state.best, state.stale
  if planner.patience is None or best is None or stale is None:
    carry, diagnostics = planner.iterate(task, state.carry, size, iteration)
    return _State(carry), diagnostics

  def go_on(state: _State) -> _State:
    carry, diagnostics = planner.iterate(task, state.carry, size, iteration)
    better = diagnostics.elite_cost < best
    return _State(
      carry,
      jnp.where(better, diagnostics.elite_cost, best),
      jnp.where(better, 0, stale + 1),
      diagnostics,
    )

  def choose(new: jax.Array, old: jax.Array) -> jax.Array:
    if not new.ndim:
      return new
    mask = waiting.reshape(-1, *(1,) * (new.ndim - 1))
    return jnp.where(mask, new, old)

  waiting = stale < planner.patience
  after = jax.lax.cond(jnp.any(waiting), go_on, lambda state: state, state)
  after = jax.tree.map(choose, after, state)
  return after, after.diagnostics


def _check_limits(planner: Planner[Any], task: Task) -> None:
  """Refuses limits that mean nothing to a planner."""
  name, limits = type(planner).__name__, task.problem.limits
  for rail in task.watched:
    if rail.form is not None and rail.form not in planner.keeps:
      raise ValueError(
        f'{name} cannot keep a guardrail of the form {rail.form!r}, only '
        f'{", ".join(planner.keeps)}; choose another form or another planner.'
      )
  if planner.discrete and limits.actions:
    raise ValueError(
      f'{name} chooses among {task.shape[2]} actions, to which'
      ' action_constraints mean nothing: say with allowed which it may choose.'
    )
  if not planner.discrete and limits.allowed is not None:
    raise ValueError(
      f'{name} plans continuous actions, to which allowed means nothing: say'
      ' with action_constraints what they must keep to.'
    )


def _start(
  planner: Planner[Any], task: Task, warm_start: WarmStart | None
) -> Start:
  """The first mean, and candidates `[B, F, H, A]`: elites, then proposals."""
  init_mean, elites, *_ = WarmStart() if warm_start is None else warm_start
  if init_mean is None:
    init_mean = jnp.zeros(task.shape, jnp.float32)
  elif jnp.shape(init_mean) != task.shape:
    raise ValueError(
      f'init_mean must be [B, H, A] = {list(task.shape)}, got shape'
      f' {list(jnp.shape(init_mean))}.'
    )
  # Where actions are chosen, what is not allowed is the planner's to leave.
  mean = jnp.asarray(init_mean, jnp.float32)
  mean = mean if planner.discrete else task.project(mean)
  num_problems, *size = task.shape
  kept_shape = (num_problems, planner.num_kept, *size)
  if elites is not None and jnp.shape(elites) != kept_shape:
    raise ValueError(
      f'init_elites must be [B, num_kept, H, A] = {list(kept_shape)}, got'
      f' shape {list(jnp.shape(elites))}.'
    )
  given = [] if elites is None else [jnp.asarray(elites, jnp.float32)]
  if planner.follows and task.problem.proposal_fn is None:
    raise ValueError(
      f'{type(planner).__name__} does what is proposed, and nobody proposes: '
      'give a proposal_fn, of a policy or another head.'
    )
  if task.problem.proposal_fn is not None:
    room = planner.populations()[0] - (0 if elites is None else kept_shape[1])
    # Who only follows looks at the first, of however many.
    given.append(_propose(task, room if planner.searches else None))
  num_given = sum(part.shape[1] for part in given)
  # Room for the elites of the first iteration.
  missing = max(0, planner.num_kept - num_given)
  given.append(jnp.zeros((num_problems, missing, *size), jnp.float32))
  return Start(mean, jnp.concatenate(given, axis=1), jnp.int32(num_given))


def _propose(task: Task, room: int | None) -> jax.Array:
  """Candidates `[B, F, H, A]` from the problem's `proposal_fn`.

  Args:
    task: the problem.
    room: F is below that; None where that does not matter.
  """
  proposal_fn, (num_problems, *size) = task.problem.proposal_fn, task.shape
  assert proposal_fn is not None
  # Beyond the keys of any iteration.
  proposal_keys = keys.fold_keys(task.rng_keys, jnp.uint32(2**32 - 1))
  proposed = proposal_fn(task.params, proposal_keys, task.problem.root)
  shape = np.shape(proposed)
  fits = len(shape) == 4 and (shape[0], *shape[2:]) == task.shape
  if not fits or (room is not None and shape[1] >= room):
    below = '' if room is None else f' with F below num_samples={room}'
    raise ValueError(
      'proposal_fn must return [B, F, H, A] ='
      f' {[num_problems, "F", *size]}{below}, got shape {list(shape)}.'
    )
  return proposed.astype(jnp.float32)
