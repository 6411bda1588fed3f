"""The first episodes of one dataset, with the same ones held out."""

import types

import numpy as np
import pytest

from jepa_wm import units
from jepa_wm.data import cache, episodes
from jepa_wm.data import config as data_config
from jepa_wm.recipes import sources


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
  """Ten episodes whose pixels are their number; 0 and 5 are held out."""
  path = tmp_path_factory.mktemp('data') / 'archive'
  rng = np.random.default_rng(0)
  episodes.write_episodes(
    path,
    [
      episodes.Episode(
        columns={
          'observation/pixels': np.full((8, 6, 6, 3), index, np.uint8),
          'action': (index * rng.normal(size=(7, 2))).astype(np.float32),
        }
      )
      for index in range(10)
    ],
    provenance={},
    held_out_fraction=0.2,
  )
  cache.build_cache(path)
  return path


def _source(path, **fields):
  pixels = types.SimpleNamespace(shape=(6, 6, 3))
  model = types.SimpleNamespace(
    acting=None, observation_spec={'pixels': pixels}, stride=1
  )
  data = data_config.DataConfig(
    path=str(path), num_frames=2, batch_size=7, num_eval_windows=14, **fields
  )
  return sources.open_source(data, model)


def _seen(source, split):
  stream = source.batches(split, 0)
  return {
    int(index)
    for _ in range(8)
    for index in next(stream)['observation']['pixels'][..., 0].ravel()
  }


def test_trains_on_the_first_and_holds_out_the_same(archive):
  whole, few = _source(archive), _source(archive, num_episodes=3)
  assert _seen(whole, 'train') == {1, 2, 3, 4, 6, 7, 8, 9}
  assert _seen(few, 'train') == {1, 2, 3}
  assert _seen(few, 'held_out') == _seen(whole, 'held_out') == {0, 5}


def test_actions_are_in_units_of_those_that_are_seen(archive):
  few = _source(archive, num_episodes=2)
  table = cache.open_cache(archive, split='train')
  expected = units.fit(table.columns['action'][: 2 * 8])
  np.testing.assert_array_equal(few.action_statistics.mean, expected.mean)
  np.testing.assert_array_equal(few.action_statistics.std, expected.std)
  assert np.all(few.action_statistics.std < table.action_statistics.std)


def test_refuses_what_there_is_not(archive):
  with pytest.raises(ValueError, match=r'num_episodes is 9, .* 8 episodes'):
    _source(archive, num_episodes=9)
  with pytest.raises(ValueError, match='num_episodes must be at least 0'):
    data_config.DataConfig(num_episodes=-1)
  with pytest.raises(ValueError, match=r"num_episodes=5 would .*'dig"):
    data_config.DataConfig(source='digits', num_episodes=5)
