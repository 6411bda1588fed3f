"""Plays policies in a pool of rows, all rows a step at a time."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jepa_wm.envs import host, host_pool


@dataclasses.dataclass(frozen=True)
class Played:
  """What happened in `n` rows.

  Attributes:
    vectors: float32 `[n, T + 1, V]`, true states; frozen where a row stopped.
    proprio: float32 `[n, T + 1, S]`.
    actions: float32 `[n, T, A]`, zero where a row had stopped.
    rewards: float32 `[n, T]`, NaN where there was none.
    pixels: uint8 `[n, T + 1, image_size, image_size, 3]`, or None.
    length: int `[n]`, frames up to where a row stopped, the first included.
    is_done: `[n]`, whether it stopped because it was done.
    failures: row number `0..n-1` to why its world broke; a failed row stopped
      at the last frame before.
  """

  vectors: np.ndarray
  proprio: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  pixels: np.ndarray | None
  length: np.ndarray
  is_done: np.ndarray
  failures: dict[int, str]


def play(
  pool: host_pool.Pool,
  rows: np.ndarray,
  acts: Sequence[host.Act],
  *,
  num_steps: int,
  look: bool = False,
  done_fn: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Played:
  """Plays from where the rows are.

  Args:
    pool: its `rows` have been reset or placed, and looked at if `look`.
    rows: `[n]`.
    acts: `[n]`, who plays in each row.
    num_steps: steps `T` at most.
    look: whether to render every frame.
    done_fn: `(vectors [m, V], indices [m]) -> [m]`: whether those of the `n`
      are done, asked at the first frame too; one that is stops. None: only the
      clock stops it.
  """
  world, count = pool.world, len(rows)
  vectors = np.zeros((count, num_steps + 1, world.vector_dim), np.float32)
  proprio = np.zeros((count, num_steps + 1, world.proprio_dim), np.float32)
  actions = np.zeros((count, num_steps, world.action_dim), np.float32)
  rewards = np.full((count, num_steps), np.nan, np.float32)
  frame = (world.image_size, world.image_size, 3)
  pixels = np.zeros((count, num_steps + 1, *frame), np.uint8) if look else None
  length = np.ones(count, int)
  is_done = np.zeros(count, bool)
  going = ~pool.has_failed(rows)
  for t in range(num_steps + 1):
    # A row that has just failed shows what was before its last action.
    now = np.flatnonzero(going & ~pool.has_failed(rows))
    vectors[now, t:] = pool.vectors(rows[now])[:, None]
    proprio[now, t:] = pool.proprio(rows[now])[:, None]
    if pixels is not None:
      pixels[now, t] = pool.pixels(rows[now])
    length[now] = t + 1
    if done_fn is not None:
      is_done[now] = done_fn(vectors[now, t], now)
    going = np.zeros(count, bool)
    going[now] = ~is_done[now]
    now = np.flatnonzero(going)
    if t == num_steps or not len(now):
      break
    seen = zip(now, pool.vectors(rows[now]), pool.proprio(rows[now]))
    for i, vector, feels in seen:
      chosen = np.asarray(acts[int(i)](vector, feels))
      what, shape = 'a policy of the world', (world.action_dim,)
      # A world answers for itself what it makes of NaN.
      host.check_numbers(what, chosen, shape, finite=False)
      # What is recorded is what is played.
      actions[i, t] = chosen
    steps = pool.play(rows[now], actions[now, t, None], look=look)
    rewards[now, t] = steps.rewards[:, 0]
  failures = {
    i: pool.failures[int(row)]
    for i, row in enumerate(rows)
    if int(row) in pool.failures
  }
  return Played(
    vectors, proprio, actions, rewards, pixels, length, is_done, failures
  )


def stream(*numbers: int) -> np.random.Generator:
  """Random numbers that depend on `numbers` alone, all of them non-negative."""
  return np.random.default_rng(np.random.SeedSequence(numbers))
