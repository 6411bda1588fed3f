"""Contacts of a free body made of rectangles, and the impulses they need.

Chipmunk's rules for frictionless, inelastic contacts (its C library below
pymunk 7.3.1, MIT), written with scalars: under `jax.vmap` every number here is
a row over the batch, and a substep is a handful of fused loops over it.

Coordinates: a body's own frame has its rectangles' sides along the axes. The
world's x points right and y down, angles turn x towards y.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Number = jax.Array | float

SWEEPS = 10
"""Passes of the solver over all contacts."""

DT = 0.01
"""Seconds of one substep."""

FORGOTTEN = 3
"""Substeps without a touch after which a contact's impulse is forgotten."""

# More contacts than these are swept in a loop: XLA's CPU compiler would compute
# the whole chain of sweeps again for each of its results.
_UNROLLED = 2

_SLOP = 0.10000000149011612
_BIAS = 1.0 - 0.0017970074436457143**DT


class Rectangle(NamedTuple):
  """Middle and half sides of a rectangle in its body's frame."""

  x: Number
  y: Number
  half_x: Number
  half_y: Number


class Contact(NamedTuple):
  """One point where something touches the body.

  Attributes:
    touching: whether there is a contact at all.
    normal_x, normal_y: unit normal from the other thing into the body.
    arm: `cross(point - centre of gravity, normal)`.
    distance: between the surfaces along the normal, negative inside.
    approach: velocity of the other thing along the normal.
  """

  touching: jax.Array
  normal_x: jax.Array
  normal_y: jax.Array
  arm: jax.Array
  distance: jax.Array
  approach: jax.Array


class Motion(NamedTuple):
  """Velocity of a body: its centre of gravity's `x`, `y`, and `turn`, 1/s."""

  x: jax.Array
  y: jax.Array
  turn: jax.Array


def disc_contact(
  x: jax.Array,
  y: jax.Array,
  radius: Number,
  rectangle: Rectangle,
  centre: tuple[Number, Number],
) -> Contact:
  """A disc against a rectangle, all of it in the body's frame.

  A disc whose centre is inside leaves through the nearest side.

  Args:
    x: of the disc's centre.
    y: likewise.
    radius: of the disc.
    rectangle: what it may touch.
    centre: the body's centre of gravity.

  Returns:
    The contact, its normal in the body's frame, its `approach` zero.
  """
  left, right = rectangle.x - rectangle.half_x, rectangle.x + rectangle.half_x
  bottom, top = rectangle.y - rectangle.half_y, rectangle.y + rectangle.half_y
  near_x, near_y = jnp.clip(x, left, right), jnp.clip(y, bottom, top)
  out_x, out_y = near_x - x, near_y - y
  square = out_x * out_x + out_y * out_y
  outside = square > 0.0
  length = jnp.sqrt(jnp.where(outside, square, 1.0))

  deep_x = jnp.minimum(x - left, right - x)
  deep_y = jnp.minimum(y - bottom, top - y)
  across = deep_x < deep_y
  sign_x = jnp.where(x - left < right - x, 1.0, -1.0)
  sign_y = jnp.where(y - bottom < top - y, 1.0, -1.0)
  depth = jnp.where(across, deep_x, deep_y)

  normal_x = jnp.where(outside, out_x / length, jnp.where(across, sign_x, 0.0))
  normal_y = jnp.where(outside, out_y / length, jnp.where(across, 0.0, sign_y))
  near_x = jnp.where(outside, near_x, x - normal_x * depth)
  near_y = jnp.where(outside, near_y, y - normal_y * depth)
  distance = jnp.where(outside, length, -depth) - radius
  arm = (near_x - centre[0]) * normal_y - (near_y - centre[1]) * normal_x
  return Contact(
    distance <= 0.0, normal_x, normal_y, arm, distance, jnp.zeros_like(arm)
  )


class WallTouch(NamedTuple):
  """Both ends of the line along which a rectangle touches a wall.

  Attributes:
    low, high: the contacts, in the order in which they are solved; normals in
      the wall's frame.
    low_key, high_key: which corners meet, so that a later contact of the same
      corners may take over the impulse.
  """

  low: Contact
  high: Contact
  low_key: jax.Array
  high_key: jax.Array


def wall_touch(
  rectangle: Rectangle,
  turn_x: jax.Array,
  turn_y: jax.Array,
  origin: tuple[jax.Array, jax.Array],
  centre: tuple[Number, Number],
  ends: tuple[Number, Number],
  radius: Number,
) -> WallTouch:
  """A rectangle against a thick segment, in the wall's frame.

  There the segment lies on the line of zero height, from `ends[0]` to `ends[1]`
  along the second axis. The normal is that of the least overlap among the
  wall's two sides and the rectangle's four; a corner that is nearest to an end
  of the segment, which needs a block outside of the room, is taken for a side.

  Args:
    rectangle: in the body's frame.
    turn_x: of the body's x axis in the wall's frame, a unit vector.
    turn_y: likewise.
    origin: the body's origin in the wall's frame.
    centre: the body's centre of gravity in its own frame.
    ends: of the segment.
    radius: of the segment.
  """
  local_x, local_y, half_x, half_y = rectangle
  # The rectangle's axes are (turn_x, turn_y) and (-turn_y, turn_x).
  mid_h = origin[0] + turn_x * local_x - turn_y * local_y
  mid_s = origin[1] + turn_y * local_x + turn_x * local_y
  turn, middle, halves = (turn_x, turn_y), (mid_h, mid_s), (half_x, half_y)
  gap, normal_h, normal_s = _least_overlap(turn, middle, halves, ends)
  (a_h, a_s), (b_h, b_s), corner_a, corner_b = _facing_side(
    turn, middle, halves, (normal_h, normal_s)
  )

  # The segment runs from c to d, the rectangle's side from b to a, both along
  # the normal turned by a right angle.
  upward = normal_h > 0.0
  c_s = jnp.where(upward, ends[0], ends[1])
  d_s = jnp.where(upward, ends[1], ends[0])
  key_c = jnp.where(upward, 0, 1)

  def place(h: Number, s: jax.Array) -> jax.Array:
    return s * normal_h - h * normal_s

  c, d = place(0.0, c_s), place(0.0, d_s)
  a, b = place(a_h, a_s), place(b_h, b_s)
  length_wall, length_side = _nonzero(d - c), _nonzero(a - b)
  centre_h = origin[0] + turn_x * centre[0] - turn_y * centre[1]
  centre_s = origin[1] + turn_y * centre[0] + turn_x * centre[1]

  def contact(on_wall: jax.Array, on_side: jax.Array) -> Contact:
    wall_s = c_s + (d_s - c_s) * jnp.clip(on_wall, 0.0, 1.0)
    share = jnp.clip(on_side, 0.0, 1.0)
    point_h = b_h + (a_h - b_h) * share
    point_s = b_s + (a_s - b_s) * share
    distance = point_h * normal_h + (point_s - wall_s) * normal_s - radius
    arm_h, arm_s = point_h - centre_h, point_s - centre_s
    return Contact(
      touching=(gap <= radius) & (distance <= 0.0),
      normal_x=normal_h,
      normal_y=normal_s,
      arm=arm_h * normal_s - arm_s * normal_h,
      distance=distance,
      approach=jnp.zeros_like(distance),
    )

  return WallTouch(
    low=contact((b - c) / length_wall, (c - b) / length_side),
    high=contact((a - c) / length_wall, (d - b) / length_side),
    low_key=4 * key_c + corner_b,
    high_key=4 * (1 - key_c) + corner_a,
  )


def _least_overlap(
  turn: tuple[jax.Array, jax.Array],
  middle: tuple[jax.Array, jax.Array],
  halves: tuple[Number, Number],
  ends: tuple[Number, Number],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gap along the axis that parts a rectangle and a wall best; its normal."""
  (turn_x, turn_y), (mid_h, mid_s), (half_x, half_y) = turn, middle, halves
  reach = half_x * jnp.abs(turn_x) + half_y * jnp.abs(turn_y)
  # How far apart the two are along each axis that could part them. The
  # segment's ends, in the rectangle's frame, are (along_x, along_y).
  from_s = tuple(end - mid_s for end in ends)
  along_x = tuple(-mid_h * turn_x + s * turn_y for s in from_s)
  along_y = tuple(mid_h * turn_y + s * turn_x for s in from_s)
  gaps = (
    mid_h - reach,
    -mid_h - reach,
    jnp.minimum(*along_x) - half_x,
    -jnp.maximum(*along_x) - half_x,
    jnp.minimum(*along_y) - half_y,
    -jnp.maximum(*along_y) - half_y,
  )
  # From the wall to the rectangle, for each of them.
  normals: tuple[tuple[Number, Number], ...] = (
    (1.0, 0.0),
    (-1.0, 0.0),
    (-turn_x, -turn_y),
    (turn_x, turn_y),
    (turn_y, -turn_x),
    (-turn_y, turn_x),
  )
  gap, normal_h, normal_s = gaps[0], jnp.ones_like(reach), jnp.zeros_like(reach)
  for other, (h, s) in zip(gaps[1:], normals[1:]):
    larger = other > gap
    gap = jnp.where(larger, other, gap)
    normal_h = jnp.where(larger, h, normal_h)
    normal_s = jnp.where(larger, s, normal_s)
  return gap, normal_h, normal_s


def _facing_side(
  turn: tuple[jax.Array, jax.Array],
  middle: tuple[jax.Array, jax.Array],
  halves: tuple[Number, Number],
  normal: tuple[jax.Array, jax.Array],
) -> tuple[
  tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array], jax.Array, jax.Array
]:
  """The corners a and b of the side that faces the wall, and their numbers."""
  (turn_x, turn_y), (mid_h, mid_s), (half_x, half_y) = turn, middle, halves
  normal_h, normal_s = normal
  # Corner a precedes b when one walks around the rectangle from x towards y.
  facing_x = -(normal_h * turn_x + normal_s * turn_y)
  facing_y = normal_h * turn_y - normal_s * turn_x
  is_x = jnp.abs(facing_x) >= jnp.abs(facing_y)
  sign = jnp.where(jnp.where(is_x, facing_x, facing_y) < 0.0, -1.0, 1.0)
  side_x = jnp.where(is_x, turn_x, -turn_y) * sign
  side_y = jnp.where(is_x, turn_y, turn_x) * sign
  out = jnp.where(is_x, half_x, half_y)
  half = jnp.where(is_x, half_y, half_x)
  side_h, side_s = mid_h + side_x * out, mid_s + side_y * out
  a_h, a_s = side_h + side_y * half, side_s - side_x * half
  b_h, b_s = side_h - side_y * half, side_s + side_x * half
  # Corners by number: 0 is left and bottom, then right, and around.
  corner_a = jnp.where(
    is_x, jnp.where(sign > 0, 1, 3), jnp.where(sign > 0, 2, 0)
  )
  corner_b = (corner_a + 1) % 4
  return (a_h, a_s), (b_h, b_s), corner_a, corner_b


def solve(
  found: list[Contact],
  kept: list[jax.Array],
  warm: list[jax.Array],
  inverse_mass: Number,
  inverse_moment: Number,
) -> tuple[Motion, Motion, list[jax.Array]]:
  """Impulses that stop the body from entering what it touches.

  Chipmunk's sequential impulses: 10 sweeps over the contacts in their order,
  sums of impulses never below zero, a second set of impulses for the speed
  that undoes overlaps. The body is at rest before (its world keeps no
  momentum). The sweeps are written in the impulses alone: the body's velocity
  after them is a fixed linear map of it.

  Args:
    found: the contacts, normals in one common frame.
    kept: impulses to start from, zero where there is none.
    warm: whether such an impulse also moves the body before the first sweep,
      true for contacts that touched in the substep before.
    inverse_mass: of the body.
    inverse_moment: of the body.

  Returns:
    Velocity, velocity that undoes overlaps, and impulses.
  """
  count = len(found)
  pull = [
    [
      (a.normal_x * b.normal_x + a.normal_y * b.normal_y) * inverse_mass
      + a.arm * b.arm * inverse_moment
      for b in found
    ]
    for a in found
  ]
  share = [
    jnp.where(a.touching, 1.0 / jnp.where(a.touching, pull[i][i], 1.0), 0.0)
    for i, a in enumerate(found)
  ]
  unmoved = [jnp.where(w, 0.0, k) for w, k in zip(warm, kept)]
  rest = [-a.approach - _dot(pull[i], unmoved) for i, a in enumerate(found)]
  undo = [jnp.minimum(a.distance + _SLOP, 0.0) * (-_BIAS / DT) for a in found]

  def sweep(
    carry: tuple[list[jax.Array], list[jax.Array]],
  ) -> tuple[list[jax.Array], list[jax.Array]]:
    impulses, corrections = list(carry[0]), list(carry[1])
    for i in range(count):
      speed = rest[i] + _dot(pull[i], impulses)
      impulses[i] = jnp.maximum(impulses[i] - speed * share[i], 0.0)
      lack = undo[i] - _dot(pull[i], corrections)
      corrections[i] = jnp.maximum(corrections[i] + lack * share[i], 0.0)
    return impulses, corrections

  sums = list(kept), [jnp.zeros_like(k) for k in kept]
  if count <= _UNROLLED:
    for _ in range(SWEEPS):
      sums = sweep(sums)
  else:
    sums = jax.lax.fori_loop(0, SWEEPS, lambda _, c: sweep(c), sums)
  impulses, corrections = sums

  def motion(sums: list[jax.Array]) -> Motion:
    return Motion(
      _dot([a.normal_x for a in found], sums) * inverse_mass,
      _dot([a.normal_y for a in found], sums) * inverse_mass,
      _dot([a.arm for a in found], sums) * inverse_moment,
    )

  moved = [j - u for j, u in zip(impulses, unmoved)]
  return motion(moved), motion(corrections), impulses


def _dot(a: list[jax.Array], b: list[jax.Array]) -> jax.Array:
  total = a[0] * b[0]
  for x, y in zip(a[1:], b[1:]):
    total = total + x * y
  return total


def _nonzero(x: jax.Array) -> jax.Array:
  return jnp.where(x == 0.0, jnp.finfo(x.dtype).tiny, x)
