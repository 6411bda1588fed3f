"""V-JEPA, arXiv 2404.08471: frozen features read by a probe.

Tables 3 to 7 were read in the paper; Tables 1, 2 and 14 in transcriptions of
it; of Figure 8 no numbers are published. All rates are top-1 accuracies.
"""

import functools
from collections.abc import Mapping
from typing import Any

from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Size, Study

METRICS = (
  'vjepa/state/x.r2',
  'random encoder/label/accuracy',
  'collapse/latent_std_mean',
  'collapse/effective_rank',
  'held_out/prediction_loss',
)
# One pair of rate and decay, fewer clips and steps: a minute.
PROBE = {
  'data': 'digits',
  'num_train': 1000,
  'num_validation': 200,
  'num_test': 1000,
  'num_steps': 400,
  'learning_rates': (2e-3,),
  'weight_decays': (0.01,),
}
SMALL = Size(
  config='vjepa.py:digits_small',
  train={'num_steps': 1000, 'eval_every': 500},
  probe=PROBE,
  minutes=4.0,
)
# As many frames of tokens as the paper's, of which 6 of 16 can be told from 12.
LONG = Size(
  config='vjepa.py:digits_small',
  train={
    'num_steps': 500,
    'eval_every': 250,
    'model.encoder.num_frames': 16,
    'data.batch_size': 16,
  },
  probe=PROBE,
  minutes=4.0,
)
_CLIPS = (
  'clips in a folder, and for the probe kinetics400 with its labels as a '
  'dataset of TFDS under TFDS_DATA_DIR'
)
FULL_PROBE = {'data': 'tfds:kinetics400', 'width': 0, 'num_heads': 16}
FULL = Size(
  config='vjepa.py:vjepa1',
  probe=FULL_PROBE,
  minutes=30_000.0,
  device='accelerator',
  needs=_CLIPS,
)
DIGITS = (
  'Moving digits at 24 pixels, 0.46 M parameters, 32,000 clips, and the digit '
  'is read'
)
DIFFERS = {
  'small': f'{DIGITS}; the paper has natural video at 224 pixels and 90,000 '
  'batches of 3072.',
  'full': 'One folder of clips, a probe of 2,000 of them, and one clip at '
  'evaluation where nothing else is said.',
}
HUGE: dict[str, Any] = {'model.encoder.size': 'huge'}
LARGER: dict[str, Any] = {
  'model.encoder.width': 128,
  'model.encoder.depth': 4,
  'model.encoder.mlp_dim': 512,
}


def add(
  name: str,
  question: str,
  source: str,
  reference: str,
  rows: Mapping[str, Row],
  *,
  paper: str = 'V-JEPA',
  **given: Any,
) -> Study:
  """Registers a study of frozen features.

  Args:
    name: of paper and subject.
    question: that the rows answer.
    source: table.
    reference: row that the others are compared with.
    rows: by name.
    paper: in words.
    **given: fields of `Study` in place of V-JEPA's.
  """
  of_vjepa: dict[str, Any] = {
    'sizes': {'small': SMALL, 'full': FULL},
    'differs': DIFFERS,
    'metrics': METRICS,
  }
  made = Study(
    name=name,
    question=question,
    source=f'{paper}, {source}',
    reference=reference,
    rows=rows,
    measure='probe',
    **{**of_vjepa, **given},
  )
  return study.STUDIES.register(made)


def number(
  table: str, hand: str, value: float, *others: float, **also: float
) -> Published:
  """Kinetics-400 first, then Something-Something v2 and ImageNet-1K."""
  tasks = dict(zip(('SSv2', 'IN1K'), others))
  return Published(
    value=value,
    of='K400',
    also={**tasks, **also},
    source=f'V-JEPA, {table}',
    hand=hand,
  )


_masking = functools.partial(number, 'Table 4', 'first')

add(
  'vjepa/masking',
  'Which masks teach most?',
  'Table 4 (ViT-L/16, K710 and SSv2)',
  'multi-block',
  {
    'multi-block': Row(published=_masking(72.9, 67.4, 72.8)),
    'causal[12]': Row(
      train={'model.masks.context_temporal_percent': 75.0},
      published=_masking(71.9, 63.6, 72.2),
    ),
    'causal[6]': Row(
      train={'model.masks.context_temporal_percent': 37.5},
      published=_masking(61.3, 49.8, 66.9),
    ),
    'random-tube[0.9]': Row(
      train={'model.masks.name': 'random_tube'},
      published=_masking(51.5, 46.4, 55.6),
    ),
  },
  sizes={'small': LONG, 'full': FULL},
  differs={
    'small': f'{DIGITS.replace("32,000", "8,000")} in clips of 16 frames; '
    'multi-block is one kind of mask, of two blocks of 25 %.',
    'full': DIFFERS['full'],
  },
)


def _said(says: str) -> Published:
  return Published(says=says, source='V-JEPA, Figure 8', hand='figure')


add(
  'vjepa/num_masks',
  'Do two kinds of mask on each clip teach more than one?',
  'Figure 8 (ViT-B/16, K400)',
  'two',
  {
    'two': Row(
      by_size={
        'small': {
          'model.masks.blocks': (2, 2),
          'model.masks.percent': (25.0, 25.0),
        }
      },
      published=_said('better'),
    ),
    'one': Row(
      by_size={
        'full': {'model.masks.blocks': (8,), 'model.masks.percent': (15.0,)}
      },
      published=_said('worse'),
    ),
  },
)

add(
  'vjepa/block_size',
  'Are many small blocks better than one large one, as much being hidden?',
  'Figure 8 (ViT-B/16, K400)',
  'several',
  {
    'several': Row(published=_said('better')),
    'one': Row(
      by_size={
        'small': {'model.masks.blocks': (1,), 'model.masks.percent': (44.0,)},
        'full': {
          'model.masks.blocks': (1, 1),
          'model.masks.percent': (73.0, 91.0),
        },
      },
      published=_said('worse'),
    ),
  },
)

add(
  'vjepa/coverage',
  'How much of a clip should a block cover?',
  'Figure 8 (ViT-B/16, K400)',
  'published',
  {
    'published': Row(published=_said('better')),
    'less of the frame': Row(
      by_size={
        'small': {'model.masks.percent': (12.0,)},
        'full': {'model.masks.percent': (5.0, 25.0)},
      },
      published=_said('worse'),
    ),
    'half of the clip': Row(
      train={'model.masks.temporal_percent': 50.0}, published=_said('worse')
    ),
  },
)

_target = functools.partial(number, 'Table 1', 'second')

add(
  'vjepa/target',
  'Should features be predicted, or pixels?',
  'Table 1 (ViT-L/16, VideoMix2M)',
  'features',
  {
    'features': Row(
      published=_target(73.7, 66.2, 74.8, **{'K400 fine-tuned': 85.6})
    ),
    'pixels': Row(
      train={
        'model.target.name': 'pixels',
        'model.inference_encoder': 'encoder',
        'model.terms.hidden_tokens.distance': 'squared',
      },
      published=_target(68.6, 66.0, 73.3, **{'K400 fine-tuned': 85.4}),
    ),
  },
)

_pooling = functools.partial(number, 'Table 3', 'first')

add(
  'vjepa/pooling',
  'How should frozen tokens be read?',
  'Table 3 (ViT-L/16)',
  'attentive',
  {
    'attentive': Row(published=_pooling(73.7, 66.2)),
    'average': Row(probe={'probe': 'linear'}, published=_pooling(56.7, 50.1)),
  },
)

add(
  'vjepa/probe_depth',
  'Does a deeper probe read more?',
  'Section 5.2 (ViT-H/16 at 384 pixels)',
  '1',
  {
    str(depth): Row(
      probe={} if depth == 1 else {'depth': depth},
      published=Published(
        value=value, of='IN1K', source='V-JEPA, Section 5.2', hand='text'
      ),
    )
    for depth, value in ((1, 77.4), (2, 77.9))
  },
)

add(
  'vjepa/unpublished',
  'What do distance, target and predictor matter, of which no number is told?',
  'no table',
  'as it is',
  {
    'as it is': Row(),
    'L1 for L2, or L2 for L1': Row(
      by_size={
        size: {'model.terms.hidden_tokens.distance': distance}
        for size, distance in (('small', 'l1'), ('full', 'squared'))
      }
    ),
    'target not normalised': Row(train={'model.target_norm': 'none'}),
    'constant momentum': Row(
      by_size={
        size: {'model.target.momentum_end': momentum}
        for size, momentum in (('small', 0.98), ('full', 0.998))
      }
    ),
    'predictor of half the width': Row(
      by_size={
        'small': {'model.predictor.width': 32, 'model.predictor.mlp_dim': 128},
        'full': {'model.predictor.width': 192, 'model.predictor.mlp_dim': 768},
      }
    ),
  },
)
