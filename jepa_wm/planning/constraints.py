"""What actions are allowed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class ActionBounds(NamedTuple):
  """A box of allowed actions, in the planner's units.

  A planner of normalised action blocks wants the environment's raw bounds
  normalised like the actions and repeated for each action of the block.

  Attributes:
    low: `[A]`, smallest allowed value of each action dimension.
    high: `[A]`, largest.
  """

  low: jax.Array | np.ndarray
  high: jax.Array | np.ndarray

  def clip(self, actions: jax.Array) -> jax.Array:
    """Moves actions `[..., A]` to the nearest allowed ones."""
    shape = (1,) * (actions.ndim - 1) + (-1,)
    low = jnp.reshape(jnp.asarray(self.low, actions.dtype), shape)
    high = jnp.reshape(jnp.asarray(self.high, actions.dtype), shape)
    return jnp.clip(actions, low, high)


def as_bounds(
  bounds: ActionBounds | tuple[jax.Array, jax.Array], action_dim: int
) -> ActionBounds:
  """Makes sure that a pair of bounds is a box, of the planner's size.

  Args:
    bounds: `(low, high)`, `[A]` each. Values known only when the program runs
      (tracers) are not looked at, their shapes are.
    action_dim: A.

  Raises:
    ValueError: a bound is not `[A]`, or `low` is not below `high`.
  """
  low, high = bounds
  for name, bound in (('low', low), ('high', high)):
    if np.shape(bound) != (action_dim,):
      raise ValueError(
        f'action_bounds: {name} must have one value for each of the'
        f' {action_dim} action dimensions, got shape {list(np.shape(bound))}.'
      )
  if not any(isinstance(bound, jax.core.Tracer) for bound in (low, high)):
    below = np.asarray(low) < np.asarray(high)
    if not np.all(below):
      worst = int(np.argmin(below))
      raise ValueError(
        'action_bounds: low must be below high, but in dimension'
        f' {worst} they are {low[worst]} and {high[worst]}.'
      )
  return ActionBounds(low, high)
