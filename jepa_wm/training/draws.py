"""Batches with what a model draws for them, such as masks."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np


class Draws(Protocol):
  """A model, as far as it draws: see `models.Learns.draw`."""

  def draw(
    self, rng: np.random.Generator, batch_size: int
  ) -> Mapping[str, Any]:
    """What a batch needs beside data, leaves `[B, ...]`; may be nothing."""
    ...


class DrawnBatches:
  """Adds what a model draws to every batch, by the seed and its number.

  It is drawn on the host, in few shapes. The position in the stream is that of
  the batches and one number. Where several processes share a batch, each draws
  for all of it and takes its rows.

  Args:
    batches: an iterator of batches, leaves `[B, ...]`, with `get_state` and
      `set_state` if it is to be resumed.
    model: draws.
    seed: of what is drawn.
  """

  def __init__(self, batches: Any, model: Draws, *, seed: int):
    self._batches, self._model, self._seed = batches, model, seed
    self._step = 0

  def __iter__(self) -> 'DrawnBatches':
    return self

  def __next__(self) -> Mapping[str, Any]:
    """The next batch, with what the model draws for it."""
    batch = next(self._batches)
    size = len(jax.tree.leaves(batch)[0])
    first = jax.process_index() * size
    drawn = self._model.draw(
      np.random.default_rng([self._seed, self._step]),
      size * jax.process_count(),
    )
    self._step += 1
    # Every process drew the same shapes, and takes its rows.
    rows = jax.tree.map(lambda x: x[first : first + size], drawn)
    return {**batch, **rows}

  def get_state(self) -> dict[str, Any]:
    """Position after the last batch given."""
    return {'batches': self._batches.get_state(), 'step': self._step}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a position that `get_state` gave."""
    self._batches.set_state(state['batches'])
    self._step = state['step']
