from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm.evaluation.diagnostics import fine_tuning, probe_training
from jepa_wm.networks import probes


class Linear:
  """Two tokens of a clip: its numbers, times a matrix that can be learnt."""

  token_grid = (2,)
  observation_spec: ClassVar = {'pixels': None}

  def encode(self, variables, observation, *, tokens=False):
    assert tokens
    return observation['pixels'] @ variables['params']['matrix']


RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(3, 4)).astype(np.float32)
VARIABLES = {'params': {'matrix': jnp.asarray(MATRIX)}, 'batch_stats': {}}
PROBE = probes.PooledProbe(features=2)


def split(count, *, labels=False, num_clips=1):
  pixels = RNG.normal(size=(count * num_clips, 2, 3)).astype(np.float32)
  mean = pixels.reshape(count, -1, 3).mean(1)
  targets = mean[:, :2] * [3, 0.1] + [5, 0]
  if labels:
    targets = (mean[:, 0] > 0).astype(np.int32)
  return fine_tuning.Seen({'pixels': pixels}, targets, num_clips)


def splits(**given):
  return {
    'train': split(16, labels=given.get('labels', False)),
    'validation': split(8, labels=given.get('labels', False)),
    'held_out': split(8, **given),
  }


def training(num_steps, rates=(0.1,)):
  return probe_training.Training(
    learning_rates=rates, weight_decays=(0.01,), num_steps=num_steps
  )


def test_an_update_is_adamws_on_encoder_and_probe():
  seen = splits()
  outcome = fine_tuning.tune(
    PROBE,
    Linear(),
    VARIABLES,
    seen,
    target_names=('a', 'b'),
    training=training(1),
  )
  pixels, wanted = seen['train'].observation['pixels'], seen['train'].targets
  tokens = pixels @ MATRIX
  mean, deviation = tokens.mean((0, 1)), tokens.std((0, 1))
  wanted = (wanted - wanted.mean(0)) / wanted.std(0)
  params = {
    'probe': PROBE.init(jax.random.key(0), jnp.asarray(tokens[:1])),
    'model': VARIABLES['params'],
  }
  rows = np.random.default_rng([0, 0]).integers(16, size=16)

  def loss(params):
    tokens = pixels[rows] @ params['model']['matrix']
    pooled = ((tokens - mean[None, None]) / deviation[None, None]).mean(1)
    head = params['probe']['params']['head']
    read = pooled @ head['kernel'] + head['bias'][None]
    return jnp.mean((read - wanted[rows]) ** 2)

  method = optax.adamw(0.1, weight_decay=0.01)
  updates, _ = method.update(
    jax.grad(loss)(params), method.init(params), params
  )
  expected = optax.apply_updates(params, updates)
  for found, one in zip(
    jax.tree.leaves(outcome.params), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(found, one, atol=2e-3)
  assert not np.allclose(outcome.params['model']['matrix'], MATRIX)
  np.testing.assert_array_equal(VARIABLES['params']['matrix'], MATRIX)


@pytest.mark.parametrize('labels', [False, True])
def test_the_best_of_the_grid_reads_clips_together(labels):
  seen = splits(labels=labels, num_clips=2)
  outcome = fine_tuning.tune(
    PROBE,
    Linear(),
    VARIABLES,
    seen,
    target_names=() if labels else ('a', 'b'),
    training=training(60, rates=(1e-9, 3e-2)),
  )
  assert outcome.chosen['learning_rate'] == 3e-2
  assert len(outcome.validation) == 2
  if labels:
    assert outcome.scores['num_examples'] == 8
    assert outcome.scores['accuracy'] >= 0.75
    assert outcome.validation[1] > outcome.validation[0]
  else:
    assert min(score['r2'] for score in outcome.scores.values()) > 0.8
    assert outcome.validation[1] < outcome.validation[0]
