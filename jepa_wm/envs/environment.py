"""What an environment is: pure functions over a state, one at a time."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax

State = Any
"""Pytree of arrays that an environment steps forward."""


@runtime_checkable
class Environment(Protocol):
  """A world that answers actions with pixels.

  Methods take one state; callers `jax.vmap` and `jax.jit` them. Nothing resets
  by itself: a planner needs raw transitions, and an episode's length belongs to
  whoever plays it. A goal is a state like any other. Every state has a field
  `target` `[V]`, the vector of where an expert should go.

  A JAX world is itself a pytree whose leaves are its factors of variation
  (geometry, colours, speeds), so a batch of different worlds is one more
  `vmap`: `jax.vmap(lambda world, state, action: world.step(state, action))`.

  Attributes:
    image_size: height and width of `render`'s picture, static.
    action_dim: size `A` of a raw action.
    action_low: lower bounds of a raw action, `[A]`.
    action_high: upper bounds of a raw action, `[A]`.
  """

  @property
  def image_size(self) -> int: ...

  @property
  def action_dim(self) -> int: ...

  @property
  def action_low(self) -> jax.Array: ...

  @property
  def action_high(self) -> jax.Array: ...

  def reset(self, rng_key: jax.Array) -> State:
    """Draws the state of a new episode from `rng_key`, which is consumed."""
    ...

  def step(self, state: State, action: jax.Array) -> State:
    """Answers one raw `action` `[A]`; values out of bounds are clipped.

    Raises:
      ValueError: an action of another shape.
    """
    ...

  def render(self, state: State) -> jax.Array:
    """Draws `state` as uint8 pixels `[image_size, image_size, 3]`."""
    ...

  def proprio(self, state: State) -> jax.Array:
    """What the body feels of itself, float32 `[S]`, for models that see it."""
    ...

  def vector(self, state: State) -> jax.Array:
    """The true low-dimensional state, float32 `[V]`, for probes and records."""
    ...

  def from_vector(self, vector: jax.Array) -> State:
    """The state that `vector` `[V]` describes, and its target there.

    What a vector does not tell (momentum of a solver, say) is at rest.
    """
    ...

  def distance(self, state: State, goal: State) -> jax.Array:
    """How far `state` is from `goal`, a scalar in the world's own unit."""
    ...

  def success(self, state: State, goal: State) -> jax.Array:
    """Whether `state` counts as having reached `goal`, a boolean scalar."""
    ...


@flax.struct.dataclass
class VectorState:
  """A ready-made state, for worlds that have nothing but their vector.

  Attributes:
    vector: what is true, `[V]`.
    target: the vector an expert heads for, `[V]`.
  """

  vector: jax.Array
  target: jax.Array


def in_worlds(
  function: Callable[..., Any], env: Environment, own_worlds: Any
) -> Callable[..., Any]:
  """Maps `function(world, *args)` over a batch.

  Args:
    function: of one world and one row of everything else.
    env: the world of all rows, where they share one. What is known of it (a
      target that is not drawn) then saves work.
    own_worlds: else the world of each row, leaves `[B, ...]`.

  Returns:
    `(*args) -> results`, leaves `[B, ...]`.
  """
  if own_worlds is None:
    return jax.vmap(functools.partial(function, env))
  return functools.partial(jax.vmap(function), own_worlds)


def check_simulated(world: Any) -> None:
  """Refuses what is no world in JAX, such as a name or a world on the host.

  Raises:
    ValueError: it is none.
  """
  if isinstance(world, type) or not isinstance(world, Environment):
    raise ValueError(
      'world: expected a world in JAX, such as envs.TwoRoom(), got '
      f'{world!r:.60}; worlds on the host and names are for the commands '
      '(--environment), and recorded episodes of any world for '
      'rl.from_episodes.'
    )


def proprio_dim(env: Environment) -> int:
  """Numbers `S` that the body feels in `env`; computes nothing."""

  def feel(rng_key: jax.Array) -> jax.Array:
    return env.proprio(env.reset(rng_key))

  return jax.eval_shape(feel, jax.random.key(0)).shape[0]
