"""Learning while acting: who plays in the world between the steps of a run.

A run learns from a `data.replay.Replay` that grows: after every so many steps
its model plays episodes in the world, by planning towards the world's targets,
and they are appended (Dyna, with a planner in place of a policy). Killed
anywhere and resumed, it plays the same episodes again and ends with the same
bits: the checkpoint knows where the replay ended, and what came later is
forgotten.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jepa_wm import world_model
from jepa_wm.data import columns as columns_lib
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import replay as replay_lib
from jepa_wm.envs import stage as stage_lib
from jepa_wm.rl import playing
from jepa_wm.rl import values as values_lib
from jepa_wm.training import run as run_lib

ModelFn = Callable[[Any], world_model.WorldModel]
"""Variables for inference to the model that plays with them."""


class Round(NamedTuple):
  """What was played between two steps of a run.

  Attributes:
    step: updates done before it.
    num_episodes: played in the round.
    num_kept: of them appended.
    reached: share of the episodes that came to their target.
    num_frames: of the replay after it.
  """

  step: int
  num_episodes: int
  num_kept: int
  reached: float
  num_frames: int


class Batches:
  """Windows of a replay, which goes back with them.

  An iterator for a `training.Run`; `set_state` forgets the episodes that were
  appended after the position was saved.
  """

  def __init__(self, replay: replay_lib.Replay, **windows: Any):
    """See `Replay.windows` for `windows`."""
    self._replay, self._windows = replay, replay.windows(**windows)

  def __iter__(self) -> 'Batches':
    return self

  def __next__(self) -> Any:
    """The next batch, of the episodes that are there now."""
    return next(self._windows)

  def get_state(self) -> Any:
    """See `replay.Windows`."""
    return self._windows.get_state()

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes to a position that `get_state` gave.

    Raises:
      ValueError: episodes that were there are not there any more.
    """
    self._windows.set_state(state)
    self._replay.rewind(state['end'])


class Act(run_lib.Hook):
  """Plays after every so many steps of a run, and appends what was played.

  The first of the hooks that look at a run: what logs, evaluates and saves
  after it sees the replay with the episodes of the round.

  Attributes:
    rounds: what was played, by this process.
    step: updates of the run done.
    num_steps: environment steps of an episode.
  """

  def __init__(
    self,
    replay: replay_lib.Replay,
    stage: stage_lib.Stage,
    actor: playing.Actor,
    model_fn: ModelFn,
    *,
    every: int,
    seed: int,
    first_policy: str = 'smooth',
    only_failed: bool = False,
    num_before: int = 0,
    values: values_lib.Values | None = None,
  ):
    """Says who plays where.

    Args:
      replay: is appended to.
      stage: of the world.
      actor: plays.
      model_fn: makes the model that plays.
      every: steps of the run between two rounds.
      seed: of everything random.
      first_policy: who plays the first round, before any step: a policy of the
        world, or nobody where it is empty.
      only_failed: whether episodes that came to their target are dropped.
      num_before: episodes of the replay that are there before the run begins.
      values: learns, once there were steps, what whoever plans then looks for;
        nobody where it is the distance to the goal.
    """
    self._replay, self._stage, self._actor = replay, stage, actor
    self._model_fn, self._every, self._seed = model_fn, every, seed
    self._first_policy, self._only_failed = first_policy, only_failed
    self._num_before, self._values = num_before, values
    self._learnt: tuple[int, Any] | None = None
    self.rounds: list[Round] = []
    self.step, self.num_steps = 0, actor.num_steps

  @property
  def num_learnt(self) -> int:
    """Episodes played before the newest update: the others taught nothing."""
    rounds = -(-self.step // self._every)
    if self.step and not self._first_policy:
      rounds -= 1
    return rounds * self._actor.num_episodes

  def model(self, variables: Any) -> world_model.WorldModel:
    """The model that plays, with variables for inference of the newest step.

    Raises:
      DivergedError: the value that it is to look for has no number.
    """
    model = self._model_fn(variables)
    if self._values is None or not self.step:
      return model
    return self._values.valued(model, self.value(variables))

  def value(self, variables: Any) -> Any:
    """What `values` learn, once a step: before the episodes of its own round.

    Args:
      variables: as for `model`.
    """
    assert self._values is not None
    if self._learnt is None or self._learnt[0] != self.step:
      model, table = self._model_fn(variables), self._replay.table()
      self._learnt = self.step, self._values.learn(model, table)
    return self._learnt[1]

  def at_start(self, run: run_lib.Run) -> None:
    """Plays the first round of a run that is at its beginning."""
    self.step = run.step
    if run.step:
      return
    # What a run that was killed before its first checkpoint played.
    self._replay.rewind(self._num_before)
    if self._first_policy:
      self._append(run, self._play_first(), 0)

  def after_step(self, run: run_lib.Run, report: run_lib.Report) -> None:
    """Plays a round, if it is time."""
    self.step = report.step
    if report.step % self._every or report.step >= run.num_steps:
      return
    run.check()
    model = self.model(run.learner.for_inference(run.state.variables))
    first = (1 + report.step // self._every) * self._actor.num_episodes
    played = self._actor.play(model, self._stage, seed=self._seed, first=first)
    self._append(run, played, first)

  def _play_first(self) -> stage_lib.Episodes:
    """Episodes of a policy of the world."""
    rows = np.arange(self._actor.num_episodes)
    streams = self._stage.streams(stage_lib.Purpose.EPISODES, self._seed, rows)
    self._stage.reset(rows, streams)
    return self._stage.perform(
      rows,
      stage_lib.Role((self._first_policy,)),
      streams,
      num_steps=self._actor.num_steps,
      look=True,
    )

  def _append(
    self, run: run_lib.Run, played: stage_lib.Episodes, first: int
  ) -> None:
    """Appends a round, or those of it that failed."""
    reached: np.ndarray = np.any(played.reached, axis=1)
    episodes = _episodes(played, first)
    if self._only_failed and first:
      episodes = [x for x, is_out in zip(episodes, reached) if not is_out]
    for episode in episodes:
      self._replay.append(episode)
    self.rounds.append(
      Round(
        run.step,
        len(reached),
        len(episodes),
        float(np.mean(reached)),
        self._replay.num_frames,
      )
    )


def _episodes(
  played: stage_lib.Episodes, first: int
) -> list[episodes_lib.Episode]:
  """What rows did, the first of them the episode of that number."""
  seen = played.observations
  assert seen is not None
  pixels, actions = np.asarray(seen['pixels']), np.asarray(played.actions)
  found = []
  for row in range(len(actions)):
    known = {
      columns_lib.PIXELS: pixels[row],
      'action': actions[row].astype(np.float32),
    }
    if played.rewards is not None:
      known['reward'] = np.asarray(played.rewards[row], np.float32)
    found.append(
      episodes_lib.Episode(
        columns=known, provenance={'index': int(first + row)}
      )
    )
  return found
