"""A modality is a name: written, cached and read in windows by no new code."""

import numpy as np
import pytest

from jepa_wm.data import cache as cache_lib
from jepa_wm.data import columns, readers, windows
from jepa_wm.data import episodes as episodes_lib

EVERYTHING = (
  'observation/pixels',
  'observation/pixels_wrist',
  'observation/language',
  'action',
  'reward',
  'discount',
  'state',
  'label',
  'task',
  'agent',
)
PIXELS = 'observation/pixels'
NUM_FRAMES = (12, 9, 14, 10)


def make_episode(index, num_frames):
  """Everything says which episode and which time it is of."""
  time = np.arange(num_frames, dtype=np.float32)
  here = np.stack([np.full_like(time, index), time], axis=-1)

  def pictures(size, blue):
    frames = np.full((num_frames, size, size, 3), blue, np.uint8)
    frames[..., :2] = here[:, None, None]
    return frames

  return episodes_lib.Episode(
    columns={
      'observation/pixels': pictures(8, 1),
      'observation/pixels_wrist': pictures(4, 2),
      'observation/language': np.repeat(here[:, None], 3, axis=1),
      'action': here[:-1],
      'reward': 100 * index + time[:-1],
      'discount': np.ones(num_frames - 1, np.float32),
      'state': here,
      'label': np.int32(index),
      'task': np.full(5, index, np.float32),
      'agent': np.array([index, -index]),
    },
    is_terminal=index % 2 == 0,
  )


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
  path = tmp_path_factory.mktemp('columns') / 'archive'
  episodes_lib.write_episodes(
    path,
    [make_episode(*both) for both in enumerate(NUM_FRAMES)],
    provenance={},
    held_out_fraction=0.0,
  )
  return path


@pytest.fixture(scope='module', params=['flat', 'chunks'])
def cache(request, archive):
  cache_lib.build_cache(archive, store=request.param)
  return cache_lib.open_cache(archive)


def batch_of(cache, **options):
  options = {'num_frames': 3, 'stride': 2, 'batch_size': 8} | options
  return next(windows.cached_windows(cache, seed=0, num_threads=0, **options))


def test_an_archive_keeps_every_column(archive):
  source = episodes_lib.open_episodes(archive)
  assert source.spec == make_episode(0, 12).spec
  assert source.spec['observation/language'] == ((3, 2), 'float32')
  for index, got in enumerate(source):
    expected = make_episode(index, NUM_FRAMES[index])
    assert set(got.columns) == set(EVERYTHING)
    assert got.spec == expected.spec and got.is_terminal == expected.is_terminal
    for name, array in expected.columns.items():
      np.testing.assert_array_equal(got.columns[name], array)
  np.testing.assert_array_equal(source.column(2, 'reward')[:2], [200, 201])


def test_a_reader_keeps_rewards_and_discounts(archive):
  reader = readers.open_reader(archive, format='rlds', pixels=PIXELS)
  for index, got in enumerate(reader):
    expected = make_episode(index, NUM_FRAMES[index])
    for name in ('action', 'reward', 'discount', 'state'):
      np.testing.assert_array_equal(got.columns[name], expected.columns[name])


def test_a_window_gives_the_columns_that_it_is_asked_for(cache):
  batch = batch_of(
    cache,
    columns=('observation/pixels_wrist', 'reward', 'agent', *columns.ENDS),
  )
  assert list(batch['observation']) == ['pixels_wrist']
  assert set(batch) == {'observation', 'reward', 'agent', *columns.ENDS}
  wrist = batch['observation']['pixels_wrist']
  assert wrist.shape == (8, 3, 4, 4, 3) and wrist.dtype == np.uint8
  index, time = wrist[..., 0, 0, 0].astype(int), wrist[..., 0, 0, 1].astype(int)
  np.testing.assert_array_equal(np.diff(time), 2)
  np.testing.assert_array_equal(
    batch['reward'],
    100 * index[:, :2, None] + time[:, :2, None] + np.arange(2),
  )
  np.testing.assert_array_equal(
    batch['agent'], np.stack([index[:, 0], -index[:, 0]], -1)
  )
  last = time == np.array(NUM_FRAMES)[index] - 1
  np.testing.assert_array_equal(batch['is_first'], time == 0)
  np.testing.assert_array_equal(batch['is_last'], last)
  np.testing.assert_array_equal(batch['is_terminal'], last & (index % 2 == 0))


def test_without_asking_all_columns_are_given(cache):
  batch = batch_of(cache)
  assert set(batch) | {'observation'} == {
    name.partition('/')[0] for name in EVERYTHING
  }
  assert set(batch['observation']) == {'pixels', 'pixels_wrist', 'language'}
  assert batch['observation']['language'].shape == (8, 3, 3, 2)
  assert batch['action'].shape == (8, 2, 4)
  assert batch['discount'].shape == (8, 2, 2)
  assert batch['task'].shape == (8, 5)
  np.testing.assert_array_equal(batch['label'], batch['task'][:, 0])
  np.testing.assert_array_equal(batch['label'], batch['state'][:, 0, 0])


def test_levels_of_several_strides_begin_together(cache):
  fine, coarse = batch_of(
    cache, num_frames=(4, 3), stride=(1, 4), columns=('state', 'action')
  )
  assert fine['action'].shape == (8, 3, 2)
  assert coarse['action'].shape == (8, 2, 8)
  np.testing.assert_array_equal(fine['state'][:, 0], coarse['state'][:, 0])
  np.testing.assert_array_equal(np.diff(fine['state'][..., 1]), 1)
  np.testing.assert_array_equal(np.diff(coarse['state'][..., 1]), 4)
  # No window leaves its episode, at the longest span of any level.
  starts = windows.window_starts(cache, num_frames=(4, 3), stride=(1, 4))
  assert len(starts) == sum(n - 8 for n in NUM_FRAMES)
  with pytest.raises(ValueError, match='as many of one as of the other'):
    batch_of(cache, num_frames=(4, 3), stride=2)


def test_some_episodes_keep_what_is_theirs(cache):
  batch = batch_of(cache.episodes(slice(2, 4)))
  assert set(batch['label']) == {2, 3}
  np.testing.assert_array_equal(batch['label'], batch['state'][:, 0, 0])


def test_a_column_that_is_not_there_is_named(cache):
  with pytest.raises(ValueError, match=r"no column 'rewards' at .*'reward'"):
    batch_of(cache, columns=('action', 'rewards'))


def test_another_edition_s_episodes_are_to_be_collected_again(tmp_path):
  path = tmp_path / 'old'
  episodes_lib.write_episodes(
    path, [make_episode(0, 4)], provenance={}, held_out_fraction=0.0
  )
  file = path / 'metadata.json'
  file.write_text(file.read_text().replace('"layout": 2', '"layout": 1'))
  with pytest.raises(ValueError, match='collect or convert them again'):
    episodes_lib.open_episodes(path)
