"""Who pushes where in Push-T for several, and the policy that sees to it."""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import (
  crowds,
  multi_agent,
  push_t_agents,
  push_t_picture,
  pushing,
  worlds,
)

TURN, ALONG_X, ALONG_Y, HOME = range(4)
"""What is done with the block: turned, pushed along a side, left alone."""

_NUM_SLOTS = 3

# What must be wrong to begin with it, and what may be left: radians, pixels.
_BEGIN = np.array([0.2, 10.0, 10.0], np.float32)
_END = np.array([0.06, 4.0, 4.0], np.float32)

# Pixels: where pushers line up before the block, how near that is reached and
# what is too far; how far inside the block's edge they push; around corners.
_LINE_UP, _LINED_UP, _LOST = 8.0, 10.0, 36.0
_INSET, _CORNER = 6.0, 12.0
_BETWEEN = 4.0
_REACHED = 4.0
_PUSHER = 1000.0
_RESTLESS, _MOST_STUCK = 0.7, 40


class _Memory(NamedTuple):
  """What is remembered from step to step.

  Attributes:
    mode: what is done with the block, `TURN` to `HOME`.
    slots: which place at the block each agent has, -1 for none, int `[G]`.
    pushes: whether those who have one push, after all have lined up.
    places: where the agents were, `[G, 2]`.
    stuck: steps for which each has not got on, `[G]`.
  """

  mode: jax.Array
  slots: jax.Array
  pushes: jax.Array
  places: jax.Array
  stuck: jax.Array


@flax.struct.dataclass
class PushTAgentsExpert:
  """Policy that lets two or three push the block in line, then sends all home.

  The block is first turned, by two at opposite sides, and then pushed along one
  of its own axes and the other, by as many as fit side by side. Those who are
  nearest do it; they line up, wait for each other, and push as hard as what is
  left to do asks. The others keep away from the block. In the end all go to
  their own places, which moves the block no more: it is too heavy for one.

  See `policies.Policy` for the protocol.

  Attributes:
    world: the `PushTAgents` it knows.
    action_noise: standard deviation of the noise on each number of an action
      before clipping to [-1, 1].
  """

  world: push_t_agents.PushTAgents
  action_noise: jax.Array | float = 0.0

  def init(
    self, rng_key: jax.Array, state: push_t_agents.PushTAgentsState
  ) -> _Memory:
    """Remembers that nothing is begun."""
    del rng_key
    places = self.world.places(state)
    return _Memory(
      mode=jnp.int32(HOME),
      slots=jnp.full([len(places)], -1),
      pushes=jnp.zeros((), bool),
      places=places,
      stuck=jnp.zeros(len(places)),
    )

  def __call__(
    self,
    rng_key: jax.Array,
    state: push_t_agents.PushTAgentsState,
    memory: _Memory,
  ) -> tuple[jax.Array, _Memory]:
    """Joint action `[G * 2]` for `state`, in [-1, 1], and what to remember."""
    world, pose = self.world, state.block_pose
    places = world.places(state)
    local = pushing.into_frame(places, pose)
    errors = self._errors(state)
    mode = _next_mode(memory.mode, errors, self._first_axis(pose, errors))
    slots, inward, count = self._slots(mode, errors)
    taken = _assigned(local, slots, count)
    taken = jnp.where(mode == memory.mode, memory.slots, taken)
    # Nobody passes another who waits beside the block already.
    settled = (mode == TURN) | (memory.pushes & (mode == memory.mode))
    taken = jnp.where(settled, taken, _in_order(local, slots, taken))
    works = taken >= 0
    own_slot, own_inward = slots[taken], inward[taken]

    line = own_slot - _LINE_UP * own_inward
    off = jnp.linalg.norm(local - line, axis=-1)
    off = jnp.where(works, off, 0.0)
    kept = memory.pushes & (mode == memory.mode) & jnp.all(off < _LOST)
    pushes = (mode != HOME) & (kept | jnp.all(off < _LINED_UP))

    home = state.target[:-3].reshape(-1, 2)
    resting = jnp.where(mode == HOME, home, self._clear_of(places, pose))
    goals = pushing.into_frame(resting, pose)
    goals = jnp.where(works[:, None], line, goals)
    corner = world.block_size + world.agent_radius + _CORNER
    waypoints = jax.vmap(_around, in_axes=(0, 0, None))(local, goals, corner)
    waypoints = pushing.out_of_frame(waypoints, pose)

    far = jnp.linalg.norm(waypoints - places, axis=-1) > _REACHED
    moved = jnp.linalg.norm(places - memory.places, axis=-1)
    halted = far & (moved < 0.3 * world.agent_speed) & ~(works & pushes)
    stuck = jnp.where(far, memory.stuck + jnp.where(halted, 1.0, -1.0), 0.0)
    stuck = jnp.clip(stuck, 0.0, _MOST_STUCK)
    ranks = jnp.where(works & pushes, _PUSHER, stuck)
    ways = crowds.steered(places, waypoints, ranks, 2.0 * world.agent_radius)
    ahead = self._ahead(local, own_slot, own_inward, mode, errors, count)
    ahead = pushing.turned(ahead, pose[2])
    ways = jnp.where((works & pushes)[:, None], ahead, ways)

    actions = ways / world.agent_speed
    lengths = jnp.linalg.norm(actions, axis=-1, keepdims=True)
    scale = self.action_noise + _RESTLESS * (stuck > 2 * crowds.PATIENCE)
    noise = scale[:, None] * jax.random.normal(rng_key, actions.shape)
    actions = jnp.clip(actions / jnp.maximum(lengths, 1.0) + noise, -1.0, 1.0)
    found = _Memory(mode, taken, pushes, places, stuck)
    return actions.reshape(-1), found

  def _errors(self, state: push_t_agents.PushTAgentsState) -> jax.Array:
    """What the block lacks: its turn, and its way in its own frame, `[3]`."""
    pose, goal = state.block_pose, state.target[-3:]
    _, turn = push_t_agents.block_errors(pose, goal)
    return jnp.append(turn[None], pushing.into_frame(goal[None, :2], pose)[0])

  def _first_axis(self, pose: jax.Array, errors: jax.Array) -> jax.Array:
    """The axis after which the block is nearer to the middle of the table."""
    ways = pushing.turned(jnp.diag(errors[1:]), pose[2])
    middle = push_t_picture.WORLD_SIZE / 2
    off = jnp.max(jnp.abs(pose[None, :2] + ways - middle), axis=-1)
    return jnp.where(off[0] <= off[1], ALONG_X, ALONG_Y)

  def _slots(
    self, mode: jax.Array, errors: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where who pushes stands, and whereto, `[3, 2]` in the block's frame.

    And how many do, at most as many as there are.
    """
    world = self.world
    half, radius = world.block_size, world.agent_radius
    edge, lever = half + radius, half - _INSET
    beside = 2.0 * radius + _BETWEEN
    three = (world.num_agents > 2) & (lever > beside)
    wide = jnp.where(three, beside, jnp.maximum(beside / 2, half / 2))
    # In order; of one, in the middle.
    offsets = jnp.where(three, jnp.array([-1.0, 0, 1]), jnp.array([-1.0, 1, 0]))
    offsets *= wide * (world.num_agents > 1)
    signs = jnp.where(errors < 0, -1.0, 1.0)
    turn_slots = signs[0] * jnp.array([[0.0, -1.0], [0.0, 1.0], [0.0, 0.0]])
    turn_slots = turn_slots * lever + edge * jnp.array(
      [[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]
    )
    turn_inward = jnp.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    ahead = jnp.where(
      mode == ALONG_X,
      signs[1] * jnp.array([1.0, 0.0]),
      signs[2] * jnp.array([0.0, 1.0]),
    )
    # The other way round the block is behind it.
    across = jnp.stack([ahead[1], -ahead[0]])
    flat = offsets[:, None] * across[None] - edge * ahead[None]
    ahead = jnp.broadcast_to(ahead, flat.shape)
    is_turn = mode == TURN
    slots = jnp.where(is_turn, turn_slots, flat)
    inward = jnp.where(is_turn, turn_inward, ahead)
    count = jnp.where(is_turn, 2, jnp.where(three, 3, 2))
    count = jnp.minimum(count, world.num_agents)
    return slots, inward, jnp.where(mode == HOME, 0, count)

  def _ahead(
    self,
    local: jax.Array,
    slots: jax.Array,
    inward: jax.Array,
    mode: jax.Array,
    errors: jax.Array,
    count: jax.Array,
  ) -> jax.Array:
    """Ways `[G, 2]` of those who push, in the block's frame."""
    world = self.world
    half, speed = world.block_size, world.agent_speed
    left = jnp.abs(errors)[jnp.minimum(mode, ALONG_Y)]
    lever = jnp.where(mode == TURN, (half - _INSET) / half, 1.0)
    left *= jnp.where(mode == TURN, half, 1.0)
    # As much beyond friction as the block should go.
    push = (world.block_weight + left / speed) / (count * lever)
    offsets = slots - local
    depth = jnp.sum(offsets * inward, axis=-1, keepdims=True)
    beside = offsets - depth * inward
    along = jnp.maximum(depth, 0.0) + speed * jnp.clip(push, 0.0, 1.0)
    return along * inward + jnp.clip(beside, -0.3 * speed, 0.3 * speed)

  def _clear_of(self, places: jax.Array, pose: jax.Array) -> jax.Array:
    """The nearest places `[G, 2]` that are clear of the block."""
    world = self.world
    clear = 1.5 * world.block_size + 3.0 * world.agent_radius
    offsets = places - pose[None, :2]
    lengths = jnp.maximum(jnp.linalg.norm(offsets, axis=-1), 1e-6)
    grown = jnp.maximum(clear / lengths, 1.0)
    return pose[None, :2] + offsets * grown[:, None]


def _next_mode(
  mode: jax.Array, errors: jax.Array, first: jax.Array
) -> jax.Array:
  """What is done next, `TURN` to `HOME`; of both axes the `first`."""
  sizes = jnp.abs(errors)
  lacks = sizes > _BEGIN
  pushed = jnp.where(lacks[1], ALONG_X, ALONG_Y)
  pushed = jnp.where(lacks[1] & lacks[2], first, pushed)
  fresh = jnp.where(jnp.any(lacks[1:]), pushed, HOME)
  fresh = jnp.where(lacks[0], TURN, fresh)
  current = jnp.minimum(mode, ALONG_Y)
  goes_on = (mode != HOME) & (sizes[current] > jnp.asarray(_END)[current])
  # A block that has turned too far meanwhile is not pushed on.
  goes_on &= (mode == TURN) | (sizes[0] < 1.5 * _BEGIN[0])
  return jnp.where(goes_on, mode, fresh).astype(jnp.int32)


def _assigned(
  local: jax.Array, slots: jax.Array, count: jax.Array
) -> jax.Array:
  """Who takes which slot, the nearest first, -1 for none, int `[G]`."""
  away = jnp.linalg.norm(local[:, None] - slots[None], axis=-1)
  # Behind the block is far.
  behind = jnp.sum(local[:, None] * slots[None], axis=-1) < 0
  costs = away + jnp.where(behind, 100.0, 0.0)
  taken = jnp.full([len(local)], -1)
  for slot in range(_NUM_SLOTS):
    cost = jnp.where(taken < 0, costs[:, slot], jnp.inf)
    chosen = (jnp.arange(len(local)) == jnp.argmin(cost)) & (slot < count)
    taken = jnp.where(chosen & (taken < 0), slot, taken)
  return taken


def _in_order(
  local: jax.Array, slots: jax.Array, taken: jax.Array
) -> jax.Array:
  """Slots side by side to those who have any, as they come around the block."""
  place = slots[0] + slots[1]
  turn = jnp.arctan2(local[:, 1], local[:, 0]) - jnp.arctan2(place[1], place[0])
  turn = jnp.mod(turn + jnp.pi, 2 * jnp.pi) - jnp.pi
  before = (taken >= 0)[None] & (turn[None] < turn[:, None])
  return jnp.where(taken >= 0, jnp.sum(before, axis=-1), -1)


def _around(
  place: jax.Array, goal: jax.Array, corner: jax.Array | float
) -> jax.Array:
  """Where to go from `place` to `goal`, `[2]`, past a block at the origin.

  Args:
    place: `[2]` in the block's frame.
    goal: `[2]`.
    corner: of the square whose corners are walked by, half a side.
  """
  shares = jnp.linspace(0.05, 0.95, 12)[:, None]
  on_way = place[None] + shares * (goal - place)[None]
  is_clear = jnp.all(jnp.max(jnp.abs(on_way), axis=-1) > corner - 2 * _CORNER)
  here = jnp.arctan2(place[1], place[0])
  turn = jnp.arctan2(goal[1], goal[0]) - here
  turn = jnp.mod(turn + jnp.pi, 2 * jnp.pi) - jnp.pi
  # The next corner that way round, past one that is as good as reached.
  quarters = (here - jnp.pi / 4) / (jnp.pi / 2)
  step = jnp.where(
    turn > 0, jnp.ceil(quarters + 0.1), jnp.floor(quarters - 0.1)
  )
  angle = jnp.pi / 4 + step * jnp.pi / 2
  corner_at = (
    jnp.sqrt(2.0) * corner * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
  )
  return jnp.where(is_clear, goal, corner_at)


def _world(num_agents: int) -> worlds.World:
  """The world of so many agents."""
  multi_agent.check_num_agents(num_agents)
  make = functools.partial(push_t_agents.PushTAgents, num_agents=num_agents)
  if num_agents == 1:
    # Where there is nobody to help, one will do.
    make = functools.partial(make, block_weight=0.7)
  return worlds.World(
    make=make,
    variation_groups=push_t_agents.PushTAgents.variation_groups,
    policies={'expert': PushTAgentsExpert},
    place=lambda vectors: (
      (np.asarray(vectors)[..., -3:-1] + 0.5) / push_t_picture.WORLD_SIZE
    ),
    state_names=(
      *multi_agent.state_names(num_agents),
      *('block_x', 'block_y', 'block_angle'),
    ),
    body=multi_agent.state_names(num_agents),
    unit='px',
    action_noise=0.3,
    kin='push_t_agents',
    num_agents=num_agents,
  )


worlds.register('push_t_agents', _world(2))
worlds.register_family('push_t_agents', _world)
