import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import readers

LENGTHS = (5, 4, 6)


@pytest.mark.parametrize('place', ['.', 'made_up', 'made_up/0.1.0'])
def test_tensorflow_s_own_files(golden, place):
  reader = readers.open_reader(golden / 'rlds_tfrecord' / place)
  assert reader.num_episodes == 3
  assert reader.provenance['splits'] == ['train', 'val']
  assert reader.provenance['columns']['pixels'] == 'observation/image'
  numbers = []
  for episode in reader:
    # Its writer shuffles.
    number = int(episode.pixels[0, 0, 0, 0])
    numbers.append(number)
    times = np.arange(LENGTHS[number])
    assert episode.pixels.shape == (len(times), 12, 16, 3)
    np.testing.assert_array_equal(
      episode.pixels[:, 3, 4],
      np.stack([times * 0 + number, 10 * times, times * 0 + 7], 1),
    )
    np.testing.assert_array_equal(
      episode.actions, np.stack([times * 0 + number, times], 1)[:-1]
    )
    np.testing.assert_array_equal(
      episode.columns['observation/proprio'],
      np.stack([times, times * 0 + number, times * 0 + 1], 1),
    )
    assert episode.is_terminal == (number == 1)
  assert sorted(numbers[:2]) == [0, 1] and numbers[2] == 2


def test_splits_and_cameras_are_chosen(golden):
  path = golden / 'rlds_tfrecord'
  reader = readers.open_reader(
    path, split='val', pixels='observation/wrist_image'
  )
  assert reader.num_episodes == 1
  assert reader[0].pixels.shape == (6, 6, 6, 3)
  assert reader[0].pixels[0, 0, 0].tolist() == [253, 255, 248]
  with pytest.raises(ValueError, match="no split 'test', only train, val"):
    readers.open_reader(path, split='test')
  with pytest.raises(
    ValueError,
    match="no images 'top', only observation/image, observation/wrist_image;",
  ):
    readers.open_reader(path, pixels='top')


def test_array_records_are_read_too(archive, episodes):
  reader = readers.open_reader(archive, format='rlds')
  assert reader.num_episodes == 10
  expected = [episodes[i] for i in (0, 5, 1, 2, 3, 4, 6, 7, 8, 9)]
  for got, episode in zip(reader, expected, strict=True):
    for name, array in episode.columns.items():
      np.testing.assert_array_equal(got.columns[name], array)
    assert got.is_terminal == episode.is_terminal
  file = next(archive.glob('episodes-train*'))
  file.write_bytes(file.read_bytes()[:2000])
  with pytest.raises(ValueError, match='cut off'):
    readers.open_reader(archive)[3]


def open_writer(name, features, path):
  identity = tfds.core.DatasetIdentity(
    name=name,
    version=tfds.core.Version('1.0.0'),
    data_dir=str(path),
    module_name=name,
  )
  info = tfds.core.DatasetInfo(builder=identity, features=features)
  return tfds.core.SequentialWriter(info, 10, file_format='array_record')


def test_frames_that_were_never_encoded(tmp_path):
  features = tfds.features
  step = {
    'image': features.Tensor(shape=(4, 5, 3), dtype=np.uint8),
    'action': {'move': features.Tensor(shape=(2,), dtype=np.float32)},
  }
  episode = features.FeaturesDict({'steps': features.Dataset(step)})
  writer = open_writer('plain', episode, tmp_path)
  frames = np.arange(3 * 60, dtype=np.uint8).reshape(3, 4, 5, 3)
  actions = np.arange(6, dtype=np.float32).reshape(3, 2)
  steps = [
    {'image': frame, 'action': {'move': action}}
    for frame, action in zip(frames, actions, strict=True)
  ]
  writer.initialize_splits(['train'])
  writer.add_examples({'train': [{'steps': steps}]})
  writer.close_all()
  with pytest.raises(ValueError, match='no column "action", only action/move'):
    readers.open_reader(tmp_path)
  episode = readers.open_reader(tmp_path, action=('action/move',))[0]
  np.testing.assert_array_equal(episode.pixels, frames)
  np.testing.assert_array_equal(episode.actions, actions[:2])


def test_other_datasets_are_refused(tmp_path):
  features = tfds.features.FeaturesDict(
    {'label': tfds.features.Scalar(np.int64)}
  )
  writer = open_writer('labels', features, tmp_path)
  writer.initialize_splits(['train'])
  writer.add_examples({'train': [{'label': 3}]})
  writer.close_all()
  with pytest.raises(ValueError, match='it has no steps, only label'):
    readers.open_reader(tmp_path)


def train_file(path):
  return next(path.rglob('made_up-train*'))


def test_a_cut_off_file_is_named(copied):
  path = copied('rlds_tfrecord')
  file = train_file(path)
  data = file.read_bytes()
  file.write_bytes(data[:-1])
  with pytest.raises(ValueError, match=f'{file.name} is cut off in record 1'):
    readers.open_reader(path)
  end = 16 + int.from_bytes(data[:8], 'little')
  file.write_bytes(data[:end])
  with pytest.raises(ValueError, match=r'holds 1 episodes and .* names 2'):
    readers.open_reader(path)
  file.unlink()
  with pytest.raises(FileNotFoundError, match=f'{file.name}: no such file'):
    readers.open_reader(path)


def test_damage_is_noticed_by_the_checksums(copied):
  path = copied('rlds_tfrecord')
  file = train_file(path)
  data = bytearray(file.read_bytes())
  data[500] ^= 1
  file.write_bytes(data)
  reader = readers.open_reader(path)
  with pytest.raises(ValueError, match='damaged in the record at byte 12'):
    reader[0]
  assert len(reader[1].pixels) in LENGTHS
  data[3] ^= 1
  file.write_bytes(data)
  with pytest.raises(ValueError, match=r'is (cut off|damaged)'):
    readers.open_reader(path)


def test_several_versions_are_named(copied, golden):
  path = copied('rlds_tfrecord')
  (path / 'made_up' / '0.1.0').rename(path / 'made_up' / '0.2.0')
  shutil.copytree(
    golden / 'rlds_tfrecord' / 'made_up', path / 'made_up', dirs_exist_ok=True
  )
  with pytest.raises(FileNotFoundError, match=r'holds .*0.1.0, .*0.2.0'):
    readers.open_reader(path)


def test_ours_opens_as_the_archive_that_it_is(archive):
  assert readers.detect(archive) == 'rlds'
  assert episodes_lib.open_episodes(archive).num_frames
