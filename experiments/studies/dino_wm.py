"""DINO-WM, arXiv 2411.04983 (numbers as others transcribe its tables).

Success on Push-T at full size; what its +- would be is not said.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.studies import lewm
from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Study

SMALL = dataclasses.replace(lewm.SMALL, config='dino_wm.py:two_room_small')
FULL = dataclasses.replace(
  lewm.FULL,
  config='dino_wm.py:push_t',
  train={'frozen_encoder': lewm.WEIGHTS},
  minutes=1200.0,
  needs=f'{lewm.FULL.needs}, and the weights of DINOv2 S/14 in {lewm.WEIGHTS}',
)
_DIFFERS = {
  'small': 'Two Room at 64 pixels, 2 x 2 tokens of the convolutions of the '
  'shipped two_room_small in place of DINOv2, a predictor of two blocks, no '
  'state of the body, 38,400 windows.',
  'full': 'Our Push-T recordings keep no state of the body; 10 epochs in place '
  'of 100; held-out pairs.',
}
METRICS = (
  'held_out/prediction_error',
  'straightness/mean_cosine',
  'surprise/auroc',
)


def _add(name: str, question: str, reference: str, rows: Mapping[str, Row]):
  made = Study(
    name=f'dino_wm/{name}',
    question=question,
    source='DINO-WM, ablation tables (transcribed)',
    reference=reference,
    rows=rows,
    sizes={'small': SMALL, 'full': FULL},
    metrics=METRICS,
    differs=_DIFFERS,
  )
  return study.STUDIES.register(made)


def _number(value: float) -> Published:
  return Published(
    value=100.0 * value, source='DINO-WM, transcribed', hand='second'
  )


def _window(history: int, causal: bool) -> dict[str, Any]:
  return {
    'model.predictor.history': history,
    'model.predictor.causal': causal,
    'model.terms.prediction.steps': 1,
  }


_add(
  'history',
  'How many frames must the predictor see, and may it look ahead?',
  '3',
  {
    **{
      str(history): Row(train=_window(history, True), published=_number(value))
      for history, value in ((3, 0.92), (2, 0.88), (1, 0.76))
    },
    **{
      f'{history}, no mask': Row(
        train=_window(history, False), published=_number(value)
      )
      for history, value in ((3, 0.08), (2, 0.36))
    },
    '1, no mask': Row(
      published=_number(0.76),
      missing='with one frame there is nothing to mask: it is row 1',
    ),
  },
)

_NO_WEIGHTS = 'there is no reader of its published weights'
_add(
  'encoder',
  'Must tokens keep their places?',
  'patches',
  {
    'patches': Row(published=_number(0.90)),
    'class token': Row(
      train={'model.encoder.kept': 'class'},
      by_size={'small': {'model.encoder.pool': 1}},
      published=_number(0.44),
    ),
    'R3M': Row(published=_number(0.42), missing=_NO_WEIGHTS),
    'ResNet': Row(published=_number(0.20), missing=_NO_WEIGHTS),
  },
)

_add(
  'decoder',
  'Does a decoder that trains the predictor help?',
  'without',
  {
    'without': Row(published=_number(0.92)),
    'with': Row(
      published=_number(0.80),
      missing='features of a frozen encoder are computed once, so that no '
      'pixels are left to draw',
    ),
  },
)

_add(
  'planner',
  'Must plans be made again while they are played?',
  'MPC',
  {
    'MPC': Row(plan={'receding_horizon': 1}, published=_number(0.90)),
    'open loop': Row(plan={'receding_horizon': 5}, published=_number(0.86)),
    'gradient descent': Row(
      plan={
        'planner': 'gradient',
        'options': {'optimizer': 'sgd', 'learning_rate': 1.0},
        'receding_horizon': 5,
      },
      published=_number(0.28),
    ),
  },
)

_add(
  'data_size',
  'How many episodes does it need?',
  '18500',
  {
    '18500': Row(published=_number(0.92)),
    **{
      str(number): Row(
        by_size={
          # The same shares of the 1,800 there are.
          'small': {'data.num_episodes': max(number * 1800 // 18500, 1)},
          'full': {'data.num_episodes': number},
        },
        published=_number(value),
      )
      for number, value in (
        (200, 0.08),
        (1000, 0.48),
        (5000, 0.72),
        (10000, 0.88),
      )
    },
  },
)

_WORLDS = {
  'Maze': (0.98, 'our mazes have other walls'),
  'Wall': (0.96, 'its recordings can be read and its world is not here'),
  'Reach': (0.92, 'its world is not here'),
  'WallRandom': (0.82, 'its world is not here'),
  'PushObj': (0.34, 'its world is not here'),
}
_add(
  'worlds',
  'Where does it plan well?',
  'Push-T',
  {
    'Push-T': Row(published=_number(0.90)),
    **{
      name: Row(published=_number(value), missing=missing)
      for name, (value, missing) in _WORLDS.items()
    },
  },
)
