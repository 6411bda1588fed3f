"""Rankings of a model that is right, and of one that goes the other way."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, plan_ranking

SMALL = plan_ranking.PlanRanking(
  num_problems=4,
  num_candidates=16,
  num_iterations=4,
  num_samples=32,
  num_elites=6,
)


def _ask(model):
  episodes = diagnostic.Episodes(
    lambda split: [], worlds.get('two_room'), horizon=2
  )
  return SMALL(diagnostic.Question(model, episodes, jax.random.key(0)))


@pytest.mark.slow
def test_the_right_model_ranks_and_the_wrong_one_misranks(perfect_model):
  right = _ask(perfect_model)
  assert right.verdict == 'ranks' and right.scalars['spearman_random'] > 0.95
  # What is seen ranks as well as what is imagined.
  assert min(row[i] for row in right.table.rows[:1] for i in (2, 3)) > 0.9
  assert right.scalars['best'] <= right.scalars['picked'] + 1e-5
  assert right.scalars['picked'] < right.scalars['best'] + 3.0
  means = [row[5] for row in right.table.rows]
  assert means[0] > means[1] > means[2]
  wrong = _ask(
    dataclasses.replace(
      perfect_model, params={'params': {'gain': -jnp.ones(3)}}
    )
  )
  assert wrong.verdict == 'misranks'
  assert wrong.scalars['spearman_random'] < -0.5
  assert wrong.scalars['picked'] > wrong.scalars['best'] + 5.0
  assert set(wrong.figures) == {'plan_ranking.png', 'plan_ranking_dark.png'}
