import dataclasses
import shutil

import jax
import numpy as np
import pytest

from jepa_wm import lock
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import cache_writer, parts, rlds, windows
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data.readers import open_x
from jepa_wm.recipes import converting


def make_episode(index):
  rng = np.random.default_rng(index)
  length = 6 + index % 3
  return episodes_lib.Episode(
    columns={
      'observation/pixels': rng.integers(0, 256, (length, 8, 12, 3), np.uint8),
      'observation/proprio': rng.normal(size=(length, 3)).astype(np.float32),
      'action': rng.normal(size=(length - 1, 2)).astype(np.float32),
      'state': rng.normal(size=(length, 4)).astype(np.float32),
    },
    is_terminal=index % 2 == 1,
  )


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """Nine episodes in a format that needs no optional package: RLDS."""
  path = tmp_path_factory.mktemp('convert') / 'source'
  episodes_lib.write_episodes(
    path,
    map(make_episode, range(9)),
    provenance={},
    held_out_fraction=0.0,
  )
  return path


def recipe(source, **options):
  fields = {'image_size': 0, 'held_out_fraction': 0.25} | options
  return converting.Converting(source=str(source), **fields)


def run(source, out, *, store='auto', restart=False, **options):
  return converting.convert(
    recipe(source, **options), out, store=store, restart=restart, progress=False
  )


def contents(path):
  return {
    file.relative_to(path): file.read_bytes()
    for file in path.rglob('*')
    if file.is_file()
  }


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
  monkeypatch.setattr(parts, '_EPISODES_PER_PART', 2)


def test_every_episode_arrives(source, tmp_path):
  report = run(source, tmp_path / 'out', environment='push_t')
  assert report.counts == {'train': 6, 'held_out': 3}
  assert report.store == 'flat' and report.skipped == []
  assert [path.name for path in tmp_path.iterdir()] == ['out']
  splits = episodes_lib.open_splits(tmp_path / 'out')
  held_out = [0, 4, 8]
  for split, indices in (
    ('held_out', held_out),
    ('train', [i for i in range(9) if i not in held_out]),
  ):
    assert splits[split].num_frames == sum(6 + i % 3 for i in indices)
    for got, index in zip(splits[split], indices, strict=True):
      expected = make_episode(index)
      assert got.spec == expected.spec
      for name, array in expected.columns.items():
        np.testing.assert_array_equal(got.columns[name], array)
      assert got.is_terminal == expected.is_terminal
  provenance = splits['train'].provenance
  assert provenance['environment'] == 'push_t'
  assert provenance['source']['format'] == 'RLDS (array_record)'
  cache = cache_lib.open_cache(tmp_path / 'out')
  np.testing.assert_array_equal(
    cache.columns['observation/pixels'][:7], make_episode(1).pixels
  )


@pytest.mark.parametrize('stop_at', [1, 3, 8])
def test_resumed_is_uninterrupted(source, tmp_path, monkeypatch, stop_at):
  run(source, tmp_path / 'whole')
  read = []
  get = open_x.OpenX.__getitem__

  def interrupted(reader, index):
    if index == stop_at and stop_at not in read:
      read.append(index)
      raise KeyboardInterrupt
    read.append(index)
    return get(reader, index)

  monkeypatch.setattr(open_x.OpenX, '__getitem__', interrupted)
  with pytest.raises(KeyboardInterrupt):
    run(source, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
  kept = parts.finished(tmp_path / '.out.convert' / 'parts')
  done = kept[-1].next_item if kept else 0
  # Whole parts of two, less what was read ahead.
  assert done in (0, 2, 4, 6, 8) and done <= stop_at
  read[:] = [stop_at]
  run(source, tmp_path / 'out')
  assert sorted(read[1:]) == list(range(done, 9))
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
  assert not (tmp_path / '.out.convert').exists()


def interrupted(*arguments):
  raise KeyboardInterrupt


def run_to_the_end(source, out, monkeypatch):
  """Is interrupted before the cache is whole."""
  with monkeypatch.context() as patched:
    patched.setattr(cache_writer.CacheWriter, 'commit', interrupted)
    with pytest.raises(KeyboardInterrupt):
      run(source, out)


def test_an_interrupted_end_is_taken_up_too(source, tmp_path, monkeypatch):
  run(source, tmp_path / 'whole')
  run_to_the_end(source, tmp_path / 'out', monkeypatch)
  with monkeypatch.context() as patched:
    # Everything is there: nothing is read of the source again.
    patched.setattr(open_x.OpenX, '__getitem__', interrupted)
    run(source, tmp_path / 'out')
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_another_conversion_is_not_mixed_in(source, tmp_path, monkeypatch):
  run_to_the_end(source, tmp_path / 'out', monkeypatch)
  with pytest.raises(FileExistsError, match=r'unfinished.*--restart'):
    run(source, tmp_path / 'out', image_size=4)
  run(source, tmp_path / 'out', image_size=4, restart=True)
  assert cache_lib.open_cache(tmp_path / 'out').columns[
    'observation/pixels'
  ].shape[1:] == (4, 4, 3)


def test_a_changed_source_is_noticed(source, tmp_path, monkeypatch):
  copied = tmp_path / 'source'
  shutil.copytree(source, copied)
  with monkeypatch.context() as patched:
    patched.setattr(
      cache_lib,
      'check_space',
      lambda *a: (_ for _ in ()).throw(OSError('full')),
    )
    with pytest.raises(OSError, match='full'):
      run(copied, tmp_path / 'out')
  (copied / 'metadata.json').touch()
  with pytest.raises(FileExistsError, match='unfinished'):
    run(copied, tmp_path / 'out')


def test_what_was_not_written_as_read_is_found(source, tmp_path, monkeypatch):
  honest = rlds.to_example

  def wrong(**fields):
    pixels = fields['columns']['observation/pixels']
    if pixels[0, 0, 0, 0] == make_episode(5).pixels[0, 0, 0, 0]:
      pixels = pixels.copy()
      pixels[2, 3, 4, 1] ^= 1
      changed = {**fields['columns'], 'observation/pixels': pixels}
      fields = {**fields, 'columns': changed}
    return honest(**fields)

  monkeypatch.setattr(rlds, 'to_example', wrong)
  with pytest.raises(ValueError, match=r'3 of train .* not what was converted'):
    run(source, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_file_damaged_in_between_is_found(source, tmp_path, monkeypatch):
  with monkeypatch.context() as patched:
    patched.setattr(
      parts, 'join', lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
      run(source, tmp_path / 'out')
  file = next((tmp_path / '.out.convert').rglob('00001/*train*'))
  data = bytearray(file.read_bytes())
  for place in range(1000, len(data), 1000):
    data[place] ^= 1
  file.write_bytes(data)
  with pytest.raises(ValueError, match=r'damaged|not what was converted'):
    run(source, tmp_path / 'out')


def test_damaged_episodes_are_left_out_on_request(
  source, tmp_path, monkeypatch
):
  get = open_x.OpenX.__getitem__

  def damaged(reader, index):
    if index in (0, 5):
      raise ValueError(f'{reader.path}, episode {index}, has NaN')
    return get(reader, index)

  monkeypatch.setattr(open_x.OpenX, '__getitem__', damaged)
  with pytest.raises(ValueError, match='episode 0, has NaN'):
    run(source, tmp_path / 'out')
  report = run(source, tmp_path / 'out', skip_damaged=True, restart=True)
  assert report.skipped == [
    (index, f'{source}, episode {index}, has NaN') for index in (0, 5)
  ]
  assert report.counts == {'train': 5, 'held_out': 2}
  held_out = episodes_lib.open_splits(tmp_path / 'out')['held_out']
  np.testing.assert_array_equal(held_out[0].pixels, make_episode(1).pixels)
  np.testing.assert_array_equal(held_out[1].pixels, make_episode(6).pixels)
  assert held_out.provenance['num_skipped'] == 2


def test_episodes_of_other_sizes_are_named(source, tmp_path, monkeypatch):
  get = open_x.OpenX.__getitem__

  def taller(reader, index):
    episode = get(reader, index)
    if index == 3:
      pixels = np.repeat(episode.pixels, 2, axis=1)
      columns = {**episode.columns, 'observation/pixels': pixels}
      return dataclasses.replace(episode, columns=columns)
    return episode

  monkeypatch.setattr(open_x.OpenX, '__getitem__', taller)
  with pytest.raises(ValueError, match=r'number 3 .*\[16, 12, 3\]'):
    run(source, tmp_path / 'out')


@pytest.mark.parametrize(
  ('store', 'max_cache_gb'), [('chunks', None), ('auto', 1e-9)]
)
def test_chunks_give_the_same_batches(source, tmp_path, store, max_cache_gb):
  found = {}
  for name, options in (
    ('flat', {'store': 'flat'}),
    ('chunks', {'store': store, 'max_cache_gb': max_cache_gb}),
  ):
    report = converting.convert(
      recipe(source), tmp_path / name, progress=False, **options
    )
    assert report.store == name
    cache = cache_lib.open_cache(tmp_path / name)
    stream = windows.cached_windows(
      cache, num_frames=3, stride=2, batch_size=5, seed=1
    )
    found[name] = [next(stream) for _ in range(4)]
  for flat, chunks in zip(found['flat'], found['chunks'], strict=True):
    jax.tree.map(np.testing.assert_array_equal, chunks, flat)


def test_a_wrong_option_meets_the_nearest(source):
  with pytest.raises(ValueError, match=r"'proprios'. Did you mean 'proprio'"):
    recipe(source, options={'proprios': ()})


def test_what_comes_to_nothing_is_in_nobody_s_way(source, tmp_path):
  with pytest.raises(ValueError, match='leave none to train on; take more'):
    run(source, tmp_path / 'out', held_out_fraction=0.95)
  with pytest.raises(ValueError, match=r'max_cache_gb must be .* got nan'):
    converting.convert(
      recipe(source), tmp_path / 'out', max_cache_gb=float('nan')
    )
  with pytest.raises(ValueError, match='environment must be one of cube'):
    run(source, tmp_path / 'out', environment='mars')
  # Nothing of it is finished, so that other options may begin at once.
  with pytest.raises(ValueError, match=r'several columns|num_discrete'):
    run(source, tmp_path / 'out', options={'num_discrete': 2})
  assert run(source, tmp_path / 'out').counts


def test_one_conversion_at_a_time(source, tmp_path):
  with (
    lock.hold_place(tmp_path / 'out'),
    pytest.raises(OSError, match=r'works in .*out already'),
  ):
    run(source, tmp_path / 'out')
  run(source, tmp_path / 'out')
  assert [file.name for file in tmp_path.iterdir()] == ['out']


def test_a_link_leads_to_where_it_is_written(source, tmp_path):
  (tmp_path / 'out').symlink_to(tmp_path / 'disk')
  run(source, tmp_path / 'out')
  assert (tmp_path / 'out').is_symlink()
  assert (tmp_path / 'disk' / 'cache' / 'meta.json').exists()
  assert not list(tmp_path.glob('.*'))


def test_what_is_there_is_kept(source, tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'raw.h5').touch()
  with pytest.raises(FileExistsError, match=r'holds raw\.h5, which is not of'):
    converting.convert(recipe(source), tmp_path / 'mine', overwrite=True)
  (tmp_path / 'out').mkdir()
  with pytest.raises(FileExistsError, match='--overwrite'):
    run(source, tmp_path / 'out')
  with pytest.raises(ValueError, match='held_out_fraction'):
    recipe(source, held_out_fraction=1.0)


def test_warnings_of_the_reader_are_shown(
  source, tmp_path, capsys, monkeypatch
):
  make = open_x.OpenX.__init__

  def warning(reader, *arguments):
    make(reader, *arguments)
    reader.warnings.append('its actions are shifted.')

  monkeypatch.setattr(open_x.OpenX, '__init__', warning)
  run(source, tmp_path / 'out')
  assert 'Warning: its actions are shifted.' in capsys.readouterr().err
  found = episodes_lib.open_episodes(tmp_path / 'out').provenance['warnings']
  assert found == ['its actions are shifted.']
