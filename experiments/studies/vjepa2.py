"""V-JEPA 2, arXiv 2506.09985: frozen features read by a probe.

Its tables were read in the paper. What cannot be repeated here is listed: the
curated data, and robots; the other rows of V-JEPA 2-AC are in vjepa2_ac.py.
"""

from typing import Any

from experiments.studies import vjepa
from jepa_wm.recipes.study import Published, Row, Size

FULL = Size(
  config='vjepa.py:vjepa2',
  probe={**vjepa.FULL_PROBE, 'depth': 4},
  minutes=90_000.0,
  device='accelerator',
  needs=vjepa.FULL.needs,
)
_SIZES = {'small': vjepa.SMALL, 'full': FULL}
_DIFFERS = {
  'small': 'Moving digits at 24 pixels, 0.46 M parameters, 32,000 clips, and '
  'the digit is read; the paper has up to 22 M videos at 256 pixels and '
  'reports the mean of six tasks.',
  'full': 'One folder of clips, one task, a probe of 2,000 clips.',
}
_GIANT: dict[str, Any] = {'model.encoder.size': 'giant'}
_LARGER = {'small': vjepa.LARGER, 'full': _GIANT}
# What follows a run at a constant rate: 12,000 of 252,000 steps in the paper.
_COOL_DOWN = {
  'num_steps': 12_000,
  'optimizer.warmup_fraction': 0.0,
}
_SHORT = {**_COOL_DOWN, 'num_steps': 200}
_DATA = 'the uncurated and the curated videos are not published'
_ROBOT = 'it takes trials on robots: nothing that a simulation repeats'


def _add(name: str, question: str, source: str, reference: str, rows, **given):
  settings = {'sizes': _SIZES, 'differs': _DIFFERS, **given}
  return vjepa.add(
    f'vjepa2/{name}',
    question,
    source,
    reference,
    rows,
    paper='V-JEPA 2',
    **settings,
  )


def _number(source: str, value: float, of: str = '', **also: float):
  return Published(
    value=value, of=of, also=also, source=f'V-JEPA 2, {source}', hand='first'
  )


def _said(says: str, source: str, hand: str = 'text') -> Published:
  return Published(says=says, source=f'V-JEPA 2, {source}', hand=hand)


_add(
  'ingredients',
  'What do data, size, length and resolution add?',
  'Figure 3 (mean of six tasks, each upon the ones before)',
  'baseline',
  {
    'baseline': Row(published=_said('4.0 below the whole', 'Figure 3')),
    'data': Row(published=_said('+1.0', 'Figure 3'), missing=_DATA),
    'encoder': Row(by_size=_LARGER, published=_said('+1.5', 'Figure 3')),
    'length': Row(
      by_size={
        'small': {'num_steps': 3000},
        'full': {'num_steps': 252_000},
      },
      published=_said('+0.8', 'Figure 3'),
    ),
    'resolution': Row(
      by_size={
        'small': {
          'model.encoder.image_size': 36,
          'model.encoder.num_frames': 8,
        },
        'full': {
          'model.encoder.image_size': 384,
          'model.encoder.num_frames': 64,
        },
      },
      published=_said('88.2 with all', 'Figure 3'),
    ),
  },
  sizes={
    'small': vjepa.SMALL,
    'full': Size(
      config=FULL.config,
      train={'num_steps': 90_000},
      probe=FULL.probe,
      minutes=FULL.minutes,
      device=FULL.device,
      needs=FULL.needs,
    ),
  },
  differs={
    name: f'{says} Each row adds one thing to the baseline, alone.'
    for name, says in _DIFFERS.items()
  },
)

_add(
  'data',
  'Do curated videos teach more?',
  'Table 13',
  'VM22M, L',
  {
    f'{data}, {size}': Row(
      published=_number('Table 13', a, 'IN1K', COIN=b, SSv2=c, K400=d),
      missing=_DATA,
    )
    for data, size, a, b, c, d in (
      ('YT1B uncurated', 'L', 80.6, 83.2, 70.9, 82.9),
      ('YT1B curated', 'L', 80.8, 86.5, 73.1, 84.6),
      ('mixed with uncurated', 'L', 82.9, 86.25, 73.3, 83.0),
      ('VM22M', 'L', 82.9, 86.0, 72.8, 83.7),
      ('YT1B uncurated', 'g', 81.8, 86.4, 73.6, 85.1),
      ('YT1B curated', 'g', 81.7, 88.4, 74.8, 86.5),
      ('mixed with uncurated', 'g', 83.7, 88.5, 75.5, 85.9),
      ('VM22M', 'g', 83.9, 89.2, 75.6, 86.2),
    )
  },
  sizes={},
  differs={},
)

_add(
  'cooldown',
  'What does a cool-down of the learning rate add?',
  'Table 14 (ViT-g)',
  '256',
  {
    '256': Row(
      published=_number(
        'Table 14', 84.6, 'IN1K', COIN=90.7, SSv2=75.3, K400=86.6
      )
    ),
    'none': Row(
      train={'optimizer.decay': 'constant'},
      published=_number(
        'Table 14', 83.8, 'IN1K', COIN=89.1, SSv2=75.1, K400=85.8
      ),
    ),
    '384': Row(
      published=_number(
        'Table 14', 85.1, 'IN1K', COIN=90.2, SSv2=76.5, K400=87.3
      ),
      start='none',
      train={'optimizer.decay': 'linear', 'optimizer.decay_fraction': 1.0},
      by_size={
        'small': {**_SHORT, 'model.encoder.image_size': 36},
        'full': {**_COOL_DOWN, 'model.encoder.image_size': 384},
      },
    ),
  },
)

_add(
  'clip_length',
  'Do longer clips help, in training and at evaluation?',
  'Figures 5 and 13',
  '16',
  {
    '16': Row(published=_said('-', 'Figures 5 and 13', 'figure')),
    '64 in the cool-down': Row(
      published=_said('+0.7', 'Figure 5', 'figure'),
      start='constant',
      train={'optimizer.decay': 'linear', 'optimizer.decay_fraction': 1.0},
      by_size={
        'small': {
          **_SHORT,
          'model.encoder.num_frames': 16,
          'data.batch_size': 16,
        },
        'full': {**_COOL_DOWN, 'model.encoder.num_frames': 64},
      },
    ),
    'constant': Row(train={'optimizer.decay': 'constant'}),
    '64 in training': Row(
      by_size={
        'small': {'model.encoder.num_frames': 16},
        'full': {'model.encoder.num_frames': 64},
      },
    ),
    '64 at evaluation': Row(
      probe_by_size={'small': {'num_frames': 16}, 'full': {'num_frames': 64}},
      published=_said('+9.7', 'Figure 13', 'figure'),
    ),
  },
)

_add(
  'probe_depth',
  'Does a deeper probe read more?',
  'Table 18 (mean of six tasks)',
  'L, 4',
  {
    'L, 4': Row(
      probe={'depth': 4}, published=_number('Table 18', 85.6, SSv2=73.6)
    ),
    'L, 1': Row(
      probe={'depth': 1}, published=_number('Table 18', 84.0, SSv2=72.0)
    ),
    'g, 4': Row(
      by_size=_LARGER,
      probe={'depth': 4},
      published=_number('Table 18', 87.0, SSv2=75.6),
    ),
    'g, 1': Row(
      by_size=_LARGER,
      probe={'depth': 1},
      published=_number('Table 18', 86.0, SSv2=74.8),
    ),
  },
)

_add(
  'probe_layers',
  'Do tokens of several layers say more than those of the last?',
  'Table 17 (ViT-g)',
  '1',
  {
    '1': Row(published=_number('Table 17', 82.9, 'Diving48', Jester=96.1)),
    '4': Row(
      probe_by_size={'small': {'layers': 3}, 'full': {'layers': 4}},
      published=_number('Table 17', 86.7, 'Diving48', Jester=97.6),
    ),
  },
  differs={
    'small': f'{_DIFFERS["small"]} 4 is all three layers that there are.',
    'full': _DIFFERS['full'],
  },
)

_add(
  'schedule',
  'Must momentum and weight decay rise?',
  'Section 2.4',
  'constant',
  {
    'constant': Row(
      by_size={
        'small': {
          'model.target.momentum': 0.99,
          'model.target.momentum_end': 0.99,
        }
      },
      published=_said('minimal impact', 'Section 2.4'),
    ),
    'rising': Row(
      train={
        'optimizer.weight_decay_schedule': 'cosine',
        'optimizer.final_weight_decay': 0.4,
      },
      by_size={
        'full': {
          'model.target.momentum': 0.999,
          'model.target.momentum_end': 1.0,
          'model.target.stretch': 1.25,
        }
      },
      published=_said('minimal impact', 'Section 2.4'),
    ),
  },
)

_add(
  'positions',
  'Are rotary positions better than added ones?',
  'Section 2.1',
  'rotary',
  {
    'rotary': Row(
      published=_said('stabilises the largest models', 'Section 2.1')
    ),
    'sines and cosines': Row(
      train={'model.encoder.positions.name': 'sincos'},
      published=_said('less stable', 'Section 2.1'),
    ),
  },
)

_add(
  'scale',
  'Do larger encoders and frames read better?',
  'README of the released code',
  'L',
  {
    'L': Row(
      published=_number('model card', 73.7, 'SSv2', Diving48=89.0, EK100=32.7)
    ),
    'g-384': Row(
      by_size={
        'small': {**vjepa.LARGER, 'model.encoder.image_size': 36},
        'full': {**_GIANT, 'model.encoder.image_size': 384},
      },
      published=_number('model card', 77.3, 'SSv2', Diving48=90.2, EK100=39.7),
    ),
  },
)

_ANTICIPATION = 'EK100 and a probe of what the predictor says are not built'

_add(
  'anticipation',
  'Does the predictor know what is done next?',
  'Table 20 (EK100, recall at 5)',
  'both',
  {
    name: Row(published=_number('Table 20', value), missing=_ANTICIPATION)
    for name, value in (('both', 39.7), ('encoder', 39.1), ('predictor', 20.2))
  },
  sizes={},
  differs={},
)

_add(
  'cosmos',
  'Does planning in latent space beat planning in a video model?',
  'Table 3 (laboratory 2; 16 s and 4 minutes an action)',
  'V-JEPA 2-AC, reach',
  {
    f'{who}, {task}': Row(published=_number('Table 3', value), missing=_ROBOT)
    for who, values in (
      ('V-JEPA 2-AC', (100, 60, 20, 80, 50)),
      ('Cosmos', (80, 0, 20, 0, 0)),
    )
    for task, value in zip(
      ('reach', 'grasp a cup', 'grasp a box', 'place a cup', 'place a box'),
      values,
    )
  },
  sizes={},
  differs={},
)

_add(
  'cameras',
  'Do videos of two cameras teach more than of one?',
  'Section 11.1',
  'left',
  {
    'left': Row(
      published=_said('-', 'Section 11.1'), missing='it takes the DROID videos'
    ),
    'left and right': Row(
      published=_said('degraded', 'Section 11.1'),
      missing='it takes the DROID videos',
    ),
  },
  sizes={},
  differs={},
)
