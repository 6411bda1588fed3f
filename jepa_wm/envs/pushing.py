"""A heavy block that discs push: it moves by what they push beyond friction.

Quasi-static: nothing has momentum. Forces are in lengths: a disc that would go
some way into the block pushes it as hard as that way is long.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.envs import crowds

_ROUNDS = 2

# Rounding does not count as being in the block.
_SLACK = 0.02


class Table(NamedTuple):
  """What discs and a square block are, and where they are held.

  Attributes:
    radius: of a disc.
    half: half a side of the block.
    friction: what the block bears without moving, a length: that which one
      disc would go into it in a step, times its weight.
    low: least coordinate of a disc's edge and of the block's corners.
    high: largest.
  """

  radius: jax.Array | float
  half: jax.Array | float
  friction: jax.Array | float
  low: float
  high: float


def step(
  table: Table, places: jax.Array, pose: jax.Array, ways: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Moves discs at once, and the block as far as they together push it.

  The discs first keep apart (`crowds.step_apart`). What then would lie in the
  block pushes it along the normal of its side. Forces and the torque divided by
  half a side are one wrench; the block takes the direction of it, as far as it
  exceeds the friction (an ellipsoid as limit surface) and not further than the
  discs follow. Then the discs leave the block. Where that brings a disc to
  another or to the wall, the block stays.

  Args:
    table: what is there.
    places: discs `[G, 2]`.
    pose: `(x, y, angle)` `[3]` of the block.
    ways: where the discs would go, relative to their places, `[G, 2]`.

  Returns:
    `(places, pose)`; permuting the discs permutes the places.

  Source: Goyal, Ruina and Papadopoulos, 1991 (limit surfaces).
  """
  edge = table.low + table.radius, table.high - table.radius
  spacing = 2.0 * table.radius
  ends = crowds.step_apart(
    places, ways, spacing, lambda here, way: jnp.clip(here + way, *edge)
  )
  moved = pose + _twist(table, ends, pose)
  out = _outside(table, ends, moved)
  stay = _outside(table, ends, pose)

  def are_free(found: jax.Array, at: jax.Array) -> jax.Array:
    gaps, _ = sides(table.half, found, at)
    clear = gaps > table.radius - _SLACK
    inside = jnp.all((found >= edge[0]) & (found <= edge[1]), axis=-1)
    return clear & inside & crowds.are_in_cells(places, found, spacing)

  reach = table.half * _spread(moved[2])
  held = (moved[:2] >= table.low + reach) & (moved[:2] <= table.high - reach)
  goes = jnp.all(are_free(out, moved)) & jnp.all(held)
  kept = jnp.where(are_free(stay, pose)[:, None], stay, places)
  return jnp.where(goes, out, kept), jnp.where(goes, moved, pose)


def sides(
  half: jax.Array | float, points: jax.Array, pose: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Distances from a square block `[G]`, and the ways out of it `[G, 2]`.

  Args:
    half: half a side.
    points: `[G, 2]`.
    pose: `(x, y, angle)` `[3]`.

  Returns:
    Signed distances, negative inside, and unit normals at the nearest points.
  """
  local = into_frame(points, pose)
  beyond = jnp.abs(local) - half
  corner = jnp.maximum(beyond, 0.0)
  length = jnp.linalg.norm(corner, axis=-1, keepdims=True)
  is_x = beyond[:, :1] > beyond[:, 1:]
  flat = jnp.concatenate([is_x, ~is_x], axis=-1).astype(local.dtype)
  normals = jnp.where(length > 1e-6, corner / jnp.maximum(length, 1e-6), flat)
  normals *= jnp.where(local < 0, -1.0, 1.0)
  distances = length[:, 0] + jnp.minimum(jnp.max(beyond, axis=-1), 0.0)
  return distances, turned(normals, pose[2])


def into_frame(points: jax.Array, pose: jax.Array) -> jax.Array:
  """Points `[G, 2]` as the block's own frame at `pose` `[3]` has them."""
  return turned(points - pose[None, :2], -pose[2])


def out_of_frame(points: jax.Array, pose: jax.Array) -> jax.Array:
  """The inverse of `into_frame`."""
  return turned(points, pose[2]) + pose[None, :2]


def turned(vectors: jax.Array, angle: jax.Array) -> jax.Array:
  """Vectors `[G, 2]` turned by `angle`, radians."""
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  x, y = vectors[:, 0], vectors[:, 1]
  return jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)


def _twist(table: Table, ends: jax.Array, pose: jax.Array) -> jax.Array:
  """How far the block goes `(x, y, angle)` `[3]`."""
  distances, normals = sides(table.half, ends, pose)
  depths = jnp.maximum(table.radius - distances, 0.0)
  points = ends - normals * distances[:, None] - pose[None, :2]
  arms = (points[:, 1] * normals[:, 0] - points[:, 0] * normals[:, 1]) / (
    table.half
  )
  force = -jnp.sum(depths[:, None] * normals, axis=0)
  torque = jnp.sum(depths * arms)
  wrench = jnp.append(force, torque)
  size = jnp.linalg.norm(wrench)
  excess = jnp.maximum(1.0 - table.friction / jnp.maximum(size, 1e-6), 0.0)
  way = wrench * excess
  # Not further than whoever pushes there follows.
  follows = -normals @ way[:2] + arms * way[2]
  most = jnp.where(
    (depths > 0) & (follows > depths), depths / jnp.maximum(follows, 1e-6), 1.0
  )
  way *= jnp.min(most)
  return way / jnp.array([1.0, 1.0, table.half])


def _outside(table: Table, places: jax.Array, pose: jax.Array) -> jax.Array:
  """The discs at `places` `[G, 2]`, moved out of the block."""
  for _ in range(_ROUNDS):
    distances, normals = sides(table.half, places, pose)
    depths = jnp.maximum(table.radius - distances, 0.0)
    places = places + depths[:, None] * normals
  return places


def _spread(angle: jax.Array) -> jax.Array:
  """How far a turned square of half side 1 reaches along either axis."""
  return jnp.abs(jnp.cos(angle)) + jnp.abs(jnp.sin(angle))
