"""Outcomes of a model that is right, and of one that is deaf to actions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import counterfactual, diagnostic

SMALL = counterfactual.Counterfactual(
  num_starts=6, num_actions=4, num_probe_frames=64
)


def _ask(model, **given):
  episodes = diagnostic.Episodes(
    lambda split: [], worlds.get('two_room'), horizon=2, **given
  )
  return SMALL(diagnostic.Question(model, episodes, jax.random.key(0)))


@pytest.mark.slow
def test_different_actions_have_different_outcomes(perfect_model):
  draw = lambda latents: jnp.zeros((*latents.shape[:-1], 8, 8, 3), jnp.uint8)
  found = _ask(perfect_model, picture_fn=draw)
  assert found.scalars['r'] > 0.98
  assert found.scalars['ratio'] == pytest.approx(1.0, abs=0.05)
  assert found.scalars['outcome_error'] < 2.0
  assert 'counterfactual_decoded_dark.png' in found.figures
  deaf = dataclasses.replace(
    perfect_model, params={'params': {'gain': jnp.zeros(3)}}
  )
  found = _ask(deaf)
  assert found.scalars['imagined'] < 1e-3 and found.scalars['true'] > 20
  assert 'counterfactual_decoded.png' not in found.figures
  # 50 px at most, walls in the way.
  assert 10 < found.scalars['outcome_error'] < 50


def test_it_plays_the_world():
  question = diagnostic.Question(
    dataclasses.make_dataclass('Acting', ['model'])(
      dataclasses.make_dataclass('Model', ['acting'])(object())
    ),
    diagnostic.Episodes(lambda split: []),
    None,
  )
  with pytest.raises(ValueError, match='counterfactual plays the world'):
    SMALL(question)
  assert np.isfinite(SMALL.num_starts)
