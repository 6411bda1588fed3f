"""Held-out windows of many frames: one scan says what unrolled steps say."""

import jax
import numpy as np
import small_model

from jepa_wm import models
from jepa_wm.models import acting


def test_a_scan_says_what_every_step_does(monkeypatch):
  encoder = {'name': 'state', 'key': 'proprio', 'dim': 4, 'features': 4}
  sizes = {'history': 2, 'width': 8, 'depth': 1, 'mlp_dim': 8}
  predictor = {'num_heads': 1, 'head_dim': 4, **sizes}
  model = models.from_config(
    {**small_model.CONFIG, 'encoder': encoder, 'predictor': predictor}
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.1, 0.6, leaf.shape).astype(leaf.dtype),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  batch = {
    'observation': {'proprio': rng.normal(size=(2, 5, 4)).astype(np.float32)},
    'action': rng.normal(size=(2, 4, 10)).astype(np.float32),
  }
  evaluate = lambda: jax.jit(lambda *args: model.evaluate(*args))(
    variables, batch
  )
  expected, latents = evaluate()
  monkeypatch.setattr(acting, '_MOST_UNROLLED', 3)
  found, same = evaluate()
  np.testing.assert_array_equal(same, latents)
  for metric, value in expected.items():
    assert float(value) > 0
    np.testing.assert_allclose(found[metric], value, rtol=1e-4)
