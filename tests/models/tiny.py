"""The smallest LeWM that all tests of models share, and its variables."""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, models

CONFIG = {
  'name': 'lewm',
  'action_dim': 2,
  'action_block': 3,
  'latent_dim': 4,
  'encoder': {
    'name': 'conv',
    'image_size': 8,
    'features': 6,
    'channels': (3,),
    'strides': (4,),
    'blocks': (0,),
  },
  'projector': {'hidden_dim': 5},
  'actions': {'features': 4},
  'predictor': {
    'history': 2,
    'width': 4,
    'depth': 1,
    'num_heads': 1,
    'head_dim': 4,
    'mlp_dim': 8,
    'dropout': 0.0,
  },
  'terms': {
    'prediction': {},
    'sigreg': {'num_projections': 8},
    'temporal_similarity': {},
    'straightening': {},
  },
}


def config(**changes):
  """`CONFIG` with changes; dicts without a name are merged, terms replaced."""
  merged = dict(CONFIG)
  for name, value in changes.items():
    mergeable = isinstance(value, dict) and 'name' not in value
    if mergeable and name != 'terms':
      value = {**merged.get(name, {}), **value}
    merged[name] = value
  return fields.from_dict(models.MODELS, merged)


def build(**changes):
  """The model of `config`."""
  return config(**changes).build()


def start(model):
  """Variables as after some training: nothing is zero, actions matter."""
  draw = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key == 'var':
      return jnp.ones(leaf.shape)
    scale = 0.3 if len(leaf.shape) < 2 else leaf.shape[-2] ** -0.5
    return jnp.asarray(draw.normal(0, scale, leaf.shape), leaf.dtype)

  # Drawn by NumPy: compiling an init per model would cost seconds.
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(fill, shapes)


def batch(num_frames=5, proprio=False):
  """A batch of eight windows."""
  draw = np.random.default_rng(1)
  pixels = draw.integers(0, 256, (8, num_frames, 8, 8, 3), np.uint8)
  action = draw.normal(size=(8, num_frames - 1, 6)).astype(np.float32)
  observation = {'pixels': pixels}
  if proprio:
    shape = (8, num_frames, 2)
    observation['proprio'] = 10 * draw.normal(size=shape).astype(np.float32)
  return {'observation': observation, 'action': action}


def gradient(model, variables, batch, rng_key):
  """Losses, and the gradient of their sum with respect to 'params'."""

  @jax.jit
  def run(params):
    losses = model.losses({**variables, 'params': params}, batch, rng_key)
    return losses.loss, losses

  (_, losses), grads = jax.value_and_grad(run, has_aux=True)(
    variables['params']
  )
  return losses, grads
