import numpy as np
import pytest

from jepa_wm.data import cache, episodes
from jepa_wm.envs import push_t, worlds
from jepa_wm.recipes import probe_data


def test_what_is_behind_the_digits_reaches_the_pixels():
  dataset = probe_data.load(
    'digits', {'train': 2, 'validation': 2, 'held_out': 2}, image_size=16,
    num_frames=1, frame_stride=1, seed=0, background='noise',
  )  # fmt: skip
  # Three quarters would be black around a digit 7 of 16 pixels wide.
  black = [
    np.mean(clips.observation['pixels'] == 0)
    for clips in dataset.splits.values()
  ]
  assert max(black) < 0.1


def test_a_held_out_video_goes_on_over_its_clips():
  def load(num_clips):
    return probe_data.load(
      'digits', {'train': 2, 'validation': 2, 'held_out': 3}, image_size=16,
      num_frames=2, frame_stride=1, seed=0, num_clips=num_clips,
    ).splits  # fmt: skip

  one, three = load(1), load(3)
  for split, count in (('train', 2), ('held_out', 9)):
    assert three[split].observation['pixels'].shape[:2] == (count, 2)
    np.testing.assert_array_equal(
      one[split].targets['label'], three[split].targets['label']
    )
  # The first clip of three is the one.
  np.testing.assert_array_equal(
    one['held_out'].observation['pixels'],
    three['held_out'].observation['pixels'][::3],
  )
  assert len(three['held_out'].targets['state']) == 3


def test_a_dataset_of_our_own_keeps_episodes_apart(tmp_path):
  """Every frame of an episode has its number as its state."""
  path = tmp_path / 'walks'
  walks = [
    episodes.Episode(
      columns={
        'observation/pixels': np.full((6, 16, 16, 3), index, np.uint8),
        'action': np.zeros((5, 2), np.float32),
        'state': np.full((6, 3), index, np.float32),
      }
    )
    for index in range(12)
  ]
  episodes.write_episodes(path, walks, provenance={}, held_out_fraction=0.5)
  cache.build_cache(path)
  counts = {'train': 20, 'validation': 10, 'held_out': 15}
  dataset = probe_data.load(
    str(path), counts, image_size=16, num_frames=2, frame_stride=2, seed=0
  )
  assert dataset.state_names == ('s0', 's1', 's2') and not dataset.num_classes
  seen = {}
  for split, clips in dataset.splits.items():
    pixels = clips.observation['pixels']
    assert pixels.shape == (counts[split], 2, 16, 16, 3)
    np.testing.assert_array_equal(
      clips.targets['state'][:, 0], pixels[:, 0, 0, 0, 0]
    )
    seen[split] = set(clips.targets['state'][:, 0])
  assert len(seen['train']) == 6
  assert not seen['train'] & (seen['validation'] | seen['held_out'])
  assert not seen['validation'] & seen['held_out']
  with pytest.raises(
    ValueError, match='are 16 pixels wide, the model takes 32'
  ):
    probe_data.load(
      str(path), counts, image_size=32, num_frames=2, frame_stride=2, seed=0
    )


def test_angles_are_read_as_cosine_and_sine(tmp_path):
  """Of every episode, x is a hundred times its angle."""
  size = len(push_t.STATE_NAMES)
  path = tmp_path / 'pushes'
  pushes = [
    episodes.Episode(
      columns={
        'observation/pixels': np.zeros((2, 16, 16, 3), np.uint8),
        'action': np.zeros((1, 2), np.float32),
        'state': np.full((2, size), index, np.float32)
        * np.where(np.arange(size) == 0, 100, 1).astype(np.float32),
      }
    )
    for index in range(12)
  ]
  made_in = {'environment': 'push_t'}
  episodes.write_episodes(
    path, pushes, provenance=made_in, held_out_fraction=0.5
  )
  dataset = probe_data.load(
    str(path), {'train': 6, 'validation': 1, 'held_out': 1}, image_size=16,
    num_frames=1, frame_stride=1, seed=0,
  )  # fmt: skip
  names = dataset.state_names
  assert names[3:6] == ('block_y', 'cos block_angle', 'sin block_angle')
  state = dataset.splits['train'].targets['state']
  assert state.shape == (6, 8)
  angle = state[:, 0] / 100
  assert len(set(angle)) > 1
  np.testing.assert_allclose(state[:, 4], np.cos(angle), atol=1e-6)
  np.testing.assert_allclose(state[:, 5], np.sin(angle), atol=1e-6)
  assert state[:, 0].max() > 10


def test_simulated_splits_are_of_different_episodes():
  counts = {'train': 8, 'validation': 8, 'held_out': 8}
  dataset = probe_data.load(
    'two_room', counts, image_size=16, num_frames=1, frame_stride=5, seed=0
  )
  assert dataset.state_names == worlds.get('two_room').state_names
  states = [clips.targets['state'] for clips in dataset.splits.values()]
  assert len({tuple(state) for state in np.concatenate(states)}) == 24
