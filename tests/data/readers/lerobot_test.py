import json

import numpy as np
import pytest

from jepa_wm.data import readers

pytest.importorskip('pyarrow')

VERSIONS = ['lerobot_v21', 'lerobot_v30']
LENGTHS = (5, 4, 6)
TOP, WRIST = 'observation.images.top', 'observation.images.wrist'


def open_top(path, **options):
  pytest.importorskip('av')
  return readers.open_reader(path, pixels=TOP, **options)


def open_wrist(path, **options):
  return readers.open_reader(path, pixels=WRIST, **options)


@pytest.mark.parametrize('version', VERSIONS)
def test_videos_of_both_versions(golden, version):
  reader = open_top(golden / version)
  assert reader.num_episodes == 3
  for number, episode in enumerate(reader):
    length = LENGTHS[number]
    times = np.arange(length)
    assert episode.pixels.shape == (length, 16, 24, 3)
    level = 16 + 40 * number + 8 * times
    # H.264 loses a little.
    np.testing.assert_allclose(
      episode.pixels.astype(int),
      np.broadcast_to(level[:, None, None, None], episode.pixels.shape),
      atol=3,
    )
    np.testing.assert_array_equal(
      episode.actions, np.stack([times * 0 + number, times], 1)[:-1]
    )
    np.testing.assert_array_equal(
      episode.columns['observation/proprio'],
      np.stack([times, times * 0 + number, times * 0 + 1], 1),
    )
    assert 'state' not in episode.columns
    assert episode.provenance['tasks'] == ['push it']


@pytest.mark.parametrize('version', VERSIONS)
def test_images_inside_the_table(golden, version):
  reader = open_wrist(golden / version)
  for number, episode in enumerate(reader):
    level = 255 - (16 + 40 * number + 8 * np.arange(LENGTHS[number]))
    assert episode.pixels.shape == (LENGTHS[number], 4, 4, 3)
    np.testing.assert_array_equal(episode.pixels[:, 0, 0, 0], level)


def test_frames_come_at_the_size_that_is_asked_for(golden):
  for reader in (
    open_top(golden / 'lerobot_v30', image_size=8),
    open_wrist(golden / 'lerobot_v30', image_size=8, fit='crop'),
  ):
    assert reader[2].pixels.shape == (6, 8, 8, 3)


def test_several_cameras_are_named(golden):
  with pytest.raises(
    ValueError, match=f'several cameras, {TOP}, {WRIST}; .* --pixels'
  ):
    readers.open_reader(golden / 'lerobot_v21')


def edit_info(path, **changed):
  file = path / 'meta' / 'info.json'
  file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def test_other_versions_are_refused(copied):
  path = copied('lerobot_v21')
  edit_info(path, codebase_version='v1.6')
  with pytest.raises(ValueError, match=r'of version v1.6; v2.0, v2.1 and v3.0'):
    open_wrist(path)


def test_a_missing_column_is_named(copied):
  path = copied('lerobot_v21')
  with pytest.raises(ValueError, match="no column 'effort', only action"):
    open_wrist(path, proprio=('effort',))
  info = json.loads((path / 'meta' / 'info.json').read_text())
  features = info['features'] | {'effort': info['features']['action']}
  edit_info(path, features=features)
  with pytest.raises(ValueError, match='episode 1, lacks the columns effort'):
    open_wrist(path, proprio=('effort',))[1]


@pytest.mark.parametrize(
  ('version', 'file'),
  [
    ('lerobot_v21', 'data/chunk-000/episode_000001.parquet'),
    ('lerobot_v30', 'data/chunk-000/file-000.parquet'),
  ],
)
def test_a_cut_off_table_is_named(copied, version, file):
  path = copied(version)
  cut = f'{file} is cut off or damaged'
  is_missed(open_wrist(path), 1, path / file, 0.5, cut, cut)


def is_missed(reader, index, file, keep, cut, gone):
  """A file of an episode is, cut off and then removed."""
  data = file.read_bytes()
  file.write_bytes(data[: int(keep * len(data))])
  with pytest.raises(ValueError, match=cut):
    reader[index]
  file.unlink()
  with pytest.raises(ValueError, match=gone):
    reader[index]


@pytest.mark.parametrize('keep', [0.0, 0.5, 0.9])
def test_a_cut_off_video_is_named(copied, keep):
  path = copied('lerobot_v21')
  name = f'videos/chunk-000/{TOP}/episode_000000.mp4'
  cut, gone = r'00\.mp4 is cut off', r'episode_000000\.mp4: no such video'
  is_missed(open_top(path), 0, path / name, keep, cut, gone)


def test_a_video_that_is_too_short_is_named(copied):
  path = copied('lerobot_v21')
  folder = path / 'videos' / 'chunk-000' / TOP
  (folder / 'episode_000001.mp4').rename(folder / 'episode_000000.mp4')
  with pytest.raises(ValueError, match=r'has 4 frames .* its table 5 rows'):
    open_top(path)[0]


def test_tables_that_disagree_are_named(copied):
  path = copied('lerobot_v21')
  file = path / 'meta' / 'episodes.jsonl'
  file.write_text(file.read_text().replace('"length": 4', '"length": 5'))
  with pytest.raises(ValueError, match='episode 1, has 4 rows in its table'):
    open_wrist(path)[1]
  file.write_text(file.read_text()[:-9])
  with pytest.raises(ValueError, match=r'episodes\.jsonl is cut off'):
    open_wrist(path)


def test_ragged_rows_are_named(copied):
  import pyarrow as pa
  import pyarrow.parquet as pq

  path = copied('lerobot_v21')
  file = path / 'data' / 'chunk-000' / 'episode_000000.parquet'
  table = pq.read_table(file)
  place = table.schema.get_field_index('observation.state')
  rows = table.column(place).to_pylist()
  rows[3] = [1.0, 2.0]
  broken = pa.array(rows, pa.list_(pa.float32()))
  pq.write_table(table.set_column(place, 'observation.state', broken), file)
  with pytest.raises(ValueError, match=r'different sizes .*observation.state'):
    open_wrist(path)[0]


def test_rewards_are_kept(copied):
  import pyarrow as pa
  import pyarrow.parquet as pq

  path = copied('lerobot_v21')
  info = path / 'meta' / 'info.json'
  described = json.loads(info.read_text())
  described['features']['next.reward'] = {'dtype': 'float32', 'shape': [1]}
  info.write_text(json.dumps(described))
  for file in (path / 'data' / 'chunk-000').glob('*.parquet'):
    table = pq.read_table(file)
    rewards = pa.array(np.arange(len(table), dtype=np.float32))
    pq.write_table(table.append_column('next.reward', rewards), file)
  episode = open_wrist(path)[0]
  # Row t has the reward of its action; no action follows the last row.
  np.testing.assert_array_equal(
    episode.columns['reward'], np.arange(episode.num_frames - 1)
  )


def test_a_folder_without_description(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no meta/info\.json'):
    readers.open_reader(tmp_path, format='lerobot')
