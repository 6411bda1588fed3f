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
    rows: which rows of the whole batch are in `batches`; all by default.
    batch_size: of the whole batch, where `rows` are given.
  """

  def __init__(
    self,
    batches: Any,
    model: Draws,
    *,
    seed: int,
    rows: np.ndarray | None = None,
    batch_size: int = 0,
  ):
    self._batches, self._model, self._seed = batches, model, seed
    self._rows, self._batch_size = rows, batch_size
    self._step = 0

  def __iter__(self) -> 'DrawnBatches':
    return self

  def __next__(self) -> Mapping[str, Any]:
    """The next batch, with what the model draws for it."""
    batch = next(self._batches)
    size = self._batch_size
    if self._rows is None:
      size = len(jax.tree.leaves(batch)[0])
    rng = np.random.default_rng([self._seed, self._step])
    drawn = self._model.draw(rng, size)
    self._step += 1
    if self._rows is not None:
      # Every process drew the same shapes, and takes its rows.
      drawn = jax.tree.map(lambda x: x[self._rows], drawn)
    return {**batch, **drawn}

  def get_state(self) -> dict[str, Any]:
    """Position after the last batch given."""
    return {'batches': self._batches.get_state(), 'step': self._step}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a position that `get_state` gave."""
    self._batches.set_state(state['batches'])
    self._step = state['step']


class OwnRows:
  """Rows of whole batches, for what costs nothing to make whole.

  Args:
    batches: an iterator of batches, leaves `[B, ...]`, with `get_state` and
      `set_state`.
    rows: which are kept.
  """

  def __init__(self, batches: Any, rows: np.ndarray):
    self._batches, self._rows = batches, rows

  def __next__(self) -> Any:
    """The rows of the next batch."""
    return jax.tree.map(lambda x: x[self._rows], next(self._batches))

  def get_state(self) -> Any:
    """Position after the last batch given."""
    return self._batches.get_state()

  def set_state(self, state: Any) -> None:
    """Goes to a position that `get_state` gave."""
    self._batches.set_state(state)
