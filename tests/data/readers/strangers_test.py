"""Whatever is wrong with a source, one sentence says so, as a ValueError."""

import json
import pathlib
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest

from jepa_wm.data import readers
from jepa_wm.data.readers import frames, images, open_x, reader

h5py = pytest.importorskip('h5py')

POINTER = (
  'version https://git-lfs.github.com/spec/v1\noid sha256:'
  + '4d' * 32
  + '\nsize 146946961\n'
)
APPLE_DOUBLE = b'\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X' + bytes(100)


def write_swm(path, rows=16, **changed):
  columns = {
    'pixels': np.zeros((rows, 8, 8, 3), np.uint8),
    'action': np.random.default_rng(0).normal(size=(rows, 2)),
    'ep_len': np.full(2, rows // 2),
  } | changed
  with h5py.File(path, 'w') as file:
    for name, array in columns.items():
      if array is not None:
        file[name] = array
  return path


def write_minari(root, observations, actions, **metadata):
  (root / 'data').mkdir()
  with h5py.File(root / 'data' / 'main_data.hdf5', 'w') as file:
    for number, array in enumerate(observations):
      episode = file.create_group(f'episode_{number}')
      episode['observations'], episode['actions'] = array, actions[number]
  (root / 'data' / 'metadata.json').write_text(json.dumps(metadata))
  return root


@pytest.mark.parametrize(
  'error',
  [
    *(KeyError('x'), TypeError('x'), IndexError('x'), AttributeError('x')),
    *(ZeroDivisionError('x'), OSError(5, 'Input/output error'), EOFError()),
    *(struct.error('x'), RecursionError('x'), MemoryError(), RuntimeError('x')),
    UnicodeDecodeError('utf-8', b'x', 0, 1, 'x'),
    ValueError('cannot reshape array'),
    FileNotFoundError(2, 'No such file or directory', '/gone'),
  ],
  ids=lambda error: type(error).__name__,
)
def test_no_other_error_leaves_a_reader(tmp_path, monkeypatch, error):
  path = write_swm(tmp_path / 'a.h5')
  opened = readers.open_reader(path)

  def broken(self, index):
    raise error

  monkeypatch.setattr(
    'jepa_wm.data.readers.swm_hdf5.SwmHdf5.__getitem__', broken
  )
  with pytest.raises(ValueError, match=r'a\.h5, episode 1, cannot be read'):
    opened[1]
  with pytest.raises(IndexError, match='2 episodes'):
    opened[2]
  monkeypatch.setattr('jepa_wm.data.readers.swm_hdf5.SwmHdf5.__init__', broken)
  with pytest.raises(ValueError, match=r'a\.h5 cannot be read'):
    readers.open_reader(path)


def test_every_second_half_of_a_file_may_be_missing(golden, tmp_path):
  # Of every file of every format; what is read is right, the rest refused.
  for name in ('lerobot_v21', 'lerobot_v30', 'rlds_tfrecord', 'dino_wm_wall'):
    for file in sorted(p for p in (golden / name).rglob('*') if p.is_file()):
      target = tmp_path / 'copy'
      shutil.copytree(golden / name, target)
      damaged = target / file.relative_to(golden / name)
      damaged.write_bytes(damaged.read_bytes()[: file.stat().st_size // 2])
      try:
        opened = readers.open_reader(
          target,
          **({'pixels': 'observation.images.wrist'} if 'v' in name else {}),
        )
        for index in range(opened.num_episodes):
          opened[index]
      except (ValueError, FileNotFoundError) as error:
        assert str(target) in str(error)
      shutil.rmtree(target)


@pytest.mark.parametrize(
  'name', ['lerobot_v21', 'lerobot_v30', 'rlds_tfrecord', 'dino_wm_wall']
)
def test_git_lfs_pointers_are_recognised(golden, tmp_path, name):
  for file in sorted(p for p in (golden / name).rglob('*') if p.is_file()):
    if file.suffix in ('.py', '.mp4') or file.name == 'door_locations.pth':
      continue
    target = tmp_path / 'copy'
    shutil.copytree(golden / name, target)
    (target / file.relative_to(golden / name)).write_text(POINTER)
    with pytest.raises(ValueError, match=f'{file.name} is a git-lfs pointer'):
      opened = readers.open_reader(
        target,
        **({'pixels': 'observation.images.wrist'} if 'v' in name else {}),
      )
      for index in range(opened.num_episodes):
        opened[index]
    shutil.rmtree(target)


def test_git_lfs_pointers_alone(golden, tmp_path):
  (tmp_path / 'a.h5').write_text(POINTER)
  with pytest.raises(ValueError, match='git lfs pull'):
    readers.open_reader(tmp_path / 'a.h5')
  (tmp_path / 'a').write_text(POINTER)
  with pytest.raises(ValueError, match='git lfs pull'):
    readers.open_reader(tmp_path / 'a')
  pytest.importorskip('av')
  target = shutil.copytree(golden / 'lerobot_v21', tmp_path / 'lerobot')
  for file in target.rglob('*.mp4'):
    file.write_text(POINTER)
  opened = readers.open_reader(target, pixels='observation.images.top')
  with pytest.raises(ValueError, match=r'mp4 is a git-lfs pointer'):
    opened[0]


@pytest.mark.parametrize(
  'name', ['lerobot_v21', 'lerobot_v30', 'rlds_tfrecord', 'dino_wm_wall']
)
def test_hidden_files_are_nobody_s_data(golden, tmp_path, name):
  target = shutil.copytree(golden / name, tmp_path / 'copy')
  for file in sorted(p for p in target.rglob('*') if p.is_file()):
    (file.parent / f'._{file.name}').write_bytes(APPLE_DOUBLE)
  options = {'pixels': 'observation.images.wrist'} if 'lerobot' in name else {}
  opened = readers.open_reader(target, **options)
  expected = readers.open_reader(golden / name, **options)
  assert opened.num_episodes == expected.num_episodes
  np.testing.assert_array_equal(opened[0].pixels, expected[0].pixels)


def test_a_hidden_file_beside_hdf5(tmp_path):
  write_swm(tmp_path / 'a.h5')
  (tmp_path / '._a.h5').write_bytes(APPLE_DOUBLE)
  assert readers.open_reader(tmp_path).num_episodes == 2


@pytest.mark.parametrize('shape', [(6, 4, 16, 16), (6, 16, 16, 4)])
def test_stacked_frames_are_no_colours(shape):
  stack = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
  with pytest.raises(ValueError, match=r'4 channels .* stacked frames'):
    frames.to_levels('x', stack, 'pixels', reader.Options())


def test_a_point_is_no_picture(tmp_path):
  points = np.random.default_rng(0).uniform(size=(16, 5, 3))
  with pytest.raises(ValueError, match='has no images'):
    readers.open_reader(write_swm(tmp_path / 'a.h5', pixels=points))


def test_frame_stacks_that_the_dataset_names(tmp_path):
  wrapper = {'name': 'FrameStackObservation', 'kwargs': {'stack_size': 3}}
  write_minari(
    tmp_path,
    np.zeros((2, 5, 3, 16, 16), np.uint8),
    np.zeros((2, 4, 2)),
    env_spec=json.dumps({'additional_wrappers': [wrapper]}),
  )
  with pytest.raises(ValueError, match=r'stacked frames .* by its env_spec'):
    readers.open_reader(tmp_path)


RNG = np.random.default_rng(0)
UNIT = RNG.uniform(0, 1, (16, 8, 8, 3)).astype(np.float32)


def with_levels(*changes):
  array = UNIT.copy()
  for index, level in changes:
    array[index] = level
  return array


def halves(first, second):
  return np.concatenate([UNIT[:8] * first, UNIT[8:] * second])


@pytest.mark.parametrize(
  ('pixels', 'brightest'),
  [
    (UNIT, (255, 255)),
    (with_levels(((3, 0, 0, 0), 1.0000001)), (255, 255)),
    (with_levels(((3, 0, 0, 0), -1e-8)), (255, 255)),
    (halves(255, 1), (255, 1)),
    (halves(1, 255), (1, 255)),
    (halves(1, 0.25), (255, 64)),
    (with_levels(((9, 0, 0, 0), 1.1)), None),
    (with_levels(((9, 0, 0, 0), -0.5)), None),
    (with_levels(((9, 0, 0, 0), np.nan)), None),
    (halves(255, 300), None),
    (2 * UNIT - 1, None),
  ],
)
@pytest.mark.parametrize('format', ['swm', 'minari'])
def test_a_column_of_floats_has_one_scale(tmp_path, format, pixels, brightest):
  if format == 'swm':
    path = write_swm(tmp_path / 'a.h5', pixels=pixels)
  else:
    path = write_minari(
      tmp_path, [pixels[:8], pixels[8:]], np.zeros((2, 7, 2), np.float32)
    )
  if brightest is None:
    with pytest.raises(ValueError, match='floats'):
      list(readers.open_reader(path))
    return
  found = [int(x.pixels.max()) for x in readers.open_reader(path)]
  np.testing.assert_allclose(found, brightest, atol=1)


@pytest.mark.parametrize(
  'changed',
  [
    {'ep_len': None, 'ep_idx': np.tile(np.arange(4), 4)},
    {'ep_idx': np.tile(np.arange(2), 8)},
    {'step_idx': np.arange(16) % 4},
    {
      'ep_len': None,
      'ep_idx': np.zeros(16, int),
      'step_idx': np.arange(16) % 8,
    },
    {'ep_offset': np.array([0, 4])},
    {'ep_offset': np.array([-8, 8])},
    {'ep_len': np.array([8.5, 7.5])},
    {'ep_len': np.ones((2, 2), int)},
  ],
)
def test_rows_of_several_episodes_are_not_mixed(tmp_path, changed):
  path = write_swm(tmp_path / 'a.h5', **changed)
  with pytest.raises(ValueError, match=r'a\.h5 has '):
    readers.open_reader(path)


def test_discrete_actions_begin_where_their_space_says(tmp_path):
  space = {'type': 'Discrete', 'dtype': 'int64', 'start': 1, 'n': 3}
  pixels = np.zeros((2, 5, 8, 8, 3), np.uint8)
  actions = np.array([[1, 2, 3, 1], [1, 2, 1, 2]])
  write_minari(tmp_path, pixels, actions, action_space=json.dumps(space))
  opened = readers.open_reader(tmp_path)
  for episode, row in zip(opened, actions, strict=True):
    np.testing.assert_array_equal(episode.actions, np.eye(3)[row - 1])
  assert opened.provenance['discrete_start'] == 1
  with pytest.raises(ValueError, match='there are 3 actions, 1 to 3; leave'):
    readers.open_reader(tmp_path, num_discrete=4)


def test_layouts_that_are_known_and_not_read(tmp_path):
  with h5py.File(tmp_path / 'robomimic.hdf5', 'w') as file:
    file['data/demo_0/obs/agentview_rgb'] = np.zeros((4, 8, 8, 3), np.uint8)
  with pytest.raises(ValueError, match=r'holds groups \(data\).*robomimic'):
    readers.open_reader(tmp_path / 'robomimic.hdf5')
  (tmp_path / 'arrow' / 'data' / '0').mkdir(parents=True)
  (tmp_path / 'arrow' / 'data' / '0' / 'data.arrow').write_bytes(b'ARROW1')
  with pytest.raises(ValueError, match=r"Minari's Arrow .*data_format='hdf5'"):
    readers.open_reader(tmp_path / 'arrow')


@pytest.mark.parametrize('kind', ['external', 'soft', 'virtual', 'raw'])
@pytest.mark.parametrize('name', ['pixels', 'other'])
def test_hdf5_does_not_lead_out_of_its_file(tmp_path, kind, name):
  outside = write_swm(tmp_path / 'outside.h5')
  path = write_swm(tmp_path / 'a.h5', pixels=None)
  (tmp_path / 'secret').write_bytes(bytes(16 * 192))
  with h5py.File(path, 'a') as file:
    if name == 'other':
      file['pixels'] = np.zeros((16, 8, 8, 3), np.uint8)
    if kind == 'external':
      file[name] = h5py.ExternalLink(str(outside), '/pixels')
    elif kind == 'soft':
      file[name] = h5py.SoftLink('/ep_len')
    elif kind == 'virtual':
      layout = h5py.VirtualLayout((16, 8, 8, 3), np.uint8)
      layout[:] = h5py.VirtualSource(str(outside), 'pixels', (16, 8, 8, 3))
      file.create_virtual_dataset(name, layout)
    else:
      file.create_dataset(
        name,
        (16, 8, 8, 3),
        np.uint8,
        external=[(str(tmp_path / 'secret'), 0, 16 * 192)],
      )
  with pytest.raises(ValueError, match=rf"a\.h5: '{name}' is a "):
    readers.open_reader(path)


@pytest.mark.parametrize('lengths', [2**25, 2**36])
def test_hdf5_that_claims_to_be_larger_than_it_is(tmp_path, lengths):
  path = write_swm(tmp_path / 'a.h5', pixels=None, ep_len=None)
  rows = 2**36
  with h5py.File(path, 'a') as file:
    del file['action']
    file.create_dataset('pixels', (rows, 64, 64, 3), np.uint8, chunks=True)
    file.create_dataset('action', (rows, 2), np.float32, chunks=True)
    file['ep_len'] = np.array([lengths])
  with pytest.raises(ValueError, match=r'claims to hold [\d.]+ GiB'):
    readers.open_reader(path, alignment='after')[0]


def test_a_dataset_runs_no_code(golden, tmp_path, monkeypatch):
  module = tmp_path / 'evil.py'
  module.write_text('import pathlib\npathlib.Path("ran").touch()\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  source = golden / 'rlds_tfrecord'
  file = next(source.rglob('features.json')).relative_to(source)
  text = (source / file).read_text()
  first = '"tensorflow_datasets.core.features.text_feature.Text"'
  own = '"pythonClassName": ' + first
  assert own in text
  for change in (
    (first, '"evil.Feature"'),
    (own, own + ', "pythonClassName": "evil.Feature"'),
    (own, '"pythonClassName": "evil.Feature", ' + own),
    (own, '"python_class_name": "evil.Feature"'),
    (own, '"type": "evil.Feature", "content": {}, ' + own),
    (
      own,
      own + ', "jsonFeature": {"json": "{\\"a\\": {\\"type\\": '
      '\\"evil.Feature\\", \\"content\\": {}}}"}',
    ),
    (first, '"tensorflow_datasets.core.features.feature.FeatureConnector"'),
    (first, '"tensorflow_datasets.testing.x.Y"'),
    (first, '["evil.Feature"]'),
  ):
    target = tmp_path / 'copy'
    shutil.copytree(source, target)
    (target / file).write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match='not of tensorflow_datasets'):
      readers.open_reader(target)
    shutil.rmtree(target)
  assert not (tmp_path / 'ran').exists()


def test_minari_metadata_that_is_odd(golden, tmp_path):
  with zipfile.ZipFile(golden / 'minari.zip') as archive:
    archive.extractall(tmp_path / 'a')
  file: pathlib.Path = next((tmp_path / 'a').rglob('metadata.json'))
  fields = json.loads(file.read_text())
  for text in (
    '[]',
    '[' * 100_000,
    json.dumps(fields | {'action_space': '{"type": "Discrete"}'}),
    POINTER,
  ):
    file.write_text(text)
    with pytest.raises(ValueError, match=r'metadata|cannot be read'):
      readers.open_reader(tmp_path / 'a')


def test_a_picture_that_claims_to_be_larger_than_any(tmp_path):
  # 60,000 x 60,000 pixels in a hundred bytes.
  head = struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0)
  png = b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc)
    for kind, data, crc in (
      (b'IHDR', head, zlib.crc32(b'IHDR' + head)),
      (b'IDAT', b'', zlib.crc32(b'IDAT')),
      (b'IEND', b'', zlib.crc32(b'IEND')),
    )
  )
  with pytest.raises(ValueError, match='x has no image in row 0'):
    list(images.decode('x', [png]))


def test_a_record_of_several_episodes(golden, monkeypatch):
  opened = readers.open_reader(golden / 'rlds_tfrecord')
  get = open_x._TfRecords.__getitem__

  def joined(self, index):
    record = get(self, index)
    record['steps']['is_first'] = np.array(record['steps']['is_first'])
    record['steps']['is_first'][2] = True
    return record

  monkeypatch.setattr(open_x._TfRecords, '__getitem__', joined)
  with pytest.raises(ValueError, match='first step of another one'):
    opened[0]
