"""The processes that a pool's rows live in, and what is said to them."""

import collections
import contextlib
import functools
import math
import os
import signal
from multiprocessing import connection
from typing import Any

import numpy as np
import PIL.Image

from jepa_wm.envs import host, painting

Command = tuple[int, str, Any]
"""Row, what to do, and with what."""

_START_SECONDS = 300.0
"""A process that has not begun by then never will; nor has its first world been
opened, for which it may have to import a library first."""

Trail = tuple[np.ndarray, np.ndarray]
"""States `[k, V]` that a row went through, and rewards `[k]`, NaN for none."""

Answer = tuple[str | None, Trail | None]
"""What went wrong, and what a row went through."""


class Rows:
  """The rows of one worker, where they live."""

  def __init__(self, open_fn, memory, num_rows: int, image_size: int) -> None:
    self._open = open_fn
    self._views = views(memory, num_rows, image_size)
    self._image_size = image_size
    self._envs: dict[int, host.HostEnv] = {}

  def do(self, command: Command) -> Answer:
    """Runs a command; returns what went wrong, and where the row went."""
    row, name, payload = command
    try:
      trail = self._do(row, name, payload)
    except Exception as error:
      # The next reset opens it afresh.
      broken = self._envs.pop(row, None)
      with contextlib.suppress(Exception):
        if broken is not None:
          broken.close()
      said = ' '.join(str(error).split())
      return f'{type(error).__name__}: {said:.200}', None
    return None, trail

  def close(self) -> None:
    for env in self._envs.values():
      # What it did is recorded: how it ends changes nothing.
      with contextlib.suppress(Exception):
        env.close()
    self._envs = {}

  def _do(self, row: int, name: str, payload: Any) -> Trail:
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
    trail, rewards = [], []
    vectors, proprio = self._views['vectors'], self._views['proprio']
    for action in payload if name.endswith('play') else ():
      rewards.append(_number(env.step(action)))
      trail.append(_finite('the world', env.vector(), vectors))
    if not trail:
      vectors[row] = _finite('the world', env.vector(), vectors)
    else:
      vectors[row] = trail[-1]
    proprio[row] = _finite('what it feels', env.proprio(), proprio)
    if name.startswith('look'):
      self._views['pixels'][row] = resize(env.render(), self._image_size)
    return np.asarray(trail), np.asarray(rewards, float)


class Here:
  """A worker that is this process."""

  def __init__(self, *args: Any) -> None:
    self._rows = Rows(*args)
    self._pending: collections.deque[Command] = collections.deque()

  def send(self, commands: list[Command]) -> None:
    self._pending = collections.deque(commands)

  def answer(self) -> tuple[bool, str | None, Any]:
    return True, *self._rows.do(self._pending.popleft())

  def restart(self) -> None:
    """Never needed: nobody else can end this process and leave it running."""

  def close(self) -> None:
    self._rows.close()


class Process:
  """A worker process."""

  def __init__(self, context: Any, args: tuple[Any, ...], timeout: float):
    self._context, self._args, self._timeout = context, args, timeout
    self._pipe: Any = None
    self._process: Any = None
    self._is_ready, self._patience = False, timeout
    self._start()

  def send(self, commands: list[Command]) -> None:
    # Should it have died, `answer` will say so.
    with contextlib.suppress(OSError):
      self._pipe.send(commands)

  def answer(self) -> tuple[bool, str | None, Any]:
    """Whether it answered at all, and the answer to the next command."""
    try:
      if not self._is_ready:
        self._is_ready = self._wait(_START_SECONDS) and self._pipe.recv()
      if self._is_ready and self._wait(self._patience):
        answer = self._pipe.recv()
        self._patience = self._timeout
        return True, *answer
    except (EOFError, OSError):
      self._process.join(1.0)
      code = self._process.exitcode
      return False, f'its process died with exit code {code}', None
    return False, f'it did not answer within {self._patience:g} s', None

  def _wait(self, seconds: float) -> bool:
    """Whether something arrives in time."""
    # In slices: a second in which everything was halted counts as one.
    slices = range(math.ceil(seconds))
    return any(self._pipe.poll(min(1.0, seconds)) for _ in slices)

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
    self._is_ready = False
    self._patience = max(self._timeout, _START_SECONDS)
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
  rows = Rows(*args)
  try:
    pipe.send(True)
    while (commands := pipe.recv()) is not None:
      for command in commands:
        pipe.send(rows.do(command))
  except (EOFError, OSError):
    pass
  finally:
    rows.close()
    # What Python would still do for the libraries takes seconds.
    os._exit(0)


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
  height, width = picture.shape[:2]
  if (height, width) == (size, size):
    return picture
  if (height % size or width % size) and size < min(height, width):
    # Pillow's box gives what lies on the edge of two pixels to one of them.
    rows = _shares(height, size).T @ np.float32(picture.reshape(height, -1))
    cells = _shares(width, size).T @ rows.reshape(size, width, 3)
    return np.rint(cells).astype(np.uint8)
  image = PIL.Image.fromarray(picture)
  return np.asarray(image.resize((size, size), PIL.Image.Resampling.BOX))


_shares = functools.cache(painting.area_matrix)


def _finite(what: str, vector: Any, like: np.ndarray) -> np.ndarray:
  """A vector `[V]`, if it is one: `like` `[n, V]` has its size."""
  found = np.asarray(vector, np.float64)
  if found.shape != like.shape[1:]:
    raise ValueError(
      f'{what} became {list(found.shape)} numbers, not {list(like.shape[1:])}'
    )
  if not np.isfinite(found).all():
    raise ValueError(f'{what} became {found}')
  return found


def _number(reward: Any) -> float:
  """A reward, NaN for none."""
  if reward is None:
    return math.nan
  found = float(reward)
  if math.isinf(found):
    raise ValueError(f'the reward became {found}')
  return found


def array(typecode: str, size: int) -> np.ndarray:
  """Zeros of the type that `typecode` names, in place of shared memory."""
  return np.zeros(size, np.dtype(typecode))


def views(memory, num_rows: int, image_size: int) -> dict[str, np.ndarray]:
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
