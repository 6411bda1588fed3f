import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.training import optimizers


def test_schedule_is_the_published_formula():
  optimizer = optimizers.AdamW(num_steps=1000, learning_rate=5e-5)
  steps = np.arange(1001)
  # Linear from 0 over the first 1 %, then half a cosine to 0.
  expected = np.where(
    steps < 10,
    5e-5 * steps / 10,
    5e-5 * 0.5 * (1 + np.cos(np.pi * (steps - 10) / 990)),
  )
  rates = jax.vmap(optimizer.schedule)(jnp.arange(1001))
  np.testing.assert_allclose(rates, expected, atol=1e-10)


@pytest.mark.parametrize('num_steps', [1, 20])
def test_short_runs_start_at_the_peak(num_steps):
  optimizer = optimizers.AdamW(num_steps=num_steps, learning_rate=0.5)
  np.testing.assert_allclose(optimizer.schedule(jnp.int32(0)), 0.5)


def test_updates_are_clipped_adamw_on_every_parameter():
  optimizer = optimizers.AdamW(
    num_steps=10, learning_rate=0.1, weight_decay=0.2, warmup_fraction=0.2
  )
  params = {'bias': jnp.array([3.0]), 'kernel': jnp.array([[1.0, -2.0]])}
  gradient = {'bias': jnp.array([3.0]), 'kernel': jnp.array([[0.0, 4.0]])}
  transformation = optimizer.transformation()
  opt_state = transformation.init(params)
  w = np.array([3.0, 1.0, -2.0])
  # Norm 5, so a fifth of the gradient remains.
  g = np.array([3.0, 0.0, 4.0]) / 5
  m, v = np.zeros(3), np.zeros(3)
  for i, rate in enumerate([0.0, 0.05, 0.1]):
    updates, opt_state = transformation.update(gradient, opt_state, params)
    params = jax.tree.map(jnp.add, params, updates)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    unbiased = m / (1 - 0.9 ** (i + 1)), v / (1 - 0.999 ** (i + 1))
    w = w - rate * (unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8) + 0.2 * w)
    ours = np.concatenate([params['bias'], params['kernel'][0]])
    np.testing.assert_allclose(ours, w, rtol=1e-5)


@pytest.mark.parametrize(
  'field',
  [
    {'num_steps': 0},
    {'learning_rate': 0.0},
    {'learning_rate': float('nan')},
    {'weight_decay': -1e-3},
    {'warmup_fraction': 1.0},
    {'clip_norm': 0.0},
    {'beta1': 1.0},
  ],
)
def test_fields_out_of_range_are_named(field):
  with pytest.raises(ValueError, match=next(iter(field))):
    optimizers.AdamW(**{'num_steps': 10, **field})
