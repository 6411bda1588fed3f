import golden_files
import jax
import numpy as np
import pytest

from jepa_wm import interop
from jepa_wm.interop import state_dicts
from jepa_wm.interop import vjepa2_ac as layout


@pytest.fixture(scope='module')
def tensors():
  return golden_files.state_dict(golden_files.load('vjepa2_ac_tiny')[0])


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
  name = 'predictor_blocks.0.mlp.fc1.weight'
  rows, columns = tensors[name].shape
  bias = tensors['predictor_proj.bias']
  cut = {
    **tensors,
    name: tensors[name][: rows // 2],
    'predictor_proj.bias': bias[:-1],
  }
  state_dicts.write_safetensors(tmp_path / 'ac.safetensors', cut)
  with pytest.raises(
    ValueError,
    match=rf'0\.mlp\.fc1\.weight.* is \[{rows // 2}, {columns}\], '
    rf'expected \[{rows}, {columns}\].*1 other',
  ):
    interop.read_vjepa2_ac(tmp_path / 'ac.safetensors', variables)
