import numpy as np
import pytest

from jepa_wm.data import readers
from jepa_wm.data.readers import columns, frames, reader


@pytest.mark.parametrize(
  ('name', 'format'),
  [
    ('swm.h5', 'swm'),
    ('lerobot_v21', 'lerobot'),
    ('lerobot_v30', 'lerobot'),
    ('rlds_tfrecord', 'rlds'),
    ('dino_wm_push_t', 'dino_wm'),
    ('dino_wm_wall', 'dino_wm'),
  ],
)
def test_formats_are_recognised(golden, name, format):
  assert readers.detect(golden / name) == format


def test_what_is_not_recognised_is_said(tmp_path):
  (tmp_path / 'notes.txt').write_text('hello')
  with pytest.raises(ValueError, match=r'no known format .*notes\.txt'):
    readers.detect(tmp_path)
  with pytest.raises(ValueError, match='it is a file, name its format'):
    readers.detect(tmp_path / 'notes.txt')
  with pytest.raises(FileNotFoundError, match='no such file'):
    readers.open_reader(tmp_path / 'nothing')
  with pytest.raises(ValueError, match=r"one of auto, lerobot, .*got 'zip'"):
    readers.open_reader(tmp_path, format='zip')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'alignment': 'sideways'}, 'alignment must be one of auto, after'),
    ({'num_discrete': 1}, 'num_discrete must be at least 2'),
    ({'num_discrete': '3'}, 'num_discrete must be a whole number'),
    ({'image_size': 0}, 'image_size must be at least 1'),
    ({'image_size': 8.5}, 'image_size must be a whole number'),
    ({'fit': 'squeeze'}, 'fit must be one of stretch, crop'),
  ],
)
def test_options_have_bounds(options, message):
  with pytest.raises(ValueError, match=message):
    reader.Options(**options)


@pytest.mark.parametrize(
  ('vectors', 'proprio', 'state'),
  [
    (['action', 'proprio', 'state'], ('proprio',), ('state',)),
    (['action', 'observation.state'], ('observation.state',), ()),
    (
      ['action', 'observation/proprio', 'observation/state'],
      ('observation/proprio',),
      ('observation/state',),
    ),
    (['action', 'state'], (), ('state',)),
    (['action', 'qpos'], (), ()),
  ],
)
def test_what_the_body_feels_is_told_from_the_truth(vectors, proprio, state):
  choice = columns.choose(
    'x', reader.Options(), images=['camera'], vectors=vectors
  )
  assert choice.pixels == 'camera'
  assert choice.proprio == proprio
  assert choice.state == state


@pytest.mark.parametrize(
  'array',
  [
    np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3),
    np.moveaxis(np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3), -1, 1),
    np.arange(120).reshape(2, 4, 5, 3) / 255,
    np.arange(120, dtype=np.float32).reshape(2, 4, 5, 3),
    np.concatenate(
      [np.arange(120).reshape(2, 4, 5, 3), np.ones((2, 4, 5, 1))], -1
    ).astype(np.uint8),
  ],
)
def test_every_layout_of_frames_is_the_same(array):
  got = frames.to_levels('x', array, 'pixels', reader.Options())
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, np.arange(120).reshape(2, 4, 5, 3))


def test_frames_of_an_iterator_are_of_one_size():
  two = [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)]
  with pytest.raises(ValueError, match='frames of different sizes'):
    frames.to_levels('x', iter(two), 'pixels', reader.Options())
  got = frames.to_levels('x', iter(two), 'pixels', reader.Options(image_size=2))
  assert got.shape == (2, 2, 2, 3)
