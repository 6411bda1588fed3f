"""Worlds that step outside JAX: what they are, and ways to act in them.

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


class HostEnv(Protocol):
  """One row of a world, in the process that steps it. Nothing resets itself."""

  def reset(self, seed: int) -> None:
    """Begins an episode that depends on `seed` alone."""
    ...

  def place(self, vector: np.ndarray) -> None:
    """Moves the world to the state that `vector` `[V]` describes."""
    ...

  def step(self, action: np.ndarray) -> None:
    """Answers one raw `action` `[A]`; values out of bounds are clipped."""
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
  parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    """Checks the picture's size.

    Raises:
      ValueError: an `image_size` that is not a positive integer.
    """
    if not isinstance(self.image_size, int) or self.image_size < 1:
      raise ValueError(
        'image_size must be a positive integer (height and width in pixels), '
        f'got {self.image_size!r}.'
      )

  @property
  def action_dim(self) -> int:
    """Size `A` of a raw action."""
    return len(self.action_low)


def euclidean(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
  """Length of the difference of `[..., V]` and `[..., V]`, `[...]`."""
  return np.linalg.norm(np.asarray(vectors) - np.asarray(goals), axis=-1)


def uniform_policy(world: HostWorld, action_noise: float = 0.0) -> HostPolicy:
  """A fresh uniform action every step: the random floor.

  Args:
    world: whose bounds.
    action_noise: not used.
  """
  del action_noise
  return functools.partial(_act_uniformly, world)


def smooth_policy(world: HostWorld, action_noise: float = 0.0) -> HostPolicy:
  """The random walk of `policies.SmoothRandomPolicy`, in NumPy.

  Args:
    world: whose bounds; one of discrete actions repeats an action for a while.
    action_noise: not used.
  """
  del action_noise
  return functools.partial(_act_smoothly, world)


_CORRELATION_STEPS = 15.0


def _act_uniformly(
  world: HostWorld, rng: np.random.Generator, target: np.ndarray
) -> Act:
  del target

  def act(vector: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    del vector, proprio
    if world.is_discrete:
      return np.eye(world.action_dim)[rng.integers(world.action_dim)]
    return rng.uniform(world.action_low, world.action_high)

  return act


def _act_smoothly(
  world: HostWorld, rng: np.random.Generator, target: np.ndarray
) -> Act:
  del target
  half_range = (world.action_high - world.action_low) / 2.0
  middle = (world.action_high + world.action_low) / 2.0
  keep = np.exp(-1.0 / _CORRELATION_STEPS)
  state = rng.normal(size=world.action_dim)

  def act(vector: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    nonlocal state
    del vector, proprio
    noise = rng.normal(size=world.action_dim)
    state = keep * state + np.sqrt(1.0 - keep**2) * noise
    if world.is_discrete:
      return np.eye(world.action_dim)[np.argmax(state)]
    return middle + half_range * np.clip(state, -1.0, 1.0)

  return act
