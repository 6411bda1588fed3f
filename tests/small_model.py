"""A tiny LeWM with drawn weights, as a world model."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models, units

HEADS = {'num_heads': 2, 'head_dim': 4}
CONFIG = {
  'name': 'lewm',
  'latent_dim': 3,
  'encoder': {
    'name': 'conv',
    'image_size': 16,
    'features': 8,
    'channels': (4,),
    'strides': (8,),
    'blocks': (0,),
  },
  'projector': {'hidden_dim': 8},
  'actions': {'features': 8},
  'predictor': {'history': 3, 'width': 8, 'depth': 2, 'mlp_dim': 8} | HEADS,
}


def make(cls, *, history=3, **config):
  """The model as a `cls`, one of the two `WorldModel`s."""
  predictor = {**CONFIG['predictor'], 'history': history}
  model = models.from_config({**CONFIG, 'predictor': predictor, **config})
  # Drawn here: a fresh predictor is deaf to actions (AdaLN-zero), and drawing
  # each tensor by JAX would take longer than all tests of this file.
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: jnp.asarray(rng.uniform(0.1, 0.6, leaf.shape), leaf.dtype),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  statistics = units.ActionStatistics(
    np.array([0.5, -1.0], np.float32), np.array([2.0, 4.0], np.float32)
  )
  return cls(model, params, statistics, {'date': 'today'})


def pixels(*lead, seed=0):
  """Frames of noise `[*lead, 16, 16, 3]`."""
  shape = (*lead, 16, 16, 3)
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(0, 256, shape, np.uint8))
