import jax
import numpy as np
import pytest

from jepa_wm.data import cache as cache_lib
from jepa_wm.data import chunks, windows
from jepa_wm.data import episodes as episodes_lib

# Shorter than a chunk, as long, one more, and several.
CHUNK = chunks.CHUNK_FRAMES
LENGTHS = np.array([1, 2, 16, CHUNK, CHUNK + 1, 2 * CHUNK, 11])
OFFSETS = np.cumsum(LENGTHS) - LENGTHS
TOTAL = LENGTHS.sum()


def frames_of_all_kinds():
  """Standing still, noise, and something that moves before noise."""
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (TOTAL, 8, 10, 3), np.uint8)
  for number, offset in enumerate(OFFSETS):
    if number % 3:
      frames[offset : offset + LENGTHS[number]] = frames[offset]
    if number % 3 == 1:
      for t in range(LENGTHS[number]):
        frames[offset + t, t % 8, t % 10] = rng.integers(0, 256, 3)
  return frames


FRAMES = frames_of_all_kinds()


@pytest.fixture
def path(tmp_path):
  writer = chunks.ChunkWriter(tmp_path, FRAMES.shape[1:])
  for offset, length in zip(OFFSETS, LENGTHS, strict=True):
    writer.add(FRAMES[offset : offset + length])
  writer.close()
  writer.close()
  return tmp_path


def open_frames(path):
  return chunks.ChunkedFrames(
    path, frame=FRAMES.shape[1:], offsets=OFFSETS, lengths=LENGTHS
  )


@pytest.mark.parametrize(
  'index',
  [
    3,
    -1,
    np.int64(40),
    slice(5, 60, 7),
    slice(None),
    [0, TOTAL - 1, 3, 3],
    np.array([[7, 9], [150, 155]]),
    np.arange(TOTAL - TOTAL % 2).reshape(2, -1),
    np.zeros((0, 4), int),
    np.arange(TOTAL) % 5 == 0,
  ],
)
def test_frames_are_indexed_as_an_array_is(path, index):
  frames = open_frames(path)
  np.testing.assert_array_equal(frames[index], FRAMES[index])
  assert frames[index].shape == FRAMES[index].shape
  assert frames.shape == FRAMES.shape and len(frames) == len(FRAMES)


def test_windows_over_every_border(path):
  frames = open_frames(path)
  for span in (1, 4, 5, 20):
    starts = [
      start
      for offset, length in zip(OFFSETS, LENGTHS, strict=True)
      for start in range(offset, offset + length - span + 1)
    ]
    wanted = np.array(starts)[:, None] + np.arange(span)
    np.testing.assert_array_equal(frames[wanted], FRAMES[wanted])


def test_what_stands_still_is_kept_once(tmp_path):
  frames = np.repeat(FRAMES[:1], CHUNK, axis=0)
  # A mover that no reference should show: each place is its for one frame.
  for t in range(CHUNK):
    frames[t, t % 8, t // 8] += 1
  writer = chunks.ChunkWriter(tmp_path, frames.shape[1:])
  writer.add(frames)
  writer.close()
  reference = np.load(tmp_path / 'pixels.references.npy')
  np.testing.assert_array_equal(reference, FRAMES[:1])
  pieces = np.load(tmp_path / 'pixels.pieces.npy')
  # Three bytes of a pixel lie in one piece of 30 or in two.
  assert pieces.shape[1] == 30
  assert len(pieces) == CHUNK


def test_frames_of_any_size_are_cut_into_even_pieces(tmp_path):
  rng = np.random.default_rng(0)
  for size in ((1, 1, 3), (7, 11, 3), (64, 64, 3), (37, 1, 3)):
    directory = tmp_path / f'{size}'
    directory.mkdir()
    frames = rng.integers(0, 2, (9, *size), np.uint8)
    writer = chunks.ChunkWriter(directory, size)
    writer.add(frames)
    writer.close()
    got = chunks.ChunkedFrames(
      directory, frame=size, offsets=np.array([0]), lengths=np.array([9])
    )
    np.testing.assert_array_equal(got[:], frames)


@pytest.mark.parametrize('index', [TOTAL, -TOTAL - 1, [0, TOTAL]])
def test_frames_that_are_not_there(path, index):
  with pytest.raises(IndexError, match=f'of {TOTAL} were asked for'):
    open_frames(path)[index]


def test_a_disk_that_refuses_is_named(tmp_path):
  with pytest.raises(OSError, match='nowhere'):
    chunks.ChunkWriter(tmp_path / 'nowhere', FRAMES.shape[1:]).add(FRAMES[:2])


@pytest.fixture
def chunked(archive):
  cache_lib.build_cache(archive, store='chunks')
  return archive


def test_a_cache_of_chunks_is_the_flat_one(chunked, archive):
  stores = {}
  for store in ('chunks', 'flat'):
    cache_lib.build_cache(archive, store=store)
    cache = cache_lib.open_cache(archive, split='held_out')
    stream = windows.cached_windows(
      cache, num_frames=3, stride=4, batch_size=3, seed=5
    )
    stores[store] = (
      cache.columns['observation/pixels'][:],
      [next(stream) for _ in range(5)],
    )
  np.testing.assert_array_equal(stores['flat'][0], stores['chunks'][0])
  for flat, chunk in zip(stores['flat'][1], stores['chunks'][1], strict=True):
    jax.tree.map(np.testing.assert_array_equal, chunk, flat)


def test_resumed_is_uninterrupted(chunked):
  def stream():
    cache = cache_lib.open_cache(chunked)
    return windows.cached_windows(
      cache, num_frames=3, stride=4, batch_size=5, seed=0, num_threads=1
    )

  first = stream()
  for _ in range(11):
    next(first)
  state = first.get_state()
  second = stream()
  second.set_state(state)
  for _ in range(3):
    np.testing.assert_array_equal(
      next(second)['observation']['pixels'],
      next(first)['observation']['pixels'],
    )


def test_chunks_are_built_where_flat_frames_do_not_fit(archive):
  assert cache_lib.fitting_store(archive) == 'flat'
  # 140 frames of 90 bytes.
  assert cache_lib.fitting_store(archive, max_gb=12600e-9) == 'flat'
  assert cache_lib.fitting_store(archive, max_gb=12599e-9) == 'chunks'
  cache_lib.build_cache(archive, max_gb=0)
  assert isinstance(
    cache_lib.open_cache(archive).columns['observation/pixels'],
    chunks.ChunkedFrames,
  )
  with pytest.raises(ValueError, match="one of flat, chunks, got 'tape'"):
    cache_lib.build_cache(archive, store='tape')


@pytest.mark.parametrize('keep', [0.0, 0.4])
@pytest.mark.parametrize('name', ['references', 'masks', 'pieces', 'starts'])
def test_cut_off_chunks_are_named(chunked, name, keep):
  file = chunked / 'cache' / 'train' / 'observation' / f'pixels.{name}.npy'
  data = file.read_bytes()
  file.write_bytes(data[: int(keep * len(data))])
  with pytest.raises(
    ValueError,
    match=rf'damaged.*observation/pixels\.{name}\.npy.*build_cache',
  ):
    cache_lib.open_cache(chunked)


@pytest.mark.parametrize('name', ['references', 'masks', 'starts'])
def test_chunks_of_other_episodes_are_named(chunked, name):
  folder = chunked / 'cache'
  file = f'observation/pixels.{name}.npy'
  (folder / 'held_out' / file).replace(folder / 'train' / file)
  with pytest.raises(
    ValueError, match=r'observation/pixels\.\w+\.npy has shape'
  ):
    cache_lib.open_cache(chunked)


def test_chunks_of_an_older_version_are_named(chunked):
  folder = chunked / 'cache' / 'train' / 'observation'
  for file in folder.glob('pixels.*'):
    file.unlink()
  (folder / 'pixels.array_record').write_bytes(b'old')
  with pytest.raises(ValueError, match=r'references.*run cache\.build_cache'):
    cache_lib.open_cache(chunked)


@pytest.mark.parametrize('name', ['masks', 'starts'])
def test_damage_inside_is_named(chunked, name):
  file = chunked / 'cache' / 'train' / 'observation' / f'pixels.{name}.npy'
  array = np.load(file)
  array[len(array) // 2] ^= 128  # Of masks the first piece.
  np.save(file, array)
  with pytest.raises(ValueError, match='damaged'):
    cache_lib.open_cache(chunked).columns['observation/pixels'][:]


def test_the_archive_says_how_much_it_needs(archive, episodes):
  assert sum(len(e.pixels) for e in episodes) == 140
  source = episodes_lib.open_splits(archive)
  assert sum(s.num_frames or 0 for s in source.values()) == 140
