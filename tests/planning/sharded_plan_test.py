"""What eight devices hold, and what they tell each other."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning, sharding
from jepa_wm.types import Root

NUM_PROBLEMS, NUM_SAMPLES, WIDTH = 64, 64, 96


def dynamics(params, rng_key, action, state):
  del rng_key
  pushed = jnp.mean(action, axis=-1, keepdims=True)
  return jnp.tanh(jnp.einsum('ij,bnj->bni', params['weights'], state) + pushed)


def compile_plan(mesh_shape, num_samples=NUM_SAMPLES):
  """The plan of 64 problems, lying on a mesh as a caller would lay it."""
  mesh = sharding.make_mesh(axes=('data', 'samples'), shape=mesh_shape)
  rng = np.random.default_rng(0)
  params = {'weights': rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 10}
  root = Root(*rng.normal(size=(2, NUM_PROBLEMS, WIDTH)).astype(np.float32))

  @jax.jit
  def plan(params, rng_key, root):
    return planning.cem_plan(
      params,
      rng_key,
      root,
      dynamics,
      planning.squared_distance,
      horizon=4,
      action_dim=2,
      num_samples=num_samples,
      num_elites=8,
      num_iterations=3,
    )

  arguments = (
    sharding.replicate(params, mesh),
    sharding.replicate(jax.random.key(0), mesh),
    sharding.shard_batch(root, mesh),
  )
  with jax.set_mesh(mesh):
    return plan.lower(*arguments).compile(), arguments


@pytest.fixture(scope='module')
def one():
  program, arguments = compile_plan((1, 1))
  return program, program(*arguments)


@pytest.mark.parametrize('mesh_shape', [(8, 1), (2, 4), (1, 8)])
def test_eight_devices_plan_like_one_in_an_eighth_of_the_memory(
  one, mesh_shape
):
  program, arguments = compile_plan(mesh_shape)
  plan = program(*arguments)
  np.testing.assert_allclose(plan.actions, one[1].actions, atol=1e-4)
  np.testing.assert_allclose(plan.cost, one[1].cost, rtol=1e-4)
  memory, alone = (
    p.memory_analysis().temp_size_in_bytes for p in (program, one[0])
  )
  # Latent states are split over either axis; draws and elites over problems.
  assert memory < (1.1 / 8 if mesh_shape == (8, 1) else 1.5 / 8) * alone


@pytest.mark.parametrize('mesh_shape', [(8, 1), (2, 4), (1, 8)])
def test_parameters_lie_on_every_device_and_do_not_travel(mesh_shape):
  program, _ = compile_plan(mesh_shape)
  params_sharding = program.input_shardings[0][0]['weights']
  assert params_sharding.is_fully_replicated
  text = program.as_text()
  collectives = re.findall(
    r'= \(?f32\[([\d,]*)\]\S* (all-gather|all-reduce|all-to-all|'
    r'collective-permute)',
    text,
  )
  sizes = [
    np.prod([int(n) for n in shape.split(',') if n]) for shape, _ in collectives
  ]
  # Problems tell each other nothing. The costs [B, N] and elites [B, K, H, A]
  # of a row of the mesh are shared in it; candidates [B, N, H, A] stay where
  # they are.
  row = NUM_PROBLEMS // mesh_shape[0]
  assert bool(sizes) == (mesh_shape[1] > 1)
  assert max(sizes, default=0) <= row * max(NUM_SAMPLES, 8 * 4 * 2)
