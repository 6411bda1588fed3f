"""V-JEPA 2-AC's published tensors of its predictor as ours, and back."""

import os
import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from jepa_wm.interop import layouts, state_dicts, torch_files
from jepa_wm.types import Params

# Always in the state dict, never used: an embedding of camera poses.
_IGNORED = ('extrinsics_encoder.weight', 'extrinsics_encoder.bias')
_PREFIXES = ('module.', 'backbone.')


def read_vjepa2_ac(path: str | os.PathLike[str], variables: Params) -> Params:
  """Reads the predictor of V-JEPA 2-AC; nothing in the file is executed.

  Args:
    path: the released `.pt`, whose `predictor` is taken, or a file that holds
      the predictor's tensors alone.
    variables: of `networks.block_causal.TokenPredictor`, or their shapes; what
      the file must hold.

  Returns:
    The predictor's variables, float32.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another model; the message names the first tensor that differs,
      both shapes and how many others differ.
  """
  path = pathlib.Path(path)
  if path.suffix == '.safetensors':
    tensors = state_dicts.read(path)
  else:
    held = torch_files.read(path)
    tensors = held.get('predictor', held) if isinstance(held, dict) else held
    if not isinstance(tensors, dict):
      raise ValueError(
        f'{path}: expected a dict of tensors or of modules, got a '
        f'{type(tensors).__name__}.'
      )
  for prefix in _PREFIXES:
    tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
  _LAYOUT.check(tensors, {'params': variables['params']}, where=str(path))
  return to_variables(tensors)


def to_variables(tensors: Mapping[str, np.ndarray]) -> Params:
  """Published tensors as variables of `networks.block_causal.TokenPredictor`.

  Raises:
    ValueError: a tensor that the predictor does not have.
  """
  params = _LAYOUT.to_variables(tensors)['params']
  return {'params': jax.tree.map(lambda x: np.asarray(x, np.float32), params)}


def to_tensors(variables: Params) -> dict[str, np.ndarray]:
  """Inverts `to_variables`; the camera's embedding, not used, is zero.

  Args:
    variables: of a `networks.block_causal.TokenPredictor` with actions and
      states.

  Raises:
    ValueError: variables of another network.
  """
  params = jax.tree.map(np.asarray, variables['params'])
  width = len(params['norm']['scale'])
  extrinsics = (np.zeros((width, 6), 'f4'), np.zeros(width, 'f4'))
  return {
    **_LAYOUT.to_tensors({'params': params}),
    **dict(zip(_IGNORED, extrinsics)),
  }


def write_vjepa2_ac(path: str | os.PathLike[str], variables: Params) -> None:
  """Writes the predictor as a safetensors file for users of PyTorch.

  Args:
    path: of the file.
    variables: see `to_tensors`.

  Raises:
    ValueError: variables of another network.
  """
  state_dicts.write_safetensors(path, to_tensors(variables))


def _layout() -> layouts.Layout:
  theirs, ours = 'predictor_blocks.{}', 'block_{}'
  attention = [f'{ours}/attention/{x}' for x in ('query', 'key', 'value')]
  return layouts.Layout(
    [
      *layouts.linear('predictor_embed', 'input'),
      *layouts.linear('action_encoder', 'condition_0'),
      *layouts.linear('state_encoder', 'condition_1'),
      *layouts.norm(f'{theirs}.norm1', f'{ours}/attention_norm'),
      *layouts.stacked_linear(f'{theirs}.attn.qkv', attention, bias=True),
      *layouts.linear(f'{theirs}.attn.proj', f'{ours}/attention/out'),
      *layouts.norm(f'{theirs}.norm2', f'{ours}/mlp_norm'),
      *layouts.linear(f'{theirs}.mlp.fc1', f'{ours}/mlp/hidden'),
      *layouts.linear(f'{theirs}.mlp.fc2', f'{ours}/mlp/out'),
      *layouts.norm('predictor_norm', 'norm'),
      *layouts.linear('predictor_proj', 'output'),
    ],
    ignored=_IGNORED,
  )


_LAYOUT = _layout()
