"""V-JEPA 2-AC, arXiv 2506.09985: its loss and how actions reach its tokens.

The paper has no table of them; its robots are listed. JEPA-WMs,
arXiv 2512.24497, compares ways to condition, in figures alone.
"""

import dataclasses
from collections.abc import Mapping

from experiments.studies import lewm
from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Study

SMALL = dataclasses.replace(
  lewm.SMALL,
  config='vjepa2_ac.py:two_room_small',
  train={**lewm.SMALL.train, 'data.num_frames': 5},
)
_DIFFERS = (
  'Two Room at 64 pixels, 2 x 2 tokens of the convolutions of the shipped '
  'two_room_small in place of ViT-g, a predictor of two blocks; the paper has '
  'robots, and no table of this.'
)


def _add(name: str, question: str, reference: str, rows: Mapping[str, Row]):
  made = Study(
    name=f'vjepa2_ac/{name}',
    question=question,
    source='V-JEPA 2, section 3; no table',
    reference=reference,
    rows=rows,
    sizes={'small': SMALL},
    metrics=('held_out/prediction_error', 'surprise/auroc'),
    differs={'small': _DIFFERS},
  )
  return study.STUDIES.register(made)


def _said(says: str) -> Published:
  return Published(says=says, source='V-JEPA 2, section 3', hand='text')


_add(
  'rollout',
  'Must the predictor be trained on its own predictions?',
  '2',
  {
    '2': Row(published=_said('used')),
    '1': Row(train={'model.terms.teacher_forcing.steps': 1}),
    '4': Row(train={'model.terms.teacher_forcing.steps': 4}),
    '2, the last step alone': Row(
      train={'model.terms.teacher_forcing.rollout': 'last'},
      published=_said('what the text says; the code has the mean'),
    ),
    'no rollout loss': Row(
      train={'model.terms.teacher_forcing.rollout_weight': 0.0}
    ),
  },
)

_add(
  'distance',
  'Is an absolute error better than a squared one?',
  'L1',
  {
    'L1': Row(published=_said('used')),
    'L2': Row(train={'model.terms.teacher_forcing.distance': 'squared'}),
    'cosine': Row(train={'model.terms.teacher_forcing.distance': 'cosine'}),
  },
)

_add(
  'conditioning',
  'How should an action reach the tokens?',
  'token',
  {
    'token': Row(published=_said('used')),
    **{
      way: Row(
        train={'model.predictor.conditioning': way},
        published=Published(
          says='compared, in a figure',
          source='JEPA-WMs, arXiv 2512.24497',
          hand='figure',
        ),
      )
      for way in ('feature', 'adaln')
    },
  },
)

_ROBOTS = {
  'reach': 100,
  'grasp a cup': 65,
  'grasp a box': 25,
  'reach with a cup': 75,
  'reach with a box': 75,
  'pick and place a cup': 80,
  'pick and place a box': 65,
}
_add(
  'robots',
  'Does it move real robots?',
  'simulated',
  {
    'simulated': Row(),
    **{
      name: Row(
        published=Published(
          value=value,
          source='V-JEPA 2, Table 2',
          n='10 trials in each of two laboratories',
        ),
        missing='10 trials of a robot cannot be had in simulation',
      )
      for name, value in _ROBOTS.items()
    },
    'camera angle': Row(
      published=Published(
        says='the error of rotation is linear in the azimuth',
        source='V-JEPA 2, Figure 16',
        hand='figure',
      ),
      missing='there is no camera that turns in these worlds',
    ),
  },
)
