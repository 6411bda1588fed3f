"""Named tensors out of files, and back; `fixtures/` is PyTorch's own."""

import pathlib

import ml_dtypes
import numpy as np
import pytest

from jepa_wm.interop import state_dicts

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'


def test_a_state_dict_may_be_wrapped(tmp_path):
  # PyTorch's own, a state dict with layout versions as attributes.
  tensors = state_dicts.read(FIXTURES / 'batch_norm.pt')
  assert list(tensors) == [
    'weight',
    'bias',
    'running_mean',
    'running_var',
    'num_batches_tracked',
  ]
  wrapped = state_dicts.read(FIXTURES / 'wrapped.pt')
  assert wrapped.keys() == tensors.keys()
  for name, tensor in tensors.items():
    np.testing.assert_array_equal(tensor, wrapped[name])
  np.testing.assert_array_equal(tensors['running_var'], [1, 1])


def test_what_is_no_state_dict():
  with pytest.raises(ValueError, match=r"'scalars' is a list; save model.stat"):
    state_dicts.read(FIXTURES / 'containers.pt')
  with pytest.raises(ValueError, match='names tensors, got a ndarray'):
    state_dicts.read(FIXTURES / 'tensor.pt')


def test_safetensors_there_and_back(tmp_path):
  path = tmp_path / 'x.safetensors'
  tensors = {
    'half': np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16).T,
    'count': np.zeros((), np.int64),
    'matrix': np.arange(6.0).reshape(2, 3)[:, ::2],
  }
  state_dicts.write_safetensors(path, tensors)
  loaded = state_dicts.read(path)
  assert loaded.keys() == tensors.keys()
  for name, tensor in tensors.items():
    assert (loaded[name].dtype, loaded[name].shape) == (
      tensor.dtype,
      tensor.shape,
    )
    np.testing.assert_array_equal(loaded[name], tensor)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ValueError, match='not a whole safetensors file'):
    state_dicts.read(path)
  with pytest.raises(FileNotFoundError, match='no such file'):
    state_dicts.read(tmp_path / 'nowhere.safetensors')
