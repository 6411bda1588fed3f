"""LeWorldModel, arXiv 2603.19312 version 3: what is read off its latents."""

import dataclasses

from experiments.studies import lewm
from jepa_wm.recipes.study import Published, Row

_NO_CUBE = 'at 64 pixels the cube is a few pixels; python -m experiments.plan '
_NO_CUBE += '--diagnostics=straightness,surprise measures any checkpoint of it'


def _figure(number: int, says: str) -> Published:
  return Published(
    says=says, source=f'LeWM v3, Figure {number}, read off it', hand='second'
  )


lewm.add(
  'straightness',
  'Do latents walk straight without being told to?',
  'Figure 17',
  'LeWM',
  {
    'LeWM': Row(published=_figure(17, 'Push-T about 0.6')),
    'PLDM': lewm.method('PLDM', published=_figure(17, 'Push-T about 0.4')),
    'LeWM, Cube': Row(published=_figure(17, 'Cube 0.69'), missing=_NO_CUBE),
  },
  metrics=('straightness/mean_cosine', 'straightness/std'),
)

_VOE = 'section 5.2'
lewm.add(
  'surprise',
  'Is a model surprised by what cannot be?',
  'section 5.2',
  'LeWM',
  {
    'LeWM': Row(
      published=lewm.said(
        'teleport: p < .01; colour: weaker', hand='text', where=_VOE
      )
    ),
    'PLDM': lewm.method(
      'PLDM',
      published=lewm.said(
        'teleport and colour: significant', hand='text', where=_VOE
      ),
    ),
    'DINO-WM': lewm.method(
      'DINO-WM',
      published=lewm.said(
        'teleport and colour: significant', hand='text', where=_VOE
      ),
    ),
    'LeWM, Cube': Row(
      published=lewm.said(
        'teleport: p < .01; colour: not significant', hand='text', where=_VOE
      ),
      missing=_NO_CUBE,
    ),
    'DINO-WM, Cube': Row(
      published=lewm.said('neither is significant', hand='text', where=_VOE),
      missing=_NO_CUBE,
    ),
  },
  sizes={
    name: dataclasses.replace(
      size,
      plan={**size.plan, 'diagnostics': ('surprise',)},
    )
    for name, size in (('small', lewm.SMALL), ('full', lewm.FULL))
  },
  metrics=(
    'surprise/auroc',
    'surprise/ratio',
    'surprise/p',
    'surprise/auroc_colour',
    'surprise/p_colour',
  ),
)


def _read(table: int, says: str) -> Published:
  return Published(says=says, source=f'LeWM v3, Table {table}')


_PROBED = {
  'two_room': {
    ('LeWM', 'linear'): 'location .008 / .996',
    ('LeWM', 'mlp'): 'location .000 / 1.0',
    ('PLDM', 'linear'): 'location .008 / .996',
    ('DINO-WM', 'linear'): 'location .488 / .824',
    ('DINO-WM', 'mlp'): 'location .000 / .999',
  },
  'push_t': {
    ('LeWM', 'linear'): (
      'agent .052 / .974, block .029 / .986, angle .187 / .902'
    ),
    ('LeWM', 'mlp'): 'agent .004 / .998, block .001 / .999, angle .021 / .990',
    ('PLDM', 'linear'): (
      'agent .090 / .955, block .122 / .938, angle .446 / .745'
    ),
    ('PLDM', 'mlp'): 'agent .014 / .993, block .011 / .994, angle .056 / .972',
    ('DINO-WM', 'linear'): (
      'agent 1.888 / .977, block .006 / .997, angle .050 / .979'
    ),
    ('DINO-WM', 'mlp'): (
      'agent .003 / .999, block .002 / .999, angle .009 / .995'
    ),
  },
}
_TABLES = {'two_room': 3, 'push_t': 1}
_NAMES = {
  'two_room': ('x', 'y'),
  'push_t': ('agent_x', 'agent_y', 'block_x', 'block_y'),
}
_CUBE = {
  'joint position': '.352 / .706',
  'joint velocity': '1.021 / .095',
  'end effector': '.018 / .991',
  'end effector yaw': '.980 / .124',
  'gripper': '.121 / .938',
  'block position': '.007 / .997',
  'block quaternion': '1.019 / .087',
  'block yaw': '.996 / .062',
  'overall': '.592 / .477',
}
_NO_STATE = (
  'a world on the host is probed from a folder of its episodes: '
  'experiments.probe --data=data/cube'
)
_PROBE = {'num_train': 2000, 'num_test': 1000}

for _world, _cells in _PROBED.items():
  lewm.add(
    f'probing_{_world}',
    f'What of {_world} can be read off a latent?',
    f'Table {_TABLES[_world]}, mean squared error of z-scored targets / r',
    'LeWM linear',
    {
      f'{method} {probe}': lewm.method(
        method,
        _world,
        probe={'probe': probe},
        published=_read(_TABLES[_world], says),
      )
      for (method, probe), says in _cells.items()
    }
    | {
      f'LeWM linear, {name} of Cube': Row(
        published=_read(4, says), missing=_NO_STATE
      )
      for name, says in (_CUBE.items() if _world == 'push_t' else ())
    },
    sizes={
      'small': dataclasses.replace(
        lewm.SMALL,
        data={**lewm.SMALL.data, 'environment': _world}
        if _world == 'two_room'
        else {'environment': _world, 'num_episodes': 2000},
        plan={},
        probe={**_PROBE, 'data': _world},
      ),
      'full': dataclasses.replace(
        lewm.FULL,
        config=f'lewm.py:{_world}',
        plan={},
        probe={**_PROBE, 'data': _world},
        needs=f'{_world} at 224 pixels (experiments.collect '
        f'--environment={_world} --image_size=224)',
      ),
    },
    measure='probe',
    metrics=tuple(
      f'{model}/state/{name}.{score}'
      for model in ('lewm', 'pldm', 'dino_wm')
      for name in _NAMES[_world]
      for score in ('r', 'r2')
    ),
    differs='The mean squared error of a z-scored target is 1 - r2.',
  )
