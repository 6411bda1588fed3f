"""Named tensors, out of the files that they are published in, and back."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from jepa_wm.interop import torch_files

_WRAPPERS = ('state_dict', 'model')


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The named tensors of a state dict.

  Args:
    path: a safetensors file by its suffix, else a `.pt` file that holds a
      state dict, or one under 'state_dict' or 'model'.

  Returns:
    Names as they are in the file; arrays are read-only and, out of a `.pt`
    file, memory-mapped.

  Raises:
    FileNotFoundError: no such file.
    ValueError: what `torch_files.read` refuses, a file that is cut off, or
      anything but tensors under the names.
  """
  path = pathlib.Path(path)
  if path.suffix == '.safetensors':
    return _read_safetensors(path)
  tensors = torch_files.read(path)
  for wrapper in _WRAPPERS:
    if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict):
      tensors = tensors[wrapper]
  if not isinstance(tensors, dict):
    raise ValueError(
      f'{path}: expected a state dict, which names tensors, got a '
      f'{type(tensors).__name__}; save model.state_dict().'
    )
  for name, value in tensors.items():
    if not isinstance(name, str) or not isinstance(value, np.ndarray):
      raise ValueError(
        f'{path}: expected a state dict, which names tensors, but {name!r} is '
        f'a {type(value).__name__}; save model.state_dict().'
      )
  return tensors


def write_safetensors(
  path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> None:
  """Writes named arrays as a safetensors file that PyTorch reads."""
  # Not ascontiguousarray, which gives a scalar an axis.
  contiguous = {k: np.asarray(x, order='C') for k, x in tensors.items()}
  # Not save_file: it makes files that nobody else may read.
  data = safetensors.numpy.save(contiguous, metadata={'format': 'pt'})
  pathlib.Path(path).write_bytes(data)


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file.')
  try:
    with safetensors.safe_open(path, framework='np') as file:
      return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path}: not a whole safetensors file ({error}); it may be cut off, '
      'copy it again.'
    ) from error
