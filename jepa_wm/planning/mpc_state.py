"""What outlives a plan: the worlds, a warm start, and a memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import problems

ObserveFn = Callable[[Any], Any]
"""`env_state -> observation`, leaves `[B, ...]`: looks at the worlds."""


class WarmStart(NamedTuple):
  """What a plan leaves to the next one.

  Attributes:
    mean: `[B, H, A]`, where the next search starts.
    elites: `[B, E, H, A]`, sequences that it should look at; one that holds a
      NaN is none.
    previous: `[B, A]`, the block that was played last, NaN before the first.
  """

  mean: jax.Array
  elites: jax.Array
  previous: jax.Array


class Memory(NamedTuple):
  """What was seen and done, oldest first, one action block apart.

  Attributes:
    observations: leaves `[B, T, ...]`, the newest shows the world as it is.
    actions: `[B, T - 1, A]`, the blocks played between them; `[B, T, A]`
      between two plans, when the last block has been played and what it led
      to has not been looked at.
  """

  observations: Any
  actions: jax.Array


class MpcState(NamedTuple):
  """All that outlives a plan.

  Attributes:
    env_state: opaque pytree of the B worlds.
    warm_start: what the last plan left.
    memory: what will be remembered, the world as it is not yet among it.
  """

  env_state: Any
  warm_start: WarmStart
  memory: Memory


def first_state(
  env_state: Any,
  goal: Any,
  *,
  observe_fn: ObserveFn,
  horizon: int,
  action_dim: int,
  num_elites: int = 0,
) -> MpcState:
  """The state before the first plan: nothing planned, nothing remembered.

  Args:
    env_state: opaque pytree of the B worlds.
    goal: leaves `[B, ...]`.
    observe_fn: looks at the worlds; asked for its shapes alone.
    horizon: H, blocks in a plan.
    action_dim: A, size of a block.
    num_elites: E, how many `elites` the planner leaves. With fewer, shapes
      change after the first plan.

  Raises:
    ValueError: goals and observations that disagree about B.
  """
  num_problems = problems.count(goal, 'goal')
  seen = jax.eval_shape(observe_fn, env_state)
  if problems.count(seen, 'observation') != num_problems:
    raise ValueError(
      f'observe_fn must see the worlds of all {num_problems} goals, got'
      f' {problems.count(seen, "observation")}.'
    )
  size = (horizon, action_dim)
  warm_start = WarmStart(
    jnp.zeros((num_problems, *size), jnp.float32),
    jnp.full((num_problems, num_elites, *size), jnp.nan, jnp.float32),
    jnp.full((num_problems, action_dim), jnp.nan, jnp.float32),
  )
  observations = jax.tree.map(
    lambda x: jnp.zeros((num_problems, 0, *x.shape[1:]), x.dtype), seen
  )
  actions = jnp.zeros((num_problems, 0, action_dim), jnp.float32)
  return MpcState(env_state, warm_start, Memory(observations, actions))


def shift(actions: jax.Array, num_played: int) -> jax.Array:
  """Drops what has been played and pads the end with zeros.

  Args:
    actions: `[..., H, A]`.
    num_played: how many blocks to drop.

  Returns:
    `[..., H, A]`.
  """
  padding = ((0, 0),) * (actions.ndim - 2) + ((0, num_played), (0, 0))
  return jnp.pad(actions[..., num_played:, :], padding)


def append(past: Any, new: Any) -> Any:
  """Puts leaves `[B, S, ...]` after leaves `[B, T, ...]`."""
  return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), past, new)


def newest(tree: Any, number: int) -> Any:
  """The last `number` of leaves `[B, T, ...]`, or as many as there are."""
  return jax.tree.map(lambda x: x[:, max(0, x.shape[1] - number) :], tree)
