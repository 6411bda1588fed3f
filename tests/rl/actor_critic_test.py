"""An actor that learns in imagination: its losses, its target, its runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_model

import jepa_wm
from jepa_wm import rl
from jepa_wm.models import heads
from jepa_wm.rl import environment_params, reach, rewards
from jepa_wm.training import run as run_lib


@pytest.fixture(scope='module')
def learner():
  rng_key = jax.random.key(0)
  model = small_model.make(jepa_wm.WorldModel, history=1)
  rng = np.random.default_rng(0)
  starts = jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)
  # Goals where random actions lead.
  state = model.start_from(model.params, starts[:, None])
  for action in rng.uniform(-1.0, 1.0, (2, 16, 10)).astype(np.float32):
    state = model.dynamics(model.params, rng_key, action, state)
  goals = model.latent(state)
  distances = jnp.sum(jnp.square(goals[:, None] - goals[None]), axis=-1)
  radius = float(jnp.median(distances))
  env = rl.LatentEnvironment(
    model,
    rewards.reached(softness=0.5),
    (-1.0, -2.0),
    (1.0, 2.0),
    reach.given(radius),
  )
  params = environment_params.make(model, starts, goals, reach=radius)
  sizes = heads.Sizes(
    3, 10, 5, action_low=(-1.0,) * 10, action_high=(1.0,) * 10
  )
  head = heads.from_config(
    {'name': 'actor_critic', 'width': 8, 'depth': 1}, sizes
  )
  return rl.ImaginedActorCritic(env, params, head, rl.Imagination(horizon=2))


@pytest.fixture(scope='module')
def losses(learner):
  return jax.jit(learner.losses)


BATCH = {'number': np.arange(256, dtype=np.uint32)}


def test_a_loss_is_what_critics_err_less_what_the_actor_expects(
  learner, losses, rng_key
):
  found = losses(learner.init(rng_key), BATCH, rng_key)
  wanted = found.metrics['value_error'] - found.metrics['return']
  np.testing.assert_allclose(found.loss, wanted, rtol=1e-6)
  assert 0.0 < found.metrics['reached'] < 1.0


def test_the_actor_and_the_critics_follow_their_own_part(
  learner, losses, rng_key
):
  variables = learner.init(rng_key)

  def loss(params, name):
    found = losses({**variables, 'params': params}, BATCH, rng_key)
    return found.metrics[name]

  for name, follows, stays in (
    ('return', 'actor', 'values'),
    ('value_error', 'values', 'actor'),
  ):
    slope = jax.jit(jax.grad(loss), static_argnums=1)
    gradient = slope(variables['params'], name)
    assert optax.tree.norm(gradient[follows]) > 1e-6
    assert optax.tree.norm(gradient[stays]) == 0.0


def test_the_target_follows_and_the_model_stays(learner, rng_key):
  variables = learner.init(rng_key)
  params = jax.tree.map(lambda x: x + 1.0, variables['params'])
  after = learner.after_update({**variables, 'params': params}, 0)
  for new, old in zip(
    jax.tree.leaves(after['target']), jax.tree.leaves(variables['target'])
  ):
    np.testing.assert_allclose(new, old + 0.02, atol=1e-6)
  assert after['frozen'] is variables['frozen']
  assert learner.for_inference(after) == {'params': params}


def test_a_run_learns_and_goes_on_to_the_same_bits(
  learner, losses, rng_key, tmp_path
):
  make = lambda: run_lib.Run(
    learner, optax.adam(3e-3), rl.numbers(64), num_steps=30
  )
  whole, first, rest = make(), make(), make()
  reached = lambda: losses(whole.state.variables, BATCH, rng_key).metrics[
    'reached'
  ]
  before = reached()
  for _ in whole.steps():
    pass
  assert reached() > before + 0.02
  for report in first.steps():
    if report.step == 20:
      first.save(tmp_path)
      break
  assert rest.resume(tmp_path)
  for _ in rest.steps():
    pass
  for one, other in zip(
    jax.tree.leaves(whole.state.variables),
    jax.tree.leaves(rest.state.variables),
  ):
    np.testing.assert_array_equal(one, other)


def test_eight_devices_learn_what_one_does(learner, losses, rng_key):
  mesh = jepa_wm.sharding.make_mesh()
  batch = {'number': jnp.arange(2 * mesh.size, dtype=jnp.uint32)}
  alone = losses(learner.init(rng_key), batch, rng_key)
  shared = losses(
    learner.init(rng_key), jepa_wm.sharding.shard_batch(batch, mesh), rng_key
  )
  np.testing.assert_allclose(alone.loss, shared.loss, rtol=1e-5)


def test_settings_out_of_range_are_refused():
  with pytest.raises(ValueError, match='mix must be at most 1'):
    rl.Imagination(mix=1.5)
  with pytest.raises(ValueError, match='horizon'):
    rl.Imagination(horizon=0)
