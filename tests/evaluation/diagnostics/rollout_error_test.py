import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import rollout_error

WORLD = worlds.get('two_room')
SMALL = {'num_probe_frames': 64, 'num_rollouts': 32, 'horizon': 3}


@pytest.mark.slow
def test_a_perfect_model_drifts_nowhere(perfect_model):
  errors = rollout_error.measure(perfect_model, WORLD, **SMALL)
  assert errors.steps == [0, 5, 10, 15] and errors.unit == 'px'
  # Reading a position off 28 px pictures, and nothing on top of it.
  assert max(errors.recorded + errors.pushes) < 1.5
  assert errors.recorded[0] == errors.pushes[0] > 0.0


@pytest.mark.slow
def test_a_model_that_moves_half_as_far_falls_behind(perfect_model):
  slow = dataclasses.replace(
    perfect_model, params={'params': {'gain': jnp.full(3, 0.5)}}
  )
  errors = rollout_error.measure(slow, WORLD, **SMALL)
  assert np.all(np.diff(errors.pushes) > 0)
  # Straight pushes of 5 px a step go 75 px where no wall is in the way; noisy
  # ones mostly cancel out.
  assert 15.0 < errors.pushes[-1] < 37.5
  assert errors.recorded[-1] < 0.7 * errors.pushes[-1]
