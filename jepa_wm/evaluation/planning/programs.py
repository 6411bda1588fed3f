"""The compiled programs that plan for a batch of problems."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning, sharding, shares
from jepa_wm.evaluation.planning import (
  bound_planners,
  flops,
  guarding,
  observations,
  planner_settings,
  planning_model,
)
from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.types import Params


class Programs:
  """Compiled programs, each known by all that it was compiled for.

  Hand one `Programs` from run to run: what is alike is compiled once, and what
  is not (another model, planner, protocol, world or shape) is compiled anew.
  The programs of one model are kept, those of the last.
  """

  def __init__(self) -> None:
    """Holds nothing yet."""
    self._model: planning_model.PlanningModel | None = None
    self._found: list[tuple[Any, Any]] = []

  def __len__(self) -> int:
    return len(self._found)

  def get(
    self,
    model: planning_model.PlanningModel,
    identity: Any,
    compile_fn: Callable[[], Any],
  ) -> Any:
    """The program of a model and an identity, compiled if it is not there.

    Args:
      model: the very model, or a pytree that differs from it in the values of
        its `params` alone.
      identity: whatever else decides the program, compared by `==`.
      compile_fn: makes the program.
    """
    if self._model is None or not _are_alike(self._model, model):
      self._model, self._found = model, []
    for known, program in self._found:
      if known == identity:
        return program
    program = compile_fn()
    self._found.append((identity, program))
    return program


@dataclasses.dataclass
class BatchPlanner:
  """Plans for batches of problems, on all devices, one program a shape.

  Attributes:
    model: the world model.
    protocol: horizon and how much of a plan is played.
    settings: of the planner.
    bounds: lowest and highest raw action `[raw]`.
    seed: of the planner's draws.
    batch_size: problems planned at once.
    programs: what has been compiled.
    mesh: devices that share the work.
    flops_per_plan: operations of the last program for one problem, see
      `flops.count`; None before there is one.
  """

  model: planning_model.PlanningModel
  protocol: protocol_lib.Protocol
  settings: planner_settings.PlannerSettings
  bounds: tuple[np.ndarray, np.ndarray]
  seed: int
  batch_size: int
  programs: Programs

  def __post_init__(self) -> None:
    self.mesh = sharding.planning_mesh(self.batch_size)
    self.params = sharding.replicate(self.model.params, self.mesh)
    self.flops_per_plan: float | None = None

  @property
  def stride(self) -> int:
    """Blocks that are played between two calls of the program."""
    if self.settings.replanning is not None:
      return 1
    return self.protocol.receding_horizon

  @property
  def follows(self) -> bool:
    """Whether the model's own state is what is remembered."""
    return self.settings.memory == 'state'

  def first(
    self, seen: observations.Observation
  ) -> tuple[Any, planning.Memory | planning.Followed]:
    """Nothing planned and nothing remembered, of problems that look so."""

    @jax.jit
    def first(seen: observations.Observation) -> Any:
      state = planning.first_state(
        seen,
        seen,
        observe_fn=lambda seen: seen,
        plan_fn=self._plan_fn(),
        follows=self.follows,
      )
      return state.warm_start, state.memory

    found: Any = jax.tree.map(np.asarray, first(seen))
    return found

  def compiled(
    self, start: Any, memory: Any, goals: Any
  ) -> Callable[..., dict[str, Any]]:
    """The program for a batch of such shapes.

    Args:
      start: what the plans before left, leaves `[n, ...]`.
      memory: what is remembered, leaves `[n, ...]`.
      goals: observations, leaves `[n, ...]`.

    Returns:
      `(ids [n], number, start, memory, goals)` with at most `batch_size` rows
      to a dict of `actions` `[n, H, A]`, `raw` `[n, H, block, raw]`, `left`,
      `cost` `[n]`, `searched` `[n]` or None, `noticed` `[n]` or None, `subgoal`
      `[n, D]` or None, `guard` (see `guarding.told`) or None, and `diagnostics`
      `[n, I]`. Call number `c` is for when `c * stride` blocks have been
      played.
    """
    ids = np.zeros(len(jax.tree.leaves(goals)[0]), np.uint32)
    rows = np.zeros(1, int)
    args = self._arguments(ids[rows], 0, _take((start, memory, goals), rows))
    identity = (
      *(np.asarray(bound).tolist() for bound in self.bounds),
      # Whoever plans is told of no disturbance.
      dataclasses.replace(self.protocol, disturb=None, disturb_at=None),
      self.settings,
      jax.tree.structure(args),
      [(np.shape(leaf), leaf.dtype) for leaf in jax.tree.leaves(args)],
    )

    program, total = self._program(self._plan, identity, args)
    self.flops_per_plan = total / self.batch_size

    def plan(ids: np.ndarray, number: int, *given: Any) -> dict[str, Any]:
      outputs = program(*self._arguments(ids, number, given))
      outputs = jax.block_until_ready(outputs)
      return jax.tree.map(lambda x: np.asarray(x)[: len(ids)], outputs)

    return plan

  def seeing(
    self, followed: planning.Followed, seen: observations.Observation
  ) -> Callable[..., planning.Followed]:
    """The program by which a model absorbs what is seen, or starts from it.

    Args:
      followed: what it has followed, leaves `[n, ...]`.
      seen: observations, leaves `[n, ...]`.

    Returns:
      `(followed, seen)` with at most `batch_size` rows to what is followed.
    """
    see = self.model.following.see

    def arguments(given: Any) -> Any:
      return self.params, *shares.split(self._padded(given), self.mesh)

    args = arguments(_take((followed, seen), np.zeros(1, int)))
    identity = (
      'see',
      jax.tree.structure(args),
      [(np.shape(leaf), leaf.dtype) for leaf in jax.tree.leaves(args)],
    )
    program, _ = self._program(see, identity, args)

    def absorb(*given: Any) -> planning.Followed:
      number = len(jax.tree.leaves(given)[0])
      found: planning.Followed = jax.tree.map(
        lambda x: np.asarray(x)[:number], program(*arguments(given))
      )
      return found

    return absorb

  def _program(
    self, fn: Callable[..., Any], identity: Any, args: Any
  ) -> tuple[Any, float]:
    """A function compiled for arguments, and its operations."""

    def compile_fn() -> Any:
      with jax.set_mesh(self.mesh):
        traced = jax.jit(fn, **self._laid_out()).trace(*args)
        return traced.lower().compile(), flops.count(traced.jaxpr)

    found: tuple[Any, float] = self.programs.get(
      self.model, identity, compile_fn
    )
    return found

  def count(self) -> float:
    """Operations of a first plan for one problem; compiles nothing."""
    seen = observations.shapes(self.model, 1)
    start = jax.eval_shape(lambda: self._plan_fn().first(1))
    actions: Any = jax.ShapeDtypeStruct(
      (1, 0, self.model.action_dim), np.dtype(np.float32)
    )
    memory: Any = planning.Memory(
      observations.shapes(self.model, 1, 1), actions
    )
    if self.follows:
      first = planning.Followed(None, actions)
      see = self.model.following.see
      memory = jax.eval_shape(see, self.model.params, first, seen)
    shapes: Any = (
      jax.eval_shape(lambda: jax.random.key(0)),
      jax.ShapeDtypeStruct((), np.dtype(np.int32)),
      jax.ShapeDtypeStruct((1,), np.dtype(np.uint32)),
    )
    traced = jax.make_jaxpr(self._plan)(
      self.model.params, *shapes, start, memory, seen
    )
    return flops.count(traced)

  def _arguments(self, ids: np.ndarray, number: int, given: Any) -> Any:
    batch = self._padded((ids.astype(np.uint32), *given))
    shared = jax.random.key(self.seed), jnp.int32(number)
    return (
      self.params,
      *sharding.replicate(shared, self.mesh),
      *shares.split(batch, self.mesh),
    )

  def _padded(self, given: Any) -> Any:
    """A batch whose last row is repeated: one shape, one compilation."""
    number = len(jax.tree.leaves(given)[0])
    return _take(given, np.minimum(np.arange(self.batch_size), number - 1))

  def _laid_out(self) -> dict[str, Any]:
    """Where plans lie that each of several processes is to play."""
    if sharding.num_processes(self.mesh) == 1:
      return {}
    return {'out_shardings': sharding.replicated(self.mesh)}

  def _plan_fn(self) -> planning.PlanFn[Any]:
    """The planner with all its settings, and the levels above it."""
    return bound_planners.bind(
      self.model, self.settings, self.protocol.horizon, self.bounds
    )

  def _plan(
    self,
    params: Params,
    rng_key: jax.Array,
    number: jax.Array,
    ids: jax.Array,
    start: Any,
    memory: planning.Memory | planning.Followed,
    goals: observations.Observation,
  ) -> dict[str, Any]:
    """One plan for each of `[B]` problems; the program that is compiled."""
    receding = self.protocol.receding_horizon
    num_plans, stride = self.protocol.num_plans, self.stride
    played = number * stride
    left_over = num_plans * receding - played
    if stride != receding:
      # Plans that are made when they are due draw what they always draw.
      due = played % receding == 0
      number = jnp.where(due, played // receding, num_plans + number)

    def problem_key(pair_id: jax.Array) -> jax.Array:
      return jax.random.fold_in(jax.random.fold_in(rng_key, pair_id), number)

    plan, left = planning.plan_step(
      params,
      jax.vmap(problem_key)(ids),
      start,
      memory,
      goals,
      root_fn=planning_model.root_fn(self.model, self.settings.memory),
      plan_fn=self._plan_fn(),
      receding_horizon=stride,
      warm_start=self.settings.warm_start,
      clock=planning.Clock(played, left_over),
    )
    raw = self.model.raw_actions(plan.actions)
    if plan.stopped is not None:
      # Not what rounding leaves of it.
      raw = jnp.where(plan.stopped.reshape(-1, 1, 1, 1), 0.0, raw)
    guarded = self.settings.guard is not None
    return {
      'actions': plan.actions,
      'raw': raw,
      'left': left,
      'cost': plan.cost,
      'searched': plan.searched,
      'noticed': plan.noticed,
      'subgoal': None if plan.subgoal is None else plan.subgoal.goal,
      'guard': guarding.told(plan) if guarded else None,
      'diagnostics': jax.tree.map(jnp.transpose, plan.diagnostics),
    }


def _are_alike(
  one: planning_model.PlanningModel, other: planning_model.PlanningModel
) -> bool:
  """Whether a program of one model is that of another, given its `params`."""
  if one is other:
    return True
  structures: list[Any] = [jax.tree.structure(x) for x in (one, other)]
  # One leaf: no pytree, so that nothing is known of it.
  if structures[0] != structures[1] or structures[0].num_nodes == 1:
    return False
  rest = zip(*(_beside_params(model) for model in (one, other)), strict=True)
  return all(np.array_equal(a, b) for a, b in rest)


def _beside_params(model: planning_model.PlanningModel) -> list[Any]:
  """The arrays of a pytree that are none of its `params`."""
  own = {id(leaf) for leaf in jax.tree.leaves(model.params)}
  return [leaf for leaf in jax.tree.leaves(model) if id(leaf) not in own]


def _take(tree: Any, rows: np.ndarray) -> Any:
  return jax.tree.map(lambda leaf: leaf[rows], tree)
