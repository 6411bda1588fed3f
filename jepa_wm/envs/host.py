"""Worlds that step outside JAX: what they are.

Such a world lives in worker processes, many rows at once (`host_pool.Pool`),
and is known to everyone else by vectors `[V]`, its true low-dimensional states.
What a JAX world answers about states, a `HostWorld` answers about vectors, in
NumPy and for any leading axes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from jepa_wm.envs import plane


class HostEnv(Protocol):
  """One row of a world, in the process that steps it. Nothing resets itself."""

  def reset(self, seed: int) -> None:
    """Begins an episode that depends on `seed` alone."""
    ...

  def place(self, vector: np.ndarray) -> None:
    """Moves the world to the state that `vector` `[V]` describes."""
    ...

  def step(self, action: np.ndarray) -> float | None:
    """Answers one raw `action` `[A]`; values out of bounds are clipped.

    Returns:
      The reward, None of a world that gives none.
    """
    ...

  def render(self) -> np.ndarray:
    """The picture, uint8 `[height, width, 3]`, of any size."""
    ...

  def vector(self) -> np.ndarray:
    """The true low-dimensional state `[V]`."""
    ...

  def proprio(self) -> np.ndarray:
    """What the body feels of itself, `[S]`."""
    ...

  def close(self) -> None:
    """Gives back what the row holds."""
    ...


Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`(vector [V], proprio [S]) -> action [A]`, for the steps of one episode."""

HostPolicy = Callable[[np.random.Generator, np.ndarray], Act]
"""`(rng, target [V]) -> act`: a way to act in one episode that heads for
`target`, if it heads anywhere. All that is random comes from `rng`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostWorld:
  """Recipe of a world outside JAX, and its rules.

  Attributes:
    open: makes one row; a function that other processes can import, or a
      `functools.partial` of one.
    image_size: height and width of the pictures that a pool gives.
    action_low: lower bounds of a raw action, `[A]`.
    action_high: upper bounds of a raw action, `[A]`.
    vector_dim: size `V`.
    proprio_dim: size `S`, 0 where the body feels nothing.
    distance: `(vectors [..., V], goals [..., V]) -> [...]`, in its unit.
    success: the same arguments; whether vectors count as having reached goals.
    draw_target: `(rng, vector [V]) -> [V]`: where an expert in a new episode
      goes, given its first state.
    is_discrete: whether actions are one-hot rows.
    gives_reward: whether `HostEnv.step` returns a reward.
    parameters: what else describes the world, for the record; JSON-able.
  """

  open: Callable[[], HostEnv]
  image_size: int
  action_low: np.ndarray
  action_high: np.ndarray
  vector_dim: int
  proprio_dim: int
  distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
  success: Callable[[np.ndarray, np.ndarray], np.ndarray]
  draw_target: Callable[[np.random.Generator, np.ndarray], np.ndarray]
  is_discrete: bool = False
  gives_reward: bool = False
  parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    plane.check_image_size(self.image_size)
    low, high = (np.asarray(x) for x in (self.action_low, self.action_high))
    if low.ndim != 1 or low.shape != high.shape or not np.all(low <= high):
      raise ValueError(
        'action_low and action_high must be numbers [A], one no larger than '
        f'the other, got {low} and {high}.'
      )

  def distances(self, vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """What `distance` gives `[..., V]`, if it is a number of each: `[...]`.

    Raises:
      ValueError: it is not.
    """
    return self._of_each('distance', self.distance, vectors, goals)

  def successes(self, vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """What `success` gives `[..., V]`, if it is a bool of each: `[...]`.

    Raises:
      ValueError: it is not.
    """
    found = self._of_each('success', self.success, vectors, goals)
    return found.astype(bool)

  def target(self, rng: np.random.Generator, vector: np.ndarray) -> np.ndarray:
    """What `draw_target` gives for `[V]`, if it is a vector `[V]`.

    Raises:
      ValueError: it is not.
    """
    found = np.asarray(self.draw_target(rng, vector))
    check_numbers('draw_target of the world', found, np.shape(vector))
    return found

  def _of_each(
    self,
    name: str,
    rule: Callable[[np.ndarray, np.ndarray], np.ndarray],
    vectors: np.ndarray,
    goals: np.ndarray,
  ) -> np.ndarray:
    vectors = np.asarray(vectors)
    found = np.array(rule(vectors, goals))
    shape = np.broadcast_shapes(vectors.shape, np.shape(goals))[:-1]
    check_numbers(f'{name} of the world', found, shape)
    return found

  @property
  def action_dim(self) -> int:
    """Size `A` of a raw action."""
    return len(self.action_low)


def check_numbers(
  what: str, found: np.ndarray, shape: tuple[int, ...], *, finite: bool = True
) -> None:
  """Refuses what a user's own function gave.

  Args:
    what: gave it.
    found: by it.
    shape: that it must have.
    finite: whether NaN and infinities are refused as well.

  Raises:
    ValueError: another shape, or no numbers.
  """
  if found.shape != shape or found.dtype.kind not in 'biuf':
    raise ValueError(
      f'{what} must give numbers {list(shape)}, got {found.dtype} '
      f'{list(found.shape)}.'
    )
  if finite and not np.all(np.isfinite(found)):
    raise ValueError(f'{what} must give finite numbers, got {found!r:.200}.')


def heading(begin: Callable[..., Act]) -> dict[str, Callable[..., HostPolicy]]:
  """An 'expert' that stops at its target, a 'wanderer' that goes on to others.

  Args:
    begin: `(action_noise, wanders, rng, target [V]) -> act`; a function that
      other processes can import.
  """
  return {
    name: lambda world, action_noise=0.0, wanders=wanders: functools.partial(
      begin, action_noise, wanders
    )
    for name, wanders in {'expert': False, 'wanderer': True}.items()
  }


def euclidean(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
  """Length of the difference of `[..., V]` and `[..., V]`, `[...]`."""
  return np.linalg.norm(np.asarray(vectors) - np.asarray(goals), axis=-1)
