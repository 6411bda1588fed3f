"""Push-T's walls: where the block touches them, and what is remembered."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.envs import contacts

WALL_LOW, WALL_HIGH = 5.0, 506.0
WALL_RADIUS = 2.0

NUM_WALLS = 2
"""The nearer of left and right, and of top and bottom."""

MAX_WALL_CONTACTS = 4
"""Points of contact with walls that are solved at a time: a flat side against
each of two. More come about only in a jam, and the first ones are taken."""


class Body(NamedTuple):
  """The block as the solver knows it, mass 1, in its own frame.

  Attributes:
    rectangles: those it has.
    centre: of gravity.
    moment: of inertia.
  """

  rectangles: tuple[contacts.Rectangle, ...]
  centre: tuple[contacts.Number, contacts.Number]
  moment: contacts.Number


class Scalars(NamedTuple):
  """All that changes in a substep, one number a leaf."""

  agent: tuple[jax.Array, ...]
  agent_velocity: tuple[jax.Array, ...]
  origin: tuple[jax.Array, ...]
  angle: jax.Array
  velocity: contacts.Motion
  correction: contacts.Motion
  disc_impulses: tuple[jax.Array, ...]
  disc_missed: tuple[jax.Array, ...]
  wall_impulses: tuple[jax.Array, ...]
  wall_keys: tuple[jax.Array, ...]
  wall_missed: tuple[jax.Array, ...]


def missed(touching: jax.Array, before: jax.Array) -> jax.Array:
  """Substeps since something touched, at most `contacts.FORGOTTEN`."""
  grown = jnp.minimum(before + 1, contacts.FORGOTTEN)
  return jnp.where(touching, 0, grown).astype(before.dtype)


def near_walls(
  body: Body, origin: tuple[jax.Array, ...], cos: jax.Array, sin: jax.Array
) -> jax.Array:
  """Whether any rectangle may touch a wall, a boolean scalar."""
  near = jnp.zeros((), bool)
  low, high = WALL_LOW + WALL_RADIUS, WALL_HIGH - WALL_RADIUS
  for x, y, half_x, half_y in body.rectangles:
    for middle, reach in (
      (
        origin[0] + cos * x - sin * y,
        half_x * jnp.abs(cos) + half_y * jnp.abs(sin),
      ),
      (
        origin[1] + sin * x + cos * y,
        half_x * jnp.abs(sin) + half_y * jnp.abs(cos),
      ),
    ):
      near |= (middle - reach <= low) | (middle + reach >= high)
  return near


class Slot(NamedTuple):
  """A contact to be solved, and how it begins."""

  contact: contacts.Contact
  kept: jax.Array
  warm: jax.Array


class Touches(NamedTuple):
  """Of all pairs of wall and rectangle, for both ends of each.

  Attributes:
    ranks: the slot in which an end is solved, -1 for none, `[pairs]` times 2.
    keys: which corners meet there, the same.
  """

  ranks: list[jax.Array]
  keys: list[jax.Array]


class _Pair(NamedTuple):
  """A rectangle before a wall, in the wall's frame."""

  rectangle: contacts.Rectangle
  turn: tuple[jax.Array, jax.Array]
  place: tuple[jax.Array, jax.Array]
  ends: tuple[jax.Array, jax.Array]
  sign: jax.Array
  is_x: jax.Array
  missed: jax.Array
  kept: tuple[jax.Array, ...]
  keys: tuple[jax.Array, ...]


def wall_contacts(
  body: Body,
  origin: tuple[jax.Array, ...],
  cos: jax.Array,
  sin: jax.Array,
  now: Scalars,
) -> tuple[Touches, list[Slot]]:
  """Finds the first few contacts with walls, in the order of walls."""
  pairs = _pairs(body, origin, cos, sin, now)

  # A loop keeps the compiler from finding each contact anew for each use of it.
  def one(_: None, pair: _Pair) -> tuple[None, tuple]:
    touch = contacts.wall_touch(
      pair.rectangle,
      *pair.turn,
      pair.place,
      body.centre,
      pair.ends,
      WALL_RADIUS,
    )
    wall = jnp.where(pair.sign > 0.0, 0, 8)
    ends = []
    for end, (contact, key) in enumerate(
      ((touch.low, touch.low_key), (touch.high, touch.high_key))
    ):
      key = key + wall
      same = (pair.missed < contacts.FORGOTTEN) & (key == pair.keys[end])
      slot = Slot(
        _to_world(contact, pair.sign, pair.is_x),
        jnp.where(same, pair.kept[end], 0.0),
        pair.missed == 0,
      )
      ends.append((slot, key))
    return None, tuple(ends)

  _, found = jax.lax.scan(one, None, pairs)
  ends = [
    jax.tree.map(lambda row, i=i: row[i], end)
    for i in range(NUM_WALLS * len(body.rectangles))
    for end in found
  ]
  count = jnp.zeros((), jnp.int32)
  ranks = []
  for slot, _ in ends:
    fits = slot.contact.touching & (count < MAX_WALL_CONTACTS)
    ranks.append(jnp.where(fits, count, -1))
    count = count + fits.astype(jnp.int32)

  def pick(_: None, k: jax.Array) -> tuple[None, Slot]:
    taken = jax.tree.map(jnp.zeros_like, ends[0][0])
    for rank, (slot, _) in zip(ranks, ends):
      taken = jax.tree.map(
        lambda new, old, here=(rank == k): jnp.where(here, new, old),
        slot,
        taken,
      )
    return None, taken

  _, picked = jax.lax.scan(pick, None, jnp.arange(MAX_WALL_CONTACTS))
  slots = [
    jax.tree.map(lambda row, k=k: row[k], picked)
    for k in range(MAX_WALL_CONTACTS)
  ]
  return Touches(ranks, [key for _, key in ends]), slots


def _pairs(
  body: Body,
  origin: tuple[jax.Array, ...],
  cos: jax.Array,
  sin: jax.Array,
  now: Scalars,
) -> _Pair:
  """All pairs of wall and rectangle, leaves `[2 * rectangles]`."""
  middle = (WALL_LOW + WALL_HIGH) / 2.0
  centre_x = origin[0] + cos * body.centre[0] - sin * body.centre[1]
  centre_y = origin[1] + sin * body.centre[0] + cos * body.centre[1]
  pairs: list[_Pair] = []
  for is_x, centre in ((True, centre_x), (False, centre_y)):
    # The walls' frames have their first axis into the room.
    sign = jnp.where(centre < middle, 1.0, -1.0)
    face = jnp.where(centre < middle, WALL_LOW, WALL_HIGH)
    if is_x:
      turn = cos * sign, sin * sign
      place = (origin[0] - face) * sign, origin[1] * sign
      along = sign
    else:
      turn = sin * sign, -cos * sign
      place = (origin[1] - face) * sign, -origin[0] * sign
      along = -sign
    ends = (
      jnp.where(along > 0.0, WALL_LOW, -WALL_HIGH),
      jnp.where(along > 0.0, WALL_HIGH, -WALL_LOW),
    )
    for rectangle in body.rectangles:
      i = len(pairs)
      pairs.append(
        _Pair(
          contacts.Rectangle(
            *(jnp.asarray(side, cos.dtype) for side in rectangle)
          ),
          turn,
          place,
          ends,
          sign,
          jnp.asarray(is_x),
          now.wall_missed[i],
          now.wall_impulses[2 * i : 2 * i + 2],
          now.wall_keys[2 * i : 2 * i + 2],
        )
      )
  return jax.tree.map(lambda *rows: jnp.stack(rows), *pairs)


def _to_world(
  contact: contacts.Contact, sign: jax.Array, is_x: jax.Array
) -> contacts.Contact:
  """Turns the normal from a wall's frame into the world's."""
  h, s = contact.normal_x * sign, contact.normal_y * sign
  return contact._replace(
    normal_x=jnp.where(is_x, h, -s), normal_y=jnp.where(is_x, s, h)
  )


def remember(
  touches: Touches, solved: list[jax.Array], now: Scalars
) -> tuple[tuple[jax.Array, ...], ...]:
  """What is remembered of the walls after a substep.

  Args:
    touches: of all pairs of wall and rectangle.
    solved: impulses of the slots.
    now: what was remembered before.

  Returns:
    `wall_impulses`, `wall_keys` and `wall_missed` of `Scalars`.
  """

  def impulse_of(rank: jax.Array) -> jax.Array:
    chosen = [jnp.where(rank == k, j, 0.0) for k, j in enumerate(solved)]
    return functools.reduce(jnp.add, chosen)

  wall_impulses, wall_keys, wall_missed = [], [], []
  for i in range(len(now.wall_missed)):
    ranks = touches.ranks[2 * i : 2 * i + 2]
    touching = (ranks[0] >= 0) | (ranks[1] >= 0)
    wall_missed.append(missed(touching, now.wall_missed[i]))
    for end, rank in enumerate(ranks):
      slot = 2 * i + end
      wall_impulses.append(
        jnp.where(touching, impulse_of(rank), now.wall_impulses[slot])
      )
      # A touch of one corner forgets the other.
      fresh = jnp.where(rank >= 0, touches.keys[slot], -1)
      wall_keys.append(jnp.where(touching, fresh, now.wall_keys[slot]))
  return tuple(wall_impulses), tuple(wall_keys), tuple(wall_missed)
