"""A model that knows walls, not colours, where the world is another."""

import jax
import pytest

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, generality


@pytest.mark.slow
def test_what_the_model_reads_by_is_what_it_misses(perfect_model):
  small = generality.Generality(
    num_pairs=6,
    groups=('door_color', 'background_color'),
    num_samples=48,
    num_elites=8,
    num_iterations=5,
  )
  episodes = diagnostic.Episodes(lambda split: [], worlds.get('two_room'))
  found = small(diagnostic.Question(perfect_model, episodes, jax.random.key(0)))
  assert [row[0] for row in found.table.rows] == [
    'none', 'door_color', 'background_color',
  ]  # fmt: skip
  assert found.scalars['plain'] == 1.0
  # It finds the agent by its redness, which a background may share.
  assert found.scalars['shift_background_color'] < 1.0
  reached, tried = (sum(row[i] for row in found.table.rows[1:]) for i in (2, 3))
  assert found.scalars['shifted'] == pytest.approx(reached / tried)
