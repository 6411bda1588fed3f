import numpy as np
import pytest

from jepa_wm.evaluation.planning import disturbance, pairs, protocol
from jepa_wm.evaluation.report import animation, charts
from jepa_wm.recipes import record_findings

SHAKEN = protocol.get('short', num_pairs=4, disturb='teleport', disturb_at=5)


@pytest.fixture(scope='module')
def shaken(run_short_again):
  return run_short_again(protocol=SHAKEN, pairs=pairs.load_pairs(SHAKEN))


def test_problems_on_their_way_are_moved_once_and_nobody_else(shaken):
  moved = shaken.moved
  jumps = np.linalg.norm(np.diff(shaken.vectors, axis=1), axis=-1) > 12.0
  # A plan goes on blindly, wherever it has been put.
  for row, episode in enumerate(shaken.episodes):
    early = episode.first_success_step is not None
    early &= (episode.first_success_step or 0) <= 5
    assert early != (row in moved.indices)
  rows = moved.indices
  np.testing.assert_array_equal(moved.before, shaken.vectors[rows, 5])
  far = np.linalg.norm(moved.after - moved.before, axis=-1) > 25.0
  assert far.any()
  np.testing.assert_array_equal(np.argmax(jumps[rows[far]], axis=1), 5)


def test_the_record_says_how_many_recovered(shaken):
  said = shaken.record['disturbance']
  assert said['kind'] == 'teleport' and said['step'] == 5
  assert said['num_disturbed'] == len(shaken.moved.indices)
  late = [shaken.episodes[row] for row in shaken.moved.indices]
  assert said['num_recovered'] == sum(e.success for e in late)
  assert 0 <= said['random_recovery'] < said['expert_recovery'] == 1.0
  (found,) = record_findings.of(shaken.record).values()
  assert 'on their way after 5 steps were moved' in found.sentence
  assert record_findings.of({}) == {}


def test_it_is_drawn(shaken):
  assert charts.episode_map(shaken).count('class="moved"') == len(
    shaken.moved.indices
  )
  assert animation.draw_episodes(shaken, [int(shaken.moved.indices[0])])


def test_nobody_left_to_disturb():
  said = disturbance.describe(SHAKEN, None, [True], [3])
  assert said['num_disturbed'] == 0 and said['interval_95'] is None
  found = record_findings.of(
    {
      'disturbance': {
        **said,
        'random_recovery': None,
        'expert_recovery': None,
      }
    }
  )
  assert found['disturbance'].sentence.startswith('0 on their way')
