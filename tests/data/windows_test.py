import itertools
import json

import jax
import numpy as np
import pytest

from jepa_wm.data import cache as cache_lib
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import windows

TRAIN = [1, 2, 3, 4, 6, 7, 8, 9]


@pytest.fixture
def cache(archive):
  cache_lib.build_cache(archive)
  return cache_lib.open_cache(archive)


def batches(cache, **options):
  options = {
    'num_frames': 3,
    'stride': 4,
    'batch_size': 5,
    'seed': 0,
    'num_threads': 0,
  } | options
  return windows.cached_windows(cache, **options)


def origins(batch):
  """Episode and time of each window's first frame, from its pixels."""
  first = batch['observation']['pixels'][:, 0, 0, 0]
  return [(int(episode), int(time)) for episode, time, _ in first]


@pytest.mark.parametrize('num_threads', [0, 2])
def test_actions_lie_between_their_frames(cache, episodes, num_threads):
  batch = next(batches(cache, num_threads=num_threads))
  assert batch['observation']['pixels'].shape == (5, 3, 6, 5, 3)
  assert batch['observation']['pixels'].dtype == np.uint8
  assert batch['action'].shape == (5, 2, 8)
  assert (
    batch['action'].dtype == batch['observation']['proprio'].dtype == np.float32
  )
  assert batch['state'].dtype == np.float32
  for row, (episode, start) in enumerate(origins(batch)):
    times = start + 4 * np.arange(3)
    np.testing.assert_array_equal(
      batch['observation']['pixels'][row], episodes[episode].pixels[times]
    )
    np.testing.assert_array_equal(
      batch['observation']['proprio'][row],
      episodes[episode].columns['observation/proprio'][times],
    )
    for t in range(2):
      # Raw actions (episode, time), flattened in time order.
      expected = [(episode, times[t] + step) for step in range(4)]
      np.testing.assert_array_equal(batch['action'][row, t], np.ravel(expected))


def test_latents_take_the_place_of_pixels(cache):
  latents = np.arange(2.0 * len(cache.columns['state'])).reshape(-1, 2)
  seen, expected = next(batches(cache, latents=latents)), next(batches(cache))
  assert set(seen) == set(expected) - {'observation'} | {'latents'}
  for name in ('action', 'state'):
    np.testing.assert_array_equal(seen[name], expected[name])
  # The row says which frame it is of.
  frames = (seen['latents'][..., 0] / 2).astype(int)
  np.testing.assert_array_equal(
    cache.columns['observation/pixels'][frames],
    expected['observation']['pixels'],
  )
  with pytest.raises(ValueError, match=f'{len(latents)} frames of .* got 3'):
    batches(cache, latents=latents[:3])


def test_an_epoch_holds_every_window_once(cache, episodes):
  expected = sorted(
    (i, start)
    for i in TRAIN
    for start in range(len(episodes[i].pixels) - 2 * 4)
  )
  num_batches = len(expected) // 5 + 1
  stream = [
    origin
    for batch in itertools.islice(batches(cache), 2 * num_batches)
    for origin in origins(batch)
  ]
  first = stream[: len(expected)]
  second = stream[len(expected) : 2 * len(expected)]
  assert sorted(first) == expected
  assert sorted(second) == expected
  assert first != expected
  assert first != second


def test_the_order_is_the_seed_s(cache):
  def order(seed, epochs=1):
    stream = batches(cache, seed=seed, batch_size=42)
    return [origins(next(stream)) for _ in range(epochs)]

  # An epoch is exactly 42 windows here, which the previous test would notice.
  assert order(0) == order(0)
  assert order(0) != order(1)
  assert order(0, epochs=2)[1] != order(1)[0]


@pytest.mark.parametrize('num_threads', [0, 1])
def test_resumed_is_uninterrupted(cache, num_threads):
  stream = batches(cache, num_threads=num_threads)
  # Beyond an epoch, so its number is part of the state.
  for _ in range(11):
    next(stream)
  state = json.loads(json.dumps(stream.get_state()))
  expected = [next(stream) for _ in range(4)]
  resumed = batches(cache, num_threads=num_threads)
  next(resumed)
  resumed.set_state(state)
  for batch in expected:
    got = next(resumed)
    jax.tree.map(np.testing.assert_array_equal, got, batch)


def test_each_process_reads_its_rows(cache, shared_out):
  shared_out(lambda **own: batches(cache, **own), 5)


def test_one_frame_windows_have_no_actions(cache):
  batch = next(batches(cache, num_frames=1))
  assert batch['observation']['pixels'].shape == (5, 1, 6, 5, 3)
  assert batch['action'].shape == (5, 0, 8)


def test_batches_are_the_reader_s_own(cache):
  batch = next(batches(cache))
  before = cache.columns['observation/pixels'][:].copy()
  for array in jax.tree.leaves(batch):
    assert type(array) is np.ndarray
    array[...] = 0
  np.testing.assert_array_equal(cache.columns['observation/pixels'], before)


@pytest.mark.parametrize('store', ['flat', 'chunks'])
@pytest.mark.parametrize('num_threads', [0, 2])
def test_what_is_held_stays_and_what_is_not_is_used_again(
  archive, store, num_threads
):
  cache_lib.build_cache(archive, store=store)
  stream = batches(cache_lib.open_cache(archive), num_threads=num_threads)
  held, copies = [], []
  # The batch itself, a view of it, and an array that may share its memory.
  for keep in (lambda x: x, lambda x: x[1:, :2], jax.device_put) * 5:
    pixels = next(stream)['observation']['pixels']
    held.append(keep(pixels))
    copies.append(np.array(held[-1]))
  del pixels
  for array, copy in zip(held, copies, strict=True):
    np.testing.assert_array_equal(array, copy)
  held.clear()
  places = {
    next(stream)['observation']['pixels'].ctypes.data for _ in range(40)
  }
  assert len(places) <= 3 * num_threads + 3


def test_short_episodes_are_refused_or_skipped(tmp_path, make_episode):
  path = tmp_path / 'short'
  episodes_lib.write_episodes(
    path,
    [make_episode(i, num_frames=n) for i, n in enumerate((9, 4, 10, 8))],
    provenance={},
    held_out_fraction=0.0,
  )
  cache_lib.build_cache(path)
  cache = cache_lib.open_cache(path)
  with pytest.raises(
    ValueError, match=r'2 of 4 episodes .* window of 9 frames .*shortest has 4'
  ):
    batches(cache)
  stream = batches(cache, skip_short_episodes=True, batch_size=3)
  assert sorted(origins(next(stream))) == [(0, 0), (2, 0), (2, 1)]
  for skip in (False, True):
    with pytest.raises(ValueError, match=r'span 13 frames, the longest .* 10'):
      batches(cache, num_frames=4, skip_short_episodes=skip)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_frames': 0}, 'num_frames and stride'),
    ({'stride': 0}, 'num_frames and stride'),
    ({'batch_size': 0}, 'batch_size must be'),
    ({'seed': -1}, 'seed at least 0'),
    ({'num_threads': -1}, 'num_threads'),
  ],
)
def test_counts_below_one_are_refused(cache, options, message):
  with pytest.raises(ValueError, match=message):
    batches(cache, **options)
