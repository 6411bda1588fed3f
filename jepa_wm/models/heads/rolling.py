"""Any policy as proposals: rolled in the model, block after block."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jepa_wm import planning
from jepa_wm.models.heads import head
from jepa_wm.types import DynamicsFn, LatentState, Params, PolicyFn, Root


def rolled(
  policy_fn: PolicyFn,
  policy_params: Params,
  dynamics_fn: DynamicsFn,
  read_fn: Callable[[LatentState], jax.Array],
  horizon: int,
  *,
  block: int,
  steps: Sequence[int] | jax.Array,
  num_drawn: int = 0,
) -> head.ProposalFn:
  """Candidates of a planner: what a policy does in the model's imagination.

  The block that it gives, the latent that the model then sees, the next block
  with fewer steps to go.

  Args:
    policy_fn: who acts.
    policy_params: first argument of that.
    dynamics_fn: the model's.
    read_fn: the newest latent of a state.
    horizon: H, blocks of a plan.
    block: environment steps of an action block.
    steps: of every candidate, F of them: environment steps to go at first.
    num_drawn: how many of them, the last ones, are drawn; the others are the
      likeliest.

  Returns:
    `(params of the model, rng_keys, root) -> [B, F, H, A]`.
  """
  count, num_likeliest = len(steps), len(steps) - num_drawn

  def act(
    rng_keys: jax.Array, latents: jax.Array, goal: jax.Array, left: jax.Array
  ) -> jax.Array:
    cut = lambda part: [x[:, part] for x in (latents, goal, left)]
    blocks = []
    if num_likeliest:
      likeliest = cut(slice(num_likeliest))
      blocks.append(policy_fn(policy_params, None, *likeliest))
    if num_drawn:
      draw = jax.vmap(policy_fn, (None, 0, 0, 0, 0))
      drawn = cut(slice(num_likeliest, None))
      blocks.append(draw(policy_params, rng_keys, *drawn))
    return jnp.concatenate(blocks, axis=1)

  def propose(params: Params, rng_keys: jax.Array, root: Root) -> jax.Array:
    repeat = lambda leaf: jnp.broadcast_to(
      jnp.expand_dims(leaf, 1), (leaf.shape[0], count, *leaf.shape[1:])
    )
    state, goal = jax.tree.map(repeat, (root.state, root.goal))
    first = jnp.asarray(steps, jnp.float32)
    first = jnp.broadcast_to(first, goal.shape[:2])
    fold = jax.vmap(jax.random.fold_in, (0, None))
    blocks = []
    # Not a scan: a predictor's state may grow.
    for h in range(horizon):
      left = jnp.maximum(first - h * block, block)
      # Beyond the keys of the model's steps.
      draw_keys = fold(rng_keys, horizon + h)
      blocks.append(act(draw_keys, read_fn(state), goal, left))
      if h + 1 < horizon:
        state = dynamics_fn(params, fold(rng_keys, h), blocks[-1], state)
    return jnp.stack(blocks, axis=2)

  return propose


def followed(
  policy_fn: PolicyFn,
  policy_params: Params,
  dynamics_fn: DynamicsFn,
  read_fn: Callable[[LatentState], jax.Array],
  horizon: int,
  *,
  block: int,
) -> planning.FirstFn:
  """What a policy does by itself, told the time: for planners that follow it.

  Args:
    policy_fn: who acts.
    policy_params: first argument of that.
    dynamics_fn: the model's.
    read_fn: the newest latent of a state.
    horizon: H, blocks of a plan.
    block: environment steps of an action block.

  Returns:
    `(params of the model, rng_keys, root, clock) -> [B, 1, H, A]`.
  """

  def propose(
    params: Params, rng_keys: jax.Array, root: Root, clock: planning.Clock
  ) -> jax.Array:
    left = jnp.asarray(clock.num_left, jnp.float32) * block
    act = rolled(
      policy_fn,
      policy_params,
      dynamics_fn,
      read_fn,
      horizon,
      block=block,
      steps=jnp.expand_dims(left, 0),
    )
    return act(params, rng_keys, root)

  return propose
