import shutil

import numpy as np
import pytest

from jepa_wm.data import readers

h5py = pytest.importorskip('h5py')


def write(path, lengths=(5, 4, 6), **changed):
  """A file of stable-worldmodel's layout; `changed` columns, None drops one."""
  rng = np.random.default_rng(0)
  rows = sum(lengths)
  columns = {
    'pixels': rng.integers(0, 256, (rows, 6, 8, 3), np.uint8),
    'action': rng.normal(size=(rows, 2)),
    'proprio': rng.normal(size=(rows, 4)),
    'state': rng.normal(size=(rows, 7)),
    'step_idx': np.concatenate([np.arange(length) for length in lengths]),
    'ep_idx': np.repeat(np.arange(len(lengths)), lengths),
    'ep_len': np.array(lengths),
    'ep_offset': np.cumsum(lengths) - np.array(lengths),
  }
  columns['action'][np.cumsum(lengths) - 1] = np.nan
  columns |= changed
  with h5py.File(path, 'w') as file:
    for name, array in columns.items():
      if array is not None:
        file[name] = array
  return columns


def test_the_peer_s_own_file(golden):
  reader = readers.open_reader(golden / 'swm.h5')
  assert reader.num_episodes == 2
  (warning,) = reader.warnings
  assert 'begins at 1' in warning and '0.1.1' in warning
  for episode in reader:
    assert episode.pixels.shape == (6, 8, 8, 3)
    assert (
      episode.columns['state'].shape
      == episode.columns['observation/proprio'].shape
      == (6, 2)
    )
    # Two Room moves 5 pixels per action where no wall is near (swm.md 5).
    np.testing.assert_allclose(
      np.diff(episode.columns['state'], axis=0), 5 * episode.actions, atol=2e-5
    )
  with h5py.File(golden / 'swm.h5') as file:
    np.testing.assert_array_equal(reader[1].pixels, file['pixels'][6:])
    # The action of the frame that is missing is the one that is left out.
    np.testing.assert_array_equal(reader[1].actions, file['action'][6:11])
    np.testing.assert_array_equal(
      reader[1].columns['reward'], file['reward'][7:]
    )


def test_a_row_s_reward_is_of_the_step_that_led_to_it(tmp_path):
  rewards = np.arange(15.0)
  # Nothing led to the first frame of an episode.
  rewards[[0, 5, 9]] = np.nan
  write(tmp_path / 'a.h5', reward=rewards)
  reader = readers.open_reader(tmp_path / 'a.h5')
  np.testing.assert_array_equal(reader[0].columns['reward'], [1, 2, 3, 4])
  np.testing.assert_array_equal(reader[1].columns['reward'], [6, 7, 8])
  assert len(reader[1].actions) == 3
  assert reader.provenance['columns']['reward'] == ['reward']
  rewards[7] = np.inf
  write(tmp_path / 'b.h5', reward=rewards)
  reader = readers.open_reader(tmp_path / 'b.h5')
  assert any('reward holds NaN' in warning for warning in reader.warnings)
  assert 'reward' not in reader[1].columns


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_what_the_peer_played_is_what_is_read(golden, tmp_path, monkeypatch):
  pytest.importorskip('torch')
  pytest.importorskip('benchmarks.peer')
  monkeypatch.syspath_prepend(golden)
  import make_swm

  heard = make_swm.collect(tmp_path / 'fresh.h5')
  reader = readers.open_reader(tmp_path / 'fresh.h5')
  for world, episode in enumerate(reader):
    seen = [(s[world], a[world]) for s, a, step in heard if step.min() >= 1][:6]
    for t, (state, action) in enumerate(seen[:5]):
      np.testing.assert_allclose(
        episode.columns['state'][t], np.ravel(state), atol=1e-5
      )
      np.testing.assert_allclose(episode.actions[t], action, atol=1e-6)


def test_blosc_and_a_last_action_of_nan(golden):
  pytest.importorskip('hdf5plugin')
  reader = readers.open_reader(golden / 'swm_blosc.h5', format='swm')
  assert [len(episode.pixels) for episode in reader] == [5, 4, 6]
  assert reader.warnings == []
  episode = reader[1]
  np.testing.assert_array_equal(episode.pixels[3, 0, 0], [1, 3, 7])
  np.testing.assert_array_equal(
    episode.columns['observation/proprio'],
    episode.columns['state'][:, [0, 1, 5, 6]],
  )
  assert np.isfinite(episode.actions).all()
  assert reader.provenance['alignment'] == 'after'


def test_blosc_without_its_plugin_is_named(golden, monkeypatch):
  monkeypatch.setattr('jepa_wm.data.readers.hdf5.hdf5plugin', None)

  whole = h5py.Dataset.__getitem__

  def filtered(item, rows):
    if item.name == '/pixels':
      raise OSError("Can't read data (filter returned failure)")
    return whole(item, rows)

  monkeypatch.setattr(h5py.Dataset, '__getitem__', filtered)
  with pytest.raises(ImportError, match=r'hdf5plugin.*jepa-wm\[readers\]'):
    readers.open_reader(golden / 'swm_blosc.h5')


def test_synonyms_and_boundaries_from_the_episodes_numbers(tmp_path):
  columns = write(
    tmp_path / 'a.h5', ep_len=None, ep_offset=None, pixels=None, proprio=None
  )
  with h5py.File(tmp_path / 'a.h5', 'a') as file:
    file['rgb'] = np.arange(15 * 48, dtype=np.uint8).reshape(15, 6, 8)
    file.move('action', 'actions')
  reader = readers.open_reader(tmp_path)
  assert [len(episode.pixels) for episode in reader] == [5, 4, 6]
  episode = reader[2]
  assert episode.pixels.shape == (6, 6, 8, 3)
  assert 'observation/proprio' not in episode.columns
  np.testing.assert_allclose(
    episode.columns['state'], columns['state'][9:], rtol=1e-6
  )
  np.testing.assert_allclose(episode.actions, columns['action'][9:-1], 1e-6)


def test_shifted_actions_are_found_repaired_and_announced(tmp_path):
  rng = np.random.default_rng(0)
  actions = rng.uniform(-1, 1, (4, 20, 2))
  state = np.zeros((4, 20, 2))
  state[:, 1:] = np.cumsum(actions[:, :-1], axis=1)
  # What led to a row's frame; none did to the first.
  shifted = np.concatenate([np.zeros((4, 1, 2)), actions[:, :-1]], axis=1)
  lengths = (20,) * 4
  options = {'state': state.reshape(80, 2), 'proprio': None}
  write(tmp_path / 'a.h5', lengths, action=shifted.reshape(80, 2), **options)
  reader = readers.open_reader(tmp_path / 'a.h5')
  (warning,) = reader.warnings
  assert 'shifted by one row' in warning and 'repaired' in warning
  np.testing.assert_allclose(reader[1].actions, actions[1, :-1], rtol=1e-6)
  as_it_is = readers.open_reader(tmp_path / 'a.h5', alignment='after')
  assert as_it_is.warnings == []
  np.testing.assert_allclose(as_it_is[1].actions[1:], actions[1, :-2], 1e-6)
  # Rotated by a writer that never heard of the frame after the reset.
  rotated = np.roll(actions, -1, axis=1)
  write(tmp_path / 'b.h5', lengths, action=rotated.reshape(80, 2), **options)
  reader = readers.open_reader(tmp_path / 'b.h5')
  assert 'the last from the first' in reader.warnings[0]
  np.testing.assert_allclose(reader[3].actions, actions[3, :-1], rtol=1e-6)


def test_what_cannot_be_told_is_said(tmp_path):
  action = np.ones((15, 2))
  write(tmp_path / 'a.h5', action=action, proprio=None, state=None)
  reader = readers.open_reader(tmp_path / 'a.h5')
  assert 'cannot be told (too few rows' in reader.warnings[0]


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      {'action': np.zeros((12, 2))},
      'too short for its 15 rows in 3 episodes: action 12',
    ),
    ({'action': None}, 'no column "action", only ep_idx, proprio'),
    ({'pixels': None}, 'has no images, only action'),
    ({'ep_len': None, 'ep_idx': None}, 'does not say where episodes begin'),
    ({'ep_offset': np.array([0, 5])}, '3 ep_len and 2 ep_offset'),
    ({'ep_len': np.zeros(3, int)}, 'holds no episodes'),
  ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, changed, message):
  write(tmp_path / 'a.h5', **changed)
  with pytest.raises(ValueError, match=message):
    readers.open_reader(tmp_path / 'a.h5')


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'action': np.full((15, 2), np.nan)}, 'NaN or infinity in action, 3 of 3'),
    (
      {'state': np.full((15, 7), 1e300)},
      'episode 1, has NaN or infinity in state, 4 of 4 rows',
    ),
    ({'action': np.zeros(15, np.int64)}, 'discrete actions, int64.*num_discre'),
    ({'pixels': np.zeros((15, 4, 4, 3), np.uint16)}, 'frames of uint16'),
    ({'pixels': np.zeros((15, 6, 4, 5), np.uint8)}, r'shape \(4, 4, 5, 6\)'),
    ({'state': np.array([b'ab'] * 15)}, 'where numbers are expected'),
  ],
)
def test_an_episode_that_cannot_be_used_is_named(tmp_path, changed, message):
  options = {'alignment': 'after'}
  write(tmp_path / 'a.h5', **changed)
  reader = readers.open_reader(tmp_path / 'a.h5', **options)
  with pytest.raises(ValueError, match=message):
    reader[1]


def test_numbered_actions_become_one_hot(tmp_path):
  action = np.arange(15) % 4
  write(tmp_path / 'a.h5', action=action)
  reader = readers.open_reader(tmp_path / 'a.h5', num_discrete=4)
  np.testing.assert_array_equal(reader[1].actions, np.eye(4)[action[5:8]])
  reader = readers.open_reader(tmp_path / 'a.h5', num_discrete=3)
  with pytest.raises(ValueError, match=r'one number of 0\.\.2 a row'):
    reader[1]


def test_a_gripper_that_is_open_or_not_is_joined(tmp_path):
  columns = write(tmp_path / 'a.h5', is_open=np.arange(15) % 2 == 0)
  reader = readers.open_reader(tmp_path / 'a.h5', action=('action', 'is_open'))
  np.testing.assert_allclose(
    reader[1].actions,
    np.column_stack([columns['action'][5:8], [0, 1, 0]]),
    rtol=1e-6,
  )


def test_columns_are_chosen_and_joined(tmp_path):
  columns = write(tmp_path / 'a.h5')
  reader = readers.open_reader(
    tmp_path / 'a.h5',
    action=('action', 'state'),
    proprio=(),
    state=('proprio',),
  )
  assert reader[0].actions.shape == (4, 9)
  assert 'observation/proprio' not in reader[0].columns
  np.testing.assert_allclose(
    reader[0].columns['state'], columns['proprio'][:5], 1e-6
  )
  with pytest.raises(ValueError, match=r"no column 'qpos', only .*--state"):
    readers.open_reader(tmp_path / 'a.h5', state=('qpos',))
  with pytest.raises(ValueError, match="no images 'action', only pixels"):
    readers.open_reader(tmp_path / 'a.h5', pixels='action')


@pytest.mark.parametrize('keep', [0.3, 0.97])
def test_a_cut_off_file_is_named(copied, keep):
  path = copied('swm.h5')
  data = path.read_bytes()
  path.write_bytes(data[: int(keep * len(data))])
  with pytest.raises(ValueError, match=r'swm.h5 is cut off or no HDF5'):
    readers.open_reader(path)


def test_damage_inside_is_named_with_the_episode(tmp_path):
  pytest.importorskip('hdf5plugin')
  columns = write(tmp_path / 'a.h5', pixels=None)
  rng = np.random.default_rng(1)
  with h5py.File(tmp_path / 'a.h5', 'a') as file:
    file.create_dataset(
      'pixels',
      data=rng.integers(0, 256, (15, 6, 8, 3), np.uint8),
      chunks=(1, 6, 8, 3),
      fletcher32=True,
    )
    place = file['pixels'].id.get_chunk_info(6).byte_offset
  assert columns['pixels'] is None
  data = bytearray((tmp_path / 'a.h5').read_bytes())
  data[place] ^= 1
  (tmp_path / 'a.h5').write_bytes(data)
  reader = readers.open_reader(tmp_path / 'a.h5')
  assert len(reader[0].pixels) == 5
  with pytest.raises(
    ValueError, match=r'episode 1, cannot be read from.*pixels'
  ):
    reader[1]


def test_a_folder_must_hold_one_file(golden, tmp_path):
  with pytest.raises(FileNotFoundError, match='holds none'):
    readers.open_reader(tmp_path, format='swm')
  for name in ('a.h5', 'b.h5'):
    shutil.copy(golden / 'swm.h5', tmp_path / name)
  with pytest.raises(FileNotFoundError, match=r'it holds a\.h5, b\.h5'):
    readers.open_reader(tmp_path)
  with pytest.raises(FileNotFoundError, match='no such file'):
    readers.open_reader(tmp_path / 'c.h5', format='swm')


def test_indices_end(golden):
  reader = readers.open_reader(golden / 'swm.h5')
  with pytest.raises(IndexError, match='2 episodes, not 2'):
    reader[2]


def test_without_h5py_the_extra_is_named(golden, monkeypatch):
  monkeypatch.setattr('jepa_wm.data.readers.hdf5.h5py', None)
  with pytest.raises(ImportError, match=r"pip install 'jepa-wm\[readers\]'"):
    readers.open_reader(golden / 'swm.h5')
