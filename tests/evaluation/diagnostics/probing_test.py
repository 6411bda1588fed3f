import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import diagnostic, probing

fit = jax.jit(probing.fit, static_argnames='ridge')
evaluate = jax.jit(probing.evaluate)


def _problem():
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(200, 6)) * 2.0 + 5.0
  weights = rng.normal(size=(6, 2))
  targets = latents @ weights + np.asarray([100.0, -30.0])
  return latents, weights, targets


def test_recovers_an_affine_map():
  latents, weights, targets = _problem()
  probe = fit(
    jnp.asarray(latents, jnp.float32),
    jnp.asarray(targets, jnp.float32),
    ridge=0,
  )
  np.testing.assert_allclose(probe.weights, weights, atol=1e-4)
  np.testing.assert_allclose(probe.bias, [100.0, -30.0], atol=1e-2)


def test_ridge_matches_the_normal_equations():
  latents, _, targets = _problem()
  targets = targets + np.random.default_rng(3).normal(size=targets.shape)
  centred = latents - latents.mean(0)
  covariance = centred.T @ centred / 200
  penalty = 0.3 * np.trace(covariance) / 6 * np.eye(6)
  expected = np.linalg.solve(
    covariance + penalty, centred.T @ (targets - targets.mean(0)) / 200
  )
  probe = fit(
    jnp.asarray(latents, jnp.float32),
    jnp.asarray(targets, jnp.float32),
    ridge=0.3,
  )
  np.testing.assert_allclose(probe.weights, expected, rtol=2e-4, atol=1e-5)
  # The bias is free, so the mean frame is read without error.
  np.testing.assert_allclose(
    probe(jnp.asarray(latents.mean(0), jnp.float32)), targets.mean(0), rtol=1e-4
  )


def test_scores_match_numpy():
  latents, _, targets = _problem()
  noise = np.random.default_rng(4).normal(size=targets.shape)
  probe = probing.LinearProbe(weights=jnp.eye(6, 2), bias=jnp.ones(2))
  observed = latents[:, :2] + 1.0
  scores = jax.jit(probing.score)(
    probe,
    jnp.asarray(latents, jnp.float32),
    jnp.asarray(observed + noise, jnp.float32),
  )
  truth = observed + noise
  mse = np.mean((observed - truth) ** 2)
  r2 = np.mean(1 - np.mean(noise**2, 0) / truth.var(0))
  r = np.mean(
    [np.corrcoef(observed[:, i], truth[:, i])[0, 1] for i in range(2)]
  )
  np.testing.assert_allclose(scores['probe_mse'], mse, rtol=1e-4)
  np.testing.assert_allclose(scores['probe_r2'], r2, rtol=1e-4)
  np.testing.assert_allclose(scores['probe_r'], r, rtol=1e-4)


def test_held_out_rows_are_not_fitted():
  """Targets that the last quarter contradicts: R^2 there must be negative."""
  latents, _, targets = _problem()
  targets[150:] *= -1.0
  scores = evaluate(
    jnp.asarray(latents, jnp.float32), jnp.asarray(targets, jnp.float32)
  )
  assert scores['probe_r2'] < 0.0
  np.testing.assert_allclose(scores['probe_r'], -1.0, atol=1e-2)


def test_collapsed_latents_score_zero_not_nan():
  targets = np.random.default_rng(0).normal(size=(200, 2))
  scores = evaluate(jnp.full((200, 6), 2.0), jnp.asarray(targets, jnp.float32))
  assert abs(scores['probe_r2']) < 0.2
  assert np.isfinite(scores['probe_r'])


def test_doors():
  with pytest.raises(ValueError, match='flatten batch and time'):
    probing.fit(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3)))
  with pytest.raises(ValueError, match='same number of rows'):
    probing.fit(jnp.zeros((5, 4)), jnp.zeros((6, 2)))
  with pytest.raises(ValueError, match='ridge must not be negative'):
    probing.fit(jnp.zeros((5, 4)), jnp.zeros((5, 2)), ridge=-1.0)
  with pytest.raises(ValueError, match='either side of the split'):
    probing.evaluate(jnp.zeros((5, 4)), jnp.zeros((5, 2)))


def test_papers_units_are_deviations_of_what_was_fitted(rng_key):
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(2, 500, 4, 3)).astype(np.float32)
  noise = rng.normal(size=(2, 500, 4, 2))
  state = 10 * latents[..., :2] + np.array([1.0, 5.0]) * noise
  state = np.concatenate([state, np.full((2, 500, 4, 1), 7.0)], axis=-1)
  looked = {
    split: diagnostic.Looked({}, latents[i], None, state[i], None)
    for i, split in enumerate(('train', 'held_out'))
  }
  episodes = types.SimpleNamespace(
    look=lambda model, split='held_out': looked[split], world=None
  )
  found = probing.Probe()(diagnostic.Question(None, episodes, rng_key))
  # Of what varies: signal of deviation 10 and noise of 1 and of 5.
  expected = [1 / 101, 25 / 125]
  rows = found.table.rows
  assert [row[0] for row in rows] == ['s0', 's1']
  np.testing.assert_allclose([row[1] for row in rows], expected, rtol=0.3)
  # Squares of a Gaussian deviate by sqrt(2) of their mean.
  np.testing.assert_allclose(
    [row[2] for row in rows], np.sqrt(2) * np.array(expected), rtol=0.35
  )
  np.testing.assert_allclose(
    [row[3] for row in rows], np.sqrt(1 - np.array(expected)), rtol=0.05
  )
  assert found.scalars['probe_z_mse'] == pytest.approx(
    np.mean([row[1] for row in rows])
  )
