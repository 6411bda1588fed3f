import dataclasses

import numpy as np
import pytest

from jepa_wm.envs import two_room
from jepa_wm.evaluation.planning import (
  baselines,
  pair_making,
  pairs,
  protocol,
)


def test_the_expert_reaches_every_goal():
  found = pairs.load_pairs(protocol.LONG, 200)
  assert baselines.expert_ceiling(protocol.LONG, found) == 1.0


def test_random_actions_reach_a_fifth_of_unsolved_goals():
  found = pairs.load_pairs(protocol.SHORT, 200)
  floors = [
    baselines.random_floor(protocol.SHORT, found, seed=seed, num_repeats=5)
    for seed in (0, 0, 1)
  ]
  assert 0.13 < floors[0] < 0.24
  assert floors[0] == floors[1] != floors[2]


@pytest.mark.slow
def test_with_solved_starts_the_floor_is_the_one_the_peers_report():
  """About 26 % (lucas-maes/le-wm issue 101), 9 % of it solved at the start."""
  everything = dataclasses.replace(protocol.SHORT, drop_solved=False)
  entries = pair_making.generate(everything, 200)['pairs']

  def states(key):
    numbers = np.asarray([entry[key] for entry in entries], np.float32)
    return two_room.TwoRoomState(numbers, numbers)

  found = pairs.Pairs(
    ids=np.asarray([entry['episode'] for entry in entries]),
    starts=states('start_state'),
    goals=states('goal_state'),
  )
  floor = baselines.random_floor(everything, found, num_repeats=5)
  assert 0.19 < floor < 0.30


def test_a_budget_of_one_step():
  """The expert moves 5 px: exactly the goals 16 to 21 px away are reached."""
  positions = np.asarray([[50.0, 150.0]] * 4, np.float32)
  goals = positions + np.asarray([[20.5, 0], [0, 21.5], [16.5, 0], [60, 0]])
  goals = goals.astype(np.float32)
  found = pairs.Pairs(
    ids=np.arange(4),
    starts=two_room.TwoRoomState(positions, positions),
    goals=two_room.TwoRoomState(goals, goals),
  )
  hurried = protocol.get(
    'short', budget=1, action_block=1, horizon=1, receding_horizon=1
  )
  assert baselines.expert_ceiling(hurried, found) == 0.5


def test_no_repeat_is_refused():
  found = pairs.load_pairs(protocol.SHORT, 1)
  with pytest.raises(ValueError, match='num_repeats must be at least 1'):
    baselines.random_floor(protocol.SHORT, found, num_repeats=0)
