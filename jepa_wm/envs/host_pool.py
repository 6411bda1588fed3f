"""Many rows of a host world at once, in worker processes."""

import collections
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jepa_wm.envs import host, host_workers


class Steps(NamedTuple):
  """Where `k` actions led.

  Attributes:
    vectors: the true states after each action, float64 `[n, k, V]`; of a row
      that fails on the way, where it was before, all along.
    rewards: float64 `[n, k]`, NaN where there was none.
  """

  vectors: np.ndarray
  rewards: np.ndarray


class Pool:
  """Rows of a host world, stepped by worker processes.

  A row depends on its own commands alone: neither the number of workers nor the
  other rows change it. One whose world raises, dies or does not answer is taken
  out and named in `failures`; its worker is restarted if need be, and the rows
  that shared it are brought back to where they were by playing their episodes
  again. `reset` and `place` give a failed row another try.

  Processes are spawned: a script that makes a pool does so under
  `if __name__ == '__main__':`. Use it as a context, or `close` it.

  Attributes:
    world: the world's recipe.
    num_rows: rows.
    failures: row to the reason why it no longer takes part.
  """

  def __init__(
    self,
    world: host.HostWorld,
    num_rows: int,
    *,
    num_workers: int | None = None,
    timeout: float = 60.0,
  ) -> None:
    """Starts the workers; their rows are opened when first used.

    Args:
      world: what to open.
      num_rows: how many of it.
      num_workers: processes; one per core by default, at most one per row. 0:
        rows live in this process, and one that hangs hangs it.
      timeout: seconds after which a row that has not answered is given up; a
        worker's first answer, for which it opens a world, may take 300.

    Raises:
      ValueError: no rows, or a world that cannot be sent to other processes.
    """
    if num_rows < 1:
      raise ValueError(f'num_rows must be at least 1, got {num_rows}.')
    if num_workers is None:
      num_workers = _num_cores()
    if num_workers < 0 or not timeout > 0:
      raise ValueError(
        'num_workers must not be negative and timeout must be positive, got '
        f'{num_workers} and {timeout}.'
      )
    self.world = world
    self.num_rows = num_rows
    self.failures: dict[int, str] = {}
    self._journals: dict[int, list[host_workers.Command]] = {}
    self._workers: list[host_workers.Process | host_workers.Here] = []
    count = min(num_workers, num_rows)
    context = multiprocessing.get_context('spawn')
    make = context.RawArray if count else host_workers.array
    sizes = {
      'vectors': ('d', num_rows * world.vector_dim),
      'proprio': ('d', num_rows * world.proprio_dim),
      'pixels': ('B', num_rows * world.image_size**2 * 3),
    }
    memory = {name: make(*size) for name, size in sizes.items()}
    self._views = host_workers.views(memory, num_rows, world.image_size)
    shared = world.open, memory, num_rows, world.image_size
    if not count:
      self._workers.append(host_workers.Here(*shared))
    for _ in range(count):
      self._workers.append(host_workers.Process(context, shared, timeout))

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def reset(
    self, rows: Sequence[int] | np.ndarray, seeds: Iterable[int], *, look=False
  ) -> None:
    """Begins an episode in each of `rows` from its own seed.

    Args:
      rows: `[n]`.
      seeds: `[n]`.
      look: whether to render them as well.
    """
    self._begin(
      [
        (int(row), 'reset', (int(seed), None)) for row, seed in zip(rows, seeds)
      ],
      look,
    )

  def place(
    self,
    rows: Sequence[int] | np.ndarray,
    vectors: np.ndarray,
    *,
    look: bool = False,
  ) -> None:
    """Moves each of `rows` to the state of its vector.

    Args:
      rows: `[n]`.
      vectors: `[n, V]`.
      look: whether to render them as well.
    """
    vectors = np.asarray(vectors, np.float64)
    self._begin(
      [(int(row), 'reset', (0, vector)) for row, vector in zip(rows, vectors)],
      look,
    )

  def play(
    self,
    rows: Sequence[int] | np.ndarray,
    actions: np.ndarray,
    *,
    look: bool = False,
  ) -> Steps:
    """Plays `k` actions in each of `rows`; those that failed stand still.

    Args:
      rows: `[n]`, each at most once.
      actions: `[n, k, A]`, raw.
      look: whether to render where they lead as well.

    Raises:
      ValueError: actions of another shape.
    """
    actions = np.asarray(actions, np.float64)
    wanted = (len(rows), *actions.shape[1:2], self.world.action_dim)
    if actions.shape != wanted or actions.ndim != 3:
      raise ValueError(
        f'actions must have shape [{len(rows)}, steps, '
        f'{self.world.action_dim}], got {list(actions.shape)}.'
      )
    trails = np.repeat(self.vectors(rows)[:, None], actions.shape[1], axis=1)
    rewards = np.full(actions.shape[:2], np.nan)
    name = 'look and play' if look else 'play'
    answers = self._do(
      [(int(row), name, share) for row, share in zip(rows, actions)]
    )
    for i, row in enumerate(rows):
      if int(row) in answers:
        trails[i], rewards[i] = answers[int(row)]
    return Steps(trails, rewards)

  def look(self, rows: Sequence[int] | np.ndarray) -> None:
    """Renders `rows`; see `pixels`."""
    self._do([(int(row), 'look', None) for row in rows])

  def draw(self, vectors: np.ndarray) -> np.ndarray:
    """What states `[n, V]` look like, `[n, image_size, image_size, 3]`.

    Rows are moved there.

    Raises:
      ValueError: a state that cannot be set or drawn.
    """
    drawn = []
    for first in range(0, len(vectors), self.num_rows):
      share = vectors[first : first + self.num_rows]
      rows = np.arange(len(share))
      self.place(rows, share, look=True)
      for row in range(len(share)):
        if row in self.failures:
          raise ValueError(
            f'the world could not show a state: {self.failures[row]}.'
          )
      drawn.append(self.pixels(rows))
    return np.concatenate(drawn)

  def vectors(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """True states float64 `[n, V]`; of a failed row the last one."""
    return self._views['vectors'][np.asarray(rows)]

  def proprio(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """What the bodies feel, float64 `[n, S]`."""
    return self._views['proprio'][np.asarray(rows)]

  def pixels(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """The last pictures, uint8 `[n, image_size, image_size, 3]`."""
    return self._views['pixels'][np.asarray(rows)]

  def has_failed(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Whether each of `rows` has failed, boolean `[n]`."""
    return np.asarray([int(row) in self.failures for row in rows], bool)

  def close(self) -> None:
    """Ends the workers."""
    for worker in self._workers:
      worker.close()
    self._workers = []

  def _begin(self, commands: list[host_workers.Command], look: bool) -> None:
    for row, _, _ in commands:
      self.failures.pop(row, None)
      self._journals.pop(row, None)
    if look:
      commands = [
        (row, 'look and reset', payload) for row, _, payload in commands
      ]
    self._do(commands)

  def _do(
    self, commands: list[host_workers.Command]
  ) -> dict[int, host_workers.Trail]:
    """Runs commands, at most one a row, and keeps the journals.

    Returns:
      By row that did not fail, what it went through.
    """
    if not self._workers:
      raise ValueError('this pool is closed; make another one.')
    shares: list[collections.deque[host_workers.Command]] = [
      collections.deque() for _ in self._workers
    ]
    for command in commands:
      if command[0] not in self.failures:
        shares[command[0] % len(shares)].append(command)
    for worker, share in zip(self._workers, shares):
      if share:
        worker.send(list(share))
    answers: dict[int, host_workers.Trail] = {}
    for index, share in enumerate(shares):
      answers.update(self._collect(index, share))
    return answers

  def _collect(
    self, index: int, share: collections.deque[host_workers.Command]
  ) -> dict[int, host_workers.Trail]:
    """Waits for the answers to what a worker was sent."""
    worker = self._workers[index]
    answers = {}
    while share:
      row, name, payload = share[0]
      answered, error, trail = worker.answer()
      share.popleft()
      if error is None:
        if name != 'look':
          journal = self._journals.setdefault(row, [])
          journal.append((row, name.removeprefix('look and '), payload))
          answers[row] = trail
        continue
      self.failures.setdefault(row, error)
      self._journals.pop(row, None)
      if not answered:
        worker.restart()
        self._bring_back(index)
        left = [command for command in share if command[0] not in self.failures]
        share.clear()
        share.extend(left)
        if share:
          worker.send(list(share))
    return answers

  def _bring_back(self, index: int) -> None:
    """Plays again the episodes of a worker that was restarted."""
    lost: collections.deque[host_workers.Command] = collections.deque()
    for row in list(self._journals):
      if row % len(self._workers) == index:
        lost.extend(self._journals.pop(row))
    if lost:
      self._workers[index].send(list(lost))
      self._collect(index, lost)


def _num_cores() -> int:
  return (
    len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else (os.cpu_count() or 1)
  )
