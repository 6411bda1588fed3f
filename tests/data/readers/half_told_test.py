"""Sources that tell half of it: rows, pictures or options without a meaning."""

import io

import numpy as np
import PIL.Image
import pytest

from jepa_wm.data import readers, tfds_clips
from jepa_wm.data.readers import frames, images
from tests.data.readers import lerobot_rows_test as lerobot
from tests.data.readers import strangers_test as strangers

pytest.importorskip('h5py')


def png(array):
  out = io.BytesIO()
  PIL.Image.fromarray(array).save(out, 'png')
  return out.getvalue()


def test_a_see_through_picture_is_no_colours():
  frame = np.full((4, 4, 4), 255, np.uint8)
  (opaque,) = images.decode('x', [png(frame)])
  assert opaque.shape == (4, 4, 3)
  frame[0, 0, 3] = 7
  with pytest.raises(ValueError, match=r'see-through image in row 1 \(RGBA\)'):
    list(images.decode('x', [png(frame[..., :3]), png(frame)]))


@pytest.mark.parametrize('axis', [1, -1])
@pytest.mark.parametrize('order', [1, -1])
def test_three_grey_frames_in_a_stack_are_no_colours(axis, order):
  rng = np.random.default_rng(0)
  grey = rng.integers(0, 255, (8, 16, 16), np.uint8)
  # At first the frame after the reset is there three times.
  shown = np.concatenate([grey[:1], grey[:1], grey])
  stack = np.stack([shown[i : i + 8] for i in range(3)][::order], axis)
  options = readers.Options()
  message = "3 channels in 'pixels'.*FrameStack"
  with pytest.raises(ValueError, match=message):
    frames.to_levels('x', stack, 'pixels', options)
  with pytest.raises(ValueError, match=message):
    frames.to_levels('x', iter(np.moveaxis(stack, axis, -1)), 'pixels', options)
  colours = rng.integers(0, 255, (8, 16, 16, 3), np.uint8)
  resting = np.repeat(colours[:1], 8, axis=0)
  for array in (colours, resting, grey, np.stack([grey] * 3, -1)):
    frames.to_levels('x', array, 'pixels', options)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'ep_len': np.array([8, -8])}, 'an episode of -8 rows by its ep_len'),
    ({'ep_len': np.zeros(0, int)}, 'holds no episodes'),
    ({'step_idx': np.repeat([[0.0]], 16, axis=0)}, 'step_idx says so'),
    ({'ep_idx': np.repeat([0.0, 1.0], [7, 9])}, 'ep_idx says so'),
    ({'ep_len': None, 'ep_idx': np.full(16, np.nan)}, 'NaN, infinity or more'),
  ],
)
def test_rows_that_do_not_fit_their_episodes(tmp_path, changed, message):
  path = strangers.write_swm(tmp_path / 'a.h5', **changed)
  with pytest.raises(ValueError, match=message):
    readers.open_reader(path)


@pytest.mark.parametrize(
  'changed',
  [
    {'ep_len': np.array([8, 6])},
    {'ep_len': None, 'ep_idx': np.repeat([0, 1], [8, 6])},
  ],
)
def test_rows_of_no_episode_are_told(tmp_path, changed):
  path = strangers.write_swm(tmp_path / 'a.h5', **changed)
  reader = readers.open_reader(path)
  assert 'has 16 rows and its episodes 14' in reader.warnings[0]


def test_numbers_of_episodes_may_be_hashes_and_steps_have_an_axis(tmp_path):
  path = strangers.write_swm(
    tmp_path / 'a.h5',
    ep_len=None,
    ep_idx=np.repeat(np.array([2**64 - 1, 5], np.uint64), 8),
    step_idx=np.tile(np.arange(1, 9), 2)[:, None],
  )
  reader = readers.open_reader(path)
  assert reader.num_episodes == 2
  assert 'step_idx begins at 1' in reader.warnings[0]


def test_episodes_that_are_not_listed_are_told(tmp_path):
  lerobot.one_episode(tmp_path)
  lerobot.write_info(tmp_path, total_episodes=9)
  (warning,) = readers.open_reader(tmp_path).warnings
  assert 'lists 1 episodes in its meta folder and its info.json' in warning


@pytest.mark.parametrize(
  ('starts', 'shared'),
  [
    *(([0.0, 0.4], False), ([0.4, 0.0], False), ([0.0, 0.36], False)),
    *(([0.0, 0.0], True), ([0.0, 0.3], True), ([0.5, 0.4], True)),
  ],
)
def test_episodes_do_not_share_a_part_of_a_video(tmp_path, starts, shared):
  camera = f'videos/{lerobot.CAMERA}'
  entries = [
    lerobot.entry(
      number,
      **{
        f'{camera}/chunk_index': 0,
        f'{camera}/file_index': 0,
        f'{camera}/from_timestamp': float(start),
      },
    )
    for number, start in enumerate(starts)
  ]
  lerobot.five_episodes(tmp_path, entries)
  lerobot.write_info(
    tmp_path,
    kind='video',
    codebase_version='v3.0',
    data_path='data/file-{file_index:03d}.parquet',
    video_path='videos/{file_index}.mp4',
  )
  if shared:
    with pytest.raises(ValueError, match=r'episodes . and . the same part of'):
      readers.open_reader(tmp_path)
  else:
    assert readers.open_reader(tmp_path).num_episodes == 2


@pytest.mark.parametrize(
  ('name', 'option', 'value'),
  [
    ('lerobot_v21', 'split', 'train'),
    ('swm.h5', 'split', 'train'),
    ('dino_wm_push_t', 'pixels', 'camera'),
    ('minari', 'split', 'train'),
    ('minari', 'alignment', 'before'),
  ],
)
def test_an_option_without_effect_is_refused(
  golden, tmp_path, name, option, value
):
  path = golden / name
  if name == 'minari':
    path = strangers.write_minari(tmp_path, [], [])
  with pytest.raises(ValueError, match=f'so --{option}={value} has no effect'):
    readers.open_reader(path, **{option: value})


def test_options_are_named_as_they_are():
  with pytest.raises(ValueError, match=r"no field 'pixls'.*'pixels'"):
    readers.open_reader('.', pixls='x')
  assert readers.Options(action='arm').action == ('arm',)


def test_an_empty_folder_is_called_one(tmp_path):
  (tmp_path / '.DS_Store').touch()
  with pytest.raises(ValueError, match='is an empty folder'):
    readers.open_reader(tmp_path)


def test_a_photograph_stands_as_its_camera_was_held():
  frame = np.zeros((8, 16, 3), np.uint8)
  frame[:, :8, 0] = 250
  exif = PIL.Image.Exif()
  exif[0x0112] = 6  # To be turned by a quarter, clockwise.
  stream = io.BytesIO()
  PIL.Image.fromarray(frame).save(stream, 'JPEG', exif=exif, quality=95)
  (found,) = images.decode('x', [stream.getvalue()])
  assert found.shape == (16, 8, 3)
  assert found[:6, :, 0].min() > 200 and found[10:, :, 0].max() < 50
  square = tfds_clips._decode(stream.getvalue(), 8)
  assert square[:3, :, 0].min() > 200 and square[5:, :, 0].max() < 50
