"""Tiny episodes whose content says where it belongs."""

import json

import jax
import numpy as np
import pytest

from jepa_wm.data import episodes as episodes_lib


def _make_episode(index, *, num_frames=12, noise=False):
  """Frame t of episode i is all (i, t, 7); action t is (i, t)."""
  rng = np.random.default_rng(index)
  if noise:
    pixels = rng.integers(0, 256, (num_frames, 6, 5, 3), np.uint8)
  else:
    pixels = np.empty((num_frames, 6, 5, 3), np.uint8)
    pixels[...] = 7
    pixels[..., 0] = index
    pixels[..., 1] = np.arange(num_frames)[:, None, None]
  time = np.arange(num_frames, dtype=np.float32)
  actions = np.stack([np.full_like(time, index), time], axis=-1)[:-1]
  return episodes_lib.Episode(
    columns={
      'observation/pixels': pixels,
      'observation/proprio': rng.normal(size=(num_frames, 3)).astype('f'),
      'action': actions,
      'state': rng.normal(size=(num_frames, 4)).astype('f'),
    },
    provenance={'index': index},
    is_terminal=index % 2 == 1,
  )


@pytest.fixture
def resumed():
  """Two batches of a stream, the second also read by one that goes on."""

  def read_two(open_stream):
    stream = open_stream()
    first, state = next(stream), json.loads(json.dumps(stream.get_state()))
    second, again = next(stream), open_stream()
    again.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, next(again), second)
    return first, second

  return read_two


@pytest.fixture
def shared_out():
  """Two processes have together, batch for batch, what one has."""

  def compare(open_stream, batch_size):
    one = open_stream()
    two = [
      open_stream(rows=rows)
      for rows in np.split(np.arange(batch_size), [batch_size // 3 + 1])
    ]
    for _ in range(2):
      parts = [next(stream) for stream in two]
      jax.tree.map(
        lambda whole, *x: np.testing.assert_array_equal(
          np.concatenate(x), whole
        ),
        next(one),
        *parts,
      )
    for stream in two:
      assert stream.get_state() == one.get_state()

  return compare


@pytest.fixture
def make_episode():
  return _make_episode


@pytest.fixture
def episodes():
  """Ten episodes of 12 to 16 frames."""
  return [_make_episode(i, num_frames=12 + i % 5) for i in range(10)]


@pytest.fixture
def archive(tmp_path, episodes):
  """An archive of them; numbers 0 and 5 are held out."""
  path = tmp_path / 'archive'
  episodes_lib.write_episodes(
    path, episodes, provenance={'seed': 3}, held_out_fraction=0.2
  )
  return path
