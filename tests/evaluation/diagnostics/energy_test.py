"""The cheapest action of models that are right, and wrong in a known way."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adding import Adding

from jepa_wm.evaluation.diagnostics import diagnostic, energy


def _question(gain, num_frames=4):
  rng = np.random.default_rng(0)
  # On the grid of 5 values over -1..1, both ends among them.
  action = rng.choice([-1, -0.5, 0, 0.5, 1], size=(12, num_frames - 1, 2))
  paths = np.pad(action.cumsum(1), ((0, 0), (1, 0), (0, 0)))
  looked = diagnostic.Looked(
    {}, paths.astype(np.float32), action.astype(np.float32), None, None
  )
  model = types.SimpleNamespace(
    model=Adding(gain),
    params={},
    raw_actions=lambda x: jnp.asarray(x)[..., None, :],
    normalize_actions=lambda x: x[..., 0, :],
  )
  episodes = types.SimpleNamespace(look=lambda *_: looked)
  return diagnostic.Question(model, episodes, jax.random.key(0)), action[:, -1]


def test_the_least_cost_of_the_right_dynamics_is_at_the_recorded_action():
  question, _ = _question(1.0)
  found = energy.Energy(num_values=5)(question)
  assert found.scalars['offset'] == pytest.approx(0.0, abs=1e-6)
  assert found.scalars['chance'] > 0.8
  assert set(found.figures) == {
    f'energy_{n}{kind}.png' for n in (0, 1) for kind in ('', '_dark')
  }


def test_of_dynamics_that_go_half_as_far_it_is_twice_as_far_out():
  question, taken = _question(0.5)
  found = energy.Energy(num_values=5)(question)
  away = np.linalg.norm(np.clip(2 * taken, -1, 1) - taken, axis=-1)
  assert found.scalars['offset'] == pytest.approx(away.mean(), abs=1e-6)
  # Of dynamics that go the other way it is on the other side.
  question, taken = _question(-1.0)
  found = energy.Energy(num_values=5)(question)
  assert found.scalars['bias_0'] == pytest.approx(-2 * taken[:, 0].mean())


def test_one_number_an_action_is_too_few():
  question, _ = _question(1.0)
  model = Adding(dim=1)
  model = types.SimpleNamespace(**{**vars(question.model), 'model': model})
  with pytest.raises(ValueError, match='two numbers of an action'):
    energy.Energy()(question._replace(model=model))
