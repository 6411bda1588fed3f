"""The folder that a world model is kept in."""

import json

import jax
import numpy as np
import pytest
import small_model
from small_model import CONFIG

from jepa_wm import exports

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
  ],
)
def test_a_damaged_export_says_what_is_wrong(folder, damage, message):
  damage(folder)
  with pytest.raises(ValueError, match=message):
    exports.WorldModel.from_checkpoint(folder)


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
