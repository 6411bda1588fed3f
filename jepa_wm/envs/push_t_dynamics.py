"""Push-T's physics: a driven disc, a block that only moves when it is pushed.

Chipmunk's order of one substep, as pymunk 7.3.1 runs it: move, find contacts,
forget the velocities (the world's damping leaves nothing of them), solve.

Contacts are solved in one order: the agent's, then those of the left or right
wall, then those of the upper or lower one, each from the first rectangle to the
last. Chipmunk's order comes out of its search tree, whose shape depends on all
that happened before. Where the block is jammed between the agent and walls,
which no motion can satisfy, the order decides how much of each it sinks into.
"""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.envs import contacts, push_t_shapes

SUBSTEPS = 10
"""Substeps of one step; a second has ten steps."""

WALL_LOW, WALL_HIGH = 5.0, 506.0
WALL_RADIUS = 2.0

ACTION_SCALE = 100.0
"""Pixels from the agent to where an action of 1 sends it."""

_STIFFNESS, _FRICTION = 100.0, 20.0
_WALLS = 2

MAX_WALL_CONTACTS = 4
"""Points of contact with walls that are solved at a time: a flat side against
each of two. More come about only in a jam, and the first ones are taken."""


@flax.struct.dataclass
class Memory:
  """What the solver remembers of the contacts it has solved.

  Walls are two: the nearer of left and right, and of top and bottom.

  Attributes:
    disc_impulses: of the agent against each rectangle, `[3]`.
    disc_missed: substeps since it last touched, at most 3, int32 `[3]`.
    wall_impulses: of both ends of each touch `[2, 3, 2]`.
    wall_keys: which corners it was, int32 `[2, 3, 2]`.
    wall_missed: int32 `[2, 3]`.
  """

  disc_impulses: jax.Array
  disc_missed: jax.Array
  wall_impulses: jax.Array
  wall_keys: jax.Array
  wall_missed: jax.Array

  @classmethod
  def empty(cls, dtype: jax.typing.DTypeLike = jnp.float32) -> 'Memory':
    """Of a world in which nothing has touched yet."""
    count = push_t_shapes.NUM_RECTANGLES
    return cls(
      disc_impulses=jnp.zeros([count], dtype),
      disc_missed=jnp.full([count], contacts.FORGOTTEN, jnp.int32),
      wall_impulses=jnp.zeros([_WALLS, count, 2], dtype),
      wall_keys=jnp.full([_WALLS, count, 2], -1, jnp.int32),
      wall_missed=jnp.full([_WALLS, count], contacts.FORGOTTEN, jnp.int32),
    )


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


class _Scalars(NamedTuple):
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


def advance(
  body: Body,
  agent_radius: contacts.Number,
  agent_position: jax.Array,
  agent_velocity: jax.Array,
  block_pose: jax.Array,
  block_velocity: jax.Array,
  block_correction: jax.Array,
  memory: Memory,
  action: jax.Array,
  *,
  num_substeps: int = SUBSTEPS,
  walls: bool = True,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, Memory]:
  """Drives the agent towards `action` for some substeps.

  Args:
    body: the block.
    agent_radius: of the disc, pixels.
    agent_position: `[2]`.
    agent_velocity: `[2]`, pixels a second.
    block_pose: `(x, y, angle)` `[3]` of the body's origin.
    block_velocity: of its centre of gravity and its turning, `[3]`.
    block_correction: velocity that undoes overlaps, `[3]`.
    memory: of the contacts.
    action: `[2]`, in units of 100 pixels from where the agent is now. The agent
      is steered in its precision, as the peer's is in its action's.
    num_substeps: how many.
    walls: whether the block meets walls. The agent never does.

  Returns:
    The same six things afterwards.
  """
  count = len(body.rectangles)
  scalars = _Scalars(
    agent=tuple(agent_position),
    agent_velocity=tuple(agent_velocity),
    origin=tuple(block_pose[:2]),
    angle=block_pose[2],
    velocity=contacts.Motion(*block_velocity),
    correction=contacts.Motion(*block_correction),
    disc_impulses=tuple(memory.disc_impulses[:count]),
    disc_missed=tuple(memory.disc_missed[:count]),
    wall_impulses=tuple(memory.wall_impulses[:, :count].reshape(-1)),
    wall_keys=tuple(memory.wall_keys[:, :count].reshape(-1)),
    wall_missed=tuple(memory.wall_missed[:, :count].reshape(-1)),
  )
  towards = tuple(
    p.astype(action.dtype) + ACTION_SCALE * a
    for p, a in zip(scalars.agent, action)
  )

  def substep(scalars: _Scalars, _: None) -> tuple[_Scalars, None]:
    return _substep(body, agent_radius, towards, scalars, walls), None

  scalars, _ = jax.lax.scan(substep, scalars, None, length=num_substeps)
  per_wall = lambda values: jnp.stack(values).reshape(_WALLS, count, -1)
  memory = Memory(
    disc_impulses=memory.disc_impulses.at[:count].set(
      jnp.stack(scalars.disc_impulses)
    ),
    disc_missed=memory.disc_missed.at[:count].set(
      jnp.stack(scalars.disc_missed)
    ),
    wall_impulses=memory.wall_impulses.at[:, :count].set(
      per_wall(scalars.wall_impulses)
    ),
    wall_keys=memory.wall_keys.at[:, :count].set(per_wall(scalars.wall_keys)),
    wall_missed=memory.wall_missed.at[:, :count].set(
      per_wall(scalars.wall_missed)[..., 0]
    ),
  )
  return (
    jnp.stack(scalars.agent),
    jnp.stack(scalars.agent_velocity),
    jnp.stack([*scalars.origin, scalars.angle]),
    jnp.stack(scalars.velocity),
    jnp.stack(scalars.correction),
    memory,
  )


def _substep(
  body: Body,
  agent_radius: contacts.Number,
  towards: tuple[jax.Array, ...],
  now: _Scalars,
  walls: bool,
) -> _Scalars:
  dt = contacts.DT
  drive = towards[0].dtype
  dtype = now.angle.dtype
  speed = tuple(
    (
      v.astype(drive)
      + (_STIFFNESS * (t - p.astype(drive)) - _FRICTION * v.astype(drive)) * dt
    ).astype(dtype)
    for t, p, v in zip(towards, now.agent, now.agent_velocity)
  )
  agent = tuple(p + v * dt for p, v in zip(now.agent, speed))

  move = contacts.Motion(*(v + c for v, c in zip(now.velocity, now.correction)))
  angle = now.angle + move.turn * dt
  cos_before, sin_before = jnp.cos(now.angle), jnp.sin(now.angle)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # The velocity is that of the centre of gravity; the origin swings around it.
  # Written as a difference: a block at rest stays where it is to the bit.
  swing_cos, swing_sin = cos - cos_before, sin - sin_before
  centre_x, centre_y = body.centre
  origin = (
    now.origin[0] + move.x * dt - (swing_cos * centre_x - swing_sin * centre_y),
    now.origin[1] + move.y * dt - (swing_sin * centre_x + swing_cos * centre_y),
  )

  off_x, off_y = agent[0] - origin[0], agent[1] - origin[1]
  local = cos * off_x + sin * off_y, cos * off_y - sin * off_x
  discs = []
  for rectangle in body.rectangles:
    contact = contacts.disc_contact(
      *local, agent_radius, rectangle, body.centre
    )
    normal_x = cos * contact.normal_x - sin * contact.normal_y
    normal_y = sin * contact.normal_x + cos * contact.normal_y
    discs.append(
      contact._replace(
        normal_x=normal_x,
        normal_y=normal_y,
        approach=normal_x * speed[0] + normal_y * speed[1],
      )
    )
  disc_kept = [
    jnp.where(c.touching & (m < contacts.FORGOTTEN), j, 0.0)
    for c, m, j in zip(discs, now.disc_missed, now.disc_impulses)
  ]
  disc_warm = [m == 0 for m in now.disc_missed]
  solve = functools.partial(
    contacts.solve, inverse_mass=1.0, inverse_moment=1.0 / body.moment
  )
  velocity, correction, impulses = solve(discs, disc_kept, disc_warm)
  after = _Scalars(
    agent,
    speed,
    origin,
    angle,
    velocity,
    correction,
    tuple(
      jnp.where(c.touching, j, old)
      for c, j, old in zip(discs, impulses, now.disc_impulses)
    ),
    tuple(_missed(c.touching, m) for c, m in zip(discs, now.disc_missed)),
    now.wall_impulses,
    now.wall_keys,
    tuple(_missed(jnp.zeros_like(m, bool), m) for m in now.wall_missed),
  )
  if not walls:
    return after

  def with_walls(carry: tuple[jax.Array, _Scalars]) -> tuple:
    after = carry[1]
    touches, slots = _wall_contacts(body, origin, cos, sin, now)
    velocity, correction, impulses = solve(
      [*discs, *(slot.contact for slot in slots)],
      [*disc_kept, *(slot.kept for slot in slots)],
      [*disc_warm, *(slot.warm for slot in slots)],
    )
    solved = impulses[len(discs) :]

    def impulse_of(rank: jax.Array) -> jax.Array:
      chosen = [jnp.where(rank == k, j, 0.0) for k, j in enumerate(solved)]
      return functools.reduce(jnp.add, chosen)

    wall_impulses, wall_keys, wall_missed = [], [], []
    for i in range(len(now.wall_missed)):
      ranks = touches.ranks[2 * i : 2 * i + 2]
      touching = (ranks[0] >= 0) | (ranks[1] >= 0)
      wall_missed.append(_missed(touching, now.wall_missed[i]))
      for end, rank in enumerate(ranks):
        slot = 2 * i + end
        wall_impulses.append(
          jnp.where(touching, impulse_of(rank), now.wall_impulses[slot])
        )
        # A touch of one corner forgets the other.
        fresh = jnp.where(rank >= 0, touches.keys[slot], -1)
        wall_keys.append(jnp.where(touching, fresh, now.wall_keys[slot]))
    after = after._replace(
      velocity=velocity,
      correction=correction,
      disc_impulses=tuple(
        jnp.where(c.touching, j, old)
        for c, j, old in zip(discs, impulses, now.disc_impulses)
      ),
      wall_impulses=tuple(wall_impulses),
      wall_keys=tuple(wall_keys),
      wall_missed=tuple(wall_missed),
    )
    return jnp.zeros((), bool), after

  # A loop and not a conditional: under vmap its body runs only where some world
  # of the batch needs it.
  near = _near_walls(body, origin, cos, sin)
  return jax.lax.while_loop(lambda c: c[0], with_walls, (near, after))[1]


def _missed(touching: jax.Array, before: jax.Array) -> jax.Array:
  grown = jnp.minimum(before + 1, contacts.FORGOTTEN)
  return jnp.where(touching, 0, grown).astype(before.dtype)


def _near_walls(
  body: Body,
  origin: tuple[jax.Array, ...],
  cos: jax.Array,
  sin: jax.Array,
) -> jax.Array:
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


class _Slot(NamedTuple):
  """A contact to be solved, and how it begins."""

  contact: contacts.Contact
  kept: jax.Array
  warm: jax.Array


class _Touches(NamedTuple):
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


def _wall_contacts(
  body: Body,
  origin: tuple[jax.Array, ...],
  cos: jax.Array,
  sin: jax.Array,
  now: _Scalars,
) -> tuple[_Touches, list[_Slot]]:
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
      slot = _Slot(
        _to_world(contact, pair.sign, pair.is_x),
        jnp.where(same, pair.kept[end], 0.0),
        pair.missed == 0,
      )
      ends.append((slot, key))
    return None, tuple(ends)

  _, found = jax.lax.scan(one, None, pairs)
  ends = [
    jax.tree.map(lambda row, i=i: row[i], end)
    for i in range(_WALLS * len(body.rectangles))
    for end in found
  ]
  count = jnp.zeros((), jnp.int32)
  ranks = []
  for slot, _ in ends:
    fits = slot.contact.touching & (count < MAX_WALL_CONTACTS)
    ranks.append(jnp.where(fits, count, -1))
    count = count + fits

  def pick(_: None, k: jax.Array) -> tuple[None, _Slot]:
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
  return _Touches(ranks, [key for _, key in ends]), slots


def _pairs(
  body: Body,
  origin: tuple[jax.Array, ...],
  cos: jax.Array,
  sin: jax.Array,
  now: _Scalars,
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
