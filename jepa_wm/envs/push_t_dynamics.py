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

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.envs import contacts, push_t_shapes
from jepa_wm.envs import push_t_walls as walls_lib

SUBSTEPS = 10
"""Substeps of one step; a second has ten steps."""

ACTION_SCALE = 100.0
"""Pixels from the agent to where an action of 1 sends it."""

_STIFFNESS, _FRICTION = 100.0, 20.0


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
      wall_impulses=jnp.zeros([walls_lib.NUM_WALLS, count, 2], dtype),
      wall_keys=jnp.full([walls_lib.NUM_WALLS, count, 2], -1, jnp.int32),
      wall_missed=jnp.full(
        [walls_lib.NUM_WALLS, count], contacts.FORGOTTEN, jnp.int32
      ),
    )


def advance(
  body: walls_lib.Body,
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
  scalars = walls_lib.Scalars(
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

  def substep(
    scalars: walls_lib.Scalars, _: None
  ) -> tuple[walls_lib.Scalars, None]:
    return _substep(body, agent_radius, towards, scalars, walls), None

  scalars, _ = jax.lax.scan(substep, scalars, None, length=num_substeps)
  per_wall = lambda values: jnp.stack(values).reshape(
    walls_lib.NUM_WALLS, count, -1
  )
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


def _drive(
  towards: tuple[jax.Array, ...], now: walls_lib.Scalars
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Place and speed of the agent, which is pulled and braked."""
  dt, drive, dtype = contacts.DT, towards[0].dtype, now.angle.dtype
  speed = tuple(
    (
      v.astype(drive)
      + (_STIFFNESS * (t - p.astype(drive)) - _FRICTION * v.astype(drive)) * dt
    ).astype(dtype)
    for t, p, v in zip(towards, now.agent, now.agent_velocity)
  )
  return tuple(p + v * dt for p, v in zip(now.agent, speed)), speed


def _move(
  body: walls_lib.Body, now: walls_lib.Scalars
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array, jax.Array]:
  """Origin and angle of the block after a substep, and the angle's cos, sin."""
  dt = contacts.DT
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
  return origin, angle, cos, sin


def _disc_contacts(
  body: walls_lib.Body,
  agent_radius: contacts.Number,
  off: tuple[jax.Array, jax.Array],
  speed: tuple[jax.Array, ...],
  cos: jax.Array,
  sin: jax.Array,
) -> list[contacts.Contact]:
  """Contacts of the agent, `off` the block's origin, with each rectangle."""
  local = cos * off[0] + sin * off[1], cos * off[1] - sin * off[0]
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
  return discs


def _disc_memory(
  discs: list[contacts.Contact], now: walls_lib.Scalars
) -> tuple[list[jax.Array], list[jax.Array]]:
  """Impulses to start from, and whether they move the block at once."""
  kept = [
    jnp.where(c.touching & (m < contacts.FORGOTTEN), j, 0.0)
    for c, m, j in zip(discs, now.disc_missed, now.disc_impulses)
  ]
  return kept, [m == 0 for m in now.disc_missed]


def _substep(
  body: walls_lib.Body,
  agent_radius: contacts.Number,
  towards: tuple[jax.Array, ...],
  now: walls_lib.Scalars,
  walls: bool,
) -> walls_lib.Scalars:
  agent, speed = _drive(towards, now)
  origin, angle, cos, sin = _move(body, now)
  off = agent[0] - origin[0], agent[1] - origin[1]
  discs = _disc_contacts(body, agent_radius, off, speed, cos, sin)
  disc_kept, disc_warm = _disc_memory(discs, now)

  def disc_impulses(impulses: list[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(
      jnp.where(c.touching, j, old)
      for c, j, old in zip(discs, impulses, now.disc_impulses)
    )

  solve = functools.partial(
    contacts.solve, inverse_mass=1.0, inverse_moment=1.0 / body.moment
  )
  velocity, correction, impulses = solve(discs, disc_kept, disc_warm)
  after = walls_lib.Scalars(
    agent,
    speed,
    origin,
    angle,
    velocity,
    correction,
    disc_impulses(impulses),
    tuple(
      walls_lib.missed(c.touching, m) for c, m in zip(discs, now.disc_missed)
    ),
    now.wall_impulses,
    now.wall_keys,
    tuple(
      walls_lib.missed(jnp.zeros_like(m, bool), m) for m in now.wall_missed
    ),
  )
  if not walls:
    return after

  def with_walls(carry: tuple[jax.Array, walls_lib.Scalars]) -> tuple:
    after = carry[1]
    touches, slots = walls_lib.wall_contacts(body, origin, cos, sin, now)
    velocity, correction, impulses = solve(
      [*discs, *(slot.contact for slot in slots)],
      [*disc_kept, *(slot.kept for slot in slots)],
      [*disc_warm, *(slot.warm for slot in slots)],
    )
    kept = walls_lib.remember(touches, impulses[len(discs) :], now)
    after = after._replace(
      velocity=velocity,
      correction=correction,
      disc_impulses=disc_impulses(impulses),
      wall_impulses=kept[0],
      wall_keys=kept[1],
      wall_missed=kept[2],
    )
    return jnp.zeros((), bool), after

  # A loop and not a conditional: under vmap its body runs only where some world
  # of the batch needs it.
  near = walls_lib.near_walls(body, origin, cos, sin)
  return jax.lax.while_loop(lambda c: c[0], with_walls, (near, after))[1]
