"""LeWorldModel, arXiv 2603.19312 version 3 (numbers read in its tables).

Its +- is called "variance" and is a standard deviation over 3 seeds of 50
trajectories each. Numbers of its bar charts and curves are not published; such
rows say in words what the text says of them.
"""

from collections.abc import Mapping
from typing import Any

from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Size, Study

_SEEDS: dict[str, Any] = {'n': '3 seeds x 50', 'spread_kind': 'population s.d.'}

# A tenth of the windows of the config: two core-minutes a row and seed.
SMALL = Size(
  config='lewm.py:two_room_plain',
  train={'num_steps': 600, 'data.batch_size': 64, 'eval_every': 150},
  data={
    'environment': 'two_room',
    'num_episodes': 2000,
    'policy': 'mixture',
  },
  plan={
    'num_pairs': 200,
    'options': {'num_samples': 100, 'num_elites': 10, 'num_iterations': 10},
    'diagnostics': ('straightness', 'surprise'),
  },
  minutes=3.0,
)
FULL = Size(
  config='lewm.py:two_room',
  plan={'num_pairs': 200, 'diagnostics': ('straightness', 'surprise')},
  minutes=180.0,
  device='accelerator',
  needs='Push-T at 224 pixels (experiments.collect --environment=push_t '
  '--image_size=224 --num_episodes=20000)',
)
METRICS = (
  'probe/probe_r2',
  'collapse/latent_std_mean',
  'collapse/effective_rank',
  'held_out/prediction_error',
  'straightness/mean_cosine',
  'surprise/auroc',
)
_DIFFERS = {
  'small': 'Two Room at 64 pixels, 1.0 M parameters and 38,400 windows, and '
  'held-out pairs without those solved at the start; the paper has Push-T at '
  '224 pixels, 15 M parameters, 10 epochs of 20,000 episodes and pairs of its '
  'training data.',
  'full': 'Held-out pairs without those solved at the start, where the paper '
  'takes pairs of its training data.',
}


def _study(
  name: str,
  question: str,
  source: str,
  reference: str,
  rows: Mapping[str, Row],
  **given: Any,
) -> Study:
  made = Study(
    name=f'lewm/{name}',
    question=question,
    source=f'LeWM v3, {source}',
    reference=reference,
    rows=rows,
    sizes={'small': SMALL, 'full': FULL},
    metrics=METRICS,
    differs=_DIFFERS,
    **given,
  )
  return study.STUDIES.register(made)


def _table(number: int, value: float, spread: float) -> Published:
  return Published(
    value=value, spread=spread, source=f'LeWM v3, Table {number}', **_SEEDS
  )


def _figure(says: str, *, hand: str = 'figure') -> Published:
  return Published(says=says, source='LeWM v3, ablation figures', hand=hand)


_study(
  'dropout',
  'Does dropout in the predictor help planning?',
  'Table 9',
  '0.1',
  {
    '0.1': Row(published=_table(9, 96.0, 2.83)),
    '0': Row(
      train={'model.predictor.dropout': 0.0}, published=_table(9, 78.0, 6.54)
    ),
    '0.2': Row(
      train={'model.predictor.dropout': 0.2}, published=_table(9, 85.33, 5.74)
    ),
    '0.5': Row(
      train={'model.predictor.dropout': 0.5}, published=_table(9, 66.67, 4.11)
    ),
  },
)

_study(
  'lambda',
  'How much does the weight of SIGReg matter?',
  'figure and text',
  '0.09',
  {
    '0.09': Row(published=_figure('peak', hand='text')),
    **{
      str(weight): Row(
        train={'model.terms.sigreg.weight': weight}, published=_figure(says)
      )
      for weight, says in (
        (0.01, '> 80'),
        (0.02, '> 80'),
        (0.05, '> 80'),
        (0.2, '> 80'),
        (0.5, 'falls sharply'),
      )
    },
    '0': Row(
      train={'model.terms.sigreg.weight': 0.0},
      published=_figure('collapse', hand='text'),
    ),
  },
)

_study(
  'dim',
  'How large must a latent be?',
  'figure and text',
  '192',
  {
    '192': Row(published=_figure('saturated', hand='text')),
    **{
      str(dim): Row(
        train={'model.latent_dim': dim}, published=_figure(says, hand='text')
      )
      for dim, says in (
        (8, 'falls below 184'),
        (32, 'falls below 184'),
        (96, 'falls below 184'),
        (384, 'saturated'),
      )
    },
  },
)

_study(
  'encoder',
  'Does a convolutional encoder do as well?',
  'Table 7',
  'ViT',
  {
    'ViT': Row(
      by_size={
        'small': {
          'model.encoder.name': 'vit',
          'model.encoder.size': 'tiny',
          'model.encoder.patch_size': 8,
        }
      },
      published=_table(7, 96.0, 2.83),
    ),
    'ResNet-18': Row(
      train={'model.encoder.name': 'resnet18'},
      by_size={'small': {'model.encoder.image_size': 64}},
      published=_table(7, 94.0, 3.27),
    ),
  },
)

_study(
  'predictor',
  'How large must the predictor be?',
  'Table 5',
  'small',
  {
    'small': Row(published=_table(5, 96.0, 2.83)),
    'tiny': Row(
      train={
        'model.predictor.width': 96,
        'model.predictor.num_heads': 3,
        'model.predictor.mlp_dim': 192,
        'model.predictor.depth': 1,
      },
      published=_table(5, 80.67, 6.54),
    ),
    'base': Row(
      train={
        'model.predictor.width': 192,
        'model.predictor.num_heads': 6,
        'model.predictor.mlp_dim': 384,
        'model.predictor.depth': 4,
      },
      published=_table(5, 86.7, 3.06),
    ),
  },
)

_study(
  'planner',
  'Which planner suits the model?',
  'Table 10',
  'CEM',
  {
    'CEM': Row(published=_table(10, 96.0, 2.83)),
    'Adam': Row(
      plan={'planner': 'gradient', 'options': {}},
      published=_table(10, 84.0, 7.12),
    ),
    'SGD': Row(
      plan={
        'planner': 'gradient',
        'options': {'optimizer': 'sgd', 'momentum': 0.9},
      },
      published=_table(10, 26.0, 4.32),
    ),
    'RMSProp': Row(
      plan={
        'planner': 'gradient',
        'options': {'optimizer': 'rmsprop', 'decay': 0.99},
      },
      published=_table(10, 67.33, 2.49),
    ),
  },
)
