import json

import pytest

from jepa_wm.evaluation import protocol


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
    ({'success': 'at the end'}, "success must be 'any time'"),
    ({'origin': 'training'}, "origin must be 'held-out'"),
  ],
)
def test_contradictions_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    protocol.get('short', **changes)


def test_an_unknown_protocol_is_named():
  with pytest.raises(ValueError, match="one of long, short, got 'medium'"):
    protocol.get('medium')
