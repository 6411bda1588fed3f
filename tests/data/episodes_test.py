import dataclasses
import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import rlds

PIXELS = 'observation/pixels'


def assert_same(got, expected):
  assert got.spec == expected.spec
  for name, array in expected.columns.items():
    np.testing.assert_array_equal(got.columns[name], array)
  assert got.provenance == expected.provenance
  assert got.is_terminal == expected.is_terminal


def test_round_trip_is_exact_and_held_out_apart(archive, episodes):
  splits = episodes_lib.open_splits(archive)
  held_out = [0, 5]
  train = [i for i in range(10) if i not in held_out]
  for split, indices in (('held_out', held_out), ('train', train)):
    source = splits[split]
    assert len(source) == len(indices)
    assert source.num_frames == sum(len(episodes[i].pixels) for i in indices)
    for got, index in zip(source, indices, strict=True):
      assert_same(got, episodes[index])


def test_noise_survives_and_pillow_agrees(tmp_path, make_episode):
  episode = make_episode(1, noise=True)
  path = tmp_path / 'noise'
  episodes_lib.write_episodes(
    path, [episode], provenance={}, held_out_fraction=0.0
  )
  assert_same(episodes_lib.open_episodes(path)[0], episode)
  frame = episode.pixels[0]
  with PIL.Image.open(io.BytesIO(rlds.to_png(frame))) as image:
    image.load()
    assert image.format == 'PNG' and image.mode == 'RGB'
    np.testing.assert_array_equal(np.asarray(image), frame)


def test_plain_tfds_reads_it(archive, episodes):
  builder = tfds.builder_from_directory(archive)
  provenance = builder.info.metadata['provenance']
  assert provenance['seed'] == 3
  assert {'jepa-wm', 'jax', 'numpy'} <= set(provenance['versions'])
  record = builder.as_data_source()['held_out'][1]
  expected = episodes[5]
  steps = list(record['steps'])
  assert len(steps) == len(expected.pixels)
  for t, step in enumerate(steps):
    np.testing.assert_array_equal(
      step['observation']['pixels'], expected.pixels[t]
    )
    np.testing.assert_array_equal(
      step['observation']['proprio'], expected.columns['observation/proprio'][t]
    )
    last = t == len(steps) - 1
    action = np.zeros(2) if last else expected.actions[t]
    np.testing.assert_array_equal(step['action'], action)
    assert step['is_first'] == (t == 0)
    assert step['is_last'] == last
    assert step['is_terminal'] == (last and expected.is_terminal)


def test_same_episodes_give_the_same_files(archive, episodes, tmp_path):
  again = tmp_path / 'again'
  episodes_lib.write_episodes(
    again, iter(episodes), provenance={'seed': 3}, held_out_fraction=0.2
  )
  names = sorted(file.name for file in archive.iterdir())
  assert len(names) == 5
  for name in names:
    assert (again / name).read_bytes() == (archive / name).read_bytes()
  assert episodes_lib.fingerprint(again) == episodes_lib.fingerprint(archive)


def test_files_of_others_do_not_make_other_episodes(archive, episodes):
  before = episodes_lib.fingerprint(archive)
  shard = next(archive.glob('episodes-train*'))
  foreign = 'notes.json', 'results.json', 'report.html', f'._{shard.name}'
  for name in foreign:
    (archive / name).write_text('{}')
  assert episodes_lib.fingerprint(archive) == before
  with pytest.raises(FileExistsError, match=r'holds notes\.json, report\.html'):
    episodes_lib.write_episodes(
      archive, episodes, provenance={}, overwrite=True
    )
  for name in foreign:
    (archive / name).unlink()
  # Every file of its own counts.
  for file in sorted(archive.iterdir()):
    content = file.read_bytes()
    file.write_bytes(content + b' ')
    assert episodes_lib.fingerprint(archive) != before
    file.write_bytes(content)
  assert episodes_lib.fingerprint(archive) == before


def test_records_do_not_depend_on_the_process_that_writes_them(archive):
  # Hashes order the columns of a record unless they are sorted.
  file = next(archive.glob('episodes-train*'))
  reader = array_record_module.ArrayRecordReader(str(file))
  for record in reader.read_all():
    example = tf_example_pb2.Example.FromString(record)
    assert len(example.features.feature) > 6
    assert example.SerializeToString(deterministic=True) == record


def test_more_episodes_than_fit_a_shard(tmp_path, monkeypatch, make_episode):
  monkeypatch.setattr(episodes_lib, '_EPISODES_PER_SHARD', 2)
  monkeypatch.setattr(episodes_lib, '_EPISODES_PER_ADDITION', 3)
  path = tmp_path / 'shards'
  written = [make_episode(i, num_frames=3) for i in range(8)]
  counts = episodes_lib.write_episodes(
    path, written, provenance={}, held_out_fraction=0.0
  )
  assert counts == {'train': 8, 'held_out': 0}
  assert len(list(path.glob('*array_record*'))) == 4
  for got, expected in zip(
    episodes_lib.open_episodes(path), written, strict=True
  ):
    assert_same(got, expected)


@pytest.mark.parametrize('fraction', [0.0, 0.1, 0.3, 0.5])
def test_split_name_spreads_the_held_out_evenly(fraction):
  held_out = np.array(
    [
      episodes_lib.split_name(i, held_out_fraction=fraction) == 'held_out'
      for i in range(1000)
    ]
  )
  expected = fraction * np.arange(1, 1001)
  assert np.all(np.abs(np.cumsum(held_out) - expected) < 1.0 + 1e-6)
  assert held_out.sum() == round(1000 * fraction)


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_nothing(tmp_path, episodes, error):
  def interrupted():
    yield from episodes[:4]
    raise error('now')

  path = tmp_path / 'deep' / 'archive'
  with pytest.raises(error):
    episodes_lib.write_episodes(path, interrupted(), provenance={})
  assert list(path.parent.iterdir()) == []
  # After a kill that nobody could clean up after, the next one starts over.
  (path.parent / '.archive.writing').mkdir()
  (path.parent / '.archive.writing' / 'rest').write_text('half')
  episodes_lib.write_episodes(path, episodes, provenance={})
  assert [file.name for file in path.parent.iterdir()] == ['archive']
  assert not (path / 'rest').exists()


def test_an_interrupted_overwrite_keeps_the_old(archive, episodes):
  def interrupted():
    yield episodes[0]
    raise KeyboardInterrupt

  # What a training of a head has put there goes with the episodes.
  (archive / 'latents').mkdir()
  before = episodes_lib.fingerprint(archive)
  with pytest.raises(FileExistsError, match='is there already'):
    episodes_lib.write_episodes(archive, episodes, provenance={})
  with pytest.raises(KeyboardInterrupt):
    episodes_lib.write_episodes(
      archive, interrupted(), provenance={}, overwrite=True
    )
  assert episodes_lib.fingerprint(archive) == before
  episodes_lib.write_episodes(
    archive, episodes[:3], provenance={}, overwrite=True
  )
  assert len(episodes_lib.open_episodes(archive)) == 2
  assert [file.name for file in archive.parent.iterdir()] == ['archive']


def test_write_refuses(tmp_path, episodes):
  def write(items, **options):
    episodes_lib.write_episodes(tmp_path / 'x', items, provenance={}, **options)

  with pytest.raises(ValueError, match='nothing to write'):
    write([])
  with pytest.raises(ValueError, match='none to train on'):
    write(episodes[:1])
  with pytest.raises(ValueError, match='held_out_fraction must be'):
    write(episodes, held_out_fraction=1.0)
  pixels = np.zeros((13, 6, 9, 3), np.uint8)
  wider = dataclasses.replace(
    episodes[1], columns={**episodes[1].columns, 'observation/pixels': pixels}
  )
  with pytest.raises(ValueError, match=r'same columns .*pixels.*6, 5.*6, 9'):
    write([episodes[0], wider])
  assert list(tmp_path.iterdir()) == []


def test_write_names_what_the_disk_refuses(tmp_path, episodes):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='file'):
    episodes_lib.write_episodes(
      tmp_path / 'file' / 'x', episodes, provenance={}
    )


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    (PIXELS, np.zeros((12, 6, 5, 3), np.float32), 'pixels must be uint8'),
    (PIXELS, np.zeros((12, 6, 5, 4), np.uint8), 'pixels must be uint8'),
    (PIXELS, np.zeros((0, 6, 5, 3), np.uint8), 'at least one frame'),
    ('action', np.zeros((12, 2), np.float32), r'action must be .*\[11, size'),
    ('action', np.zeros((11, 2)), 'action must be float32'),
    ('action', np.full((11, 2), np.nan, np.float32), 'action must be finite'),
    ('observation/proprio', np.zeros((11, 3)), r'proprio must be \[12, '),
    ('observation/text', np.array(['go'] * 12), 'text must hold numbers'),
    ('state', np.zeros((12, 0)), 'state must hold numbers.* leave it out'),
    ('reward', np.zeros((11, 1), 'f'), r'reward must be float32 \[11\]'),
    ('discount', np.zeros(12, 'f'), r'discount must be float32 \[11\]'),
    ('rewards', np.zeros(11, 'f'), "got 'rewards'"),
    ('is_last', np.zeros(12, bool), "got 'is_last'"),
  ],
)
def test_episode_refuses(name, value, message, make_episode):
  episode = make_episode(0)
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(episode, columns={**episode.columns, name: value})
  with pytest.raises(ValueError, match='must have the column action'):
    dataclasses.replace(episode, columns={'state': episode.columns['state']})


def test_open_names_what_is_missing(tmp_path, archive):
  with pytest.raises(FileNotFoundError, match=r'experiments\.collect'):
    episodes_lib.open_episodes(tmp_path / 'nowhere')
  with pytest.raises(ValueError, match="no split 'test', only"):
    episodes_lib.open_episodes(archive, split='test')
  with pytest.raises(IndexError, match='8 episodes, not 8'):
    episodes_lib.open_episodes(archive)[8]
  (archive / 'features.json').write_text('{')
  with pytest.raises(ValueError, match=r'features\.json is cut off'):
    episodes_lib.open_episodes(archive)


def test_open_names_a_missing_column(tmp_path):
  features = tfds.features
  info = tfds.core.DatasetInfo(
    builder=tfds.core.DatasetIdentity(
      name='foreign',
      version=tfds.core.Version('1.0.0'),
      data_dir=str(tmp_path),
      module_name=__name__,
    ),
    features=features.FeaturesDict(
      {
        'steps': features.Dataset(
          {
            'observation': {'pixels': features.Image(shape=(4, 4, 3))},
            'action': features.Tensor(shape=(2,), dtype=np.float32),
            'is_first': np.bool_,
            'is_last': np.bool_,
          }
        )
      }
    ),
  )
  writer = tfds.core.SequentialWriter(
    info, max_examples_per_shard=9, file_format='array_record'
  )
  writer.initialize_splits(['train'])
  writer.close_all()
  with pytest.raises(ValueError, match='lack the column is_terminal;'):
    episodes_lib.open_episodes(tmp_path)


@pytest.mark.parametrize('keep', [0, 70_000, 200_000])
def test_a_truncated_file_is_named(tmp_path, keep, make_episode):
  path = tmp_path / 'archive'
  episodes_lib.write_episodes(
    path,
    [make_episode(i, noise=True, num_frames=200) for i in range(6)],
    provenance={},
    held_out_fraction=0.0,
  )
  (shard,) = path.glob('*array_record*')
  data = shard.read_bytes()
  assert len(data) > 250_000
  shard.write_bytes(data[:keep])
  with pytest.raises(ValueError, match='cut off or damaged'):
    list(episodes_lib.open_episodes(path))


def test_a_missing_shard_is_named(archive):
  (shard,) = archive.glob('*train*')
  shard.unlink()
  with pytest.raises(ValueError, match='cut off or damaged'):
    list(episodes_lib.open_episodes(archive))


def test_in_threads_keeps_order_and_stays_close():
  taken = []

  def items():
    for i in range(200):
      taken.append(i)
      yield i

  results = episodes_lib.in_threads(lambda x: x * x, items())
  assert next(results) == 0
  assert len(taken) < 200
  assert list(results) == [i * i for i in range(1, 200)]
