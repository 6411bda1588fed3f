"""Several agents: trained with two, measured with two, three and four.

gamma-World, arXiv 2605.28816, compares simplex rotations and hubs with slots
and dense attention in a video model; its numbers are figures. Here both are
compared in a latent world that plans.
"""

from collections.abc import Mapping
from typing import Any

from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Size, Study

NUMBERS = 2, 3, 4
"""Agents at test."""

SMALL = Size(
  config='multi_agent.py:two_room_small',
  data={
    'environment': 'two_room_agents',
    'num_episodes': 2500,
    'policy': 'mixture',
  },
  plan={
    'num_pairs': 100,
    'options': {'num_samples': 100, 'num_elites': 10, 'num_iterations': 10},
  },
  minutes=14.0,
)

DIFFERS = (
  'The paper has videos of a game, 2 B parameters and no planning; here a '
  'latent of 8 numbers an agent, 0.5 M parameters, and goals that are pictures.'
)


def _kinds(kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Row]:
  """Each kind trained once, and its checkpoint measured with more agents."""
  said = Published(
    says='simplex and hubs best with four', source='figures', hand='figure'
  )
  rows = {}
  for kind, changes in kinds.items():
    for number in NUMBERS:
      first = number == NUMBERS[0]
      rows[f'{kind} {number}'] = Row(
        train=changes if first else {},
        of='' if first else f'{kind} {NUMBERS[0]}',
        plan={'num_agents': number},
        published=said if kind == 'simplex' and number == 4 else None,
      )
  return rows


study.STUDIES.register(
  Study(
    name='groups/identity',
    question='What lets a model of two agents serve four?',
    source='gamma-World, arXiv 2605.28816, figures',
    reference='simplex 2',
    rows=_kinds(
      {
        'simplex': {},
        'slots': {
          'model.predictor.identity': 'slots',
          'model.predictor.pool': NUMBERS[-1],
        },
        'dense': {'model.predictor.attention': 'dense'},
        'others seen': {'model.sees_others': True},
      }
    ),
    sizes={'small': SMALL},
    metrics=('agents/mean_success_rate', 'held_out/prediction_error'),
    differs={'small': DIFFERS},
  )
)
