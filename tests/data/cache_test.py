import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest

from jepa_wm.data import cache as cache_lib
from jepa_wm.data import cache_writer
from jepa_wm.data import episodes as episodes_lib

TRAIN = [1, 2, 3, 4, 6, 7, 8, 9]
HELD_OUT = [0, 5]


@pytest.fixture
def cached(archive):
  cache_lib.build_cache(archive)
  return archive


@pytest.mark.parametrize(
  ('split', 'indices'), [('train', TRAIN), ('held_out', HELD_OUT)]
)
def test_arrays_are_the_episodes(cached, episodes, split, indices):
  cache = cache_lib.open_cache(cached, split=split)
  lengths = [len(episodes[i].pixels) for i in indices]
  np.testing.assert_array_equal(cache.lengths, lengths)
  np.testing.assert_array_equal(
    cache.offsets, np.concatenate([[0], np.cumsum(lengths)[:-1]])
  )
  pixels = cache.columns['observation/pixels']
  assert len(pixels) == cache.num_frames == sum(lengths)
  for number, index in enumerate(indices):
    first = cache.offsets[number]
    rows = slice(first, first + lengths[number])
    for name in ('observation/pixels', 'observation/proprio', 'state'):
      np.testing.assert_array_equal(
        cache.columns[name][rows], episodes[index].columns[name]
      )
    actions = cache.columns['action'][rows]
    np.testing.assert_array_equal(actions[:-1], episodes[index].actions)
    assert np.isnan(actions[-1]).all()
    assert cache.columns['is_terminal'][number] == episodes[index].is_terminal
  assert cache.provenance['seed'] == 3
  assert type(pixels) is np.ndarray
  assert not pixels.flags.writeable


def test_a_source_may_know_nothing_but_actions(tmp_path, episodes):
  blind = [
    dataclasses.replace(e, columns={'action': e.actions}) for e in episodes
  ]
  episodes_lib.write_episodes(tmp_path / 'blind', blind, provenance={})
  assert list(episodes_lib.open_episodes(tmp_path / 'blind').spec) == ['action']
  cache_lib.build_cache(tmp_path / 'blind')
  cache = cache_lib.open_cache(tmp_path / 'blind')
  assert set(cache.columns) == {'action', 'is_terminal'}
  read = episodes_lib.open_episodes(tmp_path / 'blind')[0]
  assert read.num_frames == cache.lengths[0]


def test_statistics_are_those_of_the_training_actions(cached, episodes):
  actions = np.concatenate([episodes[i].actions for i in TRAIN])
  mean = actions.astype(np.float64).mean(axis=0)
  std = np.sqrt(((actions - mean) ** 2).mean(axis=0))
  for split in ('train', 'held_out'):
    got = cache_lib.open_cache(cached, split=split).action_statistics
    np.testing.assert_allclose(got.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(got.std, std, rtol=1e-6)


def test_writer_beside_the_archive_gives_the_built_cache(
  cached, episodes, tmp_path
):
  path = tmp_path / 'played'
  with cache_writer.CacheWriter(path) as writer:

    def played():
      for index, episode in enumerate(episodes):
        split = episodes_lib.split_name(index, held_out_fraction=0.2)
        writer.add(episode, split=split)
        yield episode

    episodes_lib.write_episodes(
      path, played(), provenance={'seed': 3}, held_out_fraction=0.2
    )
    writer.commit()
  files = sorted(
    file.relative_to(path)
    for file in (path / 'cache').rglob('*')
    if file.is_file()
  )
  assert len(files) == 15
  for file in files:
    assert (path / file).read_bytes() == (cached / file).read_bytes()
  assert {file.name for file in tmp_path.iterdir()} == {'archive', 'played'}


def test_an_interrupted_build_leaves_nothing(archive, episodes):
  with (
    pytest.raises(KeyboardInterrupt),
    cache_writer.CacheWriter(archive) as writer,
  ):
    writer.add(episodes[0], split='train')
    raise KeyboardInterrupt
  assert not (archive / 'cache').exists()
  assert [file.name for file in archive.parent.iterdir()] == ['archive']
  with pytest.raises(FileNotFoundError, match='build_cache'):
    cache_lib.open_cache(archive)


def test_a_stale_cache_is_noticed_and_rebuilt(cached, episodes, tmp_path):
  fresh = tmp_path / 'fresh'
  episodes_lib.write_episodes(
    fresh, episodes[::-1], provenance={'seed': 4}, held_out_fraction=0.2
  )
  shutil.move(cached / 'cache', fresh / 'cache')
  with pytest.raises(ValueError, match='made from other episodes'):
    cache_lib.open_cache(fresh)
  cache_lib.build_cache(fresh)
  assert (
    cache_lib.open_cache(fresh).columns['observation/pixels'][0, 0, 0, 0] == 8
  )


def test_a_cache_of_another_version_is_refused(cached):
  file = cached / 'cache' / 'meta.json'
  meta = json.loads(file.read_text())
  file.write_text(json.dumps(meta | {'format': meta['format'] - 1}))
  with pytest.raises(ValueError, match='another version'):
    cache_lib.open_cache(cached)


@pytest.mark.parametrize(
  'name', ['observation/pixels', 'action', 'state', 'offsets', 'lengths']
)
@pytest.mark.parametrize('keep', [0.0, 0.9])
def test_a_truncated_array_is_named(cached, name, keep):
  file = cached / 'cache' / 'train' / f'{name}.npy'
  data = file.read_bytes()
  file.write_bytes(data[: int(keep * len(data))])
  with pytest.raises(ValueError, match=f'damaged.*train/{name}.npy'):
    cache_lib.open_cache(cached)


def test_an_array_of_another_size_is_named(cached):
  file = cached / 'cache' / 'train' / 'state.npy'
  np.save(file, np.load(file)[:-1])
  with pytest.raises(ValueError, match=r'train/state.npy has shape'):
    cache_lib.open_cache(cached)


def test_a_broken_description_is_named(cached):
  (cached / 'cache' / 'meta.json').write_text('{"format": 1')
  with pytest.raises(ValueError, match=r'damaged.*meta\.json'):
    cache_lib.open_cache(cached)


def test_an_unknown_split_is_named(cached):
  with pytest.raises(ValueError, match="no split 'test', only"):
    cache_lib.open_cache(cached, split='test')


def test_too_small_a_disk_is_refused_with_numbers(archive, monkeypatch):
  usage = shutil.disk_usage(archive)._replace(free=100)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(
    OSError, match=r'needs 0\.00 GB for its pictures.*0\.00 GB'
  ):
    cache_lib.build_cache(archive, store='flat')
  assert not (archive / 'cache').exists()


def test_a_disk_that_fills_up_is_named(tmp_path, episodes):
  def full(data):
    raise OSError(errno.ENOSPC, 'No space left on device')

  message = r'Cannot write the cache: No space left on device: .*data'
  with (
    pytest.raises(OSError, match=message) as caught,
    cache_writer.CacheWriter(tmp_path / 'data') as writer,
  ):
    writer.add(episodes[0], split='train')
    images = writer._splits['train'].images
    images['observation/pixels']._write = full
    writer.add(episodes[1], split='train')
  assert caught.value.errno == errno.ENOSPC
  assert list(tmp_path.iterdir()) == []


def test_commit_needs_training_episodes(tmp_path, episodes):
  with (
    pytest.raises(ValueError, match="split 'train'"),
    cache_writer.CacheWriter(tmp_path / 'data') as writer,
  ):
    writer.add(episodes[0], split='held_out')
    writer.commit()


def edit_meta(archive, edit):
  file = archive / 'cache' / 'meta.json'
  meta = json.loads(file.read_text())
  edit(meta)
  file.write_text(json.dumps(meta))


@pytest.mark.parametrize(
  'damage',
  [
    *(
      lambda path, x=x: edit_meta(path, lambda meta: meta.pop(x))
      for x in ('splits', 'images', 'action_statistics', 'provenance')
    ),
    lambda path: edit_meta(path, lambda meta: meta.update(splits=5)),
    lambda path: (path / 'cache' / 'meta.json').write_text('[' * 100_000),
    *(
      lambda path, x=x: np.save(
        path / 'cache' / 'train' / f'{x}.npy',
        np.load(path / 'cache' / 'train' / f'{x}.npy') + 9,
      )
      for x in ('offsets', 'lengths')
    ),
  ],
)
def test_a_cache_that_was_edited_is_named(archive, damage):
  cache_lib.build_cache(archive)
  damage(archive)
  with pytest.raises(ValueError, match='cache is cut off or damaged'):
    cache_lib.open_cache(archive)


@pytest.mark.parametrize('text', ['{', 'null'])
def test_metadata_that_is_none_is_named(archive, text):
  (archive / 'metadata.json').write_text(text)
  with pytest.raises(ValueError, match='is cut off or damaged'):
    episodes_lib.open_episodes(archive)
