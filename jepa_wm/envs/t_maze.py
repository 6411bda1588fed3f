"""A T-maze whose turn depends on what was shown long before it.

A cue says by its colour which arm is right, and goes. A gate holds the agent in
the stem until `gap` steps have passed; then it walks into an arm, at whose end
is a room in which it is not seen. A lamp turns green in the right room and red
in the other one, and stays so. So the goal's picture, a green lamp, is the same
for both arms: only who remembers the cue knows which of them leads to it.

The task of LSTM agents that remember (Bakker, NeurIPS 2001), as a world of
pictures.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import palette
from jepa_wm.envs import painting, plane, shapes

STATE_NAMES = ('x', 'y', 'cue', 'doors', 'clock', 'gap', 'seed')
"""What the numbers of a vector are."""

GAPS = 5, 200
"""Steps that the gate stays closed, at least and at most, by default."""

WALK = 24
"""Steps that are enough to walk into a room, several times over."""

ROOM = 1.5
"""Cells from the stem's axis to a room, where nothing can be undone."""

ARM, _ROOM_CENTRE = 3.0, 2.0
_CORRIDOR = 0.5
_END = 2.5
_EXTENT = (-2.75, -0.75, 5.5)
_LAMP = (-2.5, 3.85, 2.5, 4.5)
_CUE = (-2.5, -0.5, -0.9, 2.1)
_GATE = (-0.5, 0.5, 0.5, 0.8)
_PATCHES = tuple(
  (x, y, x + 0.7, y + 0.7) for x in (0.9, 1.8) for y in (0.0, 1.1)
)
Box = tuple[float, float, float, float]
"""Edges `(x_low, y_low, x_high, y_high)`, cells."""

STEM: Box = (-_CORRIDOR, -_CORRIDOR, _CORRIDOR, ARM + _CORRIDOR)
ARMS: Box = (-_END, ARM - _CORRIDOR, _END, ARM + _CORRIDOR)
ROOMS: tuple[Box, Box] = (
  (-_END, ARM - _CORRIDOR, -ROOM, ARM + _CORRIDOR),
  (ROOM, ARM - _CORRIDOR, _END, ARM + _CORRIDOR),
)

_LAMP_COLORS = np.array([[220, 0, 0], [90, 90, 90], [0, 200, 0]], np.float32)
CUE_COLORS = np.array([[255, 140, 0], [170, 0, 200]], np.float32)
WALL, FLOOR, ROOM_COLOR, _PATCH = 150.0, 255.0, 60.0, 20.0
_GATE_COLOR = np.array([110, 60, 20], np.float32)


@flax.struct.dataclass
class TMazeState:
  """Where the agent is, and what can no longer be seen.

  Attributes:
    position: `(x, y)` `[2]` in cells: the stem goes from (0, 0) up to (0, 3),
      the arms from there to x = -2 and 2.
    cue: -1 or 1, what was shown: that the left arm is right, or the other one.
    doors: 1, or -1 where a world has exchanged the two.
    clock: steps since the start.
    gap: steps that the gate stays closed.
    seed: of what blinks, a whole number.
    target: vector of where the expert is going.
  """

  position: jax.Array
  cue: jax.Array
  doors: jax.Array
  clock: jax.Array
  gap: jax.Array
  seed: jax.Array
  target: jax.Array


@flax.struct.dataclass
class TMaze(plane.PlaneWorld):
  """The world; every field but `image_size` is a leaf and may be batched.

  Lengths are cells, colours are 0..255.

  Attributes:
    gap_low: `reset` draws the gap from so many steps on, evenly on a
      logarithmic scale; the cue is gone by then.
    gap_high: and up to so many.
    cue_steps: steps that the cue is shown.
    distractor: chance that a patch is dark, for each of four patches and anew
      at every step until the gate opens; they say nothing.
    agent_radius: of the dot, which keeps that far from walls.
    agent_speed: cells per step and per unit of action.
    image_size: height and width of the picture, static.
  """

  gap_low: jax.Array | int = GAPS[0]
  gap_high: jax.Array | int = GAPS[1]
  cue_steps: jax.Array | int = 3
  distractor: jax.Array | float = 0.0
  agent_radius: jax.Array | float = 0.3
  agent_speed: jax.Array | float = 1.0
  image_size: int = flax.struct.field(pytree_node=False, default=64)

  def reset(self, rng_key: jax.Array) -> TMazeState:
    """Draws cue and gap; the agent is at the foot of the stem.

    The target is the right room.

    Args:
      rng_key: consumed.
    """
    cue_key, gap_key, seed_key = jax.random.split(rng_key, 3)
    cue = jnp.where(jax.random.bernoulli(cue_key), 1.0, -1.0)
    # As many of 5 to 10 as of 100 to 200: who learns begins with short ones.
    ends = jnp.log(jnp.array([self.gap_low, self.gap_high + 1], jnp.float32))
    drawn = jnp.exp(
      jax.random.uniform(gap_key, (), minval=ends[0], maxval=ends[1])
    )
    gap = jnp.clip(jnp.floor(drawn), self.gap_low, self.gap_high)
    seed = jax.random.randint(seed_key, (), 0, 2**16)
    rest = jnp.stack([gap, gap, seed]).astype(jnp.float32)
    doors = self.draw_doors(jax.random.fold_in(rng_key, 3))
    told = jnp.concatenate([jnp.stack([cue, doors]), rest])
    room = jnp.stack([_ROOM_CENTRE * cue * doors, jnp.float32(ARM)])
    state = self.from_vector(jnp.concatenate([jnp.zeros(2), told]))
    return dataclasses.replace(
      state, clock=jnp.float32(0), target=jnp.concatenate([room, told])
    )

  def draw_doors(self, rng_key: jax.Array) -> jax.Array:
    """Draws `TMazeState.doors`, here always 1; consumes the key."""
    del rng_key
    return jnp.float32(1)

  def step(self, state: TMazeState, action: jax.Array) -> TMazeState:
    """Moves the agent by `action` `[2]`, clipped to [-1, 1], minding the walls.

    Whatever it does for the first `gap` steps, the gate holds it where it is.
    Whoever comes into a room stays there.

    Raises:
      ValueError: `action` is not `[2]`.
    """
    action = plane.pair('action', action)
    push = self.agent_speed * jnp.clip(action, -1.0, 1.0)
    x, y = state.position
    reach = _CORRIDOR - self.agent_radius
    in_arm = jnp.abs(x) > reach
    low = jnp.where(in_arm, ARM - reach, -reach)
    new_y = jnp.clip(y + push[1], low, ARM + reach)
    width = jnp.where(new_y >= ARM - reach, _ROOM_CENTRE, reach)
    new_x = jnp.clip(x + push[0], -width, width)
    moved = jnp.stack([new_x, new_y])
    room = jnp.stack([jnp.sign(new_x) * _ROOM_CENTRE, jnp.float32(ARM)])
    moved = jnp.where(jnp.abs(new_x) > ROOM, room, moved)
    is_held = (state.clock < state.gap) | (jnp.abs(x) > ROOM)
    return dataclasses.replace(
      state,
      position=jnp.where(is_held, state.position, moved),
      clock=state.clock + 1.0,
    )

  def render(self, state: TMazeState) -> jax.Array:
    """Draws uint8 pixels `[image_size, image_size, 3]`, the arms above.

    The clock is not drawn, and the agent only outside of the rooms.
    Worlds of the same kind paint by `draw_under` and `draw_over`.
    """
    picture = jnp.full((self.image_size, self.image_size, 3), WALL)
    picture = self.draw_under(picture, state)
    picture = self.fill(
      picture, _LAMP, jnp.asarray(_LAMP_COLORS)[1 + self.lamp(state)]
    )
    is_closed = state.clock < state.gap
    picture = self.fill(picture, _GATE, _GATE_COLOR, is_closed)
    # A known 0 costs nothing.
    if isinstance(self.distractor, jax.core.Tracer) or self.distractor:
      key = jax.random.fold_in(
        jax.random.key(state.seed.astype(jnp.uint32)),
        state.clock.astype(jnp.uint32),
      )
      chances = jax.random.bernoulli(key, self.distractor, (len(_PATCHES),))
      for box, is_dark in zip(_PATCHES, chances & is_closed):
        picture = self.fill(picture, box, _PATCH, is_dark)
    picture = self.dot(picture, state.position, palette.AGENT_COLORS[1])
    picture = self.draw_over(picture, state)
    return (picture[::-1] + 0.5).astype(jnp.uint8)

  def draw_under(self, picture: jax.Array, state: TMazeState) -> jax.Array:
    """Paints what the agent walks on, and the cue while it is shown."""
    for box in (STEM, ARMS):
      picture = self.fill(picture, box, FLOOR)
    shows_cue = state.clock < self.cue_steps
    return self.fill(picture, _CUE, self.cue_color(state.cue), shows_cue)

  def draw_over(self, picture: jax.Array, state: TMazeState) -> jax.Array:
    """Paints what hides the agent, here the rooms."""
    del state
    for box in ROOMS:
      picture = self.fill(picture, box, ROOM_COLOR)
    return picture

  def proprio(self, state: TMazeState) -> jax.Array:
    """The agent's `(x, y)`, float32 `[2]`, cells."""
    return state.position

  def vector(self, state: TMazeState) -> jax.Array:
    """All of the state, float32 `[7]`; see `STATE_NAMES`."""
    told = state.cue, state.doors, state.clock, state.gap, state.seed
    return jnp.concatenate([state.position, jnp.stack(told)])

  def from_vector(self, vector: jax.Array) -> TMazeState:
    """The state that `vector` `[7]` describes, its target there.

    Raises:
      ValueError: `vector` is not `[7]`.
    """
    vector = jnp.asarray(vector, jnp.float32)
    if vector.shape != (len(STATE_NAMES),):
      raise ValueError(
        f'vector must have shape ({len(STATE_NAMES)},), '
        f'{", ".join(STATE_NAMES)}, got {vector.shape}; batches go through '
        'jax.vmap.'
      )
    cue, doors, clock, gap, seed = vector[2:]
    return TMazeState(vector[:2], cue, doors, clock, gap, seed, target=vector)

  def lamp(self, state: TMazeState) -> jax.Array:
    """Colour of the lamp, int32: 1 for green, -1 for red, 0 while it is off."""
    x = state.position[0]
    is_right = jnp.where(x * state.cue * state.doors > 0, 1, -1)
    return jnp.where(jnp.abs(x) > ROOM, is_right, 0)

  def distance(self, state: TMazeState, goal: TMazeState) -> jax.Array:
    """Cells between the agent's positions, as the crow flies."""
    return jnp.linalg.norm(state.position - goal.position)

  def success(self, state: TMazeState, goal: TMazeState) -> jax.Array:
    """Whether the lamp is of the goal's colour or, if it is off there, near.

    Near is less than half a cell from the goal's position.
    """
    lamp, is_near = self.lamp(goal), self.distance(state, goal) < 0.5
    return (self.lamp(state) == lamp) & ((lamp != 0) | is_near)

  def fill(
    self,
    picture: jax.Array,
    box: Box,
    color: jax.typing.ArrayLike,
    strength: jax.typing.ArrayLike = 1.0,
  ) -> jax.Array:
    """Paints a box over a picture where `strength` is 1; y goes upwards."""
    area = painting.box_area(box, _EXTENT, self.image_size) * strength
    return picture + area * (jnp.reshape(color, (1, 1, -1)) - picture)

  def dot(
    self,
    picture: jax.Array,
    position: jax.Array,
    color: jax.typing.ArrayLike,
    strength: jax.typing.ArrayLike = 1.0,
  ) -> jax.Array:
    """Paints a dot as large as the agent, as `fill` does a box."""
    left, bottom, width = _EXTENT
    pixel = width / self.image_size
    centres = (np.arange(self.image_size, dtype=np.float32) + 0.5) * pixel
    distance = shapes.disc_distance(centres + left, centres + bottom, position)
    area = shapes.coverage(distance - self.agent_radius, pixel) * strength
    return picture + area[..., None] * (
      jnp.reshape(color, (1, 1, -1)) - picture
    )

  def cue_color(self, cue: jax.Array) -> jax.Array:
    """The colour `[3]` that stands for -1 or 1."""
    return jnp.where(cue > 0, CUE_COLORS[1], CUE_COLORS[0])


def place(vectors: np.ndarray) -> np.ndarray:
  """Where vectors `[..., 7]` are in the picture, as fractions `[..., 2]`."""
  left, bottom, width = _EXTENT
  vectors = np.asarray(vectors)
  x, y = vectors[..., 0] - left, vectors[..., 1] - bottom
  return np.stack([x / width, 1.0 - y / width], axis=-1)
