"""Latent environments, and any other `episodic.Episodic`, as gymnax calls them.

For PureJaxRL, rejax and the like. Nothing of gymnax is imported: what counts is
how it is called, `obs, state, reward, done, info = env.step(key, state, action,
params)` in 0.0.9, `terminated, truncated` in place of `done` in 1.x.
"""

import dataclasses
from typing import Any, Self

import jax

from jepa_wm.envs import episodic
from jepa_wm.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class GymnaxEnvironment:
  """What libraries that take a gymnax environment call; `as_gymnax` makes one.

  Attributes:
    env: the world.
    default_params: its arrays, where a call brings none.
    steps: how many values a step gives, 5 or 6.
  """

  env: episodic.Episodic
  default_params: Params
  steps: int

  def __deepcopy__(self, memo: Any) -> Self:
    """Itself: nothing of it changes, and programs know it by identity."""
    return self

  @property
  def name(self) -> str:
    """Of the kind of world."""
    return type(self.env).__name__

  def reset(self, rng_key: jax.Array, params: Params = None) -> tuple[Any, Any]:
    """Begins an episode: what is seen, and the state."""
    return self.env.reset(rng_key, self._or_default(params))

  def reset_env(
    self, rng_key: jax.Array, params: Params = None
  ) -> tuple[Any, Any]:
    """As `reset`; gymnax has two."""
    return self.env.reset(rng_key, self._or_default(params))

  def step(
    self,
    rng_key: jax.Array,
    state: Any,
    action: jax.Array,
    params: Params = None,
  ) -> tuple[Any, ...]:
    """Answers an action, and begins anew where the episode ends with it."""
    params = self._or_default(params)
    return self._given(self.env.step(rng_key, state, action, params))

  def step_env(
    self,
    rng_key: jax.Array,
    state: Any,
    action: jax.Array,
    params: Params = None,
  ) -> tuple[Any, ...]:
    """Answers an action; nothing is reset."""
    params = self._or_default(params)
    return self._given(self.env.step_env(rng_key, state, action, params))

  def action_space(self, params: Params = None) -> episodic.Box:
    """What actions are, in raw units."""
    return self.env.action_space(self._or_default(params))

  def observation_space(self, params: Params = None) -> episodic.Space:
    """What is seen."""
    return self.env.observation_space(self._or_default(params))

  def _or_default(self, params: Params) -> Params:
    return self.default_params if params is None else params

  def _given(self, found: episodic.Step) -> tuple[Any, ...]:
    if self.steps == 6:
      return tuple(found)
    *before, terminated, truncated, info = found
    return *before, terminated | truncated, info


def as_gymnax(
  env: episodic.Episodic, params: Params, *, steps: int
) -> GymnaxEnvironment:
  """A world as gymnax calls it.

  Args:
    env: a latent environment, or a true world (`envs.goal_world`).
    params: its arrays; others may be given to every call.
    steps: values of a step: 5 for gymnax 0.0.9 and rejax 0.1, where an episode
      that is cut looks like one that has ended; 6 for gymnax 1.x.

  Raises:
    ValueError: another number.
  """
  if steps not in (5, 6):
    raise ValueError(
      f'steps must be 5 (gymnax 0.0.9, rejax) or 6 (gymnax 1.x), got {steps!r}.'
    )
  return GymnaxEnvironment(env, params, steps)
