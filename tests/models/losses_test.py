"""Twenty steps of training give the losses of the first edition."""

import golden_files
import jax
import numpy as np
import optax
import pytest

from jepa_wm import models

CONV = {
  'encoder': {
    'name': 'conv',
    'image_size': 16,
    'features': 16,
    'channels': (8, 8),
    'strides': (4, 1),
    'blocks': (0, 1),
  },
  'projector': {'hidden_dim': 16},
  'actions': {'features': 16},
  'latent_dim': 8,
}
CAUSAL = {'width': 16, 'depth': 2, 'num_heads': 2, 'head_dim': 8, 'mlp_dim': 16}
SIGREG = {'num_projections': 16}
MASKED = {'width': 24, 'num_heads': 2, 'mlp_dim': 32}
PATCHES = {**MASKED, 'image_size': 16, 'patch_size': 4, 'depth': 2}
MASKS = {'min_context': 2, 'num_buckets': 2}

CONFIGS = {
  'vjepa': {
    'name': 'vjepa',
    'encoder': {**PATCHES, 'num_frames': 4},
    'predictor': {
      **MASKED,
      'depth': 1,
      'num_mask_tokens': 2,
      'mask_token': 'per_kind',
    },
    'masks': {**MASKS, 'percent': (15, 40)},
    'target': {'momentum': 0.98, 'momentum_end': 1.0, 'momentum_steps': 20},
  },
  'ijepa': {
    'name': 'ijepa',
    'encoder': PATCHES,
    'predictor': {**MASKED, 'depth': 1},
    'masks': MASKS,
    'terms': {'hidden_tokens': {}, 'sigreg': SIGREG},
    'target': {'momentum_steps': 20},
  },
  'lewm_conv': {
    **CONV,
    'name': 'lewm',
    'predictor': {**CAUSAL, 'history': 1, 'dropout': 0.0},
    'terms': {
      'prediction': {'steps': 3},
      'sigreg': SIGREG,
      'temporal_similarity': {'weight': 5.0},
      'straightening': {'weight': 0.1},
    },
  },
  'lewm_ema': {
    **CONV,
    'name': 'lewm',
    'predictor': {**CAUSAL, 'history': 2, 'dropout': 0.1},
    'terms': {
      'prediction': {'distance': 'cosine'},
      'barlow_twins': {},
      'temporal_similarity': {},
      'straightening': {},
    },
    'target': {'name': 'ema'},
  },
  'pldm_gru': {
    **CONV,
    'name': 'pldm',
    'predictor': {'name': 'recurrent', 'history': 1},
    'terms': {
      'prediction': {'steps': 3},
      'vcreg': {},
      'temporal_similarity': {'weight': 0.2},
      'straightening': {},
      'inverse_dynamics': {'hidden_dim': 16},
    },
  },
}


def batch(model, step):
  """What the first edition was given at `step`."""
  draw = np.random.default_rng([7, step])
  num_frames = model.num_frames + (model.acting is not None)
  pixels = draw.integers(0, 256, (6, num_frames, 16, 16, 3), np.uint8)
  found = {'observation': {'pixels': pixels}}
  found |= model.draw(np.random.default_rng([5, step]), 6)
  if model.acting is not None:
    shape = (6, num_frames - 1, model.acting.action_spec.size)
    found['action'] = draw.normal(size=shape).astype(np.float32)
  return found


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_twenty_steps_are_those_of_the_first_edition(name):
  golden, meta = golden_files.load('losses')
  model = models.from_config(CONFIGS[name])
  variables = jax.jit(model.init)(jax.random.key(meta['init_seed']))
  optimizer = optax.adam(1e-2)
  opt_state = optimizer.init(variables['params'])

  @jax.jit
  def update(variables, opt_state, batch, rng_key, step):
    def loss_fn(params):
      losses = model.losses({**variables, 'params': params}, batch, rng_key)
      return losses.loss, losses

    (_, losses), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      variables['params']
    )
    updates, opt_state = optimizer.update(grads, opt_state, variables['params'])
    params = optax.apply_updates(variables['params'], updates)
    after = {**variables, 'params': params, 'batch_stats': losses.batch_stats}
    return model.after_update(after, step), opt_state, losses.metrics

  key, found = jax.random.key(meta['step_seed']), []
  for step in range(meta['steps']):
    variables, opt_state, metrics = update(
      variables,
      opt_state,
      batch(model, step),
      jax.random.fold_in(key, step),
      step,
    )
    found.append(metrics)
  expected = {k for k in golden if k.startswith(f'{name}/')}
  assert {f'{name}/{k}' for k in found[0]} == expected
  for k in found[0]:
    ours = np.asarray([metrics[k] for metrics in found])
    golden_files.close(ours, golden[f'{name}/{k}'], 1e-4, k)
