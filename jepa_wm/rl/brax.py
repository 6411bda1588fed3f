"""Latent environments, and any other `episodic.Episodic`, as brax calls them.

Nothing of brax is imported: its wrappers and trainers ask for `reset(rng)` and
`step(state, action)`, and for a state of these fields.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import episodic
from jepa_wm.types import Params


@flax.struct.dataclass
class State:
  """What brax calls a state.

  Attributes:
    pipeline_state: the world's own state, and the key of what it draws next.
    obs: what is seen.
    reward: float32 scalar.
    done: float32 scalar, 1 where the episode has ended or was cut.
    metrics: float32 scalars by name.
    info: more, by name; what others have put there stays.
  """

  pipeline_state: Any
  obs: Any
  reward: jax.Array
  done: jax.Array
  metrics: dict[str, jax.Array]
  info: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class BraxEnvironment:
  """What brax's wrappers and trainers call; `as_brax` makes one.

  Attributes:
    env: the world.
    params: its arrays.
  """

  env: episodic.Episodic
  params: Params
  backend = 'jepa_wm'

  @property
  def unwrapped(self) -> 'BraxEnvironment':
    """Itself: nothing is wrapped."""
    return self

  @property
  def observation_size(self) -> int:
    """Numbers that are seen.

    Raises:
      ValueError: what is seen is not one vector.
    """
    space = self.env.observation_space(self.params)
    if isinstance(space, dict) or len(space.shape) != 1:
      raise ValueError(
        'brax learns from one vector, and this world shows '
        f'{sorted(space) if isinstance(space, dict) else space.shape}; make it '
        "with observation='state', or learn in latents (rl.from_world)."
      )
    return int(space.shape[0])

  @property
  def action_size(self) -> int:
    """Numbers of an action."""
    return int(self.env.action_space(self.params).shape[0])

  def reset(self, rng: jax.Array) -> State:
    """Begins an episode."""
    key, reset_key = jax.random.split(rng)
    observation, state = self.env.reset(reset_key, self.params)
    zero = jnp.float32(0.0)
    metrics = {'reached': zero, 'distance': zero}
    info = {'truncation': zero}
    return State((state, key), observation, zero, zero, metrics, info)

  def step(self, state: State, action: jax.Array) -> State:
    """Plays an action in -1..1, brax's own units; nothing is reset.

    Args:
      state: of `reset` or a step.
      action: `[A]`, spread over the bounds of the world.

    Raises:
      ValueError: an action of another shape.
    """
    space = self.env.action_space(self.params)
    if jnp.shape(action) != space.shape:
      raise ValueError(
        f'action: expected {list(space.shape)}, got '
        f'{list(jnp.shape(action))}; batches go through jax.vmap.'
      )
    middle, half = (
      np.float32(x) * np.ones(space.shape, np.float32)
      for x in ((space.high + space.low) / 2, (space.high - space.low) / 2)
    )
    before, key = state.pipeline_state
    key, step_key = jax.random.split(key)
    raw = jnp.asarray(middle) + half * action
    found = self.env.step_env(step_key, before, raw, self.params)
    as_float = lambda x: jnp.asarray(x, jnp.float32)
    metrics = {name: as_float(found.info[name]) for name in state.metrics}
    return dataclasses.replace(
      state,
      pipeline_state=(found.state, key),
      obs=found.observation,
      reward=found.reward,
      done=as_float(found.terminated | found.truncated),
      metrics=metrics,
      info={**state.info, 'truncation': as_float(found.truncated)},
    )


def as_brax(env: episodic.Episodic, params: Params) -> BraxEnvironment:
  """A world as brax calls it; actions are in -1..1 there.

  Args:
    env: a latent environment, or a true world (`envs.goal_world`).
    params: its arrays.
  """
  return BraxEnvironment(env, params)
