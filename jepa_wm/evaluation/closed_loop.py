"""Plans and plays a batch of problems, again and again, until time is up."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jepa_wm import planning
from jepa_wm.envs import environment as environment_lib
from jepa_wm.evaluation import pairs as pairs_lib
from jepa_wm.evaluation import protocol as protocol_lib
from jepa_wm.types import LatentState, Params, Root


class PlanningModel(TypingProtocol):
  """What is asked of a world model; `jepa_wm.WorldModel` is one.

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
    self, params: Params, pixels: jax.Array, goal_pixels: jax.Array
  ) -> Root:
    """Encodes uint8 frames and goals `[B, height, width, 3]`."""
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
    """A `CostFn`."""
    ...

  def raw_actions(self, actions: jax.Array) -> jax.Array:
    """Planned `[..., A]` to raw actions `[..., action_block, raw]`."""
    ...

  def action_bounds(self, low: Any, high: Any) -> planning.ActionBounds:
    """Raw bounds `[raw]` in the planner's units, `[A]`."""
    ...


@dataclasses.dataclass(frozen=True)
class CemSettings:
  """Settings of the cross-entropy method, as they go into a result record.

  Attributes:
    num_samples: candidates per iteration.
    num_elites: how many of them are learnt from.
    num_iterations: iterations per plan.
    cost: which steps of a rollout count, 'last' or 'all'.
    init_std: standard deviation of the first candidates, in the planner's
      units (those of the training actions).
    min_std: the standard deviation does not shrink below it.
    bounded: whether candidates are clipped to the world's action bounds.
    warm_start: whether a plan starts from what is left of the one before it.

  Raises:
    ValueError: more elites than samples, or a number that makes no sense.
  """

  num_samples: int = 300
  num_elites: int = 30
  num_iterations: int = 30
  cost: str = 'last'
  init_std: float = 1.0
  min_std: float = 0.0
  bounded: bool = True
  warm_start: bool = True

  def __post_init__(self) -> None:
    for field, least in (
      ('num_samples', 2),
      ('num_elites', 2),
      ('num_iterations', 1),
    ):
      if getattr(self, field) < least:
        raise ValueError(
          f'{field} must be at least {least}, got {getattr(self, field)}.'
        )
    if self.num_elites > self.num_samples:
      raise ValueError(
        f'num_elites must not exceed num_samples, got {self.num_elites} elites '
        f'of {self.num_samples} samples.'
      )
    if not self.init_std > 0 or not self.min_std >= 0:
      raise ValueError(
        'init_std must be positive and min_std not negative, got '
        f'{self.init_std} and {self.min_std}.'
      )
    planning.step_weights(1, self.cost)  # An unknown kind is refused here.


@dataclasses.dataclass(frozen=True)
class PlannedPath:
  """Where the plans made at one moment would lead if played to their end.

  Attributes:
    step: environment steps already played when these plans were made.
    indices: `[n]`, rows of the problems that were still open.
    proprio: `[n, horizon * action_block + 1, S]`, the true states from where
      the plan was made, by the world itself and not by the model.
  """

  step: int
  indices: np.ndarray
  proprio: np.ndarray


@dataclasses.dataclass
class ClosedLoop:
  """Problems on their way to their goals.

  A batch of problems is drawn, encoded, planned, and played up to the next plan
  in one jitted program, compiled once. Between two plans the host takes out the
  problems that are solved and packs the others into full batches again.

  Attributes:
    model: the world model.
    protocol: budget, horizon, how often to plan.
    pairs: the `P` problems.
    settings: of the planner.
    seed: of the planner's draws.
    batch_size: problems planned at once, at most `P`.
    env: the world.
    proprio: `[P, budget + 1, S]`, true states; frozen after success.
    first_success: int `[P]`, steps until the goal was reached, -1 before.
    start_distance: `[P]`, in the world's unit.
    final_distance: `[P]`, of the last state so far.
    planned: one entry per moment of planning.
    num_plans: plans made for problems that were open.
    planning_seconds: time spent in the compiled program.
  """

  model: PlanningModel
  protocol: protocol_lib.Protocol
  pairs: pairs_lib.Pairs
  settings: CemSettings
  seed: int
  batch_size: int
  env: environment_lib.Environment

  def __post_init__(self) -> None:
    protocol, num_pairs = self.protocol, len(self.pairs)
    proprio = jax.jit(jax.vmap(self.env.proprio))
    start = np.asarray(proprio(self.pairs.starts))
    self.proprio = np.repeat(start[:, None], protocol.budget + 1, axis=1)
    self.planned: list[PlannedPath] = []
    self.diagnostics: list[planning.Diagnostics] = []
    self.num_plans = 0
    self.planning_seconds = 0.0
    self.states = jax.tree.map(np.array, self.pairs.starts)
    self.warm_starts = np.zeros(
      (num_pairs, protocol.horizon, self.model.action_dim), np.float32
    )
    distance, solved = jax.jit(jax.vmap(self._judge))(
      self.states, self.pairs.goals
    )
    self.start_distance = np.asarray(distance)
    self.final_distance = self.start_distance.copy()
    self.first_success = np.where(np.asarray(solved), 0, -1).astype(np.int32)

  def run(self, bar: tqdm.tqdm) -> None:
    """Spends the budget; `bar` counts plans, those no longer needed too.

    Raises:
      ValueError: the model prices a plan with NaN or infinity.
    """
    program: Callable[..., Any] | None = None
    for number in range(self.protocol.num_plans):
      still_open = np.flatnonzero(self.first_success < 0)
      paths = []
      for first in range(0, len(still_open), self.batch_size):
        rows = still_open[first : first + self.batch_size]
        args = self._arguments(rows, number)
        if program is None:
          bar.set_postfix_str('compiling')
          program = jax.jit(self._plan_and_play).lower(*args).compile()
        began = time.perf_counter()
        outputs = jax.block_until_ready(program(*args))
        self.planning_seconds += time.perf_counter() - began
        self.num_plans += len(rows)
        outputs = jax.tree.map(np.asarray, outputs)
        paths.append(self._keep(rows, number, outputs))
        remaining = self.protocol.num_plans - number
        solved = np.sum(self.first_success[rows] >= 0)
        bar.update(int(len(rows) + solved * (remaining - 1)))
        bar.set_postfix(solved=int(np.sum(self.first_success >= 0)))
      if paths:
        step = number * self._steps_per_plan()
        self.planned.append(
          PlannedPath(step, still_open, np.concatenate(paths))
        )

  def first_diagnostics(self) -> planning.Diagnostics:
    """How the search for every problem's first plan went, `[I, P]`."""
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

    return (
      self.model.params,
      jax.random.key(self.seed),
      self.pairs.ids[padded].astype(np.uint32),
      take(self.states),
      take(self.pairs.goals),
      self.warm_starts[padded],
      np.int32(number),
    )

  def _keep(
    self, rows: np.ndarray, number: int, outputs: dict[str, Any]
  ) -> np.ndarray:
    """Scatters what a batch did back to its rows; returns planned paths."""
    outputs = jax.tree.map(lambda leaf: leaf[: len(rows)], outputs)
    if not np.all(np.isfinite(outputs['cost'])):
      worst = rows[np.argmin(np.isfinite(outputs['cost']))]
      raise ValueError(
        'the model priced its plan for pair '
        f'{self.pairs.ids[worst]} with NaN or infinity; its weights or its '
        'dynamics are broken, so there is nothing to score.'
      )
    for leaf, update in zip(
      jax.tree.leaves(self.states), jax.tree.leaves(outputs['states'])
    ):
      leaf[rows] = update
    if self.settings.warm_start:
      self.warm_starts[rows] = outputs['warm_starts']
    self.first_success[rows] = outputs['first_success']
    self.final_distance[rows] = outputs['distance']
    start = number * self._steps_per_plan() + 1
    steps = min(self._steps_per_plan(), self.protocol.budget + 1 - start)
    self.proprio[rows, start : start + steps] = outputs['proprio'][:, :steps]
    self.proprio[rows, start + steps :] = outputs['proprio'][:, steps - 1, None]
    if number == 0:
      diagnostics = outputs['diagnostics']
      self.diagnostics.append(jax.tree.map(np.transpose, diagnostics))
    return outputs['path']

  def _judge(self, state: Any, goal: Any) -> tuple[jax.Array, jax.Array]:
    return self.env.distance(state, goal), self.env.success(state, goal)

  def _plan_and_play(
    self,
    params: Params,
    rng_key: jax.Array,
    ids: jax.Array,
    states: Any,
    goals: Any,
    warm_starts: jax.Array,
    number: jax.Array,
  ) -> dict[str, Any]:
    """One plan and its play for `[B]` problems; the program that is timed."""
    model, protocol = self.model, self.protocol
    world: Any = self.env
    env = dataclasses.replace(world, image_size=model.image_size)
    bounds: tuple[planning.ActionBounds, ...] = ()
    if self.settings.bounded:
      bounds = (model.action_bounds(env.action_low, env.action_high),)

    def problem_key(pair_id: jax.Array) -> jax.Array:
      return jax.random.fold_in(jax.random.fold_in(rng_key, pair_id), number)

    def root_fn(params: Params, worlds: Any, goals: Any) -> Root:
      pixels = jax.vmap(env.render)(worlds[0])
      return model.root(params, pixels, jax.vmap(env.render)(goals))

    def plan_fn(params, rng_keys, root, init_mean) -> planning.Plan:
      return planning.cem_plan(
        params,
        rng_keys,
        root,
        model.dynamics,
        model.cost,
        horizon=protocol.horizon,
        action_dim=model.action_dim,
        num_samples=self.settings.num_samples,
        num_elites=self.settings.num_elites,
        num_iterations=self.settings.num_iterations,
        init_mean=init_mean,
        init_std=self.settings.init_std,
        min_std=self.settings.min_std,
        action_constraints=bounds,
        step_weights=planning.step_weights(
          protocol.horizon, self.settings.cost
        ),
      )

    def step_all(carry, actions):
      states, first_success, t = carry
      moved = jax.vmap(env.step)(states, actions)
      active = (first_success < 0) & (t < protocol.budget)
      states = jax.tree.map(
        lambda new, old: jnp.where(
          active.reshape(-1, *(1,) * (new.ndim - 1)), new, old
        ),
        moved,
        states,
      )
      solved = active & jax.vmap(env.success)(states, goals)
      first_success = jnp.where(solved, t + 1, first_success)
      return (states, first_success, t + 1), jax.vmap(env.proprio)(states)

    def play_fn(carry, blocks):
      raw = jnp.moveaxis(model.raw_actions(blocks), 1, 0)
      return jax.lax.scan(step_all, carry, raw)

    first_success = jnp.full(ids.shape, -1, jnp.int32)
    t = number * self._steps_per_plan()
    worlds, rest, output = planning.mpc_step(
      params,
      jax.vmap(problem_key)(ids),
      (states, first_success, t),
      goals,
      warm_starts,
      root_fn=root_fn,
      plan_fn=plan_fn,
      play_fn=play_fn,
      receding_horizon=protocol.receding_horizon,
    )
    after, first_success, _ = worlds

    def follow(state, actions):
      def step(state, action):
        state = env.step(state, action)
        return state, env.proprio(state)

      _, path = jax.lax.scan(step, state, actions)
      return jnp.concatenate([env.proprio(state)[None], path])

    raw = model.raw_actions(output.plan.actions)
    raw = raw.reshape(raw.shape[0], -1, raw.shape[-1])
    played = output.played  # [blocks, action_block, B, S]
    played = played.reshape(-1, *played.shape[2:])
    return {
      'states': after,
      'warm_starts': rest,
      'first_success': first_success,
      'distance': jax.vmap(env.distance)(after, goals),
      'proprio': jnp.moveaxis(played, 0, 1),
      'path': jax.vmap(follow)(states, raw),
      'cost': output.plan.cost,
      'diagnostics': jax.tree.map(jnp.transpose, output.plan.diagnostics),
    }
