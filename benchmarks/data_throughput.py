"""Frames a second into training, beside stable-worldmodel's HDF5 loader.

  python -m benchmarks.data_throughput [--quick] [--peer]

Windows of 4 frames of Two Room, shuffled, in batches of 128, at 64 and at 224
pixels, with their actions and states: out of our memory-mapped cache and out of
our chunks of what changes, with one thread or two, whichever is faster, and,
with `--peer`, in the same run out of the file that the peer's own writer makes
of the same episodes, through its `HDF5Dataset` and PyTorch's loader with
whichever number of workers is fastest
(`docs/benchmarks.md` says how to install it beside us). Everything lies in
the page cache. The first batch of every store is compared with the episodes.
Prints one JSON line a measurement; lines whose `config.load_average` exceeds
the number of cores come from a busy machine and are worthless.
"""

import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import records
from jepa_wm import envs
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import cache_writer, simulation, windows
from jepa_wm.data import episodes as episodes_lib

_QUICK = flags.DEFINE_bool('quick', False, 'Less data, for a smoke test.')
_PEER = flags.DEFINE_bool(
  'peer', False, 'Also measure stable-worldmodel, which must be installed.'
)
_FOLDER = flags.DEFINE_string(
  'folder', None, 'Where files are written; a temporary folder by default.'
)

_NUM_FRAMES = 4
_BATCH_SIZE = 128
_EPISODE_FRAMES = 100
_PEER_NAME = 'stable-worldmodel HDF5Dataset, torch DataLoader'


def play(image_size: int, num_episodes: int) -> list[episodes_lib.Episode]:
  """Episodes of Two Room, the expert's."""
  world = envs.TwoRoom(image_size=image_size)
  policy = envs.TwoRoomExpert(world, 2.0)

  @jax.jit
  def one(key):
    states, actions, _ = simulation.play(
      world, policy, key, num_steps=_EPISODE_FRAMES - 1
    )
    vectors = jax.vmap(world.vector)(states)
    return jax.vmap(world.render)(states), actions, vectors

  episodes = []
  for key in jax.random.split(jax.random.key(0), num_episodes):
    pixels, actions, vectors = map(np.asarray, one(key))
    episodes.append(
      episodes_lib.Episode(
        columns={
          'observation/pixels': pixels,
          'observation/proprio': vectors,
          'action': actions,
          'state': vectors,
        }
      )
    )
  return episodes


def ours(
  folder: pathlib.Path, stride: int, num_threads: int
) -> Iterator[Mapping[str, Any]]:
  """Batches of a cache."""
  return windows.cached_windows(
    cache_lib.open_cache(folder),
    num_frames=_NUM_FRAMES,
    stride=stride,
    batch_size=_BATCH_SIZE,
    seed=0,
    num_threads=num_threads,
  )


def write_for_peer(
  path: pathlib.Path, episodes: list[episodes_lib.Episode]
) -> None:
  """What the peer's own writer makes of the episodes."""
  from stable_worldmodel.data.formats import hdf5

  with hdf5.HDF5Writer(path, mode='overwrite') as writer:
    for episode in episodes:
      last = np.full((1, episode.actions.shape[1]), np.nan, np.float32)
      writer.write_episode(
        {
          'pixels': list(episode.pixels),
          'action': list(np.concatenate([episode.actions, last])),
          'proprio': list(episode.columns['observation/proprio']),
          'state': list(episode.columns['state']),
        }
      )


def peers(
  path: pathlib.Path, stride: int, num_workers: int
) -> Iterator[Mapping[str, Any]]:
  """Endless batches of the peer's loader, columns but pixels in memory."""
  from stable_worldmodel.data.formats import hdf5

  from benchmarks import peer

  dataset = hdf5.HDF5Dataset(
    path=path,
    frameskip=stride,
    num_steps=_NUM_FRAMES,
    keys_to_cache=['action', 'proprio', 'state'],
  )
  loader = peer.torch.utils.data.DataLoader(
    dataset,
    batch_size=_BATCH_SIZE,
    shuffle=True,
    drop_last=True,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    # Its default; the workers never touch JAX.
    multiprocessing_context='fork' if num_workers else None,
    generator=peer.torch.Generator().manual_seed(0),
  )
  while True:
    yield from loader


def frames_per_second(
  batches: Iterator[Mapping[str, Any]], num_batches: int, repeats: int
) -> tuple[list[float], Any]:
  """Rates of some repetitions, and the pixels of the first batch."""
  seen = next(batches)
  first = np.array(seen.get('observation', seen)['pixels'])
  # Twice what is read ahead is gone before the clock starts.
  for _ in range(4):
    next(batches)
  rates = []
  for _ in range(repeats):
    start = time.perf_counter()
    for _ in range(num_batches):
      next(batches)
    seconds = time.perf_counter() - start
    rates.append(num_batches * _BATCH_SIZE * _NUM_FRAMES / seconds)
  return rates, first


def check(
  first: np.ndarray, episodes: list[episodes_lib.Episode], stride: int
) -> None:
  """Every window of a batch must be one of the episodes'.

  Raises:
    RuntimeError: one is not, so whatever was measured is worthless.
  """
  if first.shape[2] == 3:
    first = np.moveaxis(first, 2, -1)
  places: dict[int, list[tuple[int, int]]] = {}
  for index, episode in enumerate(episodes):
    for start, frame in enumerate(episode.pixels):
      places.setdefault(hash(frame.tobytes()), []).append((index, start))
  span = (_NUM_FRAMES - 1) * stride + 1

  def is_known(window: np.ndarray) -> bool:
    return any(
      np.array_equal(
        episodes[index].pixels[start : start + span : stride], window
      )
      for index, start in places.get(hash(window[0].tobytes()), [])
    )

  if not all(map(is_known, first)):
    raise RuntimeError('A batch holds what no episode holds.')


def measure(
  image_size: int, stride: int, folder: pathlib.Path
) -> Iterator[dict[str, Any]]:
  """Yields a line for each store."""
  quick = _QUICK.value
  num_episodes, num_batches, repeats = (6, 2, 3) if quick else (40, 20, 7)
  episodes = play(image_size, num_episodes)
  episodes_lib.write_episodes(
    folder / 'ours',
    episodes,
    provenance={},
    held_out_fraction=0.0,
    overwrite=True,
  )

  def run(make: Callable[[], Iterator[Mapping[str, Any]]]) -> list[float]:
    rates, first = frames_per_second(make(), num_batches, repeats)
    check(first, episodes, stride)
    return rates

  peer: dict[int, float] = {}
  if _PEER.value:
    path = folder / 'peer.h5'
    write_for_peer(path, episodes)
    peer = {
      n: statistics.median(run(lambda n=n: peers(path, stride, n)))
      for n in (0, os.cpu_count() or 1)
    }
  best = max(peer, key=peer.__getitem__) if peer else None
  for store in cache_writer.STORES:
    cache_lib.build_cache(folder / 'ours', store=store)
    by_threads = {
      num_threads: run(lambda n=num_threads: ours(folder / 'ours', stride, n))
      for num_threads in (1, 2)
    }
    rates = max(by_threads.values(), key=statistics.median)
    size = sum(
      file.stat().st_size for file in (folder / 'ours/cache').rglob('pixels.*')
    )
    value = statistics.median(rates)
    yield records.line(
      f'data_throughput/{store}_{image_size}_stride_{stride}',
      round(value),
      'frames/s',
      {
        'image_size': image_size,
        'num_frames': _NUM_FRAMES,
        'stride': stride,
        'batch_size': _BATCH_SIZE,
        'frames': num_episodes * _EPISODE_FRAMES,
        'pixels_megabytes': round(size / 1e6, 1),
        'by_threads': {
          n: round(statistics.median(r)) for n, r in by_threads.items()
        },
        'slowest': round(min(rates)),
        'fastest': round(max(rates)),
        'compared_with': None if best is None else _PEER_NAME,
        'peer_by_workers': {n: round(rate) for n, rate in peer.items()} or None,
      },
      peer=None if best is None else round(peer[best]),
      ratio=None if best is None else round(value / peer[best], 1),
    )


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  try:
    if _PEER.value:
      # First of all, because of what it declares before others import.
      from benchmarks import peer  # noqa: F401
  except ImportError as error:
    raise ValueError(
      f'--peer needs stable-worldmodel ({error}); docs/benchmarks.md says '
      'how to install it.'
    ) from error
  for image_size in (64, 224):
    # In a row as most loaders measure, and 5 apart as LeWM trains.
    for stride in (1, 5):
      with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        for line in measure(image_size, stride, pathlib.Path(folder)):
          print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
