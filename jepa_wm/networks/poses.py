"""Poses of a robot: where an action takes it, without looking."""

import jax
import jax.numpy as jnp

SIZE = 7
"""Size of a robot's state and action: position, rotation, gripper."""


def integrate(state: jax.Array, action: jax.Array) -> jax.Array:
  """Where a robot is after an action, without looking.

  Positions add up, rotations multiply from the left (`dR R`), and the gripper
  stays within 0..1.

  Source: V-JEPA 2, arXiv 2506.09985, section 3.1, and its released planner.

  Args:
    state: `[..., 7]`: position, Euler angles about the fixed axes x, y, z in
      radians, gripper.
    action: `[..., 7]`, their changes.

  Returns:
    `[..., 7]`; angles in -pi..pi, that about y in -pi/2..pi/2.
  """
  position = state[..., :3] + action[..., :3]
  turned = jnp.einsum(
    '...ij,...jk->...ik', _matrix(action[..., 3:6]), _matrix(state[..., 3:6])
  )
  gripper = jnp.clip(state[..., 6:] + action[..., 6:], 0.0, 1.0)
  return jnp.concatenate([position, _angles(turned), gripper], axis=-1)


def _matrix(angles: jax.Array) -> jax.Array:
  """Rotations `Rz(c) Ry(b) Rx(a)` `[..., 3, 3]` of `[..., 3]`."""
  (sa, sb, sc), (ca, cb, cc) = (
    jnp.moveaxis(f(angles), -1, 0) for f in (jnp.sin, jnp.cos)
  )
  rows = (
    (cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa),
    (sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa),
    (-sb, cb * sa, cb * ca),
  )
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def _angles(matrix: jax.Array) -> jax.Array:
  """Inverts `_matrix`."""
  cos = jnp.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
  return jnp.stack(
    [
      jnp.arctan2(matrix[..., 2, 1], matrix[..., 2, 2]),
      jnp.arctan2(-matrix[..., 2, 0], cos),
      jnp.arctan2(matrix[..., 1, 0], matrix[..., 0, 0]),
    ],
    axis=-1,
  )
