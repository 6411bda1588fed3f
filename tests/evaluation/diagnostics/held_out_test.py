"""What a run says of its model, against plain loops."""

import numpy as np
import toy

from jepa_wm import world_model
from jepa_wm.evaluation.diagnostics import held_out


def _eval_step(family, variables, batch):
  model = world_model.WorldModel(family, None, toy.STATISTICS)
  return held_out.make_eval_step(model)(variables, batch)


def test_held_out_errors_are_those_of_a_loop(rng_key):
  family = toy.ToyFamily(history=2)
  variables = family.init(rng_key)
  batch = next(toy.ToyBatches(num_frames=5))
  metrics, latents = _eval_step(family, variables, batch)
  encoder = np.asarray(variables['params']['encoder']['kernel'])
  predictor = np.asarray(variables['params']['predictor']['kernel'])
  flat = batch['observation']['pixels'].reshape(8, 5, -1) / 255.0 - 0.5
  true = flat @ encoder
  actions = (batch['action'] - [0.5, -1.0] * 2) / ([2.0, 0.25] * 2)
  rolled, errors = true[:, 0], []
  for t in range(4):
    ahead = [
      z + np.concatenate([z, actions[:, t]], axis=-1) @ predictor
      for z in (true[:, t], rolled)
    ]
    errors.append(ahead[0] - true[:, t + 1])
    rolled = ahead[1]
  np.testing.assert_allclose(latents, true, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    metrics['prediction_error'], np.mean(np.square(errors)), rtol=1e-4
  )
  np.testing.assert_allclose(
    metrics['rollout_error'],
    np.mean(np.square(rolled - true[:, -1])),
    rtol=1e-4,
  )
