"""Named tensors, out of the files that they are published in, and back."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from jepa_wm import files
from jepa_wm.data import torch_files
from jepa_wm.interop import safetensors_file

_WRAPPERS = ('state_dict', 'model')
_PARTS = ('encoder', 'target_encoder', 'predictor')
# What trainers, compilers and classes with a head put before every name.
_PREFIXES = {
  *('module', '_orig_mod', 'model', 'backbone', 'vjepa2', 'ijepa', 'dinov2')
}
# Trained on top of what is read here, and a counter of averaged models.
_HEADS = {'pooler', 'classifier', 'n_averaged'}


class Published(NamedTuple):
  """Published weights, and what the caller says of them.

  Attributes:
    config: their `config.json`, None where there is none.
    tensors: their state dict.
    action_block: environment steps of one action block, where the source does
      not say; None for what its recipe has.
    encoder: which of two encodes, one of `models.masked.ENCODERS`; None for the
      first.
    where: the tensors are from, for messages.
  """

  config: Mapping[str, Any] | None
  tensors: Mapping[str, np.ndarray]
  action_block: int | None = None
  encoder: str | None = None
  where: str = 'tensors'


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
  path = files.expand(path)
  if path.suffix == '.safetensors':
    return safetensors_file.read(path)
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


def unwrapped(
  tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Tensors by the names that they had before somebody wrapped their model.

  A prefix is taken off where all names share it, of all tensors and then of
  each network's: DDP's 'module.', torch.compile's '_orig_mod.', Lightning's
  'model.', and those of transformers' classes with a head, which is left out.

  Args:
    tensors: a state dict.

  Returns:
    The tensors, and what a record should say of it: nothing, or `prefixes` and
    `left_out`.
  """
  found, prefixes, left_out = dict(tensors), [], set()
  while True:
    found, prefix = _without_prefix(found)
    heads = {name for name in found if name.partition('.')[0] in _HEADS}
    if prefix:
      prefixes.append(prefix)
    if not heads or len(heads) == len(found):
      break
    left_out |= {name.partition('.')[0] for name in heads}
    found = {name: x for name, x in found.items() if name not in heads}
  groups: dict[str, dict[str, np.ndarray]] = {}
  plain: dict[str, np.ndarray] = {}
  for name, tensor in found.items():
    group, dot, rest = name.partition('.')
    if dot:
      groups.setdefault(group, {})[rest] = tensor
    else:
      plain[name] = tensor
  for group, members in groups.items():
    inner, prefix = _without_prefix(members)
    if prefix:
      prefixes.append(f'{group}.{prefix}')
    plain |= {f'{group}.{name}': tensor for name, tensor in inner.items()}
  notes = {'prefixes': prefixes, 'left_out': sorted(left_out)}
  return plain, {name: found for name, found in notes.items() if found}


def write_safetensors(
  path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]
) -> None:
  """Writes named arrays as a safetensors file that PyTorch reads."""
  # Not ascontiguousarray, which gives a scalar an axis.
  contiguous = {k: np.asarray(x, order='C') for k, x in tensors.items()}
  # Not save_file: it makes files that nobody else may read.
  data = safetensors.numpy.save(contiguous, metadata={'format': 'pt'})
  files.expand(path).write_bytes(data)


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
    f'{part}.{name}': tensor
    for part, tensors in parts.items()
    for name, tensor in _without_prefix(tensors)[0].items()
  }


def _without_prefix(tensors: Mapping[Any, Any]) -> tuple[dict[str, Any], str]:
  """Tensors without what stands before all their names, and what that was."""
  found, prefix = {str(name): x for name, x in tensors.items()}, ''
  while True:
    first = {name.partition('.')[0] for name in found}
    if (
      len(first) != 1
      or not first <= _PREFIXES
      or not all('.' in name for name in found)
    ):
      return found, prefix
    prefix += f'{first.pop()}.'
    found = {name.partition('.')[2]: x for name, x in found.items()}
