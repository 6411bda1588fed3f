"""Ways to act without a model: what data is collected with.

A policy is a pytree with two pure methods, so an episode is one `lax.scan` and
a batch of episodes one `vmap`. In worlds on the host it is a `host.HostPolicy`,
a function that begins an episode. The expert of a world lives beside its world.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import host

_CORRELATION_STEPS = 15.0

Memory = Any
"""Pytree of arrays that a policy carries from step to step of an episode."""


class Policy(Protocol):
  """Chooses raw actions, one state at a time."""

  def init(self, rng_key: jax.Array, state: Any) -> Memory:
    """Memory for a new episode that starts in `state`; consumes the key."""
    ...

  def __call__(
    self, rng_key: jax.Array, state: Any, memory: Memory
  ) -> tuple[jax.Array, Memory]:
    """The raw action `[A]` for `state`, and the next memory.

    Shapes and dtypes of the memory never change. The key is consumed.
    """
    ...


class Forgetful:
  """A policy that remembers nothing, to inherit."""

  def init(self, rng_key: jax.Array, state: Any) -> tuple[()]:
    """Remembers nothing."""
    del rng_key, state
    return ()


@flax.struct.dataclass
class ReactivePolicy(Forgetful):
  """Any function of key and state, as a policy that remembers nothing.

  Attributes:
    action_fn: `(rng_key, state) -> action` `[A]`, pure; static.
  """

  action_fn: Callable[[jax.Array, Any], jax.Array] = flax.struct.field(
    pytree_node=False
  )

  def __call__(
    self, rng_key: jax.Array, state: Any, memory: tuple[()]
  ) -> tuple[jax.Array, tuple[()]]:
    """The function's action `[A]`."""
    return self.action_fn(rng_key, state), memory


@flax.struct.dataclass
class UniformPolicy(Forgetful):
  """A fresh uniform action every step: the random floor.

  Attributes:
    action_low: `[A]`.
    action_high: `[A]`.
  """

  action_low: jax.Array
  action_high: jax.Array

  def __call__(
    self, rng_key: jax.Array, state: Any, memory: tuple[()]
  ) -> tuple[jax.Array, tuple[()]]:
    """Action `[A]` between the bounds."""
    del state
    low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
    fraction = jax.random.uniform(rng_key, low.shape)
    return low + (high - low) * fraction, memory


@flax.struct.dataclass
class SmoothRandomPolicy:
  """A random walk that keeps its direction for a while.

  An Ornstein-Uhlenbeck process per action dimension, in units of half the range
  around its middle, clipped to the bounds. Wide and slow by default: it spends
  much of its time at full speed in one direction, which noisy experts never do
  and planners often.

  Attributes:
    action_low: `[A]`.
    action_high: `[A]`.
    correlation_steps: steps after which the process has forgotten all but 1/e.
    scale: stationary standard deviation, in half ranges.

  Source: Uhlenbeck and Ornstein, 1930; its exact discretisation.
  """

  action_low: jax.Array
  action_high: jax.Array
  correlation_steps: jax.Array | float = _CORRELATION_STEPS
  scale: jax.Array | float = 1.0

  def init(self, rng_key: jax.Array, state: Any) -> jax.Array:
    """The process `[A]`, already stationary."""
    del state
    shape = jnp.shape(self.action_low)
    return self.scale * jax.random.normal(rng_key, shape)

  def __call__(
    self, rng_key: jax.Array, state: Any, memory: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Action `[A]` between the bounds, and the process one step on."""
    del state
    low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
    keep = jnp.exp(-1.0 / self.correlation_steps)
    noise = self.scale * jax.random.normal(rng_key, low.shape)
    memory = keep * memory + jnp.sqrt(1.0 - keep**2) * noise
    half_range = (high - low) / 2.0
    middle = (high + low) / 2.0
    return middle + half_range * jnp.clip(memory, -1.0, 1.0), memory


@flax.struct.dataclass
class MixturePolicy:
  """Draws one of several policies for each episode and keeps to it.

  Attributes:
    policies: the policies to draw from.
    weights: relative odds, `[len(policies)]`.
  """

  policies: tuple[Policy, ...]
  weights: jax.Array

  def init(self, rng_key: jax.Array, state: Any) -> tuple[jax.Array, Any]:
    """Index of the drawn policy, and the memory of each.

    Raises:
      ValueError: as many weights as policies are needed, and at least one.
    """
    if not self.policies or jnp.shape(self.weights) != (len(self.policies),):
      raise ValueError(
        'weights must hold one number per policy and there must be one at '
        f'least, got {len(self.policies)} policies and weights of shape '
        f'{jnp.shape(self.weights)}.'
      )
    choice_key, *keys = jax.random.split(rng_key, len(self.policies) + 1)
    log_weights = jnp.log(jnp.asarray(self.weights, jnp.float32))
    choice = jax.random.categorical(choice_key, log_weights)
    memories = tuple(
      policy.init(key, state) for policy, key in zip(self.policies, keys)
    )
    return choice, memories

  def __call__(
    self, rng_key: jax.Array, state: Any, memory: tuple[jax.Array, Any]
  ) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    """Action `[A]` of the drawn policy; the others act unseen."""
    choice, memories = memory
    keys = jax.random.split(rng_key, len(self.policies))
    # All of them, and then one: under vmap a switch would do the same.
    answers = [
      policy(key, state, own)
      for policy, key, own in zip(self.policies, keys, memories)
    ]
    actions = jnp.stack([action for action, _ in answers])
    return actions[choice], (choice, tuple(own for _, own in answers))


def host_uniform(
  world: host.HostWorld, action_noise: float = 0.0
) -> host.HostPolicy:
  """`UniformPolicy` in a world on the host; one-hot rows where it is discrete.

  Args:
    world: whose bounds.
    action_noise: not used.
  """
  del action_noise
  return functools.partial(_act_uniformly, world)


def host_smooth(
  world: host.HostWorld, action_noise: float = 0.0
) -> host.HostPolicy:
  """`SmoothRandomPolicy` in a world on the host.

  Args:
    world: whose bounds; one of discrete actions repeats an action for a while.
    action_noise: not used.
  """
  del action_noise
  return functools.partial(_act_smoothly, world)


def _act_uniformly(
  world: host.HostWorld, rng: np.random.Generator, target: np.ndarray
) -> host.Act:
  del target

  def act(vector: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    del vector, proprio
    if world.is_discrete:
      return np.eye(world.action_dim)[rng.integers(world.action_dim)]
    return rng.uniform(world.action_low, world.action_high)

  return act


def _act_smoothly(
  world: host.HostWorld, rng: np.random.Generator, target: np.ndarray
) -> host.Act:
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
