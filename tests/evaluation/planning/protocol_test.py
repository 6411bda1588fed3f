import dataclasses
import json

import pytest

from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import protocol


def test_short_is_two_open_loop_plans():
  short = protocol.get('short')
  assert (short.goal_offset, short.budget, short.num_plans) == (25, 50, 2)
  assert short.horizon == short.receding_horizon == short.action_block == 5


def test_long_has_four_times_the_distance():
  long = protocol.get('long')
  assert (long.goal_offset, long.budget) == (100, 150)
  assert long.drop_solved and not long.ends_at_success
  played = long.receding_horizon * long.action_block
  assert (long.num_plans - 1) * played < 150 <= long.num_plans * played


def test_changes_replace_fields_and_none_does_not():
  changed = protocol.get('long', horizon=3, receding_horizon=2, num_pairs=None)
  assert (changed.horizon, changed.receding_horizon) == (3, 2)
  assert changed.num_pairs == protocol.LONG.num_pairs
  assert changed.num_plans == 15


def test_a_disturbance_comes_in_the_middle_of_what_is_played_blindly():
  given = {'disturb': 'teleport'}
  assert protocol.get('short', **given).disturbed_at == 35
  assert protocol.get('long', **given).disturbed_at == 75
  assert protocol.get('long', receding_horizon=5, **given).disturbed_at == 85
  assert protocol.get('long', **given, disturb_at=10).disturbed_at == 10
  assert protocol.LONG.disturbed_at is None


def test_a_record_holds_every_field():
  fields = protocol.SHORT.to_dict()
  assert protocol.Protocol(**json.loads(json.dumps(fields))) == protocol.SHORT


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'horizon': 11}, 'horizon must fit into the budget of 50'),
    ({'horizon': 2, 'receding_horizon': 3}, 'receding_horizon must not exceed'),
    ({'horizon': 0}, 'horizon must be at least 1'),
    ({'receding_horizon': 0}, 'receding_horizon must be at least 1'),
    ({'num_pairs': 0}, 'num_pairs must be at least 1'),
    ({'goal_offset': 101}, 'goal_offset must fit into an episode'),
    ({'success': 'now and then'}, "success must be one of 'any time', 'after"),
    ({'detour': 2.0}, 'detour chooses among resets'),
    ({'origin': 'reset', 'detour': -1.0}, 'finite and at least 0, got -1'),
    ({'origin': 'dreams'}, 'origin must be one of held-out, training, re'),
    ({'disturb': 'quake'}, "disturb must be one of teleport, got 'quake'"),
    ({'disturb_at': 25}, 'disturb_at=25 would do nothing'),
    ({'disturb': 'teleport', 'disturb_at': 12}, 'whole blocks of 5 environm'),
    ({'disturb': 'teleport', 'disturb_at': 50}, 'below the budget of 50, got'),
    (
      {'disturb': 'teleport', 'environment': 'reacher'},
      "'reacher' is stepped on the host",
    ),
  ],
)
def test_contradictions_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    protocol.get('short', **changes)


def test_an_unknown_protocol_is_named():
  with pytest.raises(
    ValueError, match=r"one of detour, .* short, .*got 'medium'"
  ):
    protocol.get('medium')


def test_horizons_ask_one_question_at_any_distance():
  for steps in (25, 50, 75, 100, 150, 40):
    found = protocol.get(f'h{steps}')
    assert (found.name, found.goal_offset) == (f'h{steps}', steps)
    assert found.budget == 2 * steps and found.receding_horizon == 1
  assert len({protocol.get(f'h{n}').pair_seed for n in range(25, 200)}) == 175
  with pytest.raises(ValueError, match='goal_offset must be at least 1'):
    protocol.get('h0')


def test_swm_v1_is_the_rule_of_the_peer():
  """Numbers of scripts/plan/eval_wm.py and its configs, 0.1.1."""
  rule = protocol.get('swm-v1')
  assert (rule.num_pairs, rule.pair_seed) == (50, 42)
  assert (rule.goal_offset, rule.budget) == (25, 50)
  assert (rule.horizon, rule.receding_horizon, rule.action_block) == (5, 5, 5)
  assert rule.origin == 'training' and not rule.drop_solved
  # Terminated is asked after every step, not before the first.
  assert rule.success == 'after any step'


def test_another_world_brings_the_noise_of_its_expert(monkeypatch):
  calm = dataclasses.replace(worlds.get('two_room'), action_noise=0.5)
  monkeypatch.setitem(worlds.WORLDS, 'calm_room', calm)
  assert protocol.get('short', environment='two_room') == protocol.SHORT
  there = protocol.get('short', environment='calm_room')
  assert (there.environment, there.action_noise) == ('calm_room', 0.5)
  with pytest.raises(ValueError, match="got 'three_room'"):
    protocol.get('short', environment='three_room')
