"""Named tensors, out of the files that they are published in, and back."""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jepa_wm.data import torch_files

_WRAPPERS = ('state_dict', 'model')
_PARTS = ('encoder', 'target_encoder', 'predictor')
_WRAPPED = re.compile(r'^(module\.|backbone\.)+')


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The named tensors of a state dict.

  Args:
    path: a safetensors file by its suffix, else a `.pt` file that holds a
      state dict, one under 'state_dict' or 'model', or one each under 'encoder'
      and the like, whose names then begin so.

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
  if isinstance(tensors, dict):
    tensors = _parts_in_one(tensors)
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


def _parts_in_one(checkpoint: dict[Any, Any]) -> dict[Any, Any]:
  """The networks of a JEPA's training checkpoint as one state dict.

  Beside them lie the optimiser and some numbers; the names begin with what
  wrapped the networks in training.
  """
  parts = {
    part: value
    for part, value in checkpoint.items()
    if part in _PARTS and isinstance(value, dict)
  }
  if not parts:
    return checkpoint
  return {
    f'{part}.{_WRAPPED.sub("", str(name))}': tensor
    for part, tensors in parts.items()
    for name, tensor in tensors.items()
  }


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
