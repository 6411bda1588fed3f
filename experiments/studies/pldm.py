"""PLDM's seven terms: as LeWM tunes them, and as EB-JEPA does.

LeWM's appendix has its weights (variance 18, covariance 12, time variance 0.7,
temporal similarity 0.2, none of the others), found among 256, and no ablation.
EB-JEPA, arXiv 2602.03604, takes its terms away one by one in Two Rooms.
"""

import dataclasses

from experiments.studies import lewm
from jepa_wm.recipes import study
from jepa_wm.recipes.study import Published, Row, Study

SMALL = dataclasses.replace(lewm.SMALL, config='pldm.py:two_room_plain')
FULL = dataclasses.replace(lewm.FULL, config='pldm.py:push_t')


def _weight(term: str, weight: float) -> Row:
  return Row(train={f'model.terms.{term}': weight})


study.STUDIES.register(
  Study(
    name='pldm/losses',
    question='Which of the seven terms does PLDM need?',
    source='LeWM v3, appendix: the weights of its PLDM; no ablation',
    reference='published',
    rows={
      'published': Row(published=lewm.table(5, 78.0, 5.0)),
      'no variance': _weight('vcreg.variance', 0.0),
      'no covariance': _weight('vcreg.covariance', 0.0),
      'no time variance': _weight('vcreg.time_variance', 0.0),
      'time covariance': _weight('vcreg.time_covariance', 1.0),
      'no temporal similarity': _weight('temporal_similarity.weight', 0.0),
      'inverse dynamics': _weight('inverse_dynamics.weight', 1.0),
    },
    sizes={'small': SMALL, 'full': FULL},
    metrics=lewm.METRICS,
    differs=lewm.DIFFERS,
  )
)

_EB_JEPA = {
  'model.terms.vcreg.variance': 16.0,
  'model.terms.vcreg.covariance': 8.0,
  'model.terms.vcreg.time_variance': 0.0,
  'model.terms.temporal_similarity.weight': 12.0,
  'model.terms.inverse_dynamics.weight': 1.0,
}


def _number(value: float, spread: float) -> Published:
  return Published(
    value=value,
    spread=spread,
    spread_kind='as printed, kind not said',
    source='EB-JEPA, README and paper',
  )


study.STUDIES.register(
  Study(
    name='pldm/eb_jepa',
    question="Which of EB-JEPA's terms does planning in Two Rooms need?",
    source='EB-JEPA, arXiv 2602.03604, ablation in Two Rooms',
    reference='all',
    rows={
      'all': Row(published=_number(97.0, 2.0)),
      **{
        f'no {name}': Row(
          train={f'model.terms.{term}': 0.0}, published=_number(*numbers)
        )
        for name, term, numbers in (
          ('variance', 'vcreg.variance', (47.0, 3.0)),
          ('covariance', 'vcreg.covariance', (46.0, 3.0)),
          ('time similarity', 'temporal_similarity.weight', (61.0, 2.0)),
          ('inverse dynamics', 'inverse_dynamics.weight', (1.0, 1.0)),
        )
      },
    },
    sizes={
      'small': dataclasses.replace(SMALL, train={**SMALL.train, **_EB_JEPA})
    },
    metrics=lewm.METRICS,
    differs={
      'small': 'Our Two Room with one wall and windows of four frames; the '
      'paper draws the wall anew, rolls out 8 steps, has an IMPALA encoder and '
      'a GRU, plans by MPPI at every step and plays 20 episodes to their end.'
    },
  )
)

_OTHERS = {
  'CRL': (89.3, 14.7),
  'GCBC': (86.0, 8.4),
  'GCIQL': (98.0, 99.6),
  'HILP': (100.0, 100.0),
  'HIQL': (96.4, 26.3),
}
_LATER = 'goal-conditioned baselines come with agents that learn'


def _transcribed(value: float, spread: float | None = None) -> Published:
  return Published(
    value=value,
    spread=spread,
    spread_kind='' if spread is None else 'as printed, kind not said',
    source='PLDM, arXiv 2502.14819, Two Rooms (transcribed)',
    hand='second',
  )


study.STUDIES.register(
  Study(
    name='pldm/two_rooms',
    question='Who plans in Two Rooms, and who without having seen a door?',
    source='PLDM, arXiv 2502.14819, Two Rooms',
    reference='PLDM',
    rows={
      'PLDM': Row(published=_transcribed(97.8, 0.7)),
      'PLDM, no doors seen': Row(
        published=_transcribed(34.4, 2.7),
        missing='experiments.collect has no policy that never goes through one',
      ),
      **{
        name: Row(published=_transcribed(good), missing=_LATER)
        for name, (good, _) in _OTHERS.items()
      },
      **{
        f'{name}, no doors seen': Row(
          published=_transcribed(bad), missing=_LATER
        )
        for name, (_, bad) in _OTHERS.items()
      },
      **{
        f'{share} %': Row(
          by_size={'small': {'data.num_episodes': 18 * share}},
          published=Published(
            says='a curve from 634 steps to 3 M',
            source='PLDM, arXiv 2502.14819',
            hand='figure',
          ),
        )
        for share in (1, 10)
      },
    },
    sizes={'small': SMALL},
    metrics=lewm.METRICS,
    differs={
      'small': "LeWM's networks and PLDM's terms of stable-worldmodel in 64 "
      'pixels, CEM; the paper has its own networks, MPPI at every step of 200, '
      'and walls and recordings of its own.'
    },
  )
)
