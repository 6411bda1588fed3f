"""Guardrails in the closed loop: what is promised, entered, and what stops."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.envs import zones
from jepa_wm.evaluation.planning import (
  guarding,
  pairs,
  planner_settings,
  protocol,
)
from jepa_wm.evaluation.report import animation, charts
from jepa_wm.recipes import record_findings

ZONE = zones.parse('disc:75,100,25', 'two_room')
SHORT = protocol.get('short', num_pairs=12)
CENTRE = jnp.array([75.0, 100.0])


def price(latents):
  """How deep positions are in the zone: a head that is right."""
  centre = CENTRE.reshape(*(1,) * (latents.ndim - 1), 2)
  return 25.0 - jnp.linalg.norm(latents - centre, axis=-1)


def guard(**settings):
  given = {'name': 'true', 'price_fn': price, 'zone': ZONE, 'num_checks': 5}
  return guarding.Guard(**{**given, 'bounds': (0.0, -3.0), **settings})


def play(run_short_again, short_settings, **settings):
  problems = guarding.outside(pairs.load_pairs(SHORT), ZONE, 'two_room')
  settings = dataclasses.replace(short_settings, guard=guard(**settings))
  return run_short_again(pairs=problems, settings=settings)


@pytest.fixture(scope='module')
def hard(run_short_again, short_settings):
  return play(run_short_again, short_settings)


def test_pairs_inside_are_left_out_and_counted(hard):
  every = pairs.load_pairs(SHORT)
  ends = np.stack([every.starts.position, every.goals.position])
  is_inside = np.any(ZONE.margin(ends) > 0, axis=0)
  assert hard.record['guardrail']['num_left_out'] == is_inside.sum() > 0
  assert hard.record['num_pairs'] == np.sum(~is_inside)
  np.testing.assert_array_equal(hard.pairs.ids, every.ids[~is_inside])
  whole = zones.parse('box:0,0,224,224', 'two_room')
  with pytest.raises(ValueError, match='holds the start or the goal of each'):
    guarding.outside(every, whole, 'two_room')


def test_nobody_enters_what_a_true_head_forbids(hard):
  came = hard.record['guardrail']
  assert came['num_entered'] == 0 and came['share_of_steps'] == 0
  assert not np.any(ZONE.margin(hard.vectors) > 0)
  assert [e.steps_inside for e in hard.episodes] == [0] * len(hard.episodes)
  assert hard.record['success_rate'] > 0.8
  said = hard.record['planner']['guardrail']
  assert (said['form'], said['delta'], said['zone']) == (
    'hard',
    0.1,
    'disc:75,100,25',
  )
  found = record_findings.of(hard.record)['guardrail']
  assert f'0 of {len(hard.episodes)} episodes enter it' in found.sentence
  assert [row[0] for row in found.table.rows] == ['of the actions']


def test_the_zone_is_drawn(hard):
  svg = charts.episode_map(hard)
  assert svg.count('<polygon class="zone"') == 1
  assert animation.draw_episodes(hard, [0])[:3] == b'GIF'


def test_where_nothing_is_allowed_everybody_stays(
  run_short_again, short_settings
):
  stuck = play(run_short_again, short_settings, bounds=(-1e3, -1e3))
  came = stuck.record['guardrail']
  assert came['share_stopped'] == 1 and came['levels'][0]['predicted'] == 1
  np.testing.assert_array_equal(
    stuck.vectors, np.repeat(stuck.vectors[:, :1], SHORT.budget + 1, axis=1)
  )
  assert all(e.num_stopped == 2 for e in stuck.episodes)


def test_a_watch_counts_what_was_said_and_what_came():
  watch = guarding.Watch(ZONE, 3)
  inside, out = [75.0, 100.0], [10.0, 10.0]
  said = {
    'excess': np.array([[1.0], [-1.0]]),
    'stopped': np.array([False, True]),
    'above': np.array([[0.5], [0.0]]),
  }
  watch.note(np.array([0, 2]), said, np.array([[inside, out], [out, inside]]))
  came = watch.to_dict()
  assert came['num_entered'] == 2 and came['share_of_steps'] == 0.5
  low, above = came['levels']
  assert (low['predicted'], low['realised']) == (0.5, 1.0)
  assert low['realised_where_allowed'] == 1.0 and above['predicted'] == 0.5
  assert watch.stopped.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'form': 'firm'}, 'guardrail_form must be one of off, soft, hard'),
    ({'delta': 1.0}, 'guardrail_delta must be above 0 and below 1, got 1.0'),
    ({'bounds': (0.0, -np.inf)}, 'needs more unsafe latents'),
  ],
)
def test_a_guard_that_makes_no_sense(settings, message):
  with pytest.raises(ValueError, match=message):
    guard(**settings)


def test_a_form_that_a_planner_cannot_do_is_found_before_it_plans():
  settings = planner_settings.PlannerSettings(
    planning.Gradient(), guard=guard(form='soft')
  )
  with pytest.raises(ValueError, match=r"planner gradient: .* form 'soft'"):
    settings.dry_run(3)
