"""Raw actions to the normalised blocks of a latent step, and back."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.models import acting
from jepa_wm.types import ActionSpec
from jepa_wm.units import ActionStatistics


def normalize(
  spec: ActionSpec, units: ActionStatistics, actions: jax.Array
) -> jax.Array:
  """Raw actions `[..., block, raw]` to blocks `[..., A]`.

  Args:
    spec: of the blocks.
    units: what normalises them.
    actions: as the world takes them.

  Raises:
    ValueError: other actions, or another number of them.
  """
  actions = jnp.asarray(actions)
  if actions.shape[-2:] != (spec.block, spec.dim):
    raise ValueError(
      f'actions: expected [..., {spec.block}, {spec.dim}], raw actions of a '
      f'block, got {list(actions.shape)}.'
    )
  flat = actions.reshape(*actions.shape[:-2], spec.size)
  normalized: jax.Array = units.normalize(flat)
  return normalized


def raw(
  spec: ActionSpec, units: ActionStatistics, actions: jax.Array
) -> jax.Array:
  """Blocks `[..., A]` to raw actions `[..., block, raw]`.

  Args:
    spec: of the blocks.
    units: what normalises them.
    actions: normalised.

  Raises:
    ValueError: blocks of another size.
  """
  acting.check_block('actions', actions, spec)
  actions = jnp.asarray(actions)
  found: jax.Array = units.denormalize(actions)
  return found.reshape(*actions.shape[:-1], spec.block, spec.dim)


def bounds(
  spec: ActionSpec,
  units: ActionStatistics,
  low: np.ndarray | float,
  high: np.ndarray | float,
) -> planning.ActionBounds:
  """Raw bounds, scalar or `[raw]`, as a planner's box `[A]` on a block.

  Args:
    spec: of the blocks.
    units: what normalises them.
    low: of each raw action.
    high: alike.

  Raises:
    ValueError: bounds of another number of actions.
  """
  shape = (spec.block, spec.dim)
  for name, bound in (('low', low), ('high', high)):
    if np.shape(bound) not in ((), (spec.dim,), shape):
      raise ValueError(
        f'{name}: expected a number or [{spec.dim}], one for each raw '
        f'action, got {list(np.shape(bound))}.'
      )
  raw_bounds = (jnp.asarray(bound, jnp.float32) for bound in (low, high))
  return planning.ActionBounds(
    *(normalize(spec, units, jnp.broadcast_to(x, shape)) for x in raw_bounds)
  )
