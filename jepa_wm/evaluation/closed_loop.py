"""Plans and plays a batch of problems, again and again, until time is up."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jepa_wm import planning, sharding
from jepa_wm.envs import environment as environment_lib
from jepa_wm.evaluation import observations, planner_settings
from jepa_wm.evaluation import pairs as pairs_lib
from jepa_wm.evaluation import protocol as protocol_lib
from jepa_wm.types import CostFn, LatentState, Params, Root


class PlanningModel(TypingProtocol):
  """What is asked of a world model; `jepa_wm.WorldModel` is one.

  One that sees the body's own state says so by `proprio_dim` above 0, and its
  `root` takes `proprio` `[B, S]` or `[B, T, S]` and `goal_proprio` `[B, S]`.

  Attributes:
    params: first argument of its functions.
    image_size: height and width of the frames that `root` expects.
    action_block: environment steps that one planned action spans.
    action_dim: size `A` of a planned action.
  """

  @property
  def params(self) -> Params: ...

  @property
  def image_size(self) -> int: ...

  @property
  def action_block(self) -> int: ...

  @property
  def action_dim(self) -> int: ...

  def root(
    self,
    params: Params,
    pixels: jax.Array,
    goal_pixels: jax.Array,
    actions: jax.Array | None = None,
  ) -> Root:
    """Encodes uint8 frames and goals.

    Args:
      params: the model's.
      pixels: `[B, height, width, 3]`, or `[B, T, height, width, 3]` with
        `actions` `[B, T - 1, A]` between them; T above one only where
        `PlannerSettings.history` is.
      goal_pixels: `[B, height, width, 3]`.
      actions: as above.
    """
    ...

  def dynamics(
    self,
    params: Params,
    rng_key: jax.Array,
    action: jax.Array,
    state: LatentState,
  ) -> LatentState:
    """A `DynamicsFn`."""
    ...

  def cost(
    self, params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> jax.Array:
    """A `CostFn`, what `PlannerSettings.distance` 'squared' stands for."""
    ...

  def latent(self, state: LatentState) -> jax.Array:
    """The latent `[B, N, D]` that other distances compare with the goal."""
    ...

  def raw_actions(self, actions: jax.Array) -> jax.Array:
    """Planned `[..., A]` to raw actions `[..., action_block, raw]`."""
    ...

  def action_bounds(self, low: Any, high: Any) -> planning.ActionBounds:
    """Raw bounds `[raw]` in the planner's units, `[A]`."""
    ...


@dataclasses.dataclass(frozen=True)
class PlannedPath:
  """Where the plans made at one moment would lead if played to their end.

  Attributes:
    step: environment steps already played when these plans were made.
    indices: `[n]`, rows of the problems that were still open.
    vectors: `[n, horizon * action_block + 1, V]`, the true states from where
      the plan was made, by the world itself and not by the model.
  """

  step: int
  indices: np.ndarray
  vectors: np.ndarray


@dataclasses.dataclass
class ClosedLoop:
  """Problems on their way to their goals.

  A batch of problems is drawn, encoded, planned, and played up to the next plan
  in one jitted program on all devices, compiled once (and again where what is
  remembered of the past grows). Between two plans the host takes out the
  problems that are solved and packs the others into full batches again; all
  stay where success counts at the end.

  Attributes:
    model: the world model.
    protocol: budget, horizon, how often to plan.
    pairs: the `P` problems.
    settings: of the planner.
    seed: of the planner's draws.
    batch_size: problems planned at once, at most `P`.
    env: the world.
    programs: what was compiled; may be handed from loop to loop where model,
      protocol, settings and world are the same.
    vectors: `[P, budget + 1, V]`, true states; the last one to the end where
      an episode ended early.
    first_success: int `[P]`, steps until the goal was reached, -1 before.
    at_end: bool `[P]`, whether the last state so far lies in the goal.
    initially_solved: bool `[P]`.
    start_distance: `[P]`, in the world's unit.
    final_distance: `[P]`, of the last state so far.
    failures: nothing in these worlds goes wrong; row to reason.
    planned: one entry per moment of planning.
    num_plans: plans made for problems that were open.
    planning_seconds: time spent in the compiled program.
    mesh: devices that share the work.
  """

  model: PlanningModel
  protocol: protocol_lib.Protocol
  pairs: pairs_lib.Pairs
  settings: planner_settings.PlannerSettings
  seed: int
  batch_size: int
  env: environment_lib.Environment
  programs: dict[Any, Callable[..., Any]] = dataclasses.field(
    default_factory=dict
  )

  def __post_init__(self) -> None:
    protocol = self.protocol
    self.failures: dict[int, str] = {}
    start, distance, solved = jax.jit(self._each(_survey, self.pairs.worlds))(
      self.pairs.starts, self.pairs.goals
    )
    start = np.asarray(start)
    self.vectors = np.repeat(start[:, None], protocol.budget + 1, axis=1)
    self.planned: list[PlannedPath] = []
    self.diagnostics: list[planning.Diagnostics] = []
    self.num_plans = 0
    self.planning_seconds = 0.0
    first = planning.first_state(
      self.pairs.starts,
      self.pairs.goals,
      observe_fn=functools.partial(self._observe, own_worlds=self.pairs.worlds),
      plan_fn=self._plan_fn(),
    )
    self.state = jax.tree.map(np.asarray, first)
    self.mesh = sharding.planning_mesh(self.batch_size)
    self.params = sharding.replicate(self.model.params, self.mesh)
    self.start_distance = np.asarray(distance)
    self.final_distance = self.start_distance.copy()
    self.initially_solved = np.asarray(solved)
    self.at_end = self.initially_solved.copy()
    counts = self.initially_solved & (protocol.success != 'after any step')
    self.first_success = np.where(counts, 0, -1).astype(np.int32)

  def run(self, bar: tqdm.tqdm) -> None:
    """Spends the budget; `bar` counts plans, those no longer needed too.

    Raises:
      ValueError: the model prices a plan with NaN or infinity.
    """
    programs = self.programs
    to_the_end = self.protocol.success == 'at the end'
    for number in range(self.protocol.num_plans):
      still_open = np.flatnonzero((self.first_success < 0) | to_the_end)
      paths, states = [], []
      for first in range(0, len(still_open), self.batch_size):
        rows = still_open[first : first + self.batch_size]
        args = self._arguments(rows, number)
        shapes = (
          self.batch_size,
          *(
            np.shape(leaf)[1:]
            for leaf in jax.tree.leaves((self.state, self.pairs.worlds))
          ),
        )
        if shapes not in programs:
          bar.set_postfix_str('compiling')
          with jax.set_mesh(self.mesh):
            program = jax.jit(self._plan_and_play).lower(*args).compile()
          programs[shapes] = program
        began = time.perf_counter()
        outputs = jax.block_until_ready(programs[shapes](*args))
        self.planning_seconds += time.perf_counter() - began
        self.num_plans += len(rows)
        path, state = self._keep(rows, number, outputs)
        paths.append(path)
        states.append(state)
        remaining = self.protocol.num_plans - number
        solved = 0 if to_the_end else np.sum(self.first_success[rows] >= 0)
        bar.update(int(len(rows) + solved * (remaining - 1)))
        bar.set_postfix(solved=int(np.sum(self.first_success >= 0)))
      if paths:
        step = number * self._steps_per_plan()
        self.planned.append(
          PlannedPath(step, still_open, np.concatenate(paths))
        )
        self.state = self._spread(still_open, states)

  def first_diagnostics(self) -> planning.Diagnostics:
    """How the search for every first plan went, `[I, n]`."""
    if not self.diagnostics:
      dry = self.settings.dry_run(self.protocol.horizon).diagnostics
      return jax.tree.map(lambda leaf: np.zeros((leaf.shape[0], 0)), dry)
    return jax.tree.map(
      lambda *parts: np.concatenate(parts, axis=1), *self.diagnostics
    )

  def _steps_per_plan(self) -> int:
    return self.protocol.receding_horizon * self.protocol.action_block

  def _arguments(self, rows: np.ndarray, number: int) -> tuple[Any, ...]:
    # The last row is repeated to fill the batch: one shape, one compilation.
    padded = np.pad(rows, (0, self.batch_size - len(rows)), mode='edge')

    def take(tree: Any) -> Any:
      return jax.tree.map(lambda leaf: leaf[padded], tree)

    batch = (
      self.pairs.ids[padded].astype(np.uint32),
      take(self.state),
      take(self.pairs.goals),
      self.first_success[padded],
      take(self.pairs.worlds),
    )
    shared = jax.random.key(self.seed), jnp.int32(number)
    return (
      self.params,
      *sharding.replicate(shared, self.mesh),
      *sharding.shard_batch(batch, self.mesh),
    )

  def _spread(
    self, rows: np.ndarray, parts: list[planning.MpcState]
  ) -> planning.MpcState:
    """Puts batches of states, whose shapes may have grown, in their rows."""

    def spread(*leaves: np.ndarray) -> np.ndarray:
      shape = (len(self.pairs), *leaves[0].shape[1:])
      whole = np.zeros(shape, leaves[0].dtype)
      whole[rows] = np.concatenate(leaves)
      return whole

    return jax.tree.map(spread, *parts)

  def _keep(
    self, rows: np.ndarray, number: int, outputs: dict[str, Any]
  ) -> tuple[np.ndarray, planning.MpcState]:
    """Writes down how it went in a batch; returns planned paths and states."""
    outputs = jax.tree.map(lambda x: np.asarray(x)[: len(rows)], outputs)
    if not np.all(np.isfinite(outputs['cost'])):
      worst = rows[np.argmin(np.isfinite(outputs['cost']))]
      raise ValueError(
        'the model priced its plan for pair '
        f'{self.pairs.ids[worst]} with NaN or infinity; its weights or its '
        'dynamics are broken, so there is nothing to score.'
      )
    self.first_success[rows] = outputs['first_success']
    self.final_distance[rows] = outputs['distance']
    self.at_end[rows] = outputs['at_end']
    start = number * self._steps_per_plan() + 1
    steps = min(self._steps_per_plan(), self.protocol.budget + 1 - start)
    self.vectors[rows, start : start + steps] = outputs['vectors'][:, :steps]
    self.vectors[rows, start + steps :] = outputs['vectors'][:, steps - 1, None]
    if number == 0:
      diagnostics = outputs['diagnostics']
      self.diagnostics.append(jax.tree.map(np.transpose, diagnostics))
    return outputs['path'], outputs['state']

  def _observe(
    self, states: Any, *, own_worlds: Any
  ) -> observations.Observation:
    return observations.observe(
      self.model, self.env, states, own_worlds=own_worlds
    )

  def _each(
    self, function: Callable[..., Any], own_worlds: Any
  ) -> Callable[..., Any]:
    """`function(world, *args)` over problems, in the world of each."""
    return observations.in_worlds(function, self.env, own_worlds)

  def _problem_keys(
    self, rng_key: jax.Array, ids: jax.Array, number: jax.Array
  ) -> jax.Array:
    """Keys `[B]` of the plans number `number` for problems `ids` `[B]`."""

    def problem_key(pair_id: jax.Array) -> jax.Array:
      return jax.random.fold_in(jax.random.fold_in(rng_key, pair_id), number)

    return jax.vmap(problem_key)(ids)

  def _encode(
    self,
    params: Params,
    memory: planning.Memory,
    goal: observations.Observation,
  ) -> Root:
    """The model's root for what has been seen and what is wanted."""
    seen = memory.observations
    actions: tuple[jax.Array, ...] = (memory.actions,)
    if seen['pixels'].shape[1] == 1:
      seen, actions = jax.tree.map(lambda x: x[:, 0], seen), ()
    return _root(self.model, params, seen, goal, *actions)

  def _plan_fn(self) -> planning.BoundPlanner:
    """The planner with all its settings."""
    model, protocol, settings = self.model, self.protocol, self.settings
    bounds: tuple[planning.ActionBounds, ...] = ()
    if settings.bounded and not settings.planner.discrete:
      low, high = self.env.action_low, self.env.action_high
      bounds = (model.action_bounds(low, high),)
    return planning.BoundPlanner(
      planner=settings.planner,
      dynamics_fn=model.dynamics,
      cost_fn=_cost_fn(model, settings.distance),
      horizon=protocol.horizon,
      action_dim=model.action_dim,
      limits=planning.Limits(bounds),
      step_weights=planning.step_weights(protocol.horizon, settings.cost),
    )

  def _clock(self, number: jax.Array) -> planning.Clock:
    """The time at plan number `number`."""
    receding, num_plans = (
      self.protocol.receding_horizon,
      self.protocol.num_plans,
    )
    return planning.Clock(number * receding, (num_plans - number) * receding)

  def _plan_and_play(
    self,
    params: Params,
    rng_key: jax.Array,
    number: jax.Array,
    ids: jax.Array,
    state: planning.MpcState,
    goals: Any,
    first_success: jax.Array,
    own_worlds: Any,
  ) -> dict[str, Any]:
    """One plan and its play for `[B]` problems; the program that is timed."""
    model, protocol, settings = self.model, self.protocol, self.settings
    states = state.env_state
    each = functools.partial(self._each, own_worlds=own_worlds)
    observe = functools.partial(self._observe, own_worlds=own_worlds)

    def root_fn(params: Params, memory: planning.Memory, goals: Any) -> Root:
      return self._encode(params, memory, observe(goals))

    def step(world, state, action, goal):
      state = world.step(state, action)
      return state, world.vector(state), world.success(state, goal)

    def step_all(carry, actions):
      states, first_success, t = carry
      moved, vectors, solved = each(step)(states, actions, goals)
      # The budget may end within a plan.
      active = t < protocol.budget
      states = jax.tree.map(
        lambda new, old: jnp.where(active, new, old), moved, states
      )
      solved &= active & (first_success < 0)
      first_success = jnp.where(solved, t + 1, first_success)
      return (states, first_success, t + 1), vectors

    def play_fn(carry, blocks):
      raw = jnp.moveaxis(model.raw_actions(blocks), 1, 0)
      return jax.lax.scan(step_all, carry, raw)

    t = number * self._steps_per_plan()
    state, output = planning.mpc_step(
      params,
      self._problem_keys(rng_key, ids, number),
      state._replace(env_state=(states, first_success, t)),
      goals,
      observe_fn=lambda carry: observe(carry[0]),
      root_fn=root_fn,
      plan_fn=self._plan_fn(),
      play_fn=play_fn,
      receding_horizon=protocol.receding_horizon,
      history=settings.history,
      warm_start=settings.warm_start,
      clock=self._clock(number),
    )
    after, first_success, _ = state.env_state

    def follow(world, state, actions):
      def step(state, action):
        state = world.step(state, action)
        return state, world.vector(state)

      _, path = jax.lax.scan(step, state, actions)
      return jnp.concatenate([world.vector(state)[None], path])

    raw = model.raw_actions(output.plan.actions)
    raw = raw.reshape(raw.shape[0], -1, raw.shape[-1])
    played = output.played  # [blocks, action_block, B, S]
    played = played.reshape(-1, *played.shape[2:])
    _, distance, at_end = each(_survey)(after, goals)
    return {
      'state': state._replace(env_state=after),
      'first_success': first_success,
      'distance': distance,
      'at_end': at_end,
      'vectors': jnp.moveaxis(played, 0, 1),
      'path': each(follow)(states, raw),
      'cost': output.plan.cost,
      'diagnostics': jax.tree.map(jnp.transpose, output.plan.diagnostics),
    }


def _survey(
  world: environment_lib.Environment, state: Any, goal: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What is noted of a state: its vector, its distance, whether it counts."""
  return (
    world.vector(state),
    world.distance(state, goal),
    world.success(state, goal),
  )


def check_history(model: PlanningModel, history: int) -> None:
  """Makes sure that the model looks back that far; computes nothing.

  Raises:
    ValueError: what the model says about too many frames.
  """
  if history > 1:
    jax.eval_shape(
      functools.partial(_root, model),
      model.params,
      observations.shapes(model, 1, history),
      observations.shapes(model, 1),
      jax.ShapeDtypeStruct((1, history - 1, model.action_dim), jnp.float32),
    )


def _root(
  model: PlanningModel,
  params: Params,
  seen: observations.Observation,
  goal: observations.Observation,
  *actions: jax.Array,
) -> Root:
  """The model's root, with proprio where it sees such."""
  given: Any = {}
  if 'proprio' in seen:
    given = {'proprio': seen['proprio'], 'goal_proprio': goal['proprio']}
  return model.root(params, seen['pixels'], goal['pixels'], *actions, **given)


def _cost_fn(model: PlanningModel, distance: str) -> CostFn:
  if distance == 'squared':
    return model.cost
  return planning.reading(model.latent, planning.DISTANCES[distance])
