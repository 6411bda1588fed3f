"""What a success rate is measured against: no plan, and a perfect one."""

import numpy as np

from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import pairs as pairs_lib
from jepa_wm.evaluation.planning import protocol as protocol_lib


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
  return _success_rate(protocol, pairs, stage, 'random', seed, num_repeats)


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
  return _success_rate(protocol, pairs, stage, 'expert', 0, 1)


def _success_rate(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  stage: stage_lib.Stage | None,
  policy: str,
  seed: int,
  num_repeats: int,
) -> float:
  if num_repeats < 1:
    raise ValueError(f'num_repeats must be at least 1, got {num_repeats}.')
  problems = np.repeat(np.arange(len(pairs)), num_repeats)
  repeats = np.tile(np.arange(num_repeats), len(pairs))
  num_successes = 0
  with worlds.on_stage(stage, protocol.environment) as opened:
    for tries in stage_lib.waves(len(problems), opened.num_rows):
      rows, some = np.arange(len(tries)), pairs.take(problems[tries])
      given = stage_lib.Problems(some.starts, some.goals, some.worlds)
      opened.place(rows, given, aim=True)
      streams = opened.streams(
        stage_lib.Purpose.TRIES, seed, some.ids, repeats[tries]
      )
      role = stage_lib.Role((policy,))
      played = opened.perform(rows, role, streams, num_steps=protocol.budget)
      reached = np.asarray(played.reached)
      counts = {
        'any time': np.any(reached, axis=1),
        'after any step': np.any(reached[:, 1:], axis=1),
        'at the end': reached[:, -1],
      }[protocol.success]
      num_successes += int(np.sum(counts))
  return num_successes / len(problems)
