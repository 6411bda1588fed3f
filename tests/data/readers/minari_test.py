import json
import zipfile

import numpy as np
import pytest

from jepa_wm.data import readers

h5py = pytest.importorskip('h5py')


@pytest.fixture
def dataset(golden, tmp_path):
  with zipfile.ZipFile(golden / 'minari.zip') as archive:
    archive.extractall(tmp_path / 'world-v0')
  return tmp_path / 'world-v0'


def edit(dataset):
  return h5py.File(dataset / 'data' / 'main_data.hdf5', 'a')


@pytest.mark.parametrize('place', ['.', 'data', 'data/main_data.hdf5'])
def test_the_package_s_own_files(dataset, place):
  reader = readers.open_reader(dataset / place)
  assert reader.num_episodes == 2
  assert reader.provenance['dataset_id'] == 'fixture/world-v0'
  for number, (episode, steps) in enumerate(zip(reader, (5, 4), strict=True)):
    times = np.arange(steps + 1)
    assert episode.pixels.shape == (steps + 1, 32, 32, 3)
    # A JPEG of one level keeps it nearly.
    level = 20 + 10 * times
    assert np.abs(episode.pixels[:, 5, 7].T.astype(int) - level).max() <= 1
    np.testing.assert_allclose(
      episode.actions,
      np.stack([times * 0 + number, times], 1)[:-1] / 10,
      rtol=1e-6,
    )
    np.testing.assert_array_equal(
      episode.columns['observation/proprio'],
      np.stack([times, times * 0 + number, times * 0 + 1], 1),
    )
    assert episode.is_terminal == (number == 1)
    assert episode.columns['reward'].shape == (len(times) - 1,)


def test_infos_can_be_the_state(dataset):
  reader = readers.open_reader(dataset, state=('infos/clock',))
  np.testing.assert_array_equal(reader[0].columns['state'][:, 0], np.arange(6))


def test_raw_frames_and_numbered_actions(dataset):
  frames = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
  with edit(dataset) as file:
    for number, steps in enumerate((5, 4)):
      episode = file[f'episode_{number}']
      del episode['observations'], episode['actions']
      episode['observations'] = frames[: steps + 1]
      episode['actions'] = np.arange(steps) % 3
  metadata = dataset / 'data' / 'metadata.json'
  fields = json.loads(metadata.read_text())
  fields['action_space'] = '{"type": "Discrete", "n": 3, "start": 0}'
  metadata.write_text(json.dumps(fields))
  episode = readers.open_reader(dataset)[1]
  np.testing.assert_array_equal(episode.pixels, frames[:5])
  np.testing.assert_array_equal(episode.actions, np.eye(3)[[0, 1, 2, 0]])
  assert 'observation/proprio' not in episode.columns


def test_a_dataset_without_images_is_refused(dataset):
  with edit(dataset) as file:
    for number in range(2):
      del file[f'episode_{number}/observations/image']
  with pytest.raises(
    ValueError, match='no images, only action, infos/clock, observation/state'
  ):
    readers.open_reader(dataset)


def test_ragged_and_missing_columns_are_named(dataset):
  with edit(dataset) as file:
    del file['episode_1/observations/state']
    actions = file['episode_0/actions'][:3]
    del file['episode_0/actions']
    file['episode_0/actions'] = actions
  reader = readers.open_reader(dataset)
  with pytest.raises(
    ValueError, match='different lengths, observation/image 6, action 3, obs'
  ):
    reader[0]
  with pytest.raises(ValueError, match='episode_1, lacks observation/state'):
    reader[1]


def test_damage_is_named(dataset):
  with edit(dataset) as file:
    file['episode_0/observations/image'][2] = np.arange(50, dtype=np.uint8)
  with pytest.raises(ValueError, match='episode_0, has no image in row 2'):
    readers.open_reader(dataset)[0]


def test_an_unfinished_dataset_is_named(dataset):
  with edit(dataset) as file:
    del file['episode_1']
  with pytest.raises(ValueError, match='1 episodes and its metadata names 2'):
    readers.open_reader(dataset)


def test_a_cut_off_dataset_is_named(dataset):
  path = dataset / 'data' / 'main_data.hdf5'
  path.write_bytes(path.read_bytes()[:3000])
  with pytest.raises(ValueError, match='cut off or no file of Minari'):
    readers.open_reader(dataset)
