"""The folder that a world model is kept in."""

import dataclasses
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import small_model
from small_model import CONFIG

from jepa_wm import exports
from jepa_wm.models import heads

DEEPER = CONFIG['predictor'] | {'depth': 3}


@pytest.fixture(scope='module')
def model():
  return small_model.make(exports.WorldModel)


@pytest.fixture
def folder(model, tmp_path):
  model.save(tmp_path / 'model')
  return tmp_path / 'model'


def test_saved_and_loaded_is_the_same(model, folder):
  loaded = exports.WorldModel.from_checkpoint(folder)
  assert loaded.model == model.model
  assert loaded.record == {'date': 'today'}
  jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
  np.testing.assert_array_equal(loaded.units.std, model.units.std)
  seen = {'pixels': small_model.pixels(2)}
  np.testing.assert_array_equal(
    loaded.encode(loaded.params, seen),
    model.encode(model.params, seen),
  )


def test_a_run_is_loaded_by_its_working_directory(model, tmp_path):
  model.save(tmp_path / 'run' / 'export')
  assert exports.WorldModel.from_checkpoint(tmp_path / 'run').record


def test_saving_again_replaces_and_leaves_nothing_beside(model, folder):
  model.save(folder)
  assert [p.name for p in folder.parent.iterdir()] == ['model']
  assert sorted(p.name for p in folder.iterdir()) == [
    'config.json',
    'model.safetensors',
  ]


def test_what_ships_is_named_where_nothing_is_found():
  with pytest.raises(FileNotFoundError, match=r"'no/such'.*two_room_small"):
    exports.WorldModel.from_checkpoint('no/such')


def edit_config(folder, **changes):
  path = folder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, edit):
  path = folder / 'model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  path.write_bytes(
    safetensors.numpy.save({k: edit(x) for k, x in tensors.items()})
  )


def as_float8(folder):
  """The same names, and a header that says that bytes are float8."""
  path = folder / 'model.safetensors'
  edit_weights(folder, lambda x: np.zeros(x.shape, np.uint8))
  path.write_bytes(path.read_bytes().replace(b'"U8"', b'"F9"'))


def cut(path):
  path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda f: cut(f / 'model.safetensors'), 'not a whole safetensors file'),
    (lambda f: cut(f / 'config.json'), 'is cut off or damaged'),
    (lambda f: edit_config(f, format_version=0), 'layout 0, .* reads layout 2'),
    (
      lambda f: edit_config(f, model=CONFIG | {'latent_dim': 4}),
      r'is \[.*\], the model .lewm. as configured has \[.*4\], and \d+ others',
    ),
    (
      lambda f: edit_config(f, model=CONFIG | {'predictor': DEEPER}),
      r"block_2/.*' is missing, the model 'lewm' .* has \[.*\d+ others differ",
    ),
    (
      lambda f: edit_config(f, model=CONFIG | {'name': 'lwem'}),
      "got 'lwem'. Did you mean 'lewm'",
    ),
    (
      lambda f: edit_config(f, model=CONFIG | {'latent_dims': 4}),
      "no field 'latent_dims'. Did you mean 'latent_dim'",
    ),
    (lambda f: edit_config(f, model=None), 'model is None; it was edited'),
    (lambda f: edit_config(f, record=[]), r'record is \[\]; it was edited'),
    (
      lambda f: edit_config(f, record={'config': []}),
      r'config of its record is \[\]; it was edited',
    ),
    (
      lambda f: edit_config(f, record={'config': {'data': {'source': 7}}}),
      'source of the data of its record is 7; it was edited',
    ),
    (lambda f: edit_config(f, units='x'), "units is 'x'; it was edited"),
    (
      lambda f: edit_config(f, units={'mean': [0.0], 'std': [1.0]}),
      'units of 1 raw actions, where the model takes 2',
    ),
    *(
      (
        lambda f, x=x: edit_config(f, model=CONFIG | {'predictor': x}),
        'predictor must be a mapping of a name and fields, got',
      )
      for x in (None, 5, 'causal', [])
    ),
    (
      lambda f: edit_config(f, model=CONFIG | {'terms': ['sigreg']}),
      'terms must be a mapping of names to fields, got',
    ),
    (
      lambda f: edit_weights(f, lambda x: x.astype(np.int8)),
      'is of dtype int8, where float32 is expected',
    ),
    (
      lambda f: edit_weights(f, lambda x: x * np.nan),
      'holds NaN or infinity; train the model again',
    ),
    (as_float8, r"is of dtype 'F9', which is not read"),
  ],
)
def test_a_damaged_export_says_what_is_wrong(folder, damage, message):
  damage(folder)
  with pytest.raises(ValueError, match=message):
    exports.WorldModel.from_checkpoint(folder)


def test_weights_become_what_the_network_declares(folder, model):
  edit_weights(folder, lambda x: x.astype(ml_dtypes.bfloat16))
  loaded = exports.WorldModel.from_checkpoint(folder)
  for ours, theirs in zip(*map(jax.tree.leaves, (loaded.params, model.params))):
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)


def test_a_model_is_not_saved_over_other_files(folder, model):
  model.save(folder)
  (folder / 'thesis.txt').touch()
  with pytest.raises(FileExistsError, match=r'holds thesis\.txt, which is not'):
    model.save(folder)
  assert (folder / 'thesis.txt').exists()


def test_missing_weights(folder):
  (folder / 'model.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='missing beside its config'):
    exports.WorldModel.from_checkpoint(folder)


def test_the_encoder_of_an_export_is_read_alone(folder):
  assert exports.read_encoder(folder) == {
    **CONFIG['encoder'],
    'pixel_norm': 'imagenet',
  }
  assert exports.read_config(folder)['latent_dim'] == 3
  shipped = exports.read_encoder('two_room_small')
  assert shipped['name'] == 'conv' and shipped['image_size'] == 64


@pytest.fixture(scope='module')
def head(model):
  decoder = heads.from_config(
    {'name': 'decoder', 'channels': (4,)},
    heads.Sizes(latent_dim=3, image_size=16, state_mean=(1.0,)),
  )
  params = decoder.for_inference(jax.jit(decoder.init)(jax.random.key(0)))
  known = exports.encoder_fingerprint(model)
  return exports.TrainedHead(decoder, params, 'runs/mine', known, {'a': 1})


def test_a_head_is_saved_and_loaded_to_the_bit(model, head, tmp_path):
  head.save(tmp_path / 'run' / 'export')
  loaded = exports.TrainedHead.load(tmp_path / 'run', model=model)
  assert (loaded.head, loaded.record) == (head.head, head.record)
  assert loaded.digest == head.digest
  jax.tree.map(np.testing.assert_array_equal, loaded.params, head.params)


def test_a_head_of_another_encoder_is_refused(model, head, tmp_path):
  head.save(tmp_path / 'head')
  weights = jax.tree.map(lambda leaf: leaf, model.params)
  weights['params']['encoder'] = jax.tree.map(
    lambda leaf: leaf + 1, weights['params']['encoder']
  )
  other = dataclasses.replace(model, params=weights)
  with pytest.raises(ValueError, match=r'of runs/mine .* runs/other has anoth'):
    exports.TrainedHead.load(tmp_path / 'head', model=other, where='runs/other')
  # What follows the encoder may change.
  weights = jax.tree.map(lambda leaf: leaf, model.params)
  weights['params']['predictor'] = jax.tree.map(
    lambda leaf: leaf + 1, weights['params']['predictor']
  )
  other = dataclasses.replace(model, params=weights)
  assert exports.TrainedHead.load(tmp_path / 'head', model=other)


def test_a_head_is_no_model_and_a_model_no_head(model, head, folder, tmp_path):
  head.save(tmp_path / 'head')
  with pytest.raises(ValueError, match=r"the head 'decoder'.*of runs/mine"):
    exports.WorldModel.from_checkpoint(tmp_path / 'head')
  with pytest.raises(ValueError, match='a model, where a head is wanted'):
    exports.TrainedHead.load(folder)


def test_weights_of_another_head_are_refused(head, tmp_path):
  head.save(tmp_path / 'head')
  edit_config(tmp_path / 'head', head={'name': 'decoder', 'channels': [8]})
  with pytest.raises(ValueError, match="the head 'decoder' as configured"):
    exports.TrainedHead.load(tmp_path / 'head')


def test_a_part_that_nothing_registers_says_to_import_its_file(tmp_path):
  folder = shutil.copytree(exports.SHIPPED / 'two_room_small', tmp_path / 'own')
  config = json.loads((folder / 'config.json').read_text())
  config['model']['encoder']['name'] = 'convv'
  (folder / 'config.json').write_text(json.dumps(config))
  with pytest.raises(
    ValueError,
    match=r"config.json .*--import=FILE.py.*'convv'.*mean 'conv'",
  ):
    exports.WorldModel.from_checkpoint(folder)
