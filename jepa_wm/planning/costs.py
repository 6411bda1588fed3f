"""Goal distances, and how much each step of a rollout counts."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.types import Params


def squared_distance(
  params: Params, latent: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
  """Sum of squared differences to the goal's latent.

  A `CostFn` where the state is the latent itself; a state that holds more
  wraps it and hands on the latest latent.

  Args:
    params: not used.
    latent: `[B, N, ...]`.
    action: not used.
    goal: `[B, 1, ...]`, the same trailing shape as `latent`.

  Returns:
    `[B, N]` float32, summed over all trailing axes.

  Raises:
    ValueError: the trailing shapes of `latent` and `goal` differ.

  Source: LeWM (stable-worldmodel's `get_cost`): a sum, not a mean, over D.
  """
  del params, action
  if latent.shape[2:] != goal.shape[2:]:
    raise ValueError(
      'the goal must have the shape of the latent it is compared with,'
      f' {list(latent.shape[2:])} after the leading axes, got'
      f' {list(goal.shape[2:])}.'
    )
  # Half precision would round costs of close candidates to ties.
  difference = latent.astype(jnp.float32) - goal.astype(jnp.float32)
  return jnp.sum(difference**2, axis=tuple(range(2, difference.ndim)))


def step_weights(horizon: int, kind: str = 'last') -> np.ndarray:
  """How much the cost of each step counts, summing to one.

  Args:
    horizon: H, the number of steps.
    kind: 'last' counts only where the sequence ends; 'all' is the mean over
      steps, which prefers reaching the goal early.

  Returns:
    `[H]` float32, NumPy, because a rollout looks at it while tracing.

  Raises:
    ValueError: `kind` is neither, or the horizon is empty.
  """
  if horizon < 1:
    raise ValueError(f'horizon must be at least 1, got {horizon}.')
  if kind == 'last':
    return np.eye(horizon, dtype=np.float32)[-1]
  if kind == 'all':
    return np.full(horizon, 1.0 / horizon, np.float32)
  raise ValueError(f"kind must be 'last' or 'all', got {kind!r}.")
