"""The MLP that heads which act are made of, and ensembles of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm.networks import actors, mlp

KEY = jax.random.key(0)


def test_the_mlp_is_dense_norm_silu_and_starts_small():
  network = mlp.MLP(3, width=16, depth=2)
  x, goal = jax.random.normal(KEY, (5, 4, 2)), jnp.ones((1, 2))
  params = network.init(KEY, x, goal)
  found = network.apply(params, x, goal)
  assert found.shape == (5, 4, 3) and 0 < np.abs(found).max() < 1.5
  weights = jax.device_get(params['params'])
  hidden = np.concatenate([x, np.ones_like(x)], axis=-1)
  for index in range(2):
    dense, norm = weights[f'hidden_{index}'], weights[f'hidden_{index}_norm']
    hidden = hidden @ dense['kernel'] + dense['bias']
    mean, var = hidden.mean(-1, keepdims=True), hidden.var(-1, keepdims=True)
    hidden = (hidden - mean) / np.sqrt(var + 1e-6)
    hidden = hidden * norm['scale'] + norm['bias']
    hidden = hidden / (1 + np.exp(-hidden))
  expected = hidden @ weights['out']['kernel'] + weights['out']['bias']
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_values_of_an_ensemble_differ_and_are_those_of_its_members():
  network = mlp.Values(3, width=16, depth=1)
  x, goal = jax.random.normal(KEY, (4, 2)), jnp.ones((4, 2))
  params = network.init(KEY, x, goal)
  found = network.apply(params, x, goal)
  assert found.shape == (3, 4)
  assert np.ptp(found, axis=0).min() > 0
  one = jax.tree.map(lambda leaf: leaf[1], params['params']['each'])
  alone = mlp.MLP(1, width=16, depth=1).apply({'params': one}, x, goal)
  np.testing.assert_allclose(found[1], alone[:, 0], atol=1e-6)


def test_an_actor_keeps_to_its_box():
  network = actors.Actor((-1.0, 0.0), (1.0, 4.0), width=16, depth=1, std=0.5)
  x = jax.random.normal(KEY, (7, 2))
  params = network.init(KEY, x, x)
  mean, std = network.apply(params, x, x)
  np.testing.assert_allclose(std, np.tile([0.5, 1.0], (7, 1)))
  # It starts in the middle, and no weights lead out.
  assert np.abs(np.asarray(mean) - np.array([0.0, 2.0])).max() < 1.5
  mean, _ = network.apply(optax.tree.scale(1e3, params), x, x)
  assert mean[:, 0].min() >= -1 and mean[:, 1].min() >= 0 and mean.max() <= 4
