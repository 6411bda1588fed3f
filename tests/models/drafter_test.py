"""What comes next, learnt of walkers who go straight at their goals."""

import acting
import jax
import numpy as np
import pytest

from jepa_wm.models import heads


def walks(rng, count=256):
  """Two blocks lead 0.5 far, or to the goal."""
  here, goal = rng.uniform(-1, 1, (2, count, 2)).astype(np.float32)
  far = np.linalg.norm(goal - here, axis=-1, keepdims=True)
  after = here + (goal - here) * np.minimum(1.0, 0.5 / np.maximum(far, 1e-6))
  return {'latents': np.stack([here, goal], axis=1), 'after': after}


def test_it_drafts_what_comes_next_and_at_last_the_goal():
  head = acting.build('drafter')
  params, metrics = acting.learn(head, walks, 300)
  assert metrics['explained'] > 0.95 and metrics['share_of_moved'] < 0.1
  batch = walks(np.random.default_rng(7))
  here, goal = batch['latents'][:, 0], batch['latents'][:, 1]
  drafted = jax.jit(head.roles.subgoals)(params, here, goal)
  assert np.abs(drafted - batch['after']).mean() < 0.1


def test_a_goal_nearer_than_a_block_is_refused():
  with pytest.raises(ValueError, match='max_steps must be at least 5'):
    acting.build('drafter', max_steps=4)
  with pytest.raises(ValueError, match='stride'):
    heads.from_config({'name': 'drafter', 'stride': 0}, acting.SIZES)
