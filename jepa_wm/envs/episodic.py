"""Worlds that end: pure functions with rewards, clocks and resets, for RL.

The face of gymnax 1.x: `reset(key, params)`, `step(key, state, action, params)`
with both of gymnasium's flags. `to_gymnasium` and the faces of `jepa_wm.rl`
turn any such world into what a library calls.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
  """A space of arrays of one shape; what it is called is what others call it.

  Attributes:
    low: `shape`, or one number for all; -inf where there is no bound.
    high: as `low`.
    shape: of an array.
    dtype: of an array.
  """

  low: Any
  high: Any
  shape: tuple[int, ...]
  dtype: Any = np.float32

  def sample(self, rng_key: jax.Array) -> jax.Array:
    """Draws uniformly between the bounds, standard normal without them."""
    if not np.all(np.isfinite([self.low, self.high])):
      return jax.random.normal(rng_key, self.shape).astype(self.dtype)
    if np.issubdtype(self.dtype, np.integer):
      return jax.random.randint(
        rng_key, self.shape, self.low, self.high + 1
      ).astype(self.dtype)
    return jax.random.uniform(
      rng_key, self.shape, self.dtype, self.low, self.high
    )

  def contains(self, x: Any) -> jax.Array:
    """Whether every number of `x` `shape` lies within the bounds."""
    return jnp.all((x >= self.low) & (x <= self.high))


Space = Box | dict[str, Box]
"""One array, or named ones."""


class Step(NamedTuple):
  """What comes of a step, in gymnasium's order.

  Attributes:
    observation: what is seen now, of a fresh episode where one has ended and
      `step` was called.
    state: for the next step.
    reward: scalar.
    terminated: whether the task has ended with this step.
    truncated: whether the clock has ended the episode; never with
      `terminated`.
    info: more, by name.
  """

  observation: Any
  state: Any
  reward: jax.Array
  terminated: jax.Array
  truncated: jax.Array
  info: dict[str, Any]


class Episodic(Protocol):
  """A world that ends, one at a time; callers `vmap` and `jit`."""

  def reset(self, rng_key: jax.Array, params: Params) -> tuple[Any, Any]:
    """Begins an episode: what is seen, and the state."""
    ...

  def step_env(
    self, rng_key: jax.Array, state: Any, action: jax.Array, params: Params
  ) -> Step:
    """Answers an action; nothing is reset."""
    ...

  def step(
    self, rng_key: jax.Array, state: Any, action: jax.Array, params: Params
  ) -> Step:
    """Answers an action and begins anew where the episode ends with it.

    `info['final_observation']` is what was seen at the end.
    """
    ...

  def action_space(self, params: Params) -> Box:
    """What actions are, in raw units."""
    ...

  def observation_space(self, params: Params) -> Space:
    """What is seen."""
    ...


class AutoReset:
  """Gives a world that has `reset` and `step_env` its `step`, to inherit."""

  def step(
    self: Any, rng_key: jax.Array, state: Any, action: jax.Array, params: Params
  ) -> Step:
    """See `Episodic`."""
    step_key, reset_key = jax.random.split(rng_key)
    after = self.step_env(step_key, state, action, params)
    fresh = self.reset(reset_key, params)
    done = after.terminated | after.truncated
    observation, state = jax.tree.map(
      lambda new, old: jnp.where(done, new, old),
      fresh,
      (after.observation, after.state),
    )
    info = {**after.info, 'final_observation': after.observation}
    return after._replace(observation=observation, state=state, info=info)
