import pathlib

import jax
import numpy as np
import pytest

from jepa_wm import interop
from jepa_wm.interop import state_dicts
from jepa_wm.interop import vjepa2_ac as layout

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'vjepa2_ac_tiny.npz'


@pytest.fixture(scope='module')
def tensors():
  with np.load(GOLDEN, allow_pickle=False) as file:
    return {
      name[3:]: file[name] for name in file.files if name.startswith('sd/')
    }


def test_there_and_back(tensors, tmp_path):
  variables = layout.to_variables(tensors)
  interop.write_vjepa2_ac(tmp_path / 'ac.safetensors', variables)
  written = state_dicts.read(tmp_path / 'ac.safetensors')
  assert written.keys() == tensors.keys()
  for name in tensors:
    if not name.startswith('extrinsics'):
      np.testing.assert_array_equal(written[name], tensors[name])
  again = interop.read_vjepa2_ac(tmp_path / 'ac.safetensors', variables)
  jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_prefixes_of_parallel_training_are_stripped(tensors, tmp_path):
  variables = layout.to_variables(tensors)
  state_dicts.write_safetensors(
    tmp_path / 'ac.safetensors',
    {f'module.backbone.{name}': x for name, x in tensors.items()},
  )
  again = interop.read_vjepa2_ac(tmp_path / 'ac.safetensors', variables)
  jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_a_misfit_names_the_first_tensor(tensors, tmp_path):
  variables = layout.to_variables(tensors)
  cut = {
    **tensors,
    'predictor_blocks.1.mlp.fc1.weight': np.zeros((64, 32), np.float32),
    'predictor_proj.bias': np.zeros(7, np.float32),
  }
  state_dicts.write_safetensors(tmp_path / 'ac.safetensors', cut)
  with pytest.raises(
    ValueError,
    match=r'1\.mlp\.fc1\.weight.* is \[64, 32\], expected \[128, 32\].*1 other',
  ):
    interop.read_vjepa2_ac(tmp_path / 'ac.safetensors', variables)
