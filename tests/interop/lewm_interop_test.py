"""LeWM's published weights in, and back out.

`fixtures/lewm/weights.pt`, in the layout of transformers 4, and what the model
answers were written by stable-worldmodel itself: `make_torch_fixtures.py`.
"""

import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import exports, interop, units
from jepa_wm.interop import lewm, state_dicts
from jepa_wm.models import lewm as models_lewm
from jepa_wm.networks import causal, conv, projectors, sizes, vit

FIXTURE = pathlib.Path(__file__).parent / 'fixtures' / 'lewm'
STATISTICS = units.ActionStatistics(
  np.array([0.5, -1.0], np.float32), np.array([2.0, 4.0], np.float32)
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  """The fixture's config says 'tiny', its ViT is a good deal smaller."""
  small = {'width': 6, 'depth': 2, 'num_heads': 3, 'mlp_dim': 9}
  monkeypatch.setitem(sizes.VIT, 'tiny', small)


@pytest.fixture
def folder(tmp_path):
  """A copy of the fixture, to damage."""
  return shutil.copytree(FIXTURE, tmp_path / 'lewm')


def edit(folder, section=None, **changes):
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config).update(changes)
  path.write_text(json.dumps(config))


def load(path, **options):
  options = {'action_statistics': STATISTICS, **options}
  return exports.WorldModel.from_pretrained(path, **options)


def test_there_is_one_encoder_to_choose():
  with pytest.raises(ValueError, match="a 'lewm' has one encoder alone"):
    load(FIXTURE, encoder='encoder')


def test_a_published_folder_answers_as_its_authors_model():
  model = load(FIXTURE)
  with np.load(FIXTURE / 'expected.npz', allow_pickle=False) as file:
    expected = dict(file)
  with jax.default_matmul_precision('highest'):
    latents = jax.jit(model.encode)(
      model.params, {'pixels': expected['pixels']}
    )
    predicted = jax.jit(model.model.predict)(
      model.params, jnp.asarray(expected['latents']), expected['actions']
    )
  for ours, theirs in (
    (latents, expected['latents']),
    (predicted, expected['predicted']),
  ):
    assert np.ptp(theirs) > 1  # or the tolerance says little
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
  assert model.record['key_layout'] == 'transformers_4'
  assert model.record['weights'].endswith('weights.pt')
  assert model.model.action_spec == (2, 5)
  assert model.model.config.predictor.dropout == 0.1
  assert all(
    x.dtype == jnp.float32 for x in jax.tree_util.tree_leaves(model.params)
  )


def test_actions_keep_their_units_or_a_warning_says_that_they_are_unknown():
  np.testing.assert_array_equal(load(FIXTURE).units.mean, [0.5, -1])
  with pytest.warns(UserWarning, match='no action statistics there.*deviation'):
    model = load(FIXTURE, action_statistics=None)
  actions = jnp.arange(10.0).reshape(5, 2)
  np.testing.assert_array_equal(
    model.normalize_actions(actions), actions.ravel()
  )
  assert 'unknown' in model.record['action_statistics']
  with pytest.raises(
    ValueError, match=r'expected 1 raw .*action_block=10.*\[2'
  ):
    load(FIXTURE, action_block=10)
  with pytest.raises(ValueError, match='input_dim=10 is not a multiple of act'):
    load(FIXTURE, action_block=4)


@pytest.mark.parametrize('layout', lewm.LAYOUTS)
def test_there_and_back_is_exact(layout, tmp_path):
  model = load(FIXTURE)
  interop.write_lewm(tmp_path, model.model.config, model.params, layout=layout)
  back = load(tmp_path)
  assert back.model == model.model
  assert back.record['key_layout'] == layout
  jax.tree.map(np.testing.assert_array_equal, back.params, model.params)
  written = state_dicts.read(tmp_path / 'model.safetensors')
  published = state_dicts.read(FIXTURE / 'weights.pt')
  if layout == 'transformers_4':
    assert written.keys() == published.keys()
    for name, tensor in written.items():
      assert tensor.shape == published[name].shape
      np.testing.assert_array_equal(tensor, published[name], err_msg=name)
  else:
    assert not written.keys() <= published.keys()
    assert len(written) == len(published)


def test_the_full_size_has_the_published_number_of_tensors(monkeypatch):
  monkeypatch.undo()
  shapes = jax.eval_shape(models_lewm.LeWM().build().init, jax.random.key(0))
  empty = jax.tree.map(lambda x: np.broadcast_to(0.0, x.shape), shapes)
  tensors = lewm.to_source(empty)
  # Counted in stable-worldmodel 0.1.1: swm.md, section 2.
  assert len(tensors) == 303
  statistics = ('running_mean', 'running_var', 'num_batches_tracked')
  assert (
    sum(x.size for name, x in tensors.items() if not name.endswith(statistics))
    == 18_034_478
  )


def test_other_forms_of_the_same_release(folder, tmp_path):
  # le-wm reads configs without classes; 0.1.1's script saves what is around.
  config = json.loads((folder / 'config.json').read_text())
  bare = {k: dict(config[k]) for k in config if k != '_target_'}
  for section in bare.values():
    for key in ('_target_', 'norm_fn'):
      section.pop(key, None)
  reference = load(folder)
  for content in (bare, {'model': config, 'seed': 3072}):
    (folder / 'config.json').write_text(json.dumps(content))
    model = load(folder)
    assert model.model == reference.model
    jax.tree.map(np.testing.assert_array_equal, model.params, reference.params)
  (folder / 'weights.pt').rename(folder / 'weights_epoch_100.pt')
  assert load(folder).model == reference.model
  assert load(folder / 'weights_epoch_100.pt').model == reference.model
  (folder / 'other.pt').touch()
  with pytest.raises(ValueError, match=r'2 files of weights, such as other.pt'):
    load(folder)


def rewrite(folder, **changes):
  """The fixture's weights as safetensors, some of them changed."""
  tensors = state_dicts.read(folder / 'weights.pt') | changes
  tensors = {k: x for k, x in tensors.items() if x is not None}
  state_dicts.write_safetensors(folder / 'model.safetensors', tensors)


def test_what_is_left_out_is_told_from_what_is_ignored(folder):
  rewrite(
    folder,
    **{
      'encoder.embeddings.mask_token': np.zeros((1, 1, 6), np.float32),
      'projector.net.1.num_batches_tracked': None,
    },
  )
  reference = load(FIXTURE)
  jax.tree.map(
    np.testing.assert_array_equal, load(folder).params, reference.params
  )


BLOCK = 'encoder.encoder.layer.1'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {f'{BLOCK}.intermediate.dense.weight': np.zeros((8, 6), np.float32)},
      f"the tensor '{BLOCK}.intermediate.dense.weight' is [8, 6], expected "
      '[9, 6] by its config; take',
    ),
    (
      {
        f'{BLOCK}.output.dense.bias': None,
        'predictor.pos_embedding': np.zeros((1, 2, 6), np.float32),
      },
      f"'{BLOCK}.output.dense.bias' is missing, expected [6] by its config, "
      'and 1 other differ;',
    ),
    (
      {f'head.{x}': np.zeros(2, np.float32) for x in 'abc'},
      "'head.a' [2] has no place in the model by its config, and 2 others "
      'differ;',
    ),
    (
      {'projector.net.1.running_var': None},
      'only one of projector and pred_proj has batch norm',
    ),
  ],
)
def test_weights_that_do_not_fit_their_config(folder, changes, message):
  rewrite(folder, **changes)
  with pytest.raises(ValueError, match=re.escape(message)):
    load(folder)


@pytest.mark.parametrize(
  ('section', 'changes', 'message'),
  [
    ('encoder', {'size': 'vast'}, "size is 'vast', the model has micro, tiny"),
    ('encoder', {'hidden_act': 'relu'}, "'encoder' sets 'hidden_act', which"),
    ('predictor', {'depth': None}, "'predictor' has no 'depth'"),
    ('predictor', {'hidden_dim': 8}, 'has input_dim=6, the model needs 8'),
    ('action_encoder', {'mlp_scale': 2}, 'mlp_scale=2, the model needs 4'),
    ('pred_proj', {'hidden_dim': 9}, 'hidden_dim=9, the model needs 10'),
    (None, {'projector': None}, "no 'projector', the model has all of enc"),
    (None, {'_target_': 'wm.PLDM'}, "'wm.PLDM'); known are: LeWM of stable"),
    (None, {'format_version': 1}, 'WorldModel.from_checkpoint reads it'),
  ],
)
def test_a_config_of_something_else(folder, section, changes, message):
  edit(folder, section, **changes)
  with pytest.raises(ValueError, match=re.escape(message)):
    load(folder)


def test_folders_that_are_not_there(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='nothing is downloaded here, get'
  ):
    load('quentinll/lewm-nowhere')
  with pytest.raises(FileNotFoundError, match='no weights there, expected'):
    load(tmp_path)
  shutil.copy(FIXTURE / 'weights.pt', tmp_path)
  with pytest.raises(FileNotFoundError, match=r'config.json: missing beside'):
    load(tmp_path)
  (tmp_path / 'config.json').write_text('{"_target_": ')
  with pytest.raises(ValueError, match=r'is cut off or damaged'):
    load(tmp_path)
  (tmp_path / 'config.json').write_text('[]')
  with pytest.raises(ValueError, match='expected an object, got list'):
    load(tmp_path)


def test_only_what_was_published_can_be_written_back():
  model = load(FIXTURE)
  with pytest.raises(ValueError, match=r"layout must be one of .*got 'flax'"):
    lewm.to_source(model.params, layout='flax')
  params = {**model.params['params'], 'probe': {'kernel': jnp.ones((2, 2))}}
  with pytest.raises(ValueError, match=r"no place for 'params/probe/kernel';"):
    lewm.to_source({**model.params, 'params': params})
  for changes, message in (
    ({'encoder': conv.ImpalaConfig()}, "encoder.name='vit', .*name='impala'"),
    ({'projector': projectors.LinearConfig()}, "this one .*name='linear'"),
    ({'predictor': causal.CausalConfig(width=128)}, 'has predictor.width=128'),
    (
      {'encoder': vit.ViTConfig(pixel_norm='white_ground')},
      "this one has encoder.pixel_norm='white_ground'",
    ),
    ({'predicts': 'change'}, "this one has predicts='change'"),
  ):
    with pytest.raises(ValueError, match=message):
      lewm.to_config(models_lewm.LeWM(**changes))
