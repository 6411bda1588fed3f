import numpy as np
import pytest

from jepa_wm.data import readers, torch_files


def test_push_t_as_its_own_loader_reads_it(golden):
  pytest.importorskip('av')
  reader = readers.open_reader(golden / 'dino_wm_push_t')
  assert reader.num_episodes == 4
  assert reader.warnings == []
  lengths = [5, 3, 4, 4]
  for index, (episode, length) in enumerate(zip(reader, lengths, strict=True)):
    number = index % 3
    times = np.arange(length)
    level = 30 + 50 * number + 8 * times
    assert episode.pixels.shape == (length, 16, 16, 3)
    assert np.abs(episode.pixels[:, 3, 4, 1].astype(int) - level).max() <= 3
    number = times * 0 + number
    np.testing.assert_array_equal(
      episode.actions, np.stack([number, times], 1)[:-1]
    )
    agent = [number, times]
    velocity = [number, -times]
    np.testing.assert_array_equal(
      episode.columns['observation/proprio'], np.stack([*agent, *velocity], 1)
    )
    block = [number + 10, times + 10, times / 10]
    np.testing.assert_allclose(
      episode.columns['state'],
      np.stack([*agent, *block, *velocity], 1),
      rtol=1e-6,
    )


def test_frames_as_tensors(golden):
  reader = readers.open_reader(golden / 'dino_wm_wall')
  assert [len(episode.pixels) for episode in reader] == [4, 4]
  expected = np.arange(4 * 3 * 64).reshape(4, 3, 8, 8) % 251 + 1
  np.testing.assert_array_equal(reader[1].pixels, np.moveaxis(expected, 1, -1))
  states = torch_files.read(golden / 'dino_wm_wall' / 'states.pth')
  np.testing.assert_array_equal(reader[1].columns['state'], states[1])
  np.testing.assert_array_equal(
    reader[1].columns['observation/proprio'], states[1]
  )


def test_rewards_that_somebody_added_are_kept(copied, monkeypatch):
  path = copied('dino_wm_wall')
  states = torch_files.read(path / 'states.pth')
  read, rewards = torch_files.read, np.arange(8.0).reshape(2, 4)
  (path / 'rewards.pth').write_bytes(b'')
  monkeypatch.setattr(
    torch_files,
    'read',
    lambda file: rewards if file.stem == 'rewards' else read(file),
  )
  assert states.shape[:2] == rewards.shape
  # The last row's action leads nowhere.
  rewards[0, 3] = np.nan
  reader = readers.open_reader(path)
  np.testing.assert_array_equal(reader[0].columns['reward'], [0, 1, 2])
  np.testing.assert_array_equal(reader[1].columns['reward'], [4, 5, 6])
  rewards[1, 1] = np.nan
  reader = readers.open_reader(path)
  assert 'rewards holds NaN' in reader.warnings[0]
  assert 'reward' not in reader[0].columns


def test_splits_are_chosen(golden):
  path = golden / 'dino_wm_push_t'
  assert readers.open_reader(path, split='val').num_episodes == 1
  assert readers.open_reader(path / 'train').num_episodes == 3
  with pytest.raises(ValueError, match="no split 'test', only train, val"):
    readers.open_reader(path, split='test')


@pytest.mark.parametrize(
  'program',
  [
    b'cos\nsystem\n(S"touch executed"\ntR.',
    b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.',
    b'\x80\x04]\x94(K\x05K\x03',
    b'\x80\x04]\x94(K\x05\x8c\x01ae.',
  ],
)
def test_lengths_that_are_a_program_are_counted_instead(
  copied, program, monkeypatch, tmp_path
):
  pytest.importorskip('av')
  path = copied('dino_wm_push_t') / 'train'
  (path / 'seq_lengths.pkl').write_bytes(program)
  monkeypatch.chdir(tmp_path)
  reader = readers.open_reader(path)
  assert not (tmp_path / 'executed').exists()
  (warning,) = reader.warnings
  assert 'seq_lengths.pkl' in warning and 'counted in the videos' in warning
  assert [len(episode.pixels) for episode in reader] == [5, 3, 4]


def test_plain_pickles(golden, tmp_path):
  file = golden / 'dino_wm_push_t' / 'train' / 'seq_lengths.pkl'
  assert torch_files.read_plain(file) == [5, 3, 4]
  with pytest.raises(FileNotFoundError, match='no such file'):
    torch_files.read_plain(tmp_path / 'a.pkl')


def test_files_that_do_not_fit_are_named(copied):
  path = copied('dino_wm_push_t') / 'train'
  video = path / 'obses' / 'episode_001.mp4'
  kept = video.read_bytes()
  video.unlink()
  with pytest.raises(ValueError, match='of 1 of 3 episodes, first episode_001'):
    readers.open_reader(path)
  video.write_bytes(kept)
  (path / 'seq_lengths.pkl').write_bytes(b'\x80\x04]\x94(K\x05K\x03K\x06e.')
  with pytest.raises(ValueError, match=r'3 seq_lengths up to 6 for .* 5 rows'):
    readers.open_reader(path)
  (path / 'velocities.pth').write_bytes(
    (path.parent / 'val' / 'velocities.pth').read_bytes()
  )
  with pytest.raises(ValueError, match=r'3 episodes .* velocities \[1, 4, 2\]'):
    readers.open_reader(path)
  data = (path / 'states.pth').read_bytes()
  (path / 'states.pth').write_bytes(data[:500])
  with pytest.raises(ValueError, match=r'states\.pth: the end of the zip'):
    readers.open_reader(path)


def test_actions_are_needed(copied):
  path = copied('dino_wm_wall')
  (path / 'actions.pth').unlink()
  with pytest.raises(ValueError, match=r'no actions.* among door_locations'):
    readers.open_reader(path)
  with pytest.raises(FileNotFoundError, match=r'no states\.pth'):
    readers.open_reader(path / 'obses', format='dino_wm')
