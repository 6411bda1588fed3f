"""Batches with masks: those of any iterator, and which tokens are hidden."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


class MaskedBatches:
  """Adds `masks` to every batch, a function of the seed and its number.

  They are drawn on the host, in the few shapes that `family.sample_masks`
  gives. The position in the stream is that of the batches and one number.
  Where several processes share a batch, each draws the masks of all of it.

  Args:
    batches: an iterator of batches with `observation`, a mapping of `pixels`
      `[B, ...]`, and with `get_state` and `set_state` if it is to be resumed.
    family: draws the masks.
    seed: of the masks.
  """

  def __init__(self, batches: Any, family: Any, *, seed: int):
    self._batches, self._family, self._seed = batches, family, seed
    self._step = 0

  def __iter__(self) -> 'MaskedBatches':
    return self

  def __next__(self) -> Mapping[str, Any]:
    """The next batch, with its masks."""
    batch = next(self._batches)
    size = len(batch['observation']['pixels'])
    first = jax.process_index() * size
    masks = self._family.sample_masks(
      np.random.default_rng([self._seed, self._step]),
      size * jax.process_count(),
    )
    self._step += 1
    # Every process chose the same bucket, and takes its rows.
    rows = jax.tree.map(lambda x: x[first : first + size], masks)
    return {**batch, 'masks': rows}

  def get_state(self) -> dict[str, Any]:
    """Position after the last batch given."""
    return {'batches': self._batches.get_state(), 'step': self._step}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a position that `get_state` gave."""
    self._batches.set_state(state['batches'])
    self._step = state['step']
