"""LeRobot's own numbers decide which rows and frames are an episode's."""

import io
import json

import numpy as np
import PIL.Image
import pytest

from jepa_wm.data import readers

pa = pytest.importorskip('pyarrow')
pq = pytest.importorskip('pyarrow.parquet')

CAMERA = 'observation.images.top'
PNG = io.BytesIO()
PIL.Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(PNG, 'png')


def write_info(root, *, kind='image', **changed):
  (root / 'meta').mkdir(parents=True, exist_ok=True)
  info = {
    'codebase_version': 'v2.1',
    'fps': 10,
    'chunks_size': 1000,
    'data_path': 'data/{episode_index:06d}.parquet',
    'video_path': 'videos/{video_key}/{episode_index}.mp4',
    'features': {
      CAMERA: {'dtype': kind, 'shape': [8, 8, 3]},
      'action': {'dtype': 'float32', 'shape': [2]},
    },
  }
  (root / 'meta' / 'info.json').write_text(json.dumps(info | changed))


def write_table(file, columns):
  file.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(pa.table(columns), file)


def one_episode(root, *, rows=3, **columns):
  """A folder of version 2.1 with one episode of pictures in its table."""
  write_info(root)
  (root / 'meta' / 'episodes.jsonl').write_text(
    json.dumps({'episode_index': 0, 'tasks': ['t'], 'length': rows}) + '\n'
  )
  cells = pa.array([PNG.getvalue()] * rows, pa.binary())
  columns = {'action': [[0.0, 1.0]] * rows, CAMERA: cells} | columns
  write_table(root / 'data' / '000000.parquet', columns)
  return root


def png(level):
  out = io.BytesIO()
  PIL.Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(out, 'png')
  return {'bytes': out.getvalue(), 'path': None}


def five_episodes(root, entries, *, indices=('episode_index', 'index')):
  """Version 3.0: episodes 0, 1 in one table and 2, 3, 4 in the next."""
  write_info(
    root,
    codebase_version='v3.0',
    data_path='data/file-{file_index:03d}.parquet',
  )
  for number, episodes in enumerate([(0, 1), (2, 3, 4)]):
    rows = [(e, t) for e in episodes for t in range(4)]
    numbers = {
      'episode_index': [e for e, _ in rows],
      'index': [4 * e + t for e, t in rows],
    }
    write_table(
      root / 'data' / f'file-{number:03d}.parquet',
      {
        'action': [[float(e), 0.0] for e, _ in rows],
        CAMERA: [png(10 * e + t) for e, t in rows],
        **{name: numbers[name] for name in indices},
      },
    )
  file = root / 'meta' / 'episodes' / 'file-000.parquet'
  file.parent.mkdir(parents=True)
  pq.write_table(pa.Table.from_pylist(entries), file)


def entry(episode, **changed):
  return {
    'episode_index': episode,
    'length': 4,
    'tasks': ['t'],
    'dataset_from_index': 4 * episode,
    'data/chunk_index': 0,
    'data/file_index': int(episode > 1),
  } | changed


@pytest.mark.parametrize(
  ('entries', 'refused'),
  [
    ([entry(e) for e in range(5)], []),
    # The first of a file points to the file before.
    ([entry(e, **{'data/file_index': int(e > 2)}) for e in range(5)], [2]),
    ([entry(e) for e in (1, 3, 4)], []),
    ([entry(e, dataset_from_index=0) for e in range(5)], []),
    ([{**entry(e), 'length': 4 + (e == 3)} for e in range(5)], [3]),
  ],
)
def test_rows_are_found_by_the_table_s_own_numbers(tmp_path, entries, refused):
  five_episodes(tmp_path, entries)
  reader = readers.open_reader(tmp_path)
  for index, number in enumerate(x['episode_index'] for x in entries):
    if number in refused:
      with pytest.raises(ValueError, match=f'episode {number}, '):
        reader[index]
      continue
    episode = reader[index]
    np.testing.assert_array_equal(episode.actions[:, 0], number)
    levels = 10 * number + np.arange(4)
    np.testing.assert_array_equal(episode.pixels[:, 0, 0, 0], levels)


def test_a_table_without_numbers_must_hold_all_episodes(tmp_path):
  five_episodes(tmp_path / 'all', [entry(e) for e in range(5)], indices=())
  for number, episode in enumerate(readers.open_reader(tmp_path / 'all')):
    np.testing.assert_array_equal(episode.actions[:, 0], number)
  five_episodes(tmp_path / 'some', [entry(e) for e in (1, 3)], indices=())
  with pytest.raises(ValueError, match='without episode_index'):
    readers.open_reader(tmp_path / 'some')[0]


@pytest.mark.parametrize(
  'columns',
  [
    {'episode_index': [0, 0, 1]},
    {'frame_index': [0, 2, 1]},
    {'index': [5, 4, 6]},
    {'timestamp': [0.0, 0.1, 0.1]},
    {'timestamp': [0.0, 0.1, float('nan')]},
  ],
)
def test_rows_of_another_episode_or_out_of_order(tmp_path, columns):
  root = one_episode(tmp_path, **columns)
  (name,) = columns
  with pytest.raises(ValueError, match=f'out of order .*{name}'):
    readers.open_reader(root)[0]


def write_video(path, levels, *, rate=10):
  av = pytest.importorskip('av')
  path.parent.mkdir(parents=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=rate)
    stream.width = stream.height = 64
    stream.pix_fmt = 'yuv420p'
    for level in levels:
      frame = np.full((64, 64, 3), level, np.uint8)
      container.mux(
        stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24'))
      )
    container.mux(stream.encode())


@pytest.mark.parametrize(
  ('times', 'fps', 'frames'),
  [
    ([0.0, 0.1, 0.2, 0.3], 10, [0, 1, 2, 3]),
    # Idle rows cut out; a table at half the rate, with its times and without.
    ([0.0, 0.1, 1.0, 1.1], 10, [0, 1, 10, 11]),
    ([0.0, 0.2, 0.4, 0.6], 5, [0, 2, 4, 6]),
    (None, 5, [0, 2, 4, 6]),
    ([0.004, 0.096, 0.204, 0.3], 10, [0, 1, 2, 3]),
    ([0.0, 0.05, 0.1, 0.15], 20, None),
    ([1.7, 1.8, 1.9, 2.0], 10, None),
  ],
)
def test_a_row_s_frame_is_the_one_at_its_timestamp(
  tmp_path, times, fps, frames
):
  write_info(tmp_path, kind='video', fps=fps)
  (tmp_path / 'meta' / 'episodes.jsonl').write_text(
    '{"episode_index": 0, "tasks": ["t"], "length": 4}\n'
  )
  stamps = {} if times is None else {'timestamp': pa.array(times, pa.float32())}
  write_table(
    tmp_path / 'data' / '000000.parquet',
    {'action': [[0.0, 1.0]] * 4, **stamps},
  )
  write_video(tmp_path / 'videos' / CAMERA / '0.mp4', range(20, 220, 10))
  reader = readers.open_reader(tmp_path)
  (warning,) = reader.warnings
  assert 'has 20 frames and its table 4 rows' in warning
  if frames is None:
    with pytest.raises(ValueError, match=r'no frame of its own|4 rows'):
      reader[0]
    return
  found = (reader[0].pixels.mean((1, 2, 3)) - 20) / 10
  np.testing.assert_allclose(found, frames, atol=0.3)


@pytest.mark.parametrize(
  'cells',
  [
    pa.array([PNG.getvalue()] * 3, pa.binary()),
    ['images/a.png'] * 3,
    [{'path': 'images/a.png'}] * 3,
    [{'bytes': PNG.getvalue()}] * 3,
    [{'bytes': None, 'path': 'images/a.png'}] * 3,
  ],
)
def test_every_kind_of_picture_cell(tmp_path, cells):
  root = one_episode(tmp_path, **{CAMERA: cells})
  (root / 'images').mkdir()
  (root / 'images' / 'a.png').write_bytes(PNG.getvalue())
  assert (readers.open_reader(root)[0].pixels == 7).all()


@pytest.mark.parametrize(
  ('cells', 'message'),
  [
    ([png(1), None, png(1)], 'row 1: its cell is empty'),
    ([{'bytes': None, 'path': None}] * 3, 'row 0: its cell is empty'),
    (['nowhere.png'] * 3, 'row 0, has no image'),
    (['../../secret.png'] * 3, 'outside of it'),
    (['/etc/hostname'] * 3, 'outside of it'),
    ([5, 6, 7], 'has a int for an image'),
    ([b'GIF89a'] * 3, 'has no image in row 0'),
  ],
)
def test_pictures_that_are_none(tmp_path, cells, message):
  root = one_episode(tmp_path, **{CAMERA: cells})
  with pytest.raises(ValueError, match=f'episode 0, .*{message}|{message}'):
    readers.open_reader(root)[0]


def test_pictures_whose_scale_is_not_known(tmp_path):
  deep = io.BytesIO()
  PIL.Image.fromarray(np.full((8, 8), 900, np.uint16)).save(deep, 'png')
  root = one_episode(tmp_path, **{CAMERA: [deep.getvalue()] * 3})
  with pytest.raises(ValueError, match='more than 8 bits a channel in row 0'):
    readers.open_reader(root)[0]


@pytest.mark.parametrize(
  'changed',
  [
    {'features': {CAMERA: {'shape': [8, 8, 3]}}},
    {'features': {CAMERA: 'video'}},
    {'features': []},
    {'features': None},
    {'chunks_size': 0},
    {'chunks_size': 'many'},
    {'kind': 'video', 'video_path': None},
    {'kind': 'video', 'video_path': 5},
    {'data_path': None},
    {'data_path': '{episode_index.__class__}'},
    {'data_path': '{episode_index:099999999d}'},
    {'data_path': '{unknown}'},
    {'data_path': '{episode_index'},
    {'data_path': '../{episode_index}'},
    {'fps': 0},
    {'fps': 'ten'},
    {'codebase_version': None},
  ],
)
def test_odd_descriptions_are_named(tmp_path, changed):
  write_info(tmp_path, **changed)
  (tmp_path / 'meta' / 'episodes.jsonl').write_text(
    '{"episode_index": 0, "tasks": ["t"], "length": 3}\n'
  )
  with pytest.raises(ValueError, match=str(tmp_path)):
    readers.open_reader(tmp_path)


@pytest.mark.parametrize(
  'line',
  [
    *('[]', '7', '{}', '{"episode_index": null, "length": 3}', '"\\ud800"'),
    *('{"episode_index": 0, "length": -3}', '[' * 100_000),
  ],
)
def test_odd_episodes_are_named(tmp_path, line):
  root = one_episode(tmp_path)
  (root / 'meta' / 'episodes.jsonl').write_text(line)
  with pytest.raises(ValueError, match=r'episodes\.jsonl'):
    readers.open_reader(root)


def test_an_episode_twice_is_named(tmp_path):
  root = one_episode(tmp_path)
  file = root / 'meta' / 'episodes.jsonl'
  file.write_text(file.read_text() * 2)
  with pytest.raises(ValueError, match='episode 0 twice'):
    readers.open_reader(root)


@pytest.mark.parametrize('task', ['a\u2028b', 'a\x85b', 'a\x0bb', 'a'])
def test_texts_may_hold_what_ends_lines_elsewhere(tmp_path, task):
  root = one_episode(tmp_path)
  line = json.dumps(
    {'episode_index': 0, 'tasks': [task], 'length': 3}, ensure_ascii=False
  )
  # As an editor that marks its files writes it.
  (root / 'meta' / 'episodes.jsonl').write_text(
    line + '\r\n', encoding='utf-8-sig', newline=''
  )
  info = root / 'meta' / 'info.json'
  info.write_text(info.read_text(), encoding='utf-8-sig')
  assert readers.open_reader(root)[0].provenance['tasks'] == [task]
