"""What a run says of its model, against plain loops."""

import numpy as np
import toy

from jepa_wm import world_model
from jepa_wm.evaluation.diagnostics import diagnostic, held_out


def _evaluator(model, evals, **windows):
  return held_out.make_evaluator(
    lambda x: world_model.WorldModel(model, x, toy.STATISTICS),
    diagnostic.named(evals),
    diagnostic.Episodes(windows.__getitem__),
  )


def test_held_out_errors_are_those_of_a_loop(rng_key):
  model = toy.ToyModel(history=2)
  variables = model.init(rng_key)
  batch = next(toy.ToyBatches(num_frames=5))
  metrics, latents, _ = diagnostic.evaluate(
    model, variables, toy.STATISTICS, batch
  )
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


def test_a_line_of_the_log_is_what_the_named_diagnostics_find(rng_key):
  model = toy.ToyModel(history=2)
  stream = toy.ToyBatches(num_frames=4)
  train, held = [next(stream)], [next(stream), next(stream)]
  for batch in (*train, *held):
    # A state that a linear encoder shows: the mean of the pixels.
    pixels = batch['observation']['pixels']
    batch['state'] = pixels.mean((2, 3, 4))[..., None]
  variables = model.init(rng_key)
  ask = lambda *evals, **given: _evaluator(
    model, evals, train=train, held_out=held
  )(variables, given.get('records', []))
  line = ask(*held_out.EVALS)
  assert {name.partition('/')[0] for name in line} == {
    'held_out', 'collapse', 'probe',
  }  # fmt: skip
  means = [
    diagnostic.evaluate(model, variables, toy.STATISTICS, x)[0] for x in held
  ]
  for name in ('prediction_error', 'rollout_error'):
    expected = np.mean([m[name] for m in means])
    np.testing.assert_allclose(line[f'held_out/{name}'], expected, rtol=1e-5)
  assert line['collapse/verdict'] == 'healthy'
  before = [
    {'collapse/latent_std_mean': 100 * line['collapse/latent_std_mean']}
  ]
  assert ask('collapse', records=before)['collapse/verdict'] == 'collapsed'
  assert 0 < line['probe/probe_r'] < 1
  straight = ask('straightness,surprise')
  assert set(straight) == {
    'straightness/mean_cosine', 'straightness/std', 'surprise/plain',
    'surprise/teleport', 'surprise/ratio', 'surprise/auroc', 'surprise/t',
    'surprise/p', 'surprise/verdict', 'surprise/sentence',
  }  # fmt: skip


def test_a_model_is_looked_at_once_for_all_who_ask(rng_key, monkeypatch):
  looked = []
  model = toy.ToyModel(history=2)
  batch = next(toy.ToyBatches(num_frames=4))
  evaluate = _evaluator(
    model, ('errors', 'collapse', 'straightness', 'surprise'), held_out=[batch]
  )
  inner = diagnostic.evaluate
  monkeypatch.setattr(
    diagnostic, 'evaluate', lambda *x: looked.append(0) or inner(*x)
  )
  variables = model.init(rng_key)
  evaluate(variables, [])
  assert len(looked) == 1
  evaluate(variables, [])
  assert len(looked) == 2
