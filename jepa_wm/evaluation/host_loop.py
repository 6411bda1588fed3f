"""Plans with a model and plays in worlds outside JAX."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jepa_wm import planning, sharding
from jepa_wm.envs import host, host_pool
from jepa_wm.evaluation import closed_loop, observations
from jepa_wm.types import Params


@dataclasses.dataclass
class HostLoop(closed_loop.ClosedLoop):
  """A `closed_loop.ClosedLoop` for a `host.HostWorld`.

  Plans are made as there, with the same keys; the actions are played by worker
  processes. A problem whose world breaks has failed, whatever it had reached,
  and `failures` says why. `planned` holds as much of each plan as was played:
  where the rest would lead, only the world knows.

  Attributes:
    planning_seconds: time spent in the compiled program and in the worlds.
  """

  def __post_init__(self) -> None:
    protocol, pairs = self.protocol, self.pairs
    world = self._world()
    starts, goals = np.asarray(pairs.starts), np.asarray(pairs.goals)
    self.failures: dict[int, str] = {}
    self.vectors = np.repeat(
      starts[:, None].astype(np.float32), protocol.budget + 1, axis=1
    )
    self.planned: list[closed_loop.PlannedPath] = []
    self.diagnostics: list[planning.Diagnostics] = []
    self.num_plans = 0
    self.planning_seconds = 0.0
    self.mesh = sharding.planning_mesh(self.batch_size)
    self.params = sharding.replicate(self.model.params, self.mesh)
    self.start_distance = np.array(world.distance(starts, goals))
    self.final_distance = self.start_distance.copy()
    self.initially_solved = np.array(world.success(starts, goals))
    self.at_end = self.initially_solved.copy()
    counts = self.initially_solved & (protocol.success != 'after any step')
    self.first_success = np.where(counts, 0, -1).astype(np.int32)

  def run(self, bar: tqdm.tqdm) -> None:
    """Spends the budget; `bar` counts plans, those no longer needed too.

    Raises:
      ValueError: the model prices a plan with NaN or infinity.
    """
    num_problems = len(self.pairs)
    paths: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    bar.set_postfix_str('opening worlds')
    with host_pool.borrow(self._world()) as pool:
      # More problems than there are rows follow in waves.
      for first in range(0, num_problems, pool.num_rows):
        problems = np.arange(first, min(first + pool.num_rows, num_problems))
        self._run_wave(pool, problems, paths, bar)
    for number, found in sorted(paths.items()):
      indices, vectors = zip(*found)
      self.planned.append(
        closed_loop.PlannedPath(
          number * self._steps_per_plan(),
          np.concatenate(indices),
          np.concatenate(vectors),
        )
      )

  def _run_wave(
    self,
    pool: host_pool.Pool,
    problems: np.ndarray,
    paths: dict[int, list[tuple[np.ndarray, np.ndarray]]],
    bar: tqdm.tqdm,
  ) -> None:
    """Plays `problems` `[n]`, problem i in row i of the pool."""
    rows = np.arange(len(problems))
    pool.place(rows, np.asarray(self.pairs.goals)[problems], look=True)
    self._note_failures(pool, problems)
    goals = self._seen(pool, rows)
    pool.place(rows, np.asarray(self.pairs.starts)[problems], look=True)
    now = self._seen(pool, rows)
    start, memory = self._first(now)
    to_the_end = self.protocol.success == 'at the end'
    for number in range(self.protocol.num_plans):
      self._note_failures(pool, problems)
      going = (self.first_success[problems] < 0) | to_the_end
      going &= ~np.isin(problems, list(self.failures))
      still_open = np.flatnonzero(going)
      if not len(still_open):
        break
      memory = planning.Memory(
        {
          name: np.concatenate([memory.observations[name], seen[:, None]], 1)
          for name, seen in now.items()
        },
        memory.actions,
      )
      plans = np.zeros(
        (len(problems), self.protocol.horizon, self.model.action_dim),
        np.float32,
      )
      left: list[Any] = []
      for first in range(0, len(still_open), self.batch_size):
        share = still_open[first : first + self.batch_size]
        given = _take((start, memory, goals), share, self.batch_size)
        outputs = self._plan(problems[share], number, given, bar)
        self._check_cost(problems[share], outputs['cost'])
        plans[share] = outputs['actions']
        left.append(outputs['left'])
        if number == 0:
          found = outputs['diagnostics']
          self.diagnostics.append(jax.tree.map(np.transpose, found))
      start = _put(start, still_open, left)
      self.num_plans += len(still_open)
      began = time.perf_counter()
      trail, memory = self._play(
        pool, still_open, problems, number, plans, memory
      )
      now = self._seen(pool, rows)
      self.planning_seconds += time.perf_counter() - began
      paths.setdefault(number, []).append((problems[still_open], trail))
      remaining = self.protocol.num_plans - number
      done = ~((self.first_success[problems[still_open]] < 0) | to_the_end)
      bar.update(int(len(still_open) + np.sum(done) * (remaining - 1)))
      bar.set_postfix(solved=int(np.sum(self.first_success >= 0)))
    self._note_failures(pool, problems)

  def _plan(
    self,
    problems: np.ndarray,
    number: int,
    given: Any,
    bar: tqdm.tqdm,
  ) -> dict[str, Any]:
    """Plans for `problems` `[n]`, `given` for a batch filled up with the last.

    Returns:
      What `_plan_only` does, for these `n`.
    """
    ids = self.pairs.ids[_pad(problems, self.batch_size)].astype(np.uint32)
    shared = jax.random.key(self.seed), jnp.int32(number)
    args = (
      self.params,
      *sharding.replicate(shared, self.mesh),
      *sharding.shard_batch((ids, *given), self.mesh),
    )
    shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(given))
    if shapes not in self.programs:
      bar.set_postfix_str('compiling')
      with jax.set_mesh(self.mesh):
        program = jax.jit(self._plan_only).lower(*args).compile()
      self.programs[shapes] = program
    began = time.perf_counter()
    outputs = jax.block_until_ready(self.programs[shapes](*args))
    self.planning_seconds += time.perf_counter() - began
    count = len(problems)
    return jax.tree.map(lambda x: np.asarray(x)[:count], outputs)

  def _plan_only(
    self,
    params: Params,
    rng_key: jax.Array,
    number: jax.Array,
    ids: jax.Array,
    start: Any,
    memory: planning.Memory,
    goals: observations.Observation,
  ) -> dict[str, Any]:
    """One plan for each of `[B]` problems."""
    plan, left = planning.plan_step(
      params,
      self._problem_keys(rng_key, ids, number),
      start,
      memory,
      goals,
      root_fn=self._encode,
      plan_fn=self._plan_fn(),
      receding_horizon=self.protocol.receding_horizon,
      warm_start=self.settings.warm_start,
      clock=self._clock(number),
    )
    return {
      'actions': plan.actions,
      'left': left,
      'cost': plan.cost,
      'diagnostics': jax.tree.map(jnp.transpose, plan.diagnostics),
    }

  def _play(
    self,
    pool: host_pool.Pool,
    rows: np.ndarray,
    problems: np.ndarray,
    number: int,
    plans: np.ndarray,
    memory: planning.Memory,
  ) -> tuple[np.ndarray, planning.Memory]:
    """Plays the first blocks of `plans` in `rows` and keeps the score.

    Returns:
      The way they went, `[n, steps + 1, V]`, and the memory for the next plan.
    """
    receding, block = self.protocol.receding_horizon, self.protocol.action_block
    raw = np.asarray(self.model.raw_actions(jnp.asarray(plans[rows])))
    t = number * self._steps_per_plan()
    seen = memory.observations
    first_remembered = receding - min(receding, self.settings.history) + 1
    trail = [pool.vectors(rows)[:, None]]
    for index in range(receding):
      if index >= first_remembered:
        now = self._seen(pool, np.arange(len(problems)))
        seen = {
          name: np.concatenate([seen[name], now[name][:, None]], axis=1)
          for name in seen
        }
      steps = min(block, self.protocol.budget - t)
      if steps > 0:
        look = index + 1 >= first_remembered
        actions = raw[:, index, :steps]
        trail.append(pool.play(rows, actions, look=look))
        self._score(pool, problems[rows], rows, t, trail[-1])
      t += steps
    played: Any = np.concatenate([memory.actions, plans[:, :receding]], axis=1)
    keep = self.settings.history - 1
    memory = jax.tree.map(
      lambda x: x[:, max(0, x.shape[1] - keep) :],
      planning.Memory(seen, played),
    )
    return np.concatenate(trail, axis=1).astype(np.float32), memory

  def _score(
    self,
    pool: host_pool.Pool,
    problems: np.ndarray,
    rows: np.ndarray,
    t: int,
    vectors: np.ndarray,
  ) -> None:
    """Writes down the states `[n, k, V]` after the steps from `t` on."""
    goals = np.asarray(self.pairs.goals)[problems]
    count = vectors.shape[1]
    failed = pool.has_failed(rows)[:, None]
    solved = self._world().success(vectors, goals[:, None]) & ~failed
    first = t + 1 + np.argmax(solved, axis=1)
    newly = np.any(solved, axis=1) & (self.first_success[problems] < 0)
    self.first_success[problems[newly]] = first[newly]
    self.at_end[problems] = solved[:, -1]
    self.final_distance[problems] = self._world().distance(
      vectors[:, -1], goals
    )
    self.vectors[problems, t + 1 : t + 1 + count] = vectors
    self.vectors[problems, t + 1 + count :] = vectors[:, -1:]

  def _note_failures(self, pool: host_pool.Pool, problems: np.ndarray) -> None:
    for row, reason in pool.failures.items():
      problem = int(problems[row]) if row < len(problems) else -1
      if problem >= 0 and problem not in self.failures:
        self.failures[problem] = reason
        self.first_success[problem] = -1
        self.at_end[problem] = False

  def _check_cost(self, problems: np.ndarray, cost: np.ndarray) -> None:
    if not np.all(np.isfinite(cost)):
      worst = problems[np.argmin(np.isfinite(cost))]
      raise ValueError(
        f'the model priced its plan for pair {self.pairs.ids[worst]} with NaN '
        'or infinity; its weights or its dynamics are broken, so there is '
        'nothing to score.'
      )

  def _first(
    self, now: observations.Observation
  ) -> tuple[Any, planning.Memory]:
    """Nothing planned and nothing remembered."""
    state = planning.first_state(
      now,
      now,
      observe_fn=lambda seen: seen,
      plan_fn=self._plan_fn(),
    )
    return jax.tree.map(np.asarray, (state.warm_start, state.memory))

  def _seen(
    self, pool: host_pool.Pool, rows: np.ndarray
  ) -> observations.Observation:
    """What the model is shown of `rows`, leaves `[n, ...]`."""
    seen: Any = {'pixels': pool.pixels(rows)}
    if observations.proprio_dim(self.model):
      seen['proprio'] = pool.proprio(rows).astype(np.float32)
    return seen

  def _world(self) -> host.HostWorld:
    world: Any = self.env
    return dataclasses.replace(world, image_size=self.model.image_size)


def _pad(rows: np.ndarray, size: int) -> np.ndarray:
  """Repeats the last row to fill a batch: one shape, one compilation."""
  return np.pad(rows, (0, size - len(rows)), mode='edge')


def _take(tree: Any, rows: np.ndarray, size: int) -> Any:
  return jax.tree.map(lambda leaf: leaf[_pad(rows, size)], tree)


def _put(
  start: Any,
  rows: np.ndarray,
  parts: list[Any],
) -> Any:
  """Puts what plans left in their rows."""

  def put(whole: np.ndarray, *some: np.ndarray) -> np.ndarray:
    whole = whole.copy()
    whole[rows] = np.concatenate(some)
    return whole

  return jax.tree.map(put, start, *parts)
