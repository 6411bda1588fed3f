import numpy as np
import pytest

from jepa_wm.data import cache as cache_lib
from jepa_wm.data import chunks, windows
from jepa_wm.data import episodes as episodes_lib

# Shorter than a chunk, as long, one more, where the last chunk is all overlap
# but one, and several.
LENGTHS = np.array([1, 2, 16, 17, 29, 30, 31, 100])
OFFSETS = np.cumsum(LENGTHS) - LENGTHS
FRAMES = np.random.default_rng(0).integers(
  0, 256, (LENGTHS.sum(), 3, 4, 3), np.uint8
)


@pytest.fixture
def path(tmp_path):
  writer = chunks.ChunkWriter(tmp_path / 'pixels.array_record')
  for offset, length in zip(OFFSETS, LENGTHS, strict=True):
    writer.add(FRAMES[offset : offset + length])
  writer.close()
  writer.close()
  return tmp_path / 'pixels.array_record'


def open_frames(path):
  return chunks.ChunkedFrames(
    path, frame=(3, 4, 3), offsets=OFFSETS, lengths=LENGTHS
  )


@pytest.mark.parametrize(
  'index',
  [
    3,
    -1,
    np.int64(40),
    slice(5, 60, 7),
    slice(None),
    [0, 225, 3, 3],
    np.array([[7, 9], [150, 155]]),
    np.arange(226).reshape(2, 113),
    np.zeros((0, 4), int),
    np.arange(226) % 5 == 0,
  ],
)
def test_frames_are_indexed_as_an_array_is(path, index):
  frames = open_frames(path)
  np.testing.assert_array_equal(frames[index], FRAMES[index])
  assert frames[index].shape == FRAMES[index].shape
  assert frames.shape == FRAMES.shape and len(frames) == len(FRAMES)


@pytest.mark.parametrize('max_bytes', [1, 2**27])
def test_windows_over_every_border(path, monkeypatch, max_bytes):
  monkeypatch.setattr(chunks, '_MAX_BYTES', max_bytes)
  frames = open_frames(path)
  for span in (1, 4, 5, 16, 20):
    starts = [
      start
      for offset, length in zip(OFFSETS, LENGTHS, strict=True)
      for start in range(offset, offset + length - span + 1)
    ]
    wanted = np.array(starts)[:, None] + np.arange(span)
    np.testing.assert_array_equal(frames[wanted], FRAMES[wanted])


def test_short_windows_read_one_chunk_each(path, monkeypatch):
  frames = open_frames(path)
  counts = []
  read = chunks.ChunkedFrames._read
  monkeypatch.setattr(
    chunks.ChunkedFrames,
    '_read',
    lambda self, wanted: counts.append(len(wanted)) or read(self, wanted),
  )
  for start in range(OFFSETS[-1], OFFSETS[-1] + 97):
    frames[start + np.arange(chunks.OVERLAP + 1)]
  assert set(counts) == {1}


@pytest.mark.parametrize('index', [226, -227, [0, 226]])
def test_frames_that_are_not_there(path, index):
  with pytest.raises(IndexError, match='of 226 were asked for'):
    open_frames(path)[index]


def test_a_disk_that_refuses_is_named(tmp_path):
  with pytest.raises((OSError, RuntimeError)):
    chunks.ChunkWriter(tmp_path / 'nowhere' / 'pixels').add(FRAMES[:2])


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
      cache, num_frames=3, action_block=4, batch_size=3, seed=5
    )
    stores[store] = cache.pixels[:], [next(stream) for _ in range(5)]
  np.testing.assert_array_equal(stores['flat'][0], stores['chunks'][0])
  for flat, chunk in zip(stores['flat'][1], stores['chunks'][1], strict=True):
    for name, array in flat.items():
      np.testing.assert_array_equal(chunk[name], array)


def test_resumed_is_uninterrupted(chunked):
  def stream():
    cache = cache_lib.open_cache(chunked)
    return windows.cached_windows(
      cache, num_frames=3, action_block=4, batch_size=5, seed=0, num_threads=1
    )

  first = stream()
  for _ in range(11):
    next(first)
  state = first.get_state()
  second = stream()
  second.set_state(state)
  for _ in range(3):
    np.testing.assert_array_equal(next(second)['pixels'], next(first)['pixels'])


def test_chunks_are_built_where_flat_frames_do_not_fit(archive):
  assert cache_lib.fitting_store(archive) == 'flat'
  # 140 frames of 90 bytes.
  assert cache_lib.fitting_store(archive, max_gb=12600e-9) == 'flat'
  assert cache_lib.fitting_store(archive, max_gb=12599e-9) == 'chunks'
  cache_lib.build_cache(archive, max_gb=0)
  assert isinstance(cache_lib.open_cache(archive).pixels, chunks.ChunkedFrames)
  with pytest.raises(ValueError, match="one of flat, chunks, got 'tape'"):
    cache_lib.build_cache(archive, store='tape')


@pytest.mark.parametrize('keep', [0.0, 0.4])
def test_cut_off_chunks_are_named(chunked, keep):
  file = chunked / 'cache' / 'train' / 'pixels.array_record'
  data = file.read_bytes()
  file.write_bytes(data[: int(keep * len(data))])
  with pytest.raises(ValueError, match=r'damaged.*train/pixels\.array_record'):
    cache_lib.open_cache(chunked)


def test_chunks_of_other_episodes_are_named(chunked):
  folder = chunked / 'cache'
  (folder / 'held_out' / 'pixels.array_record').replace(
    folder / 'train' / 'pixels.array_record'
  )
  with pytest.raises(ValueError, match='has 2 chunks, not the 8 of 8 episodes'):
    cache_lib.open_cache(chunked)


def test_damage_inside_is_named(chunked, episodes):
  file = chunked / 'cache' / 'train' / 'pixels.array_record'
  data = bytearray(file.read_bytes())
  for place in range(100, 2000, 50):
    data[place] ^= 255
  file.write_bytes(data)
  with pytest.raises(ValueError, match='damaged'):
    cache_lib.open_cache(chunked).pixels[:]


def test_the_archive_says_how_much_it_needs(archive, episodes):
  assert sum(len(e.pixels) for e in episodes) == 140
  source = episodes_lib.open_splits(archive)
  assert sum(s.num_frames or 0 for s in source.values()) == 140
