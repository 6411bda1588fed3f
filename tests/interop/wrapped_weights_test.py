"""Weights by other names, types and files than those of a release."""

import json
import struct

import jax
import ml_dtypes
import numpy as np
import pytest

from jepa_wm import exports, interop, models
from jepa_wm.interop import pretrained, state_dicts
from jepa_wm.recipes import frozen_encoders

LEWM = models.from_config(
  {
    'name': 'lewm',
    'latent_dim': 16,
    'encoder': {'image_size': 28, 'patch_size': 14},
    'projector': {'hidden_dim': 32},
    'actions': {'features': 16},
    'predictor': {
      'width': 16,
      'depth': 1,
      'num_heads': 1,
      'head_dim': 8,
      'mlp_dim': 16,
      'dropout': 0.0,
    },
  }
)
VIDEO = models.from_config(
  {
    'name': 'vjepa',
    'encoder': {
      'image_size': 128,
      'num_frames': 4,
      'width': 64,
      'depth': 1,
      'num_heads': 1,
      'mlp_dim': 64,
    },
    'predictor': {
      'width': 64,
      'depth': 1,
      'num_heads': 1,
      'mlp_dim': 64,
      'num_mask_tokens': 2,
    },
  }
)


def fresh(model):
  """Variables as before the first step, every array of its own level."""
  shapes = exports.inference_shapes(model)
  leaves, tree = jax.tree.flatten(shapes)
  return tree.unflatten(
    [np.full(x.shape, i, np.float32) for i, x in enumerate(leaves)]
  )


def equal(a, b):
  return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


@pytest.fixture(scope='module')
def lewm(tmp_path_factory):
  folder = tmp_path_factory.mktemp('lewm')
  pretrained.write_lewm(folder, LEWM.config, fresh(LEWM))
  return (
    (folder / 'config.json').read_text(),
    state_dicts.read(folder / 'model.safetensors'),
    interop.read(folder).variables,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('rename', 'prefixes'),
  [
    ('_orig_mod.{}', ['_orig_mod.']),
    ('module.{}', ['module.']),
    ('model.{}', ['model.']),
    ('module._orig_mod.model.{}', ['module._orig_mod.model.']),
    ('INNER', ['encoder._orig_mod.', 'predictor.module.']),
  ],
)
def test_prefixes_that_all_names_share_are_taken_off(
  lewm, tmp_path, rename, prefixes
):
  config, tensors, variables = lewm
  if rename == 'INNER':
    swapped = {
      name.replace('encoder.', 'encoder._orig_mod.', 1)
      if name.startswith('encoder.')
      else name.replace('predictor.', 'predictor.module.', 1): x
      for name, x in tensors.items()
    }
  else:
    swapped = {rename.format(name): x for name, x in tensors.items()}
  if rename == 'module.{}':
    # As an averaged model has it.
    swapped['n_averaged'] = np.ones((), np.int64)
  (tmp_path / 'config.json').write_text(config, encoding='utf-8-sig')
  state_dicts.write_safetensors(tmp_path / 'model.safetensors', swapped)
  (tmp_path / '._other.safetensors').write_bytes(b'\x00\x05\x16\x07')
  found = interop.read(tmp_path)
  assert found.record['prefixes'] == prefixes
  assert equal(found.variables, variables)


def test_a_prefix_that_is_not_known_is_named(lewm, tmp_path):
  config, tensors, _ = lewm
  (tmp_path / 'config.json').write_text(config)
  state_dicts.write_safetensors(
    tmp_path / 'model.safetensors',
    {f'student.{name}': x for name, x in tensors.items()},
  )
  with pytest.raises(ValueError, match=r"begin with 'student\.', .* no prefix"):
    interop.read(tmp_path)


def test_a_classifier_s_encoder_is_read_and_its_head_named(tmp_path):
  pretrained.write_masked(tmp_path, VIDEO, fresh(VIDEO))
  path = tmp_path / 'model.safetensors'
  tensors = state_dicts.read(path)
  expected = interop.read(tmp_path).variables
  head = {
    'pooler.query_tokens': np.zeros((1, 1, 64), np.float32),
    'classifier.weight': np.zeros((2, 64), np.float32),
  }
  for outer in ('', 'module.'):
    named = {f'vjepa2.{name}': x for name, x in tensors.items()} | head
    state_dicts.write_safetensors(
      path, {outer + name: x for name, x in named.items()}
    )
    found = interop.read(tmp_path)
    assert found.record['left_out'] == ['classifier', 'pooler']
    assert equal(found.variables, expected)


def test_a_fresh_model_is_written_as_it_trains(tmp_path):
  shapes = jax.eval_shape(VIDEO.init, jax.random.key(0))
  variables = jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes)
  pretrained.write_masked(tmp_path, VIDEO, variables)
  found = interop.read(tmp_path).variables['params']
  target = variables['target']['params']['encoder']
  # The layout holds one encoder, the one that encodes.
  for part in ('encoder', 'target_encoder'):
    assert equal(found[part], target)


@pytest.mark.parametrize(
  ('kind', 'dtype'),
  [
    ('F8_E4M3', 'float8_e4m3fn'),
    ('F8_E5M2', 'float8_e5m2'),
    ('BF16', 'bfloat16'),
    ('F16', 'float16'),
    ('BOOL', 'bool'),
    ('I64', 'int64'),
  ],
)
def test_every_dtype_of_safetensors(tmp_path, kind, dtype):
  dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
  value = np.array([[0, 1, 1]]).astype(dtype)
  path = write(
    tmp_path, {'w': tensor(kind, [1, 3], 0, value.nbytes)}, value.tobytes()
  )
  found = state_dicts.read(path)['w']
  assert found.dtype == dtype
  np.testing.assert_array_equal(found.astype(np.float32), [[0, 1, 1]])


def tensor(kind, shape, begin, end):
  return {'dtype': kind, 'shape': shape, 'data_offsets': [begin, end]}


def write(folder, header, data=bytes(8), length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(text) if length is None else length
  path = folder / 'x.safetensors'
  path.write_bytes(struct.pack('<Q', length) + text + data)
  return path


@pytest.mark.parametrize(
  ('header', 'length'),
  [
    ({'a': tensor('F32', [2], 0, 8)}, 2**62),
    ({'a': tensor('F32', [2], 0, 8)}, 5),
    ({'a': tensor('F32', [1], 0, 4), 'b': tensor('F32', [1], 2, 6)}, None),
    ({'a': tensor('F32', [1], 4, 8)}, None),
    ({'a': tensor('F32', [1], 0, 4)}, None),
    ({'a': tensor('F32', [2**40], 0, 2**42)}, None),
    ({'a': tensor('F32', [2**40], 0, 8)}, None),
    ({'a': tensor('F32', [-2], 0, 8)}, None),
    ({'a': tensor('F32', [2], 8, 0)}, None),
    ({'a': tensor('F32', [2.0], 0, 8)}, None),
    ({'a': tensor('F31', [2], 0, 8)}, None),
    ({'a': tensor(5, [2], 0, 8)}, None),
    ({'a': tensor('F32', [2**62, 2**62, 0], 0, 0)}, None),
    ({'a': tensor('F32', [1] * 100 + [2], 0, 8)}, None),
    ({'a': 5}, None),
    ([], None),
    (b'[' * 100_000, None),
    (b'\xff\xfe', None),
    (b'', None),
  ],
)
def test_headers_that_lie(tmp_path, header, length):
  path = write(tmp_path, header, length=length)
  for door in (state_dicts.read, interop.read, frozen_encoders.read):
    with pytest.raises(ValueError, match=r'x\.safetensors: '):
      door(path)


@pytest.mark.parametrize(
  'name', ['model.safetensors', 'weights.pt', 'config.json']
)
def test_git_lfs_pointers(lewm, tmp_path, name):
  (tmp_path / 'config.json').write_text(lewm[0])
  if name == 'config.json':
    state_dicts.write_safetensors(tmp_path / 'model.safetensors', lewm[1])
  (tmp_path / name).write_text('version https://git-lfs.github.com/spec/v1\n')
  with pytest.raises(ValueError, match=f'{name} is a git-lfs pointer'):
    interop.read(tmp_path)
