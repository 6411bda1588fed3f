"""What a success rate is measured against: no plan, and a perfect one."""

from typing import NamedTuple

import numpy as np

from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import agent_scores
from jepa_wm.evaluation.planning import pairs as pairs_lib
from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.evaluation.planning import score as score_lib


class Tries(NamedTuple):
  """How tries of a policy went.

  Attributes:
    solved: bool `[n]`, by the protocol's rule.
    disturbed: bool `[n]`, on their way when the disturbance came; none where
      there is none.
    agents: of a world of several agents, the success of each, 0..1.
  """

  solved: np.ndarray
  disturbed: np.ndarray
  agents: tuple[float, ...] | None = None

  @property
  def rate(self) -> float:
    """Share that succeeded, 0..1."""
    return int(np.sum(self.solved)) / len(self.solved)

  @property
  def recovery(self) -> float | None:
    """Share of the disturbed that did, None where nobody was."""
    if not np.any(self.disturbed):
      return None
    return float(np.mean(self.solved[self.disturbed]))


def random_floor(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  stage: stage_lib.Stage | None = None,
  seed: int = 0,
  num_repeats: int = 20,
) -> float:
  """Success rate of uniformly random actions on the same pairs and budget.

  Args:
    protocol: budget and success rule.
    pairs: the problems.
    stage: of the world; the protocol's with default factors of variation if
      left out.
    seed: of the actions.
    num_repeats: how often every pair is tried.

  Returns:
    Share of tries that succeeded, 0..1; one whose world broke has not.

  Raises:
    ValueError: no repeat.
  """
  return tries(
    protocol, pairs, 'random', stage=stage, seed=seed, num_repeats=num_repeats
  ).rate


def expert_ceiling(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  stage: stage_lib.Stage | None = None,
) -> float:
  """Success rate of the noiseless expert, which knows state, goal and walls.

  Args:
    protocol: budget and success rule.
    pairs: the problems; their goals become the expert's target.
    stage: as for `random_floor`.

  Returns:
    Share of pairs that succeeded, 0..1.
  """
  return tries(protocol, pairs, 'expert', stage=stage).rate


def tries(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  policy: str,
  *,
  stage: stage_lib.Stage | None = None,
  seed: int = 0,
  num_repeats: int = 1,
) -> Tries:
  """Lets a policy of the world try all pairs.

  Args:
    protocol: budget, success rule and what happens in the middle.
    pairs: the problems.
    policy: its name.
    stage: as for `random_floor`, as `seed` and `num_repeats`.
    seed: of the actions.
    num_repeats: how often every pair is tried.

  Raises:
    ValueError: no repeat.
  """
  if num_repeats < 1:
    raise ValueError(f'num_repeats must be at least 1, got {num_repeats}.')
  problems = np.repeat(np.arange(len(pairs)), num_repeats)
  repeats = np.tile(np.arange(num_repeats), len(pairs))
  found, agents = [], []
  with worlds.on_stage(stage, protocol.environment) as opened:
    for turn in stage_lib.waves(len(problems), opened.num_rows):
      some = pairs.take(problems[turn])
      given = stage_lib.Problems(some.starts, some.goals, some.worlds)
      opened.place(np.arange(len(turn)), given, aim=True)

      def play(
        repeats: np.ndarray, num_steps: int, ids: np.ndarray = some.ids
      ) -> stage_lib.Episodes:
        streams = opened.streams(stage_lib.Purpose.TRIES, seed, ids, repeats)
        role = stage_lib.Role((policy,))
        rows = np.arange(len(ids))
        return opened.perform(rows, role, streams, num_steps=num_steps)

      at = protocol.disturbed_at
      if at is None:
        whole = play(repeats[turn], protocol.budget)
        reached, vectors = np.asarray(whole.reached), whole.vectors
        disturbed = np.zeros(len(turn), bool)
      else:
        before = play(repeats[turn], at)
        disturbed = ~score_lib.solved(protocol, np.asarray(before.reached))
        if protocol.success == 'at the end':
          disturbed = np.ones_like(disturbed)
        _move(protocol, opened, some, np.asarray(before.vectors), disturbed)
        # Repeats that no first half has.
        after = play(repeats[turn] + num_repeats, protocol.budget - at)
        reached = np.concatenate(
          [np.asarray(before.reached), np.asarray(after.reached)[:, 1:]], axis=1
        )
        vectors = np.concatenate(
          [np.asarray(before.vectors), np.asarray(after.vectors)[:, 1:]], axis=1
        )
      found.append((score_lib.solved(protocol, reached), disturbed))
      each = agent_scores.reached(
        protocol.environment, vectors, some.goals, some.worlds
      )
      agents += [] if each is None else [score_lib.solved(protocol, each)]
  solved, disturbed = (np.concatenate(parts) for parts in zip(*found))
  tried = Tries(solved, disturbed)
  if not agents:
    return tried
  rates = np.concatenate(agents).mean(axis=0)
  return tried._replace(agents=tuple(rates.tolist()))


def _move(
  protocol: protocol_lib.Protocol,
  stage: stage_lib.Stage,
  pairs: pairs_lib.Pairs,
  vectors: np.ndarray,
  disturbed: np.ndarray,
) -> None:
  """Places all where they came, and those that were disturbed elsewhere."""
  states = stage.states(vectors[:, -1])
  given = stage_lib.Problems(states, pairs.goals, pairs.worlds)
  stage.place(np.arange(len(pairs)), given, aim=True)
  rows = np.flatnonzero(disturbed)
  if len(rows):
    streams = stage.streams(
      stage_lib.Purpose.TELEPORTS, protocol.pair_seed, pairs.ids[rows]
    )
    stage.teleport(rows, streams)
