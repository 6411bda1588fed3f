"""Plans and plays a batch of problems, again and again, until time is up."""

import collections
import dataclasses
import time
from typing import Any

import jax
import numpy as np
import tqdm

from jepa_wm import planning
from jepa_wm.envs import stage as stage_lib
from jepa_wm.evaluation.planning import (
  disturbance,
  guarding,
  observations,
  planner_settings,
  planning_model,
  remembering,
  replanning,
  subgoals,
)
from jepa_wm.evaluation.planning import pairs as pairs_lib
from jepa_wm.evaluation.planning import programs as programs_lib
from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.evaluation.planning import score as score_lib


@dataclasses.dataclass(frozen=True)
class PlannedPath:
  """Where the plans made at one moment would lead if played to their end.

  Attributes:
    step: environment steps already played when these plans were made.
    indices: `[n]`, rows of the problems that were still open.
    vectors: `[n, k, V]`, the true states from where the plan was made, by the
      world itself and not by the model; `horizon * action_block + 1` of them,
      or as much as was played where the world cannot be tried out.
  """

  step: int
  indices: np.ndarray
  vectors: np.ndarray


@dataclasses.dataclass
class ClosedLoop:
  """Problems on their way to their goals, on a stage.

  Every problem that is open is looked at, planned for in batches and played up
  to the next plan. Those that are solved or broken are left out of the next
  batches; solved ones stay where success counts at the end.

  Attributes:
    model: the world model.
    protocol: budget, horizon, how often to plan.
    pairs: the `P` problems.
    settings: of the planner.
    seed: of the planner's draws.
    batch_size: problems planned at once, at most `P`.
    stage: the worlds.
    programs: what was compiled; may be handed from loop to loop.
    score: how the problems go.
    planned: one entry per moment of planning.
    diagnostics: how the search for first plans went, `[I, n]` each.
    num_searched: of every moment, how many of its plans were searched for, and
      how many there were; empty of planners that always search.
    moved: problems that were disturbed, an entry a wave.
    subgoals: of plans that have a level above, an entry a moment.
    looks: what was noticed, an entry a moment, if plans are given up early.
    watch: what came of the guardrail, None without one.
    num_plans: plans made for problems that were open.
    planning_seconds: time spent in looking, planning and playing, not in
      compiling.
  """

  model: planning_model.PlanningModel
  protocol: protocol_lib.Protocol
  pairs: pairs_lib.Pairs
  settings: planner_settings.PlannerSettings
  seed: int
  batch_size: int
  stage: stage_lib.Stage
  programs: programs_lib.Programs

  def __post_init__(self) -> None:
    pairs = self.pairs
    self.score = score_lib.Score.begin(
      self.protocol, self.stage.survey(pairs.starts, pairs.goals, pairs.worlds)
    )
    self.planned: list[PlannedPath] = []
    self.diagnostics: list[planning.Diagnostics] = []
    self.num_searched: dict[int, tuple[int, int]] = {}
    self.moved: list[disturbance.Moved] = []
    self.looks: list[replanning.Look] = []
    self.subgoals: list[subgoals.Moment] = []
    self.watch: guarding.Watch | None = None
    if (guard := self.settings.guard) is not None:
      self.watch = guarding.Watch(guard.zone, len(pairs))
    self.num_plans = 0
    self.planning_seconds = 0.0
    self._planner = programs_lib.BatchPlanner(
      self.model,
      self.protocol,
      self.settings,
      (np.asarray(self.stage.action_low), np.asarray(self.stage.action_high)),
      self.seed,
      self.batch_size,
      self.programs,
    )
    self._remembers = remembering.make(self._planner)

  def run(self, bar: tqdm.tqdm) -> None:
    """Spends the budget; `bar` counts plans, those no longer needed too.

    Raises:
      ValueError: the model prices a plan with NaN or infinity.
    """
    # More problems than there are rows follow in waves.
    waves = stage_lib.waves(len(self.pairs), self.stage.num_rows)
    paths: dict[int, list[tuple[np.ndarray, np.ndarray]]] = (
      collections.defaultdict(list)
    )
    for problems in waves:
      self._run_wave(problems, paths, bar)
    for number, found in sorted(paths.items()):
      indices, vectors = (np.concatenate(parts) for parts in zip(*found))
      step = number * self._steps_per_call
      end = step + self.protocol.receding_horizon * self.protocol.action_block
      # Worlds that cannot be tried out tell what was played alone.
      way = self.score.vectors[indices, step : end + 1]
      longer = way if way.shape[1] > vectors.shape[1] else vectors
      self.planned.append(PlannedPath(step, indices, longer.astype(np.float32)))

  @property
  def flops_per_plan(self) -> float | None:
    """Operations of a plan, see `flops.count`; None where none was made."""
    return self._planner.flops_per_plan

  def first_diagnostics(self) -> planning.Diagnostics:
    """How the search for every first plan went, `[I, n]`."""
    if not self.diagnostics:
      dry = self.settings.dry_run(self.protocol.horizon).diagnostics
      return jax.tree.map(lambda leaf: np.zeros((leaf.shape[0], 0)), dry)
    return jax.tree.map(
      lambda *parts: np.concatenate(parts, axis=1), *self.diagnostics
    )

  def who_acted(self) -> dict[str, Any] | None:
    """Plans of a policy and of a search, by the step they were made at.

    None of planners that always search.
    """
    steps = self._steps_per_call
    rows = [
      {'step': number * steps, 'policy': total - searched, 'search': searched}
      for number, (searched, total) in sorted(self.num_searched.items())
    ]
    if not rows:
      return None
    sums = {x: sum(row[x] for row in rows) for x in ('policy', 'search')}
    return {**sums, 'by_step': rows}

  def _run_wave(
    self,
    problems: np.ndarray,
    paths: dict[int, list[tuple[np.ndarray, np.ndarray]]],
    bar: tqdm.tqdm,
  ) -> None:
    """Plays `problems` `[n]`, problem i in row i of the stage."""
    rows = np.arange(len(problems))
    bar.set_postfix_str('opening worlds')
    self._place(problems, self.pairs.goals)
    goals = self._look(rows)
    self._note_failures(problems)
    self._place(problems, self.pairs.starts)
    start, memory = self._planner.first(goals)
    # A plan in force is played out, also where it has led to the goal.
    ends, told = np.zeros(len(problems), int), 0
    steps = self._steps_per_call
    for number in range(-(-self.protocol.budget // steps)):
      self._disturb(problems, number * steps)
      self._note_failures(problems)
      is_open = self.score.is_open(problems)
      works = ~np.isin(problems, list(self.score.failures))
      rows = np.flatnonzero(is_open | (works & (number < ends)))
      if not len(rows):
        break
      began = self._seconds()
      memory = self._remembers.see(memory, rows, self._look(rows))
      self.planning_seconds += self._seconds() - began
      outputs = self._plan(problems, rows, number, (start, memory, goals), bar)
      start = remembering.put(start, rows, outputs['left'])
      new = np.flatnonzero(is_open[rows])
      if outputs['noticed'] is not None:
        new = self._notice(problems, rows, number, outputs['noticed'])
        ends[rows[new]] = number + self.protocol.receding_horizon
      began = self._seconds()
      path, memory = self._play(problems, rows, number, outputs, memory, new)
      self.planning_seconds += self._seconds() - began
      self.num_plans += len(new)
      if (given := outputs['subgoal']) is not None:
        some = problems[rows[new]]
        self.subgoals.append(subgoals.Moment(number * steps, some, given[new]))
      if len(new):
        paths[number].append((problems[rows[new]], path))
      told = self._tell(bar, problems, number, told)
    self._note_failures(problems)

  def _plan(
    self,
    problems: np.ndarray,
    rows: np.ndarray,
    number: int,
    given: tuple[Any, ...],
    bar: tqdm.tqdm,
  ) -> dict[str, Any]:
    """Plans for `rows` of `problems`, a batch after the other."""
    bar.set_postfix_str('compiling')
    plan = self._planner.compiled(*given)
    parts = []
    began = time.perf_counter()
    for first in range(0, len(rows), self.batch_size):
      share = rows[first : first + self.batch_size]
      some = jax.tree.map(lambda leaf, share=share: leaf[share], given)
      parts.append(plan(self.pairs.ids[problems[share]], number, *some))
    self.planning_seconds += time.perf_counter() - began
    outputs = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    if not np.all(np.isfinite(outputs['cost'])):
      worst = problems[rows[np.argmin(np.isfinite(outputs['cost']))]]
      raise ValueError(
        f'the model priced its plan for pair {self.pairs.ids[worst]} with NaN '
        'or infinity; its weights or its dynamics are broken, so there is '
        'nothing to score.'
      )
    noticed = outputs['noticed']
    if (searched := outputs['searched']) is not None:
      if noticed is not None:
        searched = searched[noticed.is_new]
      before = self.num_searched.get(number, (0, 0))
      self.num_searched[number] = (
        before[0] + int(searched.sum()),
        before[1] + len(searched),
      )
    if number == 0:
      diagnostics = outputs['diagnostics']
      self.diagnostics.append(jax.tree.map(np.transpose, diagnostics))
    return outputs

  def _play(
    self,
    problems: np.ndarray,
    rows: np.ndarray,
    number: int,
    outputs: dict[str, Any],
    memory: Any,
    new: np.ndarray,
  ) -> tuple[np.ndarray, Any]:
    """Plays the first blocks of plans in `rows` and keeps the score.

    Returns:
      The way planned in `rows[new]`, `[n, k, V]`, and the memory for the next
      plan.
    """
    receding, block = self._planner.stride, self.protocol.action_block
    raw = outputs['raw']
    played = number * self._steps_per_call
    path, trail = np.zeros(0), []
    if len(new):
      path = self.stage.preview(rows[new], raw[new])
    remembers = self._remembers
    first_look = remembers.first_look(receding)
    for index in range(receding):
      if index > 0:
        self._disturb(problems, played)
      if index >= first_look:
        memory = remembers.see(memory, rows, self._look(rows))
      steps = min(block, self.protocol.budget - played)
      if steps > 0:
        found = self.stage.play(rows, raw[:, index, :steps])
        self.score.note(problems[rows], played, found)
        trail.append(found.vectors)
      played += steps
      memory = remembers.play(memory, rows, outputs['actions'][:, index])
    if self.watch is not None and trail:
      said = dict(outputs['guard'])
      said['excess'] = said['excess'][:, :receding]
      self.watch.note(problems[rows], said, np.concatenate(trail, axis=1))
    return path, remembers.settle(memory)

  def _notice(
    self,
    problems: np.ndarray,
    rows: np.ndarray,
    number: int,
    noticed: planning.Noticed,
  ) -> np.ndarray:
    """Keeps what was noticed; which of `rows` have a new plan that counts."""
    is_open = self.score.is_open(problems[rows])
    step, some = number * self._steps_per_call, problems[rows]
    seen = (np.asarray(leaf) for leaf in noticed)
    is_new, surprise, is_surprised, num_since = seen
    look = replanning.Look(
      step, some, is_new, surprise, is_surprised, num_since, is_open
    )
    self.looks.append(look)
    return np.flatnonzero(look.is_new & is_open)

  def _place(self, problems: np.ndarray, states: Any) -> None:
    """Puts `problems` `[n]` in the first rows, in states of their own."""
    own = jax.tree.map(
      lambda leaf: np.asarray(leaf)[problems],
      stage_lib.Problems(states, self.pairs.goals, self.pairs.worlds),
    )
    self.stage.place(np.arange(len(problems)), own)

  def _disturb(self, problems: np.ndarray, played: int) -> None:
    """Moves those that are open elsewhere, if it is time."""
    if played != self.protocol.disturbed_at:
      return
    rows = np.flatnonzero(self.score.is_open(problems))
    if not len(rows):
      return
    some = problems[rows]
    streams = self.stage.streams(
      stage_lib.Purpose.TELEPORTS, self.protocol.pair_seed, self.pairs.ids[some]
    )
    there = self.stage.teleport(rows, streams)
    before = self.score.vectors[some, played]
    self.moved.append(disturbance.Moved(some, before, there))

  def _look(self, rows: np.ndarray) -> observations.Observation:
    """What the model is shown of `rows`, leaves `[n, ...]`."""
    seen = self.stage.observe(rows)
    names: Any = observations.shapes(self.model)
    return jax.tree.map(np.asarray, {name: seen[name] for name in names})

  def _note_failures(self, problems: np.ndarray) -> None:
    for row, reason in self.stage.failures.items():
      if row < len(problems):
        self.score.fail(int(problems[row]), reason)

  def _tell(
    self, bar: tqdm.tqdm, problems: np.ndarray, number: int, told: int
  ) -> int:
    """Moves the bar on by plans made and saved since `told` of them were."""
    blocks = (number + 1) * self._planner.stride
    made = -(-blocks // self.protocol.receding_horizon)
    is_open = self.score.is_open(problems)
    whole = int(np.sum(np.where(is_open, made, self.protocol.num_plans)))
    bar.update(whole - told)
    bar.set_postfix(solved=int(np.sum(self.score.first_success >= 0)))
    return whole

  def _seconds(self) -> float:
    """A clock that stands still while others compile."""
    compiling = self.stage.compile_seconds + self._remembers.compile_seconds
    return time.perf_counter() - compiling

  @property
  def _steps_per_call(self) -> int:
    """Environment steps that are played between two calls of the planner."""
    return self._planner.stride * self.protocol.action_block
