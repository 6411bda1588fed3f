"""Every field of every kind, with values that it should not have."""

import dataclasses
import math

import pytest

from jepa_wm import fields, planning
from jepa_wm.data import augmentation
from jepa_wm.data import config as data_config
from jepa_wm.evaluation.planning import planner_settings
from jepa_wm.models import heads, model, targets
from jepa_wm.networks import (
  action_encoders,
  embeddings,
  encoders,
  masked_predictor,
  positions,
  predictors,
  projectors,
  tokens,
  video_vit,
)
from jepa_wm.objectives import mask_settings, terms
from jepa_wm.recipes import agents, online
from jepa_wm.training import hooks, memory, optimizers

REGISTRIES = [
  model.MODELS, heads.HEADS, encoders.ENCODERS, predictors.PREDICTORS,
  projectors.PROJECTORS, action_encoders.ACTION_ENCODERS,
  embeddings.EMBEDDINGS, tokens.TOKENS, positions.POSITIONS,
  video_vit.CLIP_ENCODERS, masked_predictor.MASKED_PREDICTORS, terms.TERMS,
  terms.PREDICTIONS, mask_settings.MASKS, targets.TARGETS,
  targets.MASKED_TARGETS,
]  # fmt: skip

SECTIONS = [
  data_config.DataConfig, hooks.Intervals, memory.Memory, agents.Imagining,
  online.Online, augmentation.Augmentation, optimizers.AdamW,
]  # fmt: skip

NAN = math.nan
BAD = {
  int: ['five', 1.5, NAN, True, None, -7, 10**30, [1], ''],
  float: ['x', NAN, math.inf, -math.inf, -1.0, None, 10**400, 1e39, [1.0]],
  bool: ['yes', 2, None, ''],
  str: ['no_such_thing', '', 5, None, ['a']],
  tuple: [
    *('x', 5, None, (-1,), (1.5,), (NAN,), ('a',), (10**30,), ((1,),)),
    {'a': 1},
  ],
}

# What a value means all the same, by the name of the field.
MEANINGS = {
  'zone': ['no_such_thing', ''],  # Of a world, which tells at once.
  'key': ['no_such_thing'],  # Of an array, which observations have or not.
  'path': ['no_such_thing', ''],  # Looked for when it is opened.
  'environment': ['no_such_thing', ''],
  'reach_by': ['no_such_thing', ''],
  'episodes': ['no_such_thing', ''],
  'num_episodes': [True],
  'first_policy': [''],
  'shift': [''],
  'value': [''],
}
# Of lists of numbers, which whole numbers and parts of one are.
_NUMBERS = [(1.5,)]


def cases():
  """Kind, how it is made of fields, field, value."""
  for registry in REGISTRIES:
    for name in registry.names():
      kind = registry.find(name)
      make = lambda given, registry=registry, name=name: fields.from_dict(
        registry, {'name': name, **given}
      )
      yield from _of(f'{registry.kind} {name}', kind, make)
  for kind in SECTIONS:
    more = {'num_steps': 10} if kind is optimizers.AdamW else {}
    yield from _of(
      kind.__name__, kind, lambda x, k=kind, m=more: _built(k, {**m, **x})
    )


def _built(kind, given):
  from jepa_wm.recipes import training_fields

  return training_fields.build(kind, 'config', given)


def _of(title, kind, make):
  for field in dataclasses.fields(kind):
    for value in BAD.get(type(field.default), ()):
      if not field.metadata:
        yield f'{title}.{field.name}={value!r:.40}', make, field, value


def fault(title, make, field, value):
  """What is wrong; '' of a sentence that names the field, or of a meaning."""
  try:
    make({field.name: value})
  except ValueError as error:
    said = str(error)
    is_one = field.name in said and '\n' not in said and len(said) < 900
    return '' if is_one else f'{title}: {said}'
  except Exception as error:
    return f'{title}: {error!r}'
  meant = MEANINGS.get(field.name, [])
  if isinstance(field.default, tuple) and isinstance(
    next(iter(field.default), 0.5), float
  ):
    meant = [*meant, *_NUMBERS]
  return '' if value in meant else f'{title} is taken'


def planner_cases():
  """Options of planners, which command lines give as literals."""
  for name, kind in planning.PLANNERS.items():
    for option, kinds in planner_settings._options(kind).items():
      for value in (NAN, math.inf, -math.inf, 1e39, 10**30, 'x', '', [1]):
        yield f'{name}.{option}={value!r:.40}', name, option, value
      if type(None) not in kinds:
        yield f'{name}.{option}=None', name, option, None


def check_option(title, name, option, value):
  """A sentence; no option means anything of these."""
  with pytest.raises(ValueError) as caught:
    made = planner_settings.make_planner(name, {option: value})
    planner_settings.PlannerSettings(planner=made).dry_run(3)
  assert '\n' not in str(caught.value), title


def test_a_tenth_of_all_fields():
  assert not [said for x in list(cases())[::10] if (said := fault(*x))]


@pytest.mark.stress
def test_every_field_of_every_kind():
  tried = list(cases())
  assert not [said for x in tried if (said := fault(*x))]
  assert len(tried) > 2000
  print(f'{len(tried)} fields')


@pytest.mark.stress
def test_every_option_of_every_planner():
  tried = list(planner_cases())
  for case in tried:
    check_option(*case)
  print(f'{len(tried)} options')
