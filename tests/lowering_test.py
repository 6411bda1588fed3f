"""What runs often lowers for TPU and CUDA, and never asks the host.

Nothing is compiled: neither chip is here. `benchmarks.compile_ahead` compiles.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import envs, models, planning, rl, sharding, types
from jepa_wm.models import heads
from jepa_wm.rl import environment_params, reach, rewards
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

FROM_HOST = re.compile(
  r'custom_call @\S*callback|stablehlo\.(?:infeed|outfeed|send|recv)\b'
)
LOW, HIGH = (-1.0,) * 10, (1.0,) * 10
VJEPA = {
  'name': 'vjepa',
  'encoder': {
    'image_size': 16,
    'patch_size': 4,
    'num_frames': 4,
    'width': 24,
    'depth': 1,
    'num_heads': 1,
    'mlp_dim': 16,
  },
  'predictor': {'width': 12, 'depth': 1, 'num_heads': 1, 'mlp_dim': 16},
  'masks': {'blocks': (2,), 'percent': (25.0,), 'num_buckets': 1},
}


def assert_lowers(function, *arguments):
  traced = jax.jit(function).trace(*arguments)
  text = traced.lower(lowering_platforms=('tpu', 'cuda')).as_text()
  assert FROM_HOST.search(text) is None


@pytest.fixture(scope='module')
def world_model():
  return small_model.make(jepa_wm.WorldModel, history=1)


def test_a_callback_would_be_found():
  def ask(x):
    return jax.pure_callback(np.sin, x, x)

  # JAX itself has none for two platforms at once.
  with pytest.raises(NotImplementedError):
    assert_lowers(ask, jnp.ones(2))
  here = jax.jit(ask).trace(jnp.ones(2)).lower().as_text()
  assert FROM_HOST.search(here)
  ours = 'stablehlo.custom_call @xla_ffi_python_gpu_callback(%0) {'
  assert FROM_HOST.search(ours)


def assert_step_lowers(learner, batch):
  optimizer = optimizers.AdamW(num_steps=10)
  transformation = optimizer.transformation()
  step = step_lib.make_train_step(
    learner,
    transformation,
    sharding.make_mesh(8),
    schedule_fn=optimizer.metrics,
  )
  assert_lowers(step, state_lib.describe(learner, transformation), batch)


def test_a_training_step_of_windows():
  # What LeWM and PLDM are kept informative by.
  terms = {
    'prediction': {},
    'sigreg': {'num_projections': 8},
    'vcreg': {},
    'inverse_dynamics': {'hidden_dim': 4},
  }
  predictor = {**small_model.CONFIG['predictor'], 'depth': 1}
  config = {**small_model.CONFIG, 'terms': terms, 'predictor': predictor}
  model = models.from_config(config)
  batch = {
    'observation': {'pixels': small_model.pixels(8, model.num_frames)},
    'action': np.ones((8, model.num_frames - 1, 10), np.float32),
  }
  assert_step_lowers(model, batch)


@pytest.mark.parametrize(
  'sizes',
  [
    {'name': 'hybrid', 'num_heads': 1, 'head_dim': 6, 'linear_every': 2},
    {'name': 'banks'},
  ],
  ids=lambda sizes: sizes['name'],
)
def test_what_has_a_long_memory(sizes):
  predictor = {'history': 6, 'width': 8, 'depth': 2, 'mlp_dim': 8, **sizes}
  encoder = {'name': 'state', 'key': 'proprio', 'dim': 4, 'features': 4}
  config = {**small_model.CONFIG, 'encoder': encoder, 'predictor': predictor}
  model = models.from_config({**config, 'terms': {'prediction': {}}})
  seen = np.ones((8, 7, 4), np.float32)
  batch = {'observation': {'proprio': seen}, 'action': np.ones((8, 6, 10))}
  assert_step_lowers(model, batch)
  variables = jax.eval_shape(model.init, jax.random.key(0))

  def roll(variables, latents, actions):
    state = model.start(variables, latents, actions[:, :1])
    return jax.lax.scan(
      lambda state, action: (model.advance(variables, state, action), ()),
      state,
      jnp.moveaxis(actions, 1, 0),
    )

  assert_lowers(roll, variables, jnp.ones((8, 2, 3)), jnp.ones((8, 3, 10)))


def test_a_training_step_of_masked_clips():
  model = models.from_config(VJEPA)
  batch = {
    'observation': {'pixels': small_model.pixels(8, 4)},
    **model.draw(np.random.default_rng(0), 8),
  }
  assert_step_lowers(model, batch)


def test_a_training_step_in_imagination(world_model):
  env = rl.LatentEnvironment(
    world_model,
    rewards.reached(softness=0.5),
    (-1.0, -2.0),
    (1.0, 2.0),
    reach.given(1.0),
  )
  starts, goals = jnp.ones((2, 4, 3))
  params = environment_params.make(world_model, starts, goals, reach=1.0)
  sizes = heads.Sizes(3, 10, 5, action_low=LOW, action_high=HIGH)
  config = {'name': 'actor_critic', 'width': 4, 'depth': 1}
  head = heads.from_config(config, sizes)
  learner = rl.ImaginedActorCritic(env, params, head, rl.Imagination(horizon=2))
  assert_step_lowers(learner, {'number': np.arange(8, dtype=np.uint32)})


@pytest.mark.parametrize(
  'planner',
  [
    planning.CEM(num_samples=8, num_elites=2, num_iterations=2),
    planning.ICEM(num_samples=8, num_elites=2, num_iterations=2, num_kept=1),
    planning.MPPI(num_samples=8, num_iterations=2),
    planning.PredictiveSampling(num_samples=8, num_iterations=2),
    planning.RandomShooting(num_samples=8, num_iterations=2),
    planning.CategoricalCEM(num_samples=8, num_elites=2, num_iterations=2),
    planning.Gradient(num_samples=8, num_iterations=2),
    planning.GRASP(num_iterations=2, sync_period=2, num_sync_steps=1),
  ],
  ids=lambda planner: type(planner).__name__,
)
def test_a_plan(planner):
  def dynamics(params, rng_key, action, state):
    del rng_key
    return jnp.einsum('bni,ij->bnj', state, params) + action

  def plan(params, rng_key, state, goal):
    problem = planning.Problem(
      root=types.Root(state, goal),
      dynamics_fn=dynamics,
      cost_fn=planning.squared_distance,
      horizon=2,
      action_dim=3,
    )
    return planning.search(planner, params, rng_key, problem)

  ones = jnp.ones((2, 3))
  assert_lowers(plan, jnp.eye(3), jax.random.key(0), ones, ones)


def test_planning_and_playing_as_one_program(world_model):
  model = world_model
  world = envs.TwoRoom(image_size=model.image_size)
  plan_fn = planning.BoundPlanner(
    planner=planning.CEM(num_samples=8, num_elites=2, num_iterations=2),
    dynamics_fn=model.dynamics,
    cost_fn=model.cost,
    horizon=2,
    action_dim=model.action_dim,
    limits=planning.Limits(actions=model.action_bounds(-1, 1)),
  )

  def observe(states):
    return {'pixels': jax.vmap(world.render)(states)}

  def root(params, memory, goal):
    seen = jax.tree.map(lambda x: x[:, -1], memory.observations)
    return model.root(params, seen, goal)

  def play_block(states, blocks):
    raw = model.raw_actions(blocks)
    return jax.vmap(world.step)(states, raw[:, 0]), raw

  def play(params, rng_key):
    states = jax.vmap(world.reset)(jax.random.split(rng_key, 2))
    return planning.run_mpc(
      params,
      rng_key,
      states,
      observe(states),
      observe_fn=observe,
      root_fn=root,
      plan_fn=plan_fn,
      play_fn=play_block,
      receding_horizon=1,
      num_plans=2,
    )

  assert_lowers(play, model.params, jax.random.key(0))


@pytest.mark.parametrize('name', ['policy', 'inverse_dynamics', 'gciql'])
def test_a_policy(name):
  sizes = heads.Sizes(3, 10, 5, action_low=LOW, action_high=HIGH)
  head = heads.from_config({'name': name, 'width': 4, 'depth': 1}, sizes)
  variables = jax.eval_shape(head.init, jax.random.key(0))
  latents = jnp.ones((2, 3))

  def act(variables, rng_key, state, goal):
    return head.roles.policy(variables, rng_key, state, goal, jnp.ones(2))

  assert_lowers(act, variables, jax.random.key(0), latents, latents)
