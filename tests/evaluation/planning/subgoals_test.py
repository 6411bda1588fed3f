import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jepa_wm.evaluation.planning import levels, pairs, protocol
from jepa_wm.evaluation.report import animation
from jepa_wm.recipes import record_findings

SHORT = protocol.get('short', num_pairs=4)
NEAR = 30.0


def half_way(latents, goal):
  """Half of the way, or the goal where that is near."""
  left = goal - latents
  far = jnp.linalg.norm(left, axis=-1, keepdims=True) > NEAR
  return jnp.where(far, latents + left / 2, goal)


@pytest.fixture(scope='module')
def result(run_short_again, short_settings):
  above = levels.Pointing('half', half_way, stride=2)
  return run_short_again(
    protocol=SHORT,
    pairs=pairs.load_pairs(SHORT),
    settings=dataclasses.replace(short_settings, upper=(above,)),
  )


def test_subgoals_are_read_as_the_nearest_state_that_was_seen(result):
  assert [x.moment.step for x in result.subgoals] == [
    x.step for x in result.planned
  ]
  for reading, planned in zip(result.subgoals, result.planned, strict=True):
    moment = reading.moment
    np.testing.assert_array_equal(moment.indices, planned.indices)
    agents = result.vectors[moment.indices, moment.step]
    goals = result.goals[moment.indices]
    far = np.linalg.norm(goals - agents, axis=-1)
    np.testing.assert_array_equal(reading.is_goal, far <= NEAR)
    wanted = np.where(far[:, None] > NEAR, (agents + goals) / 2, goals)
    np.testing.assert_allclose(moment.latents, wanted, atol=4.0)
    seen = result.vectors.reshape(-1, 2)
    off = np.linalg.norm(seen[:, None] - wanted[None], axis=-1).min(axis=0)
    found = np.linalg.norm(reading.vectors - wanted, axis=-1)
    np.testing.assert_allclose(found, off, atol=6.0)


def test_the_record_says_how_many_went_for_the_goal_and_how_sure_that_is(
  result,
):
  said = result.record['subgoals']
  assert said['num_plans'] == sum(len(x.is_goal) for x in result.subgoals)
  assert 0 < said['num_goal'] < said['num_plans']
  assert 8.0 < said['distance'] < 100.0 and said['reading_error'] > 0.0
  found = record_findings.of(result.record)['subgoals']
  assert f'{said["num_goal"]} went for the goal itself' in found.sentence
  none = {**said, 'distance': None, 'reading_error': None}
  assert record_findings.of({**result.record, 'subgoals': none})


def test_they_are_drawn_and_decoded_beside_the_goal(result):
  def picture(latents):
    shape = (*latents.shape[:-1], 4, 4, 3)
    return jnp.full(shape, 7, jnp.uint8)

  sizes = []
  for picture_fn in (None, picture):
    drawn = animation.draw_episodes(result, [0], picture_fn)
    with Image.open(io.BytesIO(drawn)) as gif:
      sizes.append(gif.size)
  assert sizes[1][0] > sizes[0][0] + 100 and sizes[0][1] == sizes[1][1]
