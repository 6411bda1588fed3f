"""V-JEPA, arXiv 2404.08471: data, size, few labels, clips, fine-tuning.

Tables 6 and 7 were read in the paper, Tables 2, 14 and 15 in transcriptions.
"""

import dataclasses
import functools
from typing import Any

from experiments.studies import vjepa
from jepa_wm.recipes.study import Row, Size

_data = functools.partial(vjepa.number, 'Table 2', 'second')


def _mixture(small: str, full: str, *encoder: str) -> dict[str, Any]:
  """A mixture at both sizes, and which encoder learns from it."""
  larger = {'small': vjepa.LARGER, 'full': vjepa.HUGE} if encoder else {}
  return {
    size: {'data.source': source, **larger.get(size, {})}
    for size, source in (('small', small), ('full', full))
  }


_TWO = 'digits:texture,digits:noise', 'tfds:kinetics710,tfds:ssv2'
_HT = 'digits:texture,digits:none', 'tfds:kinetics710,tfds:howto100m'
_ALL = (
  'digits:texture,digits:noise,digits:none',
  'tfds:kinetics710,tfds:ssv2,tfds:howto100m',
)

vjepa.add(
  'vjepa/data',
  'Which mixture of videos teaches most?',
  'Table 2 (700,000 to 2 M videos)',
  'K710, L/16',
  {
    'K710, L/16': Row(published=_data(75.8, 63.2, 73.7, mean=70.9)),
    'K710+SSv2, L/16': Row(
      by_size=_mixture(*_TWO), published=_data(72.9, 67.4, 72.8, mean=71.0)
    ),
    'K710+HT, L/16': Row(
      by_size=_mixture(*_HT), published=_data(74.5, 64.2, 74.8, mean=71.1)
    ),
    'VideoMix2M, L/16': Row(
      by_size=_mixture(*_ALL), published=_data(73.7, 66.2, 74.8, mean=71.5)
    ),
    'K710+SSv2, H/16': Row(
      by_size=_mixture(*_TWO, 'H'),
      published=_data(75.7, 66.8, 73.7, mean=72.0),
    ),
    'VideoMix2M, H/16': Row(
      by_size=_mixture(*_ALL, 'H'),
      published=_data(74.0, 68.5, 75.9, mean=72.8),
    ),
  },
  sizes={
    'small': vjepa.SMALL,
    'full': dataclasses.replace(
      vjepa.FULL,
      train={'data.source': 'tfds:kinetics710'},
      needs='',
    ),
  },
  differs={
    'small': f'{vjepa.DIGITS}; digits over texture stand for K710, over noise '
    'for SSv2, over black for HowTo100M.',
    'full': f'{vjepa.DIFFERS["full"]} The datasets, in equal shares, and '
    'kinetics400 for the probe must lie under TFDS_DATA_DIR.',
  },
)

_scale = functools.partial(vjepa.number, 'Table 6', 'first')

vjepa.add(
  'vjepa/scale',
  'Do larger encoders and frames read better?',
  'Table 6 (VideoMix2M, eight clips of three views)',
  'L/16',
  {
    'L/16': Row(
      published=_scale(80.8, 69.5, 74.8, AVA=25.6, Places=60.3, iNat=67.8)
    ),
    'H/16': Row(
      by_size={'small': vjepa.LARGER, 'full': vjepa.HUGE},
      published=_scale(82.0, 71.4, 75.9, AVA=25.8, Places=61.7, iNat=67.9),
    ),
    'H/16-384': Row(
      by_size={
        'small': {**vjepa.LARGER, 'model.encoder.image_size': 36},
        'full': {**vjepa.HUGE, 'model.encoder.image_size': 384},
      },
      published=_scale(81.9, 72.2, 77.4, AVA=25.0, Places=62.8, iNat=72.6),
    ),
  },
)

_shots = functools.partial(vjepa.number, 'Table 7', 'first')

vjepa.add(
  'vjepa/low_shot',
  'How many labels does a probe need?',
  'Table 7 (ViT-H/16 at 384 pixels)',
  '50 %',
  {
    '50 %': Row(published=_shots(80.6, 67.9)),
    '10 %': Row(probe={'num_train': 200}, published=_shots(72.8, 59.3)),
    '5 %': Row(probe={'num_train': 100}, published=_shots(68.2, 54.0)),
  },
  sizes={
    'small': vjepa.SMALL,
    'full': Size(
      config=vjepa.FULL.config,
      train={**vjepa.HUGE, 'model.encoder.image_size': 384},
      probe={**vjepa.FULL_PROBE, 'num_train': 1000},
      minutes=90_000.0,
      device=vjepa.FULL.device,
      needs=vjepa.FULL.needs,
    ),
  },
)

vjepa.add(
  'vjepa/clips',
  'Do more clips of a video help at evaluation?',
  'Table 14 (ViT-L/16)',
  '1',
  {
    '1': Row(published=vjepa.number('Table 14', 'second', 73.7)),
    '8': Row(
      probe={'num_clips': 8}, published=vjepa.number('Table 14', 'second', 80.9)
    ),
  },
)

# The rate of the encoder, too, and of nobody else.
_TUNE = {'fine_tune': True, 'learning_rates': (3e-4,)}
_tuned = functools.partial(vjepa.number, 'Table 15', 'second')

vjepa.add(
  'vjepa/fine_tuning',
  'What does fine-tuning add?',
  'Table 15 (16 frames x 5 clips x 3 views)',
  'L/16, frozen',
  {
    'L/16, frozen': Row(published=_scale(80.8, 69.5)),
    'L/16': Row(probe=_TUNE, published=_tuned(85.6, 75.1)),
    'H/16': Row(
      by_size={'small': vjepa.LARGER, 'full': vjepa.HUGE},
      probe=_TUNE,
      published=_tuned(86.6, 77.0),
    ),
  },
)
