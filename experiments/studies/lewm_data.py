"""LeWorldModel, arXiv 2603.19312 version 3: frames, episodes, length."""

import dataclasses

from experiments.studies import lewm
from jepa_wm.recipes.study import Published, Row

_THIRD = 'a third party has frames stacked by 5, 10 and 20, and no code'
_STACKED = {
  ('ViT-S', 5): (94.67, 2.31),
  ('ViT-S', 10): (70.67, 6.11),
  ('ViT-S', 20): (50.67, 3.06),
  ('ViT-B', 5): (88.0, None),
  ('ViT-B', 10): (74.0, None),
  ('ViT-B', 20): (42.0, None),
}

lewm.add(
  'history',
  'How many frames must the predictor see?',
  'text; third-party retrainings of le-wm',
  '3',
  {
    '3': Row(
      published=lewm.said(
        'setting of Push-T and Cube', hand='text', where='text'
      )
    ),
    '1': Row(
      train={'model.predictor.history': 1},
      published=lewm.said('setting of Two Room', hand='text', where='text'),
    ),
    '2': Row(train={'model.predictor.history': 2}),
    '5': Row(train={'model.predictor.history': 5, 'data.num_frames': 6}),
    **{
      f'{vit}, {frames} stacked': Row(
        published=Published(
          value=value,
          spread=spread,
          spread_kind='' if spread is None else 's.d.',
          source='retrainings of le-wm by a third party',
          hand='second',
        ),
        missing=_THIRD,
      )
      for (vit, frames), (value, spread) in _STACKED.items()
    },
  },
  differs='The paper has no table of it. With 4 frames a clip has three '
  'windows of one frame and one of three.',
)

lewm.add(
  'data_size',
  'How many episodes does LeWM need?',
  'no table of it; DINO-WM has one, see dino_wm/data_size',
  'all',
  {
    'all': Row(),
    **{
      f'{share} %': Row(
        by_size={
          'small': {'data.num_episodes': 18 * share},
          'full': {'data.num_episodes': 180 * share},
        }
      )
      for share in (1, 10, 50)
    },
  },
)

_LENGTH = dataclasses.replace(
  lewm.SMALL,
  train={'num_steps': 600, 'data.batch_size': 128, 'eval_every': 150},
  minutes=5.0,
)
lewm.add(
  'length',
  'Does a longer run plan better?',
  'none; le-wm issue 72 has a comment that one epoch beats what is released',
  '600',
  {
    '600': Row(),
    '300': Row(train={'num_steps': 300}),
    '3000': Row(train={'num_steps': 3000}),
  },
  sizes={'small': _LENGTH},
)
