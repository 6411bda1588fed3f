"""Every reader of foreign files, given a broken one, says so in a sentence."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from jepa_wm import exports, interop, models
from jepa_wm.interop import dinov2, masked_layouts, state_dicts, vjepa2_ac
from jepa_wm.recipes import frozen_encoders

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'
VIDEO = models.from_config(
  {
    'name': 'vjepa',
    'encoder': {'width': 64, 'depth': 1, 'num_heads': 1, 'mlp_dim': 96},
    'predictor': {'width': 72, 'depth': 1, 'num_heads': 12, 'mlp_dim': 32},
  }
)
ACTING = models.from_config(
  {
    'name': 'vjepa2_ac',
    'encoder': {
      'encoder': {
        'name': 'video_vit',
        'width': 64,
        'depth': 1,
        'num_heads': 1,
        'mlp_dim': 96,
      }
    },
    'predictor': {'width': 64, 'depth': 1, 'num_heads': 1, 'mlp_dim': 32},
  }
)


def zeros(shapes):
  return jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)


def dinov2_tensors(layout):
  """All of the small size, in no memory."""
  module = dinov2.dinov2.Dinov2(**dinov2.dinov2.SIZES['small'])
  image = np.zeros((1, 518, 518, 3), np.float32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), image)
  return dinov2.to_tensors(zeros(shapes), layout=layout)


def tensors_of(name):
  """What a file holds, and who reads it."""
  if name.startswith('dinov2'):
    return dinov2_tensors(name[7:]), interop.read_dinov2
  if name == 'vjepa':
    variables = zeros(exports.inference_shapes(VIDEO))
    return masked_layouts.to_source(VIDEO, variables), interop.read
  variables = zeros(exports.inference_shapes(ACTING))
  return vjepa2_ac.to_source(ACTING, variables), interop.read


SOURCES = ('vjepa', 'vjepa2_ac', 'dinov2_facebook', 'dinov2_transformers_4')


@pytest.fixture(scope='module', params=SOURCES)
def source(request):
  return tensors_of(request.param)


@pytest.mark.slow
def test_a_whole_file_is_read(source, tmp_path):
  tensors, read = source
  path = tmp_path / 'x.safetensors'
  state_dicts.write_safetensors(path, tensors)
  assert read(path) and frozen_encoders.read(path).encoder


def test_a_cut_off_safetensors_file(source, tmp_path):
  tensors, read = source
  path = tmp_path / 'x.safetensors'
  state_dicts.write_safetensors(path, tensors)
  whole = path.read_bytes()
  for length in (len(whole) - 1, len(whole) // 2, 5):
    path.write_bytes(whole[:length])
    for door in (read, frozen_encoders.read):
      with pytest.raises(ValueError, match=r'x\.safetensors: .*may be cut off'):
        door(path)


def test_a_cut_off_torch_file(source, write_torch, tmp_path):
  tensors, read = source
  path = write_torch(tmp_path / 'x.pt', tensors)
  whole = path.read_bytes()
  for length in (len(whole) - 1, len(whole) // 2, 40):
    path.write_bytes(whole[:length])
    for door in (read, frozen_encoders.read):
      with pytest.raises(ValueError, match=r'x\.pt: the end .* copy the file'):
        door(path)


def test_wrong_sizes_name_the_first_and_count_the_others(source, tmp_path):
  tensors, read = source
  # Of the last block, so that nothing that tells the sizes is among them.
  first = [x for x in tensors if x.endswith('norm2.bias')][-1]
  path = tmp_path / 'x.safetensors'
  wrong = {**tensors, first: np.zeros(5, np.float32)}
  state_dicts.write_safetensors(path, wrong)
  width = len(tensors[first])
  with pytest.raises(
    ValueError, match=rf"{first}' is \[5\], expected \[{width}\] .*config; take"
  ):
    read(path)
  del wrong[first.replace('norm2.bias', 'norm2.weight')]
  state_dicts.write_safetensors(path, wrong)
  with pytest.raises(ValueError, match=r'norm2.bias. is .* and 1 other differ'):
    read(path)


def test_a_command_is_executed_behind_no_door(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'weights.pt'
  shutil.copy(FIXTURES / 'malicious.pt', path)
  for door in (
    interop.read,
    interop.read_dinov2,
    interop.is_dinov2,
    frozen_encoders.read,
    exports.WorldModel.from_pretrained,
    lambda x: interop.read_vjepa2_ac(x, {}),
  ):
    with pytest.raises(ValueError, match='nothing was executed'):
      door(path)
  assert list(tmp_path.iterdir()) == [path]


def test_lewm_s_folder_with_weights_of_another_size(tmp_path):
  folder = shutil.copytree(FIXTURES / 'lewm', tmp_path / 'lewm')
  weights = folder / 'weights.pt'
  # Its config says ViT-tiny, its weights are thinner (see the other tests).
  with pytest.raises(
    ValueError, match=r'is \[.*6.*\], expected \[.*192.*\] .* \d+ others differ'
  ):
    interop.read(folder)
  weights.write_bytes(weights.read_bytes()[:-30])
  with pytest.raises(ValueError, match='end of the zip container is missing'):
    interop.read(folder)


def test_folders_of_nothing_known(tmp_path):
  with pytest.raises(FileNotFoundError, match='no weights there'):
    interop.read(tmp_path)
  state_dicts.write_safetensors(
    tmp_path / 'model.safetensors', {'x': np.zeros(1, np.float32)}
  )
  with pytest.raises(FileNotFoundError, match='missing beside the weights'):
    interop.read(tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'bert'}))
  for door in (interop.read, frozen_encoders.read):
    with pytest.raises(ValueError, match=r'not the config of a source.*2-AC'):
      door(tmp_path)
