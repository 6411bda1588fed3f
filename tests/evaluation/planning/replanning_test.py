import dataclasses

import numpy as np
import pytest

from jepa_wm.evaluation.planning import pairs, protocol, replanning
from jepa_wm.recipes import record_findings

SHORT = protocol.get('short', num_pairs=12)
SHAKEN = dataclasses.replace(SHORT, disturb='teleport', disturb_at=10)
BOUNDS = (400.0,) * 5


@pytest.fixture(scope='module')
def play(run_short_again, short_settings):
  """Plays with bounds that a perfect model keeps to; one program serves all."""
  noticing = replanning.Replanning(0.99, BOUNDS, 100)
  settings = dataclasses.replace(short_settings, replanning=noticing)

  def play(chosen):
    found = pairs.load_pairs(chosen)
    return run_short_again(protocol=chosen, pairs=found, settings=settings)

  return play


def test_who_is_never_surprised_plays_as_blindly_as_before(play, short_result):
  result = play(SHORT)
  np.testing.assert_allclose(result.vectors, short_result.vectors, atol=1e-2)
  for one, other in zip(result.episodes, short_result.episodes, strict=True):
    assert one.first_success_step == other.first_success_step
  for one, other in zip(result.planned, short_result.planned, strict=True):
    assert one.step == other.step
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-2)
  said = result.record['replanning']
  assert said['num_early'] == 0 < said['num_looks']
  assert said['num_plans'] == sum(len(x.indices) for x in short_result.planned)
  asked = result.record['planner']['replan_on_surprise']
  assert asked['bounds'] == list(BOUNDS)


def test_who_is_moved_plans_at_once(play):
  result = play(SHAKEN)
  moved, said = result.moved, result.record['replanning']
  far = np.linalg.norm(moved.after - moved.before, axis=-1) > 25.0
  assert far.sum() <= said['num_noticed'] <= len(moved.indices)
  (again,) = (planned for planned in result.planned if planned.step == 10)
  assert set(moved.indices[far]) <= set(again.indices)
  found = record_findings.of(result.record)['replanning']
  assert f'moved between plans {said["num_noticed"]} were' in found.sentence
  assert '400, 400, 400' in found.sentence


def look(step, surprise, since, surprised=None, is_open=None):
  surprise = np.asarray(surprise, np.float32)
  no = np.zeros(len(surprise), bool)
  return replanning.Look(
    step=step,
    indices=np.arange(len(surprise)),
    is_new=no,
    surprise=surprise,
    is_surprised=no if surprised is None else np.asarray(surprised),
    num_since=np.full(len(surprise), since),
    is_open=~no if is_open is None else np.asarray(is_open),
  )


def test_bounds_are_quantiles_of_each_block():
  asked = replanning.uncalibrated(0.9, 2)
  assert asked.to_dict() == {'quantile': 0.9}
  looks = [
    look(0, [9.0] * 3, 0),
    look(5, np.arange(19)[::-1], 1),
    look(10, 10.0 * np.arange(9), 2),
  ]
  found = asked.calibrated(looks)
  # The 18th of 19, and the 9th of 9.
  assert found.bounds == (17.0, 80.0) and found.num_calibrated == 9
  with pytest.raises(ValueError, match='8 plays of block 2 cannot tell'):
    asked.calibrated([*looks[:2], look(10, np.arange(8), 2)])


def test_as_many_pairs_are_played_as_a_quantile_takes():
  assert replanning.uncalibrated(0.99, 5).num_pairs == 100
  assert replanning.uncalibrated(0.995, 5).num_pairs == 200
  with pytest.raises(ValueError, match=r'at most 0.995.*got 0.999'):
    replanning.uncalibrated(0.999, 5)


def test_false_alarms_are_counted_apart_from_what_was_moved():
  looks = [
    look(0, [0.0, 0.0, 0.0], 2),
    look(5, [1.0, 1.0, 5.0], 1, [False, False, True]),
    look(10, [9.0, 1.0, 1.0], 2, [True, False, False], [True, True, False]),
    look(15, [9.0, 9.0, 1.0], 1, [True, True, False], [True, True, False]),
  ]
  calm = replanning.describe(looks, 2, None, None)
  assert calm['num_looks'] == 5 and calm['num_early'] == 3
  assert calm['num_noticed'] is None
  shaken = replanning.describe(looks, 2, 15, np.array([0]))
  assert shaken['num_looks'] == 4 and shaken['num_early'] == 2
  assert shaken['num_noticed'] == shaken['num_moved_between_plans'] == 1


def test_pairs_to_choose_by_are_others():
  found = pairs.development(SHORT, 12)
  own = pairs.load_pairs(SHORT)
  assert found.manifest_sha256 != own.manifest_sha256
  places = np.asarray(found.starts.position)
  assert not np.isclose(places, np.asarray(own.starts.position)).all(1).any()
  again = pairs.development(dataclasses.replace(SHORT, receding_horizon=1), 12)
  assert again.manifest_sha256 == found.manifest_sha256
