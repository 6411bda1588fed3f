"""Batches with what a model draws for them on the host, such as masks."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np


class Draws(Protocol):
  """A model that says what a batch needs; `models.Learns` is one."""

  def draw(
    self, rng: np.random.Generator, batch_size: int
  ) -> Mapping[str, Any]:
    """What a batch of that many samples needs beside data."""
    ...


class DrawnBatches:
  """Adds what the model draws to every batch: of the seed and its number.

  Masks come in few shapes, of which a batch has one. The position in the stream
  is that of the batches and one number. Where several processes share a batch,
  each draws for all of it.

  Args:
    batches: an iterator of batches, leaves `[B, ...]`, with `get_state` and
      `set_state` if it is to be resumed.
    model: what draws.
    seed: of what is drawn.
  """

  def __init__(self, batches: Any, model: Draws, *, seed: int):
    self._batches, self._model, self._seed = batches, model, seed
    self._step = 0

  def __iter__(self) -> 'DrawnBatches':
    return self

  def __next__(self) -> Mapping[str, Any]:
    """The next batch, with what is drawn for it."""
    batch = next(self._batches)
    size = len(jax.tree.leaves(batch)[0])
    first = jax.process_index() * size
    drawn = self._model.draw(
      np.random.default_rng([self._seed, self._step]),
      size * jax.process_count(),
    )
    self._step += 1
    # Every process chose the same shapes, and takes its rows.
    rows = jax.tree.map(lambda x: x[first : first + size], dict(drawn))
    return {**batch, **rows}

  def get_state(self) -> dict[str, Any]:
    """Position after the last batch given."""
    return {'batches': self._batches.get_state(), 'step': self._step}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a position that `get_state` gave."""
    self._batches.set_state(state['batches'])
    self._step = state['step']
