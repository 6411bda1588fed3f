"""Models that see the body's own state get it, of now and of the goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

from jepa_wm import models, planning, units, world_model
from jepa_wm.envs import two_room, worlds
from jepa_wm.evaluation.diagnostics import rollout_error
from jepa_wm.evaluation.planning import (
  observations,
  pairs,
  planner_settings,
  protocol,
)

CONV = small_model.CONFIG['encoder']
SIZES = {'history': 2, 'depth': 1, 'num_heads': 2, 'head_dim': 4, 'mlp_dim': 8}


def pldm(**encoder):
  return models.from_config(
    {
      'name': 'pldm',
      'latent_dim': 4,
      'encoder': encoder,
      'projector': {'hidden_dim': 8},
      'actions': {'features': 8},
      'predictor': {**SIZES, 'width': 8},
    }
  )


def fused(dim):
  proprio = {'dim': dim, 'scale': 224.0}
  return pldm(name='fused', pixels=CONV, proprio=proprio)


PLDM = fused(2)
DINO_WM = models.from_config(
  {
    'name': 'dino_wm',
    'encoder': {'encoder': CONV, 'proprio_dim': 2},
    'proprio': {'scale': 224.0},
    'predictor': SIZES,
  }
)
BRIEF = protocol.get(
  'short', num_pairs=2, horizon=2, receding_horizon=2, budget=20
)
SETTINGS = planner_settings.PlannerSettings(
  planning.CEM(num_samples=8, num_elites=2, num_iterations=2), history=2
)


def make(model):
  draw = np.random.default_rng(0)
  variables = jax.tree.map(
    # Running variances among them, so nothing negative.
    lambda x: draw.uniform(0.0, 0.2, x.shape).astype(x.dtype),
    jax.eval_shape(
      lambda key: model.for_inference(model.init(key)), jax.random.key(0)
    ),
  )
  statistics = units.ActionStatistics(
    np.zeros(2, np.float32), np.ones(2, np.float32)
  )
  return world_model.WorldModel(model, variables, statistics)


@pytest.fixture
def blind_model(perfect_model):
  """One that is right, and looks at the state it is given and at no pixel."""

  class Blind(type(perfect_model)):
    @property
    def observation_spec(self):
      proprio = jax.ShapeDtypeStruct((2,), jnp.float32)
      return {**super().observation_spec, 'proprio': proprio}

    def encode(self, params, observation):
      pixels, proprio = observation['pixels'], observation['proprio']
      assert pixels.shape[:-3] == proprio.shape[:-1]
      return proprio

  return Blind()


@pytest.mark.slow
def test_a_model_that_sees_the_state_alone_reaches_its_goals(
  blind_model, short_result, run_short_again
):
  result = run_short_again(model=blind_model)
  # It knows to the digit what the other one reads off a picture.
  wins = short_result.record['num_successes']
  assert result.record['num_successes'] >= max(11, wins)


def _drift(model, **sizes):
  world = worlds.get('two_room')
  return rollout_error.measure(model, world, num_probe_frames=16, **sizes)


@pytest.mark.slow
def test_imagination_starts_where_the_body_is(blind_model):
  errors = _drift(blind_model, num_rollouts=8, horizon=1)
  assert max(errors.recorded + errors.pushes) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize('seeing', [PLDM, DINO_WM], ids=['pldm', 'dino_wm'])
def test_models_with_proprio_are_planned_with(seeing, run_short_again):
  model = make(seeing)
  assert model.observation_spec['proprio'].shape == (2,)
  result = run_short_again(
    model=model,
    protocol=BRIEF,
    pairs=pairs.load_pairs(BRIEF),
    settings=SETTINGS,
    num_floor_repeats=1,
  )
  assert result.record['num_pairs'] == 2
  # Two plans, the second of them with a frame of the past.
  assert [path.step for path in result.planned][:2] == [0, 10]
  errors = _drift(model, num_rollouts=4, horizon=2)
  assert np.all(np.isfinite(errors.recorded + errors.pushes))


def test_what_is_shown_is_in_the_world_s_unit():
  env = two_room.TwoRoom()
  positions = jnp.asarray([[30.0, 40.0], [150.0, 99.5]])
  states = two_room.TwoRoomState(positions, positions[::-1])
  model = world_model.WorldModel(PLDM, None, None)
  seen = observations.observe(model, env, states)
  np.testing.assert_array_equal(seen['proprio'], positions)
  assert {k: (x.shape, x.dtype) for k, x in seen.items()} == {
    k: (x.shape, x.dtype) for k, x in observations.shapes(model, 2).items()
  }
  model = world_model.WorldModel(pldm(**CONV), None, None)
  assert list(observations.shapes(model, 2)) == ['pixels']


def test_a_world_without_that_state_is_named(run_short_again):
  three = fused(3)
  for call in (
    lambda model: run_short_again(model=model),
    lambda model: rollout_error.measure(model, worlds.get('two_room')),
  ):
    with pytest.raises(
      ValueError, match=r'sees proprio, 3 numbers .* has 2; plan in'
    ):
      call(world_model.WorldModel(three, None, None))

  with pytest.raises(ValueError, match="the world 'line' has none"):
    observations.check_proprio(
      world_model.WorldModel(PLDM, None, None), 'line', 0
    )
