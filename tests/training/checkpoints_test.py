import json
import os
import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from jepa_wm.training import checkpoints


@flax.struct.dataclass
class State:
  step: jax.Array
  kernel: jax.Array
  target: None
  rng_key: jax.Array


def _state(step, size=5):
  return State(
    step=jnp.int32(step),
    kernel=jax.random.normal(jax.random.key(step), (size, 3)),
    target=None,
    rng_key=jax.random.key(7),
  )


def _assert_same(one, other):
  plain = lambda state: jax.tree.map(
    np.asarray, state.replace(rng_key=jax.random.key_data(state.rng_key))
  )
  jax.tree.map(np.testing.assert_array_equal, plain(one), plain(other))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp('run') / 'checkpoints'
  for step in (10, 20, 30):
    record = {'iterator': {'next': step}, 'model': {'name': 'toy', 'size': 5}}
    checkpoints.save(directory, _state(step), record, keep=2)
  return directory


def test_round_trip_is_exact_and_the_newest_are_kept(saved):
  assert [p.name for p in checkpoints.steps(saved)] == [
    'step_00000020',
    'step_00000030',
  ]
  path = checkpoints.latest(saved)
  assert path.name == 'step_00000030'
  restored = checkpoints.restore(path, jax.eval_shape(_state, 0))
  _assert_same(restored, _state(30))
  assert jax.random.key_impl(restored.rng_key) == jax.random.key_impl(
    jax.random.key(0)
  )
  assert checkpoints.read_record(path)['iterator'] == {'next': 30}
  assert not list(saved.glob('.*'))


def test_restores_to_the_sharding_asked_for(saved):
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated),
    jax.eval_shape(_state, 0),
  )
  restored = checkpoints.restore(checkpoints.latest(saved), like)
  _assert_same(restored, _state(30))
  assert restored.kernel.sharding == replicated
  assert restored.rng_key.sharding == replicated


def test_no_directory_is_no_checkpoint(tmp_path):
  assert checkpoints.latest(tmp_path / 'nothing') is None


def _every_file(directory):
  path = checkpoints.steps(directory)[-1]
  return sorted(
    str(p.relative_to(path)) for p in path.rglob('*') if p.is_file()
  )


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flip', 'missing'])
def test_any_damage_to_any_file_is_found(saved, tmp_path, damage):
  names = _every_file(saved)
  assert len(names) > 5
  if damage == 'flip':
    # There the flipped bit may fall on white space.
    names.remove('manifest.json')
  for index, name in enumerate(names):
    copy = tmp_path / str(index)
    shutil.copytree(saved, copy)
    file = checkpoints.steps(copy)[-1] / name
    content = bytearray(file.read_bytes())
    if damage == 'missing':
      file.unlink()
    elif damage == 'flip':
      content[len(content) // 2] ^= 1
      file.write_bytes(content)
    else:
      os.truncate(file, len(content) // 2 if damage == 'cut' else 0)
    with pytest.raises(checkpoints.CheckpointError) as raised:
      checkpoints.latest(copy)
    message = str(raised.value)
    # What is damaged, how to go on, and from where.
    assert 'step_00000030 is damaged' in message
    assert f'rm -r {copy}/step_00000030`' in message
    assert f'continue from {copy}/step_00000020' in message


def test_a_checkpoint_of_another_name_is_not_believed(saved, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(saved, copy)
  checkpoints.steps(copy)[-1].rename(copy / 'step_00099999')
  with pytest.raises(checkpoints.CheckpointError, match='it is step_00000030'):
    checkpoints.latest(copy)
  (copy / 'step_00099999').rename(copy / 'step_00000030')
  (copy / 'step_00000040').touch()
  with pytest.raises(checkpoints.CheckpointError, match='it is no folder'):
    checkpoints.latest(copy)


def test_nothing_good_is_left(saved, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(saved, copy)
  for path in checkpoints.steps(copy):
    (path / 'record.json').unlink()
  with pytest.raises(checkpoints.CheckpointError) as raised:
    checkpoints.latest(copy)
  assert 'start from the beginning' in str(raised.value)
  first, second = checkpoints.steps(copy)
  assert f'rm -r {first} {second}`' in str(raised.value)


def test_leftovers_of_a_killed_run_are_no_checkpoints(saved, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(saved, copy)
  whole = checkpoints.latest(copy)
  for name in ('.step_00000040.writing', '.step_00000010.removing'):
    (copy / name).mkdir()
    (copy / name / 'record.json').write_text('{')
  assert checkpoints.latest(copy) == whole
  checkpoints.save(copy, _state(40), {}, keep=2)
  assert sorted(p.name for p in copy.iterdir()) == [
    'step_00000030',
    'step_00000040',
  ]
  (copy / '.step_00000020.removing').mkdir()
  checkpoints.tidy(copy, keep=1)
  assert [p.name for p in copy.iterdir()] == ['step_00000040']
  checkpoints.tidy(tmp_path / 'nothing', keep=1)


@pytest.mark.parametrize('when', ['before', 'during'])
def test_a_full_disk_leaves_nothing(saved, tmp_path, monkeypatch, when):
  copy = tmp_path / 'copy'
  shutil.copytree(saved, copy)

  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  if when == 'before':
    usage = type('Usage', (), {'free': 1000})
    monkeypatch.setattr(checkpoints.shutil, 'disk_usage', lambda path: usage)
  else:
    monkeypatch.setattr(checkpoints, '_fingerprint', full)
  with pytest.raises(checkpoints.CheckpointError) as raised:
    checkpoints.save(copy, _state(40), {}, keep=1)
  cause = '0.0 MB left' if when == 'before' else 'No space left'
  assert cause in str(raised.value)
  assert f'continue from {copy}/step_00000030' in str(raised.value)
  assert sorted(p.name for p in copy.iterdir()) == [
    'step_00000020',
    'step_00000030',
  ]


def test_nobody_asks_for_counters_that_are_never_freed(saved, monkeypatch):
  asked = []
  monkeypatch.setattr(
    tensorstore, 'experimental_collect_matching_metrics', asked.append
  )
  checkpoints.save(saved.parent / 'other', _state(1), {})
  checkpoints.restore(checkpoints.latest(saved), jax.eval_shape(_state, 0))
  assert asked == []


def test_saving_a_step_twice_is_refused(saved):
  with pytest.raises(checkpoints.CheckpointError, match='exists already'):
    checkpoints.save(saved, _state(30), {})


def test_keep_must_be_positive(tmp_path):
  with pytest.raises(ValueError, match='keep'):
    checkpoints.save(tmp_path, _state(1), {}, keep=0)


def test_another_model_is_refused(saved):
  like = jax.eval_shape(lambda: _state(0, size=6))
  message = r'float32 \[5, 3\] for kernel where this model has float32 \[6, 3\]'
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpoints.restore(checkpoints.latest(saved), like)


@pytest.mark.parametrize(
  'wanted, message',
  [
    ({'model': {'name': 'pldm', 'size': 5}}, "model.name = 'toy'.*'pldm'"),
    (
      {'model': {'name': 'toy', 'size': 6}},
      'model.size = 5 and this run has 6',
    ),
    ({'model': {'name': 'toy'}}, 'model.size = 5 and this run has None'),
    ({'seed': 1}, 'seed = None and this run has 1'),
  ],
)
def test_another_run_is_refused(saved, wanted, message):
  path = checkpoints.latest(saved)
  record = checkpoints.read_record(path)
  checkpoints.check_same_run(path, record, {'model': record['model']})
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpoints.check_same_run(path, record, wanted)


def test_a_longer_run_is_the_same_and_a_shorter_one_is_not():
  record = {'num_steps': 6, 'optimizer': {'num_steps': 6, 'decay': 0.1}}
  longer = {'num_steps': 9, 'optimizer': {'num_steps': 9, 'decay': 0.1}}
  checkpoints.check_same_run('run', record, longer)
  with pytest.raises(checkpoints.CheckpointError, match='num_steps = 9 and th'):
    checkpoints.check_same_run('run', longer, record)
  with pytest.raises(checkpoints.CheckpointError, match='num_steps = None'):
    checkpoints.check_same_run('run', {}, {'num_steps': 9})
  longer['optimizer']['decay'] = 0.2
  with pytest.raises(checkpoints.CheckpointError, match=r'optimizer\.decay'):
    checkpoints.check_same_run('run', record, longer)


def test_another_format_is_refused(saved, monkeypatch):
  path = checkpoints.latest(saved)
  monkeypatch.setattr(checkpoints, 'FORMAT', 2)
  with pytest.raises(checkpoints.CheckpointError, match='format 1'):
    checkpoints.read_record(path)


def test_manifest_is_readable(saved):
  path = checkpoints.latest(saved)
  manifest = json.loads((path / 'manifest.json').read_text())
  assert set(manifest) | {'manifest.json'} == set(_every_file(saved))
