"""Any Gymnasium environment as a host world.

`make_world` is all that is needed:

  world = gymnasium.make_world('Pendulum-v1', image_size=64,
      set_state=turn_pendulum, success_distance=0.1)
  with host_pool.Pool(world, 8) as pool: ...

A state is what the environment observes, or what a method of it named by
`get_state` says; it is set by the method named by `set_state`. Nothing resets
by itself: what the environment says about the end of an episode is not asked.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from jepa_wm.envs import host

Make = str | Callable[..., gymnasium.Env]
Method = str | Callable[..., Any]


class GymnasiumEnv:
  """A Gymnasium environment with the face of a `host.HostEnv`.

  Attributes:
    env: the environment.
    action_low: `[A]`.
    action_high: `[A]`.
    is_discrete: whether it takes numbers 0..A-1, ours being one-hot rows.
  """

  def __init__(
    self,
    make: Make,
    kwargs: Mapping[str, Any],
    get_state: Method | None,
    set_state: Method | None,
    get_proprio: Method | None,
  ) -> None:
    """Opens; see `make_world`."""
    self.env = open_unwrapped(make, **kwargs)
    self._get_state, self._set_state = get_state, set_state
    self._get_proprio = get_proprio
    self._observation: Any = None
    low, high, self.is_discrete = _bounds(self.env.action_space)
    self.action_low, self.action_high = low, high

  def reset(self, seed: int) -> None:
    """Begins an episode from `seed`."""
    self._observation, _ = self.env.reset(seed=seed)

  def place(self, vector: np.ndarray) -> None:
    """Sets the state by the method that was named.

    Raises:
      ValueError: none was.
    """
    if self._set_state is None:
      raise ValueError(
        'no method to set a state was named; give make_world set_state, which '
        'a plan needs to begin at its start and to picture its goal'
      )
    self._call(self._set_state, np.asarray(vector))
    # What was observed is of another state now.
    self._observation = None

  def step(self, action: np.ndarray) -> float:
    """Answers `action` `[A]`, clipped to the bounds or decoded from one-hot.

    Returns:
      The reward.
    """
    if self.is_discrete:
      start = getattr(self.env.action_space, 'start', 0)
      return self._step(int(np.argmax(action)) + int(start))
    space: Any = self.env.action_space
    clipped = np.clip(action, self.action_low, self.action_high)
    if np.issubdtype(space.dtype, np.integer):
      clipped = np.rint(clipped)
    return self._step(clipped.reshape(space.shape).astype(space.dtype))

  def render(self) -> np.ndarray:
    """The picture, uint8 `[height, width, 3]`."""
    return self.env.render()

  def vector(self) -> np.ndarray:
    """The state `[V]`.

    Raises:
      ValueError: it is what is observed, and the state was just set.
    """
    if self._get_state is not None:
      return _flat(self._call(self._get_state))
    if self._observation is None:
      raise ValueError(
        'a state was set and nothing has been observed since; name a method '
        'that says the state, get_state'
      )
    return _flat(self._observation)

  def proprio(self) -> np.ndarray:
    """What the body feels, `[S]`; nothing where no method was named."""
    if self._get_proprio is None:
      return np.zeros(0)
    return _flat(self._call(self._get_proprio))

  def close(self) -> None:
    """Closes the environment."""
    self.env.close()

  def _step(self, action: Any) -> float:
    with warnings.catch_warnings():
      # Some warn that an episode is over, which is not theirs to say here.
      warnings.simplefilter('ignore')
      self._observation, reward, *_ = self.env.step(action)
    return float(reward)

  def _call(self, method: Method, *args: Any) -> Any:
    if callable(method):
      return method(self.env, *args)
    found = getattr(self.env, method, None)
    if found is None:
      raise ValueError(
        f'{type(self.env).__name__} has no {method!r}; name one of '
        'its methods, or give a function of the environment'
      )
    return found(*args) if callable(found) else found


@dataclasses.dataclass(frozen=True)
class _Open:
  """Opens an environment; equal to another that opens the same."""

  make: Make
  kwargs: Mapping[str, Any]
  get_state: Method | None
  set_state: Method | None
  get_proprio: Method | None

  def __call__(self) -> GymnasiumEnv:
    fields = dataclasses.fields(self)
    return GymnasiumEnv(*(getattr(self, field.name) for field in fields))


def make_world(
  make: Make,
  *,
  image_size: int,
  kwargs: Mapping[str, Any] | None = None,
  get_state: Method | None = None,
  set_state: Method | None = None,
  get_proprio: Method | None = None,
  distance: Callable[..., np.ndarray] = host.euclidean,
  success_distance: float = 0.0,
  success: Callable[..., np.ndarray] | None = None,
  draw_target: Callable[..., np.ndarray] | None = None,
) -> host.HostWorld:
  """Puts a Gymnasium environment behind our protocol.

  It is opened once here, for the sizes of its spaces. Functions must be
  importable from a module, since worker processes open the environments.

  Args:
    make: an id of Gymnasium's registry, or what makes the environment.
    image_size: height and width of the pictures; what `render` gives is
      averaged over areas.
    kwargs: arguments of the environment.
    get_state: method or attribute of the unwrapped environment, by name, that
      says the true state; or a function of the environment. What is observed
      if left out, a Dict of Boxes in the order of its keys.
    set_state: method that sets such a state, by name, or a function of the
      environment and the state. Planning needs one.
    get_proprio: what says what the body feels of itself, as `get_state`.
    distance: between states `[..., V]`, for example of their first numbers.
    success_distance: distance below which a goal counts as reached.
    success: the rule, where it is another one.
    draw_target: `(rng, vector) -> vector`, where an expert goes; the first
      state of the episode if left out.

  Raises:
    ValueError: an action space that is no Box and not Discrete (a Dict is
      named key by key), a Box without bounds, or an environment that does not
      open.
  """
  open_fn = _Open(make, dict(kwargs or {}), get_state, set_state, get_proprio)
  env = open_fn()
  try:
    env.reset(0)
    sizes = {'vector_dim': len(env.vector()), 'proprio_dim': len(env.proprio())}
  finally:
    env.close()
  name = make if isinstance(make, str) else getattr(make, '__name__', str(make))
  return host.HostWorld(
    open=open_fn,
    image_size=image_size,
    action_low=env.action_low,
    action_high=env.action_high,
    distance=distance,
    success=success or functools.partial(_within, distance, success_distance),
    draw_target=draw_target or _stay,
    is_discrete=env.is_discrete,
    gives_reward=True,
    parameters={'id': name, **(kwargs or {})},
    **sizes,
  )


def open_unwrapped(make: Make, **kwargs: Any) -> Any:
  """Makes an environment and takes Gymnasium's own wrappers off.

  They would end episodes by the clock and ask for a reset then.

  Args:
    make: an id of Gymnasium's registry (drawn as 'rgb_array' unless `kwargs`
      say otherwise), or what makes the environment; its wrappers stay on.
    **kwargs: arguments of the environment.
  """
  with warnings.catch_warnings():
    # Gymnasium warns of spaces' precision and of newer versions.
    warnings.simplefilter('ignore')
    if not isinstance(make, str):
      return make(**kwargs)
    kwargs = {'render_mode': 'rgb_array', **kwargs}
    return gymnasium.make(make, disable_env_checker=True, **kwargs).unwrapped


def _bounds(space: gymnasium.Space) -> tuple[np.ndarray, np.ndarray, bool]:
  """Bounds `[A]` of our actions, and whether they are one-hot rows.

  Raises:
    ValueError: an action space that no planner of ours can search.
  """
  if isinstance(space, gymnasium.spaces.Discrete):
    return np.zeros(int(space.n)), np.ones(int(space.n)), True
  if isinstance(space, gymnasium.spaces.Dict):
    raise ValueError(
      'the action space must be a Box or Discrete, got a Dict of '
      f'{", ".join(space.spaces)}; wrap the environment so that one vector '
      'holds them all (gymnasium.wrappers.TransformAction).'
    )
  if not isinstance(space, gymnasium.spaces.Box):
    raise ValueError(
      f'the action space must be a Box or Discrete, got {space}; wrap the '
      'environment (gymnasium.wrappers.TransformAction).'
    )
  if not space.is_bounded():
    raise ValueError(
      f'the action space must be bounded, got {space}; wrap the environment '
      '(gymnasium.wrappers.RescaleAction).'
    )
  low, high = np.ravel(space.low), np.ravel(space.high)
  return low.astype(np.float64), high.astype(np.float64), False


def _flat(value: Any, key: str = '') -> np.ndarray:
  """An observation as `[V]`: a Dict's or a tuple's parts one after another.

  Raises:
    ValueError: a part that is no number, whose key is named.
  """
  if isinstance(value, Mapping):
    value = {f'{key}/{name}'.lstrip('/'): x for name, x in value.items()}
  elif isinstance(value, (list, tuple)):
    value = {f'{key}/{i}'.lstrip('/'): part for i, part in enumerate(value)}
  if isinstance(value, dict):
    parts = [_flat(part, name) for name, part in value.items()]
    return np.concatenate(parts or [np.zeros(0)])
  array = np.asarray(value)
  if array.dtype.kind not in 'fiub':
    raise ValueError(
      f'what is observed{f" under {key!r}" if key else ""} is no number but '
      f'{value!r:.60}; name what says the state in numbers, get_state (and '
      'get_proprio what the body feels)'
    )
  return np.ravel(array.astype(np.float64))


def _within(
  distance: Callable[..., np.ndarray],
  bound: float,
  vectors: np.ndarray,
  goals: np.ndarray,
) -> np.ndarray:
  return distance(vectors, goals) < bound


def _stay(rng: np.random.Generator, vector: np.ndarray) -> np.ndarray:
  del rng
  return vector
