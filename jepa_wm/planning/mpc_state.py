"""What outlives a plan: the worlds, a warm start, and a memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import checks
from jepa_wm.types import LatentState, Params, Root

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


class Followed(NamedTuple):
  """What a model has made of all that was seen and done, in place of a memory.

  Attributes:
    state: the model's own, leaves `[B, ...]`, at the newest frame that it has
      seen; None before the first.
    actions: `[B, 1, A]` between two frames, the block that was played since;
      `[B, 0, A]` when that has been absorbed.
  """

  state: LatentState
  actions: jax.Array


class Following(NamedTuple):
  """How a model follows what is seen: the memory is its own state.

  Every frame, one action block apart, is encoded and absorbed once, so that a
  look costs the same however long the episode is, and what is remembered is
  the model's own matter.

  Attributes:
    start_fn: `(params, observation) -> state`, leaves `[B, ...]`.
    absorb_fn: `(params, state, action [B, A], observation) -> state`, of the
      same shapes.
    root_fn: `(params, state, goal) -> root`: where a search begins.
  """

  start_fn: Callable[[Params, Any], LatentState]
  absorb_fn: Callable[[Params, LatentState, jax.Array, Any], LatentState]
  root_fn: Callable[[Params, LatentState, Any], Root]

  def see(self, params: Params, followed: Followed, seen: Any) -> Followed:
    """Absorbs what is seen now, leaves `[B, ...]`, or starts from it."""
    actions = followed.actions
    if followed.state is None:
      return Followed(self.start_fn(params, seen), actions)
    state = self.absorb_fn(params, followed.state, actions[:, 0], seen)
    return Followed(state, actions[:, :0])

  def root(self, params: Params, followed: Followed, goal: Any) -> Root:
    """Where a search begins; a `RootFn` of what was followed."""
    return self.root_fn(params, followed.state, goal)


class MpcState(NamedTuple):
  """All that outlives a plan.

  Attributes:
    env_state: opaque pytree of the B worlds.
    warm_start: what the last plan left, leaves `[B, ...]`; the planner's own.
    memory: what will be remembered, the world as it is not yet among it;
      `Followed` where a model follows.
  """

  env_state: Any
  warm_start: Any
  memory: Memory | Followed


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
