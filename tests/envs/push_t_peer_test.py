"""Push-T beside stable-worldmodel's own, state for state."""

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest

from jepa_wm.envs import (
  push_t,
  push_t_dynamics,
  push_t_shapes,
)

pytestmark = peers.MARKS

_STEPS = 15


@pytest.fixture(scope='module')
def peer(swm):
  from stable_worldmodel.envs.pusht import env as peer_env

  return peer_env


def _full(env):
  return [*env.agent.position, *env.block.position, env.block.angle]


def _angles_apart(ours, theirs):
  ours, theirs = np.array(ours), np.array(theirs)
  ours[..., 4] = theirs[..., 4] + push_t.angle_difference(
    ours[..., 4], theirs[..., 4]
  )
  return ours - theirs


def test_every_shape_is_pushed_alike(peer, record_property):
  """Pushed about in mid-room, each shape at its own scale; float32 actions."""
  rng = np.random.default_rng(0)
  shapes = np.arange(21) % len(push_t_shapes.NAMES)
  scales = np.float32(rng.uniform(24, 36, len(shapes)))
  scales[shapes == push_t.TEE] = 30.0
  agents = np.float32(rng.uniform(30, 50, len(shapes)))
  starts, actions, theirs = [], [], []
  touched = np.zeros([len(shapes), _STEPS], bool)
  for i, (shape, scale, agent) in enumerate(zip(shapes, scales, agents)):
    env = peer.PushT()
    start = [256 + rng.uniform(-20, 20), 90, 256, 256, rng.uniform(0, 6), 0, 0]
    env.reset(
      options={
        'state': np.array(start),
        'goal_state': np.array(start),
        'variation': [],
        'variation_values': {
          'block.shape': int(shape) + 1,
          'block.scale': scale,
          'agent.scale': agent,
        },
      }
    )
    walk = np.zeros([_STEPS, 2], np.float32)
    poses = []
    for t in range(_STEPS):
      ahead = np.asarray(env.block.local_to_world(env.block.center_of_gravity))
      ahead = (ahead - env.agent.position) / 100 + rng.normal(size=2) * 0.2
      walk[t] = np.clip(ahead, -0.5, 0.5)
      env.step(walk[t])
      poses.append(_full(env))
      touched[i, t] = env.n_contact_points > 0
    starts.append(start)
    actions.append(walk)
    theirs.append(poses)

  @jax.jit
  def play(worlds, starts, actions):
    def one(world, start, actions):
      def step(state, action):
        state = world.step(state, action)
        return state, jnp.concatenate([state.agent_position, state.block_pose])

      return jax.lax.scan(step, world.from_vector(start), actions)[1]

    return jax.vmap(one)(worlds, starts, actions)

  default = push_t.PushT()
  with jax.enable_x64(True):
    worlds = jax.tree.map(
      lambda leaf: jnp.stack([jnp.asarray(leaf)] * len(shapes)), default
    ).replace(
      block_shape=jnp.asarray(shapes),
      block_scale=jnp.asarray(scales),
      agent_radius=jnp.asarray(agents) * 0.375,
    )
    ours = play(worlds, jnp.asarray(starts), jnp.asarray(np.stack(actions)))
    errors = np.abs(_angles_apart(ours, theirs)).max(-1)
  assert touched.any(1).mean() > 0.8
  record_property('largest_error_px', float(errors.max()))
  # Of two rectangles touched at once the peer may solve the other one first.
  assert np.median(errors.max(1)) < 1e-4
  for name in push_t_shapes.NAMES:
    mine = shapes == push_t_shapes.NAMES.index(name)
    assert errors[mine].max(1).min() < 1e-3, name
  assert (errors.max(1) < 0.01).mean() > 0.9


def test_a_block_in_a_wall_is_pressed_out_alike(peer):
  """One rectangle in one wall, where no order of contacts can matter.

  Setting a state runs one substep in the peer's world; so do we here.
  """
  rng = np.random.default_rng(3)
  env = peer.PushT()
  starts, theirs, single = [], [], []
  for i in range(48):
    angle, deep = rng.uniform(0, 2 * np.pi), rng.uniform(5, 70)
    centre = rng.uniform(150, 360, 2)
    centre[i % 2] = deep if i % 4 < 2 else 511 - deep
    block = centre - [-45 * np.sin(angle), 45 * np.cos(angle)]
    aside = [256.0, 256, 256, 100, 0, 0, 0]
    env.reset(options={'state': np.array(aside), 'goal_state': np.array(aside)})
    pairs = []
    note = lambda arbiter, space, data, pairs=pairs: pairs.append(arbiter)
    env.space.on_collision(0, 0, post_solve=note)
    start = [256.0, 256, *block, angle, 0, 0]
    env._set_state(start)
    poses, most = [_full(env)], len(pairs)
    for _ in range(4):
      for _ in range(10):
        pairs.clear()
        env.space.step(0.01)
        most = max(most, len(pairs))
      poses.append(_full(env))
    starts.append(start)
    theirs.append(poses)
    single.append(most == 1)
  world = push_t.PushT()

  @jax.jit
  def play(starts):
    def one(start):
      state = world.from_vector(start)

      def substep(now, _):
        now = push_t_dynamics.advance(
          world.body(), 15.0, *now, jnp.zeros(2), num_substeps=1
        )
        return now, jnp.concatenate([now[0], now[2]])

      now = (
        *(state.agent_position, state.agent_velocity, state.block_pose),
        *(state.block_velocity, state.block_correction, state.memory),
      )
      return jax.lax.scan(substep, now, None, length=41)[1]

    return jax.vmap(one)(starts)

  with jax.enable_x64(True):
    ours = play(jnp.asarray(starts))[:, ::10]
    errors = np.abs(_angles_apart(ours, theirs)).max((1, 2))
  single = np.asarray(single)
  assert single.sum() > 10
  moved = np.abs(np.asarray(theirs)[:, -1] - np.asarray(starts)[:, :5]).max(1)
  assert np.median(moved[single]) > 5
  assert errors[single].max() < 1e-9
