"""What outlives a plan: the worlds, a warm start, and a memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks

ObserveFn = Callable[[Any], Any]
"""`env_state -> observation`, leaves `[B, ...]`: looks at the worlds."""


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
    warm_start: what the last plan left, leaves `[B, ...]`; the planner's own.
    memory: what will be remembered, the world as it is not yet among it.
  """

  env_state: Any
  warm_start: Any
  memory: Memory


def first_memory(
  env_state: Any, goal: Any, *, observe_fn: ObserveFn, action_dim: int
) -> Memory:
  """Nothing remembered of the worlds.

  Args:
    env_state: opaque pytree of the B worlds.
    goal: leaves `[B, ...]`, or None.
    observe_fn: looks at the worlds; asked for its shapes alone.
    action_dim: A, size of a block.

  Raises:
    ValueError: goals and observations that disagree about B.
  """
  seen = jax.eval_shape(observe_fn, env_state)
  num_problems = checks.count(goal if jax.tree.leaves(goal) else seen, 'goal')
  if checks.count(seen, 'observation') != num_problems:
    raise ValueError(
      f'observe_fn must see the worlds of all {num_problems} goals, got'
      f' {checks.count(seen, "observation")}.'
    )
  observations = jax.tree.map(
    lambda x: jnp.zeros((num_problems, 0, *x.shape[1:]), x.dtype), seen
  )
  actions = jnp.zeros((num_problems, 0, action_dim), jnp.float32)
  return Memory(observations, actions)


def append(past: Any, new: Any) -> Any:
  """Puts leaves `[B, S, ...]` after leaves `[B, T, ...]`."""
  return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), past, new)


def newest(tree: Any, number: int) -> Any:
  """The last `number` of leaves `[B, T, ...]`, or as many as there are."""
  return jax.tree.map(lambda x: x[:, max(0, x.shape[1] - number) :], tree)
