import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import diagnostic, surprise


@dataclasses.dataclass(frozen=True)
class Adding:
  """Latents move by what the action says, times a gain."""

  gain: float = 1.0
  history: int = 2

  @property
  def acting(self):
    return self

  def start(self, variables, latents, actions):
    assert latents.shape[-2] <= self.history
    assert actions.shape[-2] == latents.shape[-2] - 1
    return latents[..., -1, :]

  def advance(self, variables, state, action):
    return state + self.gain * action

  def read(self, state):
    return state


def _found(model, scale=1.0, num_episodes=32):
  rng = np.random.default_rng(0)
  action = rng.normal(size=(num_episodes, 3, 4)).astype(np.float32)
  start = 3 * rng.normal(size=(num_episodes, 1, 4)).astype(np.float32)
  paths = np.concatenate([start, start + action.cumsum(1)], axis=1)
  looked = diagnostic.Looked({}, scale * paths, action, None, None)
  question = diagnostic.Question(
    types.SimpleNamespace(model=model, params={}),
    types.SimpleNamespace(look=lambda *_: looked),
    jax.random.key(0),
  )
  return surprise.Surprise()(question).scalars


def test_auroc_counts_pairs():
  rng = np.random.default_rng(0)
  ordinary, odd = rng.integers(0, 5, 40), rng.integers(2, 7, 30)
  more = odd[:, None] > ordinary
  ties = odd[:, None] == ordinary
  expected = np.mean(more + 0.5 * ties)
  assert surprise.auroc(ordinary, odd) == pytest.approx(expected)
  assert surprise.auroc(ordinary, ordinary) == pytest.approx(0.5)
  assert surprise.auroc(np.zeros(3), np.ones(2)) == 1.0


def test_a_model_that_is_right_is_surprised_by_teleports_alone():
  found = _found(Adding())
  assert found['plain'] < 1e-9 and found['auroc'] == 1.0
  # Two starts 3 sqrt(2) apart in every dimension, and their walks.
  assert 18 < found['teleport'] < 26
  assert found['ratio'] > 1e6


def test_a_model_of_constant_latents_tells_nothing():
  found = _found(Adding(gain=0.0), scale=0.0)
  assert found['auroc'] == 0.5 and found['plain'] == found['teleport'] == 0.0


def test_errors_are_those_of_a_loop():
  found = _found(Adding(gain=0.5))
  rng = np.random.default_rng(0)
  action = rng.normal(size=(32, 3, 4))
  assert found['plain'] == pytest.approx(0.25 * np.mean(action**2), rel=1e-5)
  assert 0.9 < found['auroc'] < 1.0


def test_models_without_dynamics_are_refused():
  config = types.SimpleNamespace(name='ijepa')
  still = types.SimpleNamespace(acting=None, config=config)
  with pytest.raises(ValueError, match=r'with dynamics .* got ijepa and 32'):
    _found(still)
  assert jnp.isfinite(_found(Adding())['ratio'])
