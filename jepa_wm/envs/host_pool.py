"""Many rows of a host world at once, in worker processes."""

import collections
import contextlib
import math
import multiprocessing
import os
import signal
from collections.abc import Iterable, Sequence
from multiprocessing import connection
from typing import Any

import numpy as np
import PIL.Image

from jepa_wm.envs import host

Command = tuple[int, str, Any]
"""Row, what to do, and with what."""


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
      timeout: seconds after which a row that has not answered is given up.

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
    self._journals: dict[int, list[Command]] = {}
    self._workers: list[_Process | _Here] = []
    count = min(num_workers, num_rows)
    context = multiprocessing.get_context('spawn')
    make = context.RawArray if count else _array
    sizes = {
      'vectors': ('d', num_rows * world.vector_dim),
      'proprio': ('d', num_rows * world.proprio_dim),
      'pixels': ('B', num_rows * world.image_size**2 * 3),
    }
    memory = {name: make(*size) for name, size in sizes.items()}
    self._views = _views(memory, num_rows, world.image_size)
    if not count:
      self._workers = [_Here(world.open, memory, num_rows, world.image_size)]
    for _ in range(count):
      self._workers.append(
        _Process(
          context,
          (world.open, memory, num_rows, world.image_size),
          timeout,
        )
      )

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

  def step(
    self,
    rows: Sequence[int] | np.ndarray,
    actions: np.ndarray,
    *,
    look: bool = False,
  ) -> None:
    """Plays one action in each of `rows`; those that failed stand still.

    Args:
      rows: `[n]`, each at most once.
      actions: `[n, A]`, raw.
      look: whether to render them as well.
    """
    actions = np.asarray(actions, np.float64)
    if actions.shape != (len(rows), self.world.action_dim):
      raise ValueError(
        f'actions must have shape {(len(rows), self.world.action_dim)}, got '
        f'{actions.shape}.'
      )
    self._do(
      [
        (int(row), 'look and step' if look else 'step', action)
        for row, action in zip(rows, actions)
      ]
    )

  def look(self, rows: Sequence[int] | np.ndarray) -> None:
    """Renders `rows`; see `pixels`."""
    self._do([(int(row), 'look', None) for row in rows])

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

  def _begin(self, commands: list[Command], look: bool) -> None:
    for row, _, _ in commands:
      self.failures.pop(row, None)
      self._journals.pop(row, None)
    if look:
      commands = [
        (row, 'look and reset', payload) for row, _, payload in commands
      ]
    self._do(commands)

  def _do(self, commands: list[Command]) -> None:
    """Runs commands, those of a worker in order, and keeps the journals."""
    if not self._workers:
      raise ValueError('this pool is closed; make another one.')
    shares: list[collections.deque[Command]] = [
      collections.deque() for _ in self._workers
    ]
    for command in commands:
      if command[0] not in self.failures:
        shares[command[0] % len(shares)].append(command)
    for worker, share in zip(self._workers, shares):
      if share:
        worker.send(list(share))
    for index, share in enumerate(shares):
      self._collect(index, share)

  def _collect(self, index: int, share: collections.deque[Command]) -> None:
    """Waits for the answers to what a worker was sent."""
    worker = self._workers[index]
    while share:
      row, name, payload = share[0]
      answered, error = worker.answer()
      share.popleft()
      if error is None:
        if name != 'look':
          journal = self._journals.setdefault(row, [])
          journal.append((row, name.removeprefix('look and '), payload))
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

  def _bring_back(self, index: int) -> None:
    """Plays again the episodes of a worker that was restarted."""
    lost = collections.deque()
    for row in list(self._journals):
      if row % len(self._workers) == index:
        lost.extend(self._journals.pop(row))
    if lost:
      self._workers[index].send(list(lost))
      self._collect(index, lost)


class _Rows:
  """The rows of one worker, where they live."""

  def __init__(self, open_fn, memory, num_rows: int, image_size: int) -> None:
    self._open = open_fn
    self._views = _views(memory, num_rows, image_size)
    self._image_size = image_size
    self._envs: dict[int, host.HostEnv] = {}

  def do(self, command: Command) -> str | None:
    """Runs a command; returns what went wrong."""
    row, name, payload = command
    try:
      self._do(row, name, payload)
    except Exception as error:
      # The next reset opens it afresh.
      broken = self._envs.pop(row, None)
      try:
        if broken is not None:
          broken.close()
      except Exception:
        pass
      return f'{type(error).__name__}: {error}'
    return None

  def close(self) -> None:
    for env in self._envs.values():
      env.close()
    self._envs = {}

  def _do(self, row: int, name: str, payload: Any) -> None:
    if name.endswith('reset'):
      if row not in self._envs:
        self._envs[row] = self._open()
      seed, vector = payload
      self._envs[row].reset(seed)
      if vector is not None:
        self._envs[row].place(vector)
    if row not in self._envs:
      raise ValueError('the row was never reset or placed.')
    env = self._envs[row]
    if name.endswith('step'):
      env.step(payload)
    vector = np.asarray(env.vector(), np.float64)
    if not np.isfinite(vector).all():
      raise ValueError(f'the world became {vector}.')
    self._views['vectors'][row] = vector
    self._views['proprio'][row] = env.proprio()
    if name.startswith('look'):
      self._views['pixels'][row] = resize(env.render(), self._image_size)


class _Here:
  """A worker that is this process."""

  def __init__(self, *args: Any) -> None:
    self._rows = _Rows(*args)
    self._pending: collections.deque[Command] = collections.deque()

  def send(self, commands: list[Command]) -> None:
    self._pending = collections.deque(commands)

  def answer(self) -> tuple[bool, str | None]:
    return True, self._rows.do(self._pending.popleft())

  def restart(self) -> None:
    """Never needed: nobody else can end this process and leave it running."""

  def close(self) -> None:
    self._rows.close()


class _Process:
  """A worker process."""

  def __init__(self, context: Any, args: tuple[Any, ...], timeout: float):
    self._context, self._args, self._timeout = context, args, timeout
    self._start()

  def send(self, commands: list[Command]) -> None:
    # Should it have died, `answer` will say so.
    with contextlib.suppress(OSError):
      self._pipe.send(commands)

  def answer(self) -> tuple[bool, str | None]:
    """Whether it answered at all, and what went wrong with the next command."""
    try:
      # In slices: a second in which everything was halted counts as one.
      for _ in range(math.ceil(self._timeout)):
        if self._pipe.poll(min(1.0, self._timeout)):
          return True, self._pipe.recv()
    except (EOFError, OSError):
      self._process.join(1.0)
      return False, (
        f'its process died with exit code {self._process.exitcode}'
      )
    return False, f'it did not answer within {self._timeout:g} s'

  def restart(self) -> None:
    self._end()
    self._start()

  def close(self) -> None:
    try:
      self._pipe.send(None)
      self._process.join(5.0)
    except OSError:
      pass
    self._end()

  def _start(self) -> None:
    self._pipe, theirs = self._context.Pipe()
    self._process = self._context.Process(
      target=_work, args=(theirs, *self._args), daemon=True
    )
    try:
      self._process.start()
    except (AttributeError, TypeError) as error:
      raise ValueError(
        'a world is opened in other processes, so `open` and what it is given '
        'must be importable from a module (no lambda, no function inside '
        f'another); {error}.'
      ) from error
    theirs.close()

  def _end(self) -> None:
    self._process.kill()
    self._process.join()
    self._pipe.close()


def _work(pipe: connection.Connection, *args: Any) -> None:
  """What a worker process does until its pipe closes."""
  # Ctrl-C is for the parent, which then closes the pipe.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  rows = _Rows(*args)
  try:
    while (commands := pipe.recv()) is not None:
      for command in commands:
        pipe.send(rows.do(command))
  except (EOFError, OSError):
    pass
  finally:
    rows.close()


def resize(picture: np.ndarray, size: int) -> np.ndarray:
  """Averages a picture over the areas of `size` x `size` pixels.

  Args:
    picture: uint8 `[height, width, 3]`; None is what a Gymnasium environment
      without a render mode gives.
    size: height and width of the result.

  Raises:
    ValueError: there is no picture, or something else.
  """
  if picture is None:
    raise ValueError(
      'render gave no picture; make the environment with '
      "render_mode='rgb_array'"
    )
  picture = np.asarray(picture)
  if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
    raise ValueError(
      'render must give uint8 [height, width, 3], got '
      f'{picture.dtype} {list(picture.shape)}'
    )
  if picture.shape[:2] == (size, size):
    return picture
  image = PIL.Image.fromarray(picture)
  return np.asarray(image.resize((size, size), PIL.Image.Resampling.BOX))


def _array(typecode: str, size: int) -> np.ndarray:
  return np.zeros(size, np.dtype(typecode))


def _views(memory, num_rows: int, image_size: int) -> dict[str, np.ndarray]:
  """The shared memory as arrays of one entry per row."""
  arrays = {
    name: np.frombuffer(part, np.uint8 if name == 'pixels' else np.float64)
    for name, part in memory.items()
    if len(part)
  }
  shapes = {'pixels': (num_rows, image_size, image_size, 3)}
  return {
    name: arrays[name].reshape(shapes.get(name, (num_rows, -1)))
    if name in arrays
    else np.zeros((num_rows, 0))
    for name in memory
  }


def _num_cores() -> int:
  return (
    len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else (os.cpu_count() or 1)
  )
