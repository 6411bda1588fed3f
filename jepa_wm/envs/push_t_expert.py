"""Ways to act in Push-T without a model: an expert that plans, and a weak one.

The expert needs no demonstrations. It draws plans of one or two pushes, plays
them in the true dynamics, and follows the best for a few steps.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import policies, push_t, push_t_dynamics, worlds

PUSHES = 2
"""Pushes of a plan at most."""

_HOME = 2 * PUSHES
_ORBIT = 30.0
_ARRIVED = 8.0
_PATIENCE = 9.0  # Steps that a push may take at full pace.
_ROOM_LOW, _ROOM_HIGH = 7.0, 504.0


class Plan(NamedTuple):
  """Pushes to be made one after the other, and how far that has come.

  A plan is a way to act and not a list of actions: where it goes depends on
  where the block is by then.

  Attributes:
    point: where the block is pushed, in its frame, `[PUSHES, 2]`.
    normal: outward there, `[PUSHES, 2]`.
    heading: of the push against the inward normal, radians `[PUSHES]`.
    length: of the push in pixels `[PUSHES]`.
    speed: largest action of the push `[PUSHES]`.
    around: which way to walk around the block, -1 or 1, and 0 for straight
      there, `[PUSHES + 1]`; the last is for the way to the agent's own target.
    stage: 0 and 2 walk to a push, 1 and 3 push, 4 walks to the target.
    waited: steps spent in this stage.
    end: where the push under way ends, `[2]`.
  """

  point: jax.Array
  normal: jax.Array
  heading: jax.Array
  length: jax.Array
  speed: jax.Array
  around: jax.Array
  stage: jax.Array
  waited: jax.Array
  end: jax.Array


class Memory(NamedTuple):
  """What the expert carries along: its plan, and when it made it."""

  plan: Plan
  age: jax.Array


@flax.struct.dataclass
class PushTExpert:
  """Policy that pushes the block to its target, and then goes to its own.

  Sampling MPC (random shooting with the last plan kept) on the true dynamics
  without walls. See `policies.Policy` for the protocol.

  Attributes:
    world: the `PushT` it knows.
    action_noise: standard deviation of the noise added to each action before
      clipping to [-1, 1]. The expert does not know of it.
    pace: largest action, 0..1. The default walks 9 px a step; its actions
      deviate by .18, those of DINO-WM's Push-T data by .20.
    num_samples: plans drawn each time, static.
    horizon: steps that each is played for, static.
    replan_every: steps between, static.
  """

  world: push_t.PushT
  action_noise: jax.Array | float = 0.0
  pace: jax.Array | float = 0.2
  num_samples: int = flax.struct.field(pytree_node=False, default=96)
  horizon: int = flax.struct.field(pytree_node=False, default=32)
  replan_every: int = flax.struct.field(pytree_node=False, default=5)

  def init(self, rng_key: jax.Array, state: push_t.PushTState) -> Memory:
    """A plan that will be replaced by the first call; consumes the key."""
    plan = self._draw(rng_key, state)
    return Memory(plan, jnp.zeros((), jnp.int32))

  def __call__(
    self, rng_key: jax.Array, state: push_t.PushTState, memory: Memory
  ) -> tuple[jax.Array, Memory]:
    """Action `[2]` for `state`, in [-1, 1], and the plan one step on."""
    plan_key, noise_key = jax.random.split(rng_key)

    def renew(carry: tuple[jax.Array, Plan]) -> tuple[jax.Array, Plan]:
      return jnp.zeros((), bool), self._replan(plan_key, state, carry[1])

    # A loop and not a conditional: under vmap it is skipped while no episode of
    # the batch needs a plan.
    due = memory.age % self.replan_every == 0
    _, plan = jax.lax.while_loop(lambda c: c[0], renew, (due, memory.plan))
    action, plan = self._follow(state, plan)
    noise = self.action_noise * jax.random.normal(noise_key, (2,))
    action = jnp.clip(action + noise, -1.0, 1.0)
    return action, Memory(plan, memory.age + 1)

  def _replan(
    self, rng_key: jax.Array, state: push_t.PushTState, plan: Plan
  ) -> Plan:
    """The best of the last plan, fresh ones and variations of the last."""
    keys = jax.random.split(rng_key, self.num_samples)
    fresh = self.num_samples * 3 // 4
    drawn = jax.vmap(lambda key: self._draw(key, state))(keys[:fresh])
    varied = jax.vmap(lambda key: self._vary(key, plan))(keys[fresh:])
    plans = jax.tree.map(
      lambda *rows: jnp.concatenate(rows),
      jax.tree.map(lambda leaf: leaf[None], plan),
      drawn,
      varied,
    )
    costs = jax.vmap(lambda plan: self._cost(state, plan))(plans)
    best = jnp.argmin(costs)
    return jax.tree.map(lambda leaf: leaf[best], plans)

  def _draw(self, rng_key: jax.Array, state: push_t.PushTState) -> Plan:
    """Pushes at random sides of the block, in random directions."""
    keys = jax.random.split(rng_key, 8)
    rectangles = self.world.block_rectangles
    # Shapes of fewer rectangles are filled up with empty ones.
    count = jnp.sum(rectangles[:, 2] > 0.0)
    which = jax.random.randint(keys[0], (PUSHES,), 0, count)
    x, y, half_x, half_y = rectangles[which].T
    side = jax.random.randint(keys[1], (PUSHES,), 0, 4)
    across = side % 2 == 0
    sign = jnp.where(side < 2, 1.0, -1.0)
    along = jax.random.uniform(keys[2], (PUSHES,), minval=-1.0, maxval=1.0)
    point_x = x + half_x * jnp.where(across, sign, along)
    point_y = y + half_y * jnp.where(across, along, sign)
    normal_x = jnp.where(across, sign, 0.0)
    normal_y = jnp.where(across, 0.0, sign)
    # Short pushes as often as long ones.
    length = jnp.exp(
      jax.random.uniform(
        keys[4], (PUSHES,), minval=np.log(4.0), maxval=np.log(150.0)
      )
    )
    # None, one or two pushes before the way home.
    start = jnp.asarray([0, PUSHES, _HOME])[
      jax.random.choice(keys[5], 3, p=jnp.asarray([0.45, 0.45, 0.1]))
    ]
    return Plan(
      point=jnp.stack([point_x, point_y], axis=-1),
      normal=jnp.stack([normal_x, normal_y], axis=-1),
      heading=0.4 * jax.random.normal(keys[3], (PUSHES,)),
      length=length,
      speed=jax.random.uniform(keys[6], (PUSHES,), minval=0.3, maxval=1.0),
      around=jax.random.randint(keys[7], (PUSHES + 1,), -1, 2).astype(
        jnp.float32
      ),
      stage=start.astype(jnp.int32),
      waited=jnp.zeros((), jnp.int32),
      end=jnp.zeros([2]),
    )

  def _vary(self, rng_key: jax.Array, plan: Plan) -> Plan:
    """The same pushes, a little elsewhere and a little longer or shorter."""
    keys = jax.random.split(rng_key, 5)
    tangent = jnp.stack([-plan.normal[:, 1], plan.normal[:, 0]], axis=-1)
    shift = 8.0 * jax.random.normal(keys[0], (PUSHES, 1))
    return plan._replace(
      point=plan.point + shift * tangent,
      heading=plan.heading + 0.2 * jax.random.normal(keys[1], (PUSHES,)),
      length=plan.length * jnp.exp(0.3 * jax.random.normal(keys[2], (PUSHES,))),
      speed=jnp.clip(
        plan.speed + 0.1 * jax.random.normal(keys[3], (PUSHES,)), 0.2, 1.0
      ),
      end=plan.end + 8.0 * jax.random.normal(keys[4], (2,)),
    )

  def _cost(self, state: push_t.PushTState, plan: Plan) -> jax.Array:
    """The best moment of playing `plan`, earlier ones preferred."""
    world = self.world
    body = world.body()

    def step(
      carry: tuple[push_t.PushTState, Plan], _: None
    ) -> tuple[tuple[push_t.PushTState, Plan], jax.Array]:
      state, plan = carry
      action, plan = self._follow(state, plan)
      state = world.push(body, state, action, walls=False)
      return (state, plan), self._lack(state)

    _, lacks = jax.lax.scan(step, (state, plan), None, length=self.horizon)
    return jnp.min(lacks + 0.25 * jnp.arange(self.horizon, dtype=jnp.float32))

  def _lack(self, state: push_t.PushTState) -> jax.Array:
    """What is still wrong, in pixels: the block's pose before the agent's."""
    target = state.target
    body = self.world.body()
    off = state.block_pose[:2] - target[2:4]
    turned = push_t.angle_difference(state.block_pose[2], target[4])
    block = jnp.sqrt(jnp.sum(off**2) + body.moment * turned**2 + 1e-6)
    agent = jnp.linalg.norm(state.agent_position - target[:2])
    outside = jnp.zeros(())
    cos, sin = jnp.cos(state.block_pose[2]), jnp.sin(state.block_pose[2])
    for x, y, half_x, half_y in body.rectangles:
      middle_x = state.block_pose[0] + cos * x - sin * y
      middle_y = state.block_pose[1] + sin * x + cos * y
      reach_x = half_x * jnp.abs(cos) + half_y * jnp.abs(sin)
      reach_y = half_x * jnp.abs(sin) + half_y * jnp.abs(cos)
      for middle, reach in ((middle_x, reach_x), (middle_y, reach_y)):
        low = jnp.maximum(_ROOM_LOW - middle + reach, 0.0)
        high = jnp.maximum(middle + reach - _ROOM_HIGH, 0.0)
        outside += jnp.where(jnp.asarray(half_x) > 0.0, low + high, 0.0)
    return jnp.maximum(block - 5.0, 0.0) + 0.04 * agent + outside

  def _follow(
    self, state: push_t.PushTState, plan: Plan
  ) -> tuple[jax.Array, Plan]:
    """The action of `plan` here, and the plan with its stage moved on."""
    agent = state.agent_position
    body = self.world.body()
    x, y, angle = state.block_pose
    cos, sin = jnp.cos(angle), jnp.sin(angle)

    def to_world(vector: jax.Array) -> jax.Array:
      return jnp.stack(
        [cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]]
      )

    origin = jnp.stack([x, y])
    centre = origin + to_world(jnp.stack([jnp.asarray(c) for c in body.centre]))
    push = jnp.minimum(plan.stage // 2, PUSHES - 1)
    first = push == 0
    pick = lambda leaf: jnp.where(first, leaf[0], leaf[1])
    normal = to_world(pick(plan.normal))
    gap = self.world.agent_radius + 6.0
    before = origin + to_world(pick(plan.point)) + gap * normal
    before = jnp.clip(before, 0.0, push_t.WORLD_SIZE)

    # A walk that has arrived becomes a push, which goes on to its end.
    walking = plan.stage % 2 == 0
    home = plan.stage >= _HOME
    arrived = jnp.linalg.norm(before - agent) < _ARRIVED
    begins = walking & ~home & arrived
    tilt = pick(plan.heading)
    inward = -jnp.stack(
      [
        jnp.cos(tilt) * normal[0] - jnp.sin(tilt) * normal[1],
        jnp.sin(tilt) * normal[0] + jnp.cos(tilt) * normal[1],
      ]
    )
    end = jnp.where(
      begins, agent + inward * (6.0 + pick(plan.length)), plan.end
    )
    pushing = begins | (~walking & ~home)

    around = jnp.where(home, plan.around[-1], pick(plan.around[:-1]))
    goal = jnp.where(home, state.target[:2], before)
    way = _walk(agent, goal, centre, around)
    towards = jnp.where(pushing, end, way)
    speed = self.pace * jnp.where(pushing, pick(plan.speed), 1.0)
    wanted = (towards - agent) / push_t_dynamics.ACTION_SCALE
    # The spring gets a quarter of the way in a step: it is sent further.
    wanted = 2.0 * wanted
    largest = jnp.max(jnp.abs(wanted))
    action = wanted * jnp.minimum(speed / jnp.maximum(largest, 1e-6), 1.0)

    waited = jnp.where(begins, 0, plan.waited + 1)
    tired = waited.astype(jnp.float32) * self.pace > _PATIENCE
    done = pushing & ((jnp.linalg.norm(end - agent) < 5.0) | tired)
    stage = plan.stage + begins.astype(jnp.int32) + done.astype(jnp.int32)
    return action, plan._replace(
      stage=stage.astype(jnp.int32),
      waited=jnp.where(done, 0, waited).astype(jnp.int32),
      end=end,
    )


@flax.struct.dataclass
class PushTWeak(policies.Forgetful):
  """Uniform actions that keep the agent near the block: no expert.

  Attributes:
    world: the `PushT` it acts in.
    action_noise: standard deviation of noise added before clipping.
    reach: largest distance along x and along y from the block's origin to where
      the agent is sent, pixels.

  Source: stable-worldmodel 0.1.1, Push-T's WeakPolicy.
  """

  world: push_t.PushT
  action_noise: jax.Array | float = 0.0
  reach: jax.Array | float = 100.0

  def __call__(
    self, rng_key: jax.Array, state: push_t.PushTState, memory: tuple[()]
  ) -> tuple[jax.Array, tuple[()]]:
    """Action `[2]` in [-1, 1]."""
    draw_key, noise_key = jax.random.split(rng_key)
    agent, block = state.agent_position, state.block_pose[:2]
    scale = push_t_dynamics.ACTION_SCALE
    drawn = jax.random.uniform(draw_key, (2,), minval=-1.0, maxval=1.0)
    sent = jnp.clip(
      agent + scale * drawn, block - self.reach, block + self.reach
    )
    noise = self.action_noise * jax.random.normal(noise_key, (2,))
    return jnp.clip((sent - agent) / scale + noise, -1.0, 1.0), memory


def _walk(
  agent: jax.Array, goal: jax.Array, centre: jax.Array, around: jax.Array
) -> jax.Array:
  """Where to go next on the way to `goal`, around the block or straight."""
  offset, goal_offset = agent - centre, goal - centre
  here = jnp.arctan2(offset[1], offset[0])
  there = jnp.arctan2(goal_offset[1], goal_offset[0])
  left = jnp.mod((there - here) * around, 2.0 * np.pi)
  radius = jnp.maximum(75.0 + _ORBIT, jnp.linalg.norm(goal_offset))
  angle = here + around * jnp.minimum(left, 0.7)
  orbit = centre + radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
  straight = (around == 0.0) | (left < 0.5) | (left > 2.0 * np.pi - 0.5)
  return jnp.clip(
    jnp.where(straight, goal, orbit), 0.0, float(push_t.WORLD_SIZE)
  )


worlds.register(
  'push_t',
  worlds.World(
    make=push_t.PushT,
    variation_groups=push_t.PushT.variation_groups,
    policies={'expert': PushTExpert, 'weak': PushTWeak},
    place=lambda vectors: np.asarray(vectors)[..., :2] / push_t.WORLD_SIZE,
    state_names=push_t.STATE_NAMES,
    unit='px',
    body=('agent_x', 'agent_y'),
    zones={'workspace': 'outside:60,60,450,450'},
    # Enough to see what happens beside the way, little enough to arrive.
    action_noise=0.1,
  ),
)
