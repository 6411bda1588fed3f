"""What a frozen encoder makes of all frames of a dataset, kept beside it.

Computed once for all runs that use it, and read as it lies on disk: runs of a
study share it, whatever is larger than memory too.
"""

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm import files, lock, processes, provenance
from jepa_wm.recipes import sources

_FILE = 'latents.npy'


def of_frames(
  source: sources.Episodes,
  split: str,
  encode_fn: Callable[[Mapping[str, np.ndarray]], jax.Array],
  identity: Sequence[Any],
) -> np.ndarray:
  """Latents of all frames of a split, computed where nobody has done so yet.

  Args:
    source: of the frames.
    split: 'train' or 'held_out'.
    encode_fn: an observation, arrays `[M, *shape]`, to latents `[M, ...]`.
    identity: what decides the latents beside the frames, in JSON's types.

  Returns:
    float32 `[N, ...]`, mapped from `latents/` in the folder of the episodes; in
    memory where that cannot be written.

  Raises:
    OSError: the disk is full.
    ValueError: the episodes are played anew all the time, or what is there is
      damaged.
  """
  code = provenance.code('networks', 'models', 'units')
  digest = files.digest_json([source.identity, list(identity), code])
  folder = pathlib.Path(source.path) / 'latents' / f'{split}-{digest[:16]}'

  def keep() -> bool:
    if folder.exists():
      lock.tidy(folder.parent)
      return True
    if not os.access(source.path, os.W_OK):
      return False
    with lock.wait(folder.parent):
      if not folder.exists():
        with files.folder_written_whole(folder) as beside:
          blocks = source.encoded(split, encode_fn)
          _write(beside / _FILE, blocks, source.split(split).num_frames)
    return True

  if not processes.from_first(keep):
    return np.concatenate([*source.encoded(split, encode_fn)])
  try:
    return np.load(folder / _FILE, mmap_mode='r', allow_pickle=False)
  except ValueError as error:
    raise ValueError(
      f'{folder} is damaged ({error}); remove it, and the latents are computed '
      'again.'
    ) from error


def _write(
  path: pathlib.Path, blocks: Iterable[np.ndarray], num_frames: int
) -> None:
  """Writes blocks of frames one after the other, as one array."""
  # Not through a mapping, which a full disk kills without a word.
  with path.open('wb') as file:
    for number, block in enumerate(blocks):
      block = np.ascontiguousarray(block, np.float32)
      if not number:
        header = {
          'descr': '<f4',
          'fortran_order': False,
          'shape': (num_frames, *block.shape[1:]),
        }
        np.lib.format.write_array_header_1_0(file, header)
      file.write(block.tobytes())
