"""A study of seconds, beside those of the papers; `--import` knows it too."""

from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Size, Study


def _number(value: float) -> Published:
  return Published(value=value, source='nowhere')


TINY = study.STUDIES.register(
  Study(
    name='tiny/dropout',
    question='Does it run?',
    source='nowhere',
    reference='0',
    rows={
      '0': Row(published=_number(90.0)),
      '0.5': Row(
        train={'model.predictor.dropout': 0.5}, published=_number(50.0)
      ),
      'icem': Row(
        plan={
          'planner': 'icem',
          'options': {'num_samples': 8, 'num_elites': 2, 'num_kept': 1},
        },
        published=_number(10.0),
      ),
      'later': Row(published=_number(1.0), missing='it is not built.'),
      'wild': Row(train={'optimizer.learning_rate': 1e30}),
    },
    sizes={
      'small': Size(
        config='lewm.py:two_room_tiny',
        train={'num_steps': 4, 'eval_every': 2, 'log_every': 2},
        data={'num_episodes': 24, 'episode_length': 30},
        plan={
          'num_pairs': 3,
          'options': {'num_samples': 8, 'num_elites': 2, 'num_iterations': 2},
        },
        minutes=0.1,
      ),
      'full': Size(
        config='lewm.py:two_room', minutes=60, needs='episodes at 224 pixels'
      ),
    },
    metrics=('probe/probe_r2', 'collapse/latent_std_mean'),
    differs={'small': 'Everything.'},
  )
)
