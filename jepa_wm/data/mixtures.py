"""Batches of several datasets at once, in fixed shares."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Stream = Iterator[Mapping[str, Any]]


def counts(weights: Sequence[float], batch_size: int) -> tuple[int, ...]:
  """How many rows of a batch are of each dataset, by largest remainder.

  Args:
    weights: of the datasets, of any sum.
    batch_size: rows of a batch.

  Raises:
    ValueError: a weight that is not positive, or a dataset without a row.
  """
  if not weights or not all(0 < x < float('inf') for x in weights):
    raise ValueError(f'weights must be positive numbers, got {weights}.')
  exact = np.asarray(weights) * batch_size / sum(weights)
  found = np.floor(exact).astype(int)
  # Stable, so that the first of equal remainders gets the row.
  late = np.argsort(found - exact, kind='stable')
  found[late[: batch_size - found.sum()]] += 1
  if not found.all():
    raise ValueError(
      f'weights={tuple(weights)} give a dataset no row of a batch of '
      f'{batch_size}; take a larger batch, or leave it out.'
    )
  return tuple(found.tolist())


class Mixture:
  """Endless batches, the rows of every dataset one after another.

  Labels and states of several datasets say different things: what is seen is
  all that is kept.
  """

  def __init__(
    self,
    stream_fns: Sequence[Callable[..., Any]],
    weights: Sequence[float],
    *,
    split: str,
    seed: int,
    batch_size: int,
    rows: np.ndarray | None = None,
  ):
    """Opens all streams.

    Args:
      stream_fns: take `split`, `seed`, `batch_size` and `rows`, give endless
        resumable iterators of batches.
      weights: share of each in a batch; they need not sum to 1.
      split: of all.
      seed: of all, each at an order of its own.
      batch_size: rows of a batch.
      rows: as for `windows.cached_windows`.

    Raises:
      ValueError: see `counts`.
    """
    sizes = counts(weights, batch_size)
    ends = np.cumsum(sizes)
    own = [_within(rows, end - size, end) for size, end in zip(sizes, ends)]
    self._streams = [
      stream_fn(
        split=split,
        seed=int(np.random.SeedSequence([seed, index]).generate_state(1)[0]),
        batch_size=size,
        # One whose rows are all of others is still to know its position.
        **(
          {}
          if part is None
          else {'rows': part if len(part) else np.zeros(1, int)}
        ),
      )
      for index, (stream_fn, size, part) in enumerate(
        zip(stream_fns, sizes, own, strict=True)
      )
    ]
    self._sizes = [None if part is None else len(part) for part in own]

  def __iter__(self) -> 'Mixture':
    return self

  def __next__(self) -> dict[str, Any]:
    """`observation` of the next rows of all datasets, `[B, T, ...]`."""
    parts = [next(stream)['observation'] for stream in self._streams]
    names = set.intersection(*(set(part) for part in parts))
    return {
      'observation': {
        name: np.concatenate(
          [np.asarray(part[name])[:x] for part, x in zip(parts, self._sizes)]
        )
        for name in sorted(names)
      }
    }

  def get_state(self) -> Any:
    """Positions of all streams."""
    return [stream.get_state() for stream in self._streams]

  def set_state(self, state: Any) -> None:
    """Goes to positions that `get_state` gave."""
    for stream, position in zip(self._streams, state, strict=True):
      stream.set_state(position)


def _within(rows: np.ndarray | None, first: int, end: int) -> np.ndarray | None:
  """Those of `rows` from `first` to before `end`, counted from `first`."""
  if rows is None:
    return None
  return rows[(rows >= first) & (rows < end)] - first
