import dataclasses
import json
from typing import Any, ClassVar

import pytest

from jepa_wm import fields

ENCODERS: fields.Registry = fields.Registry('encoder')
TERMS: fields.Registry = fields.Registry('term')
MODELS: fields.Registry = fields.Registry('model')


@ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ViT:
  name: ClassVar[str] = 'vit'
  depth: int = 12
  patch_size: int = 14

  def __post_init__(self):
    fields.check(self, {})


@ENCODERS.register
@dataclasses.dataclass(frozen=True)
class ResNet:
  name: ClassVar[str] = 'resnet'
  blocks: tuple[int, ...] = (2, 2)

  def __post_init__(self):
    fields.check(self, {})


@TERMS.register
@dataclasses.dataclass(frozen=True)
class SIGReg:
  name: ClassVar[str] = 'sigreg'
  weight: float = 0.09


@TERMS.register
@dataclasses.dataclass(frozen=True)
class VCReg:
  name: ClassVar[str] = 'vcreg'
  variance: float = 18.0
  covariance: float = 12.0


@MODELS.register
@dataclasses.dataclass(frozen=True)
class Model:
  name: ClassVar[str] = 'lewm'
  width: int = 8
  encoder: Any = fields.one_of(ENCODERS, ViT(depth=3))
  terms: Any = fields.some_of(TERMS, (SIGReg(0.5),))
  teacher: Any = fields.one_of(ENCODERS, None)

  def __post_init__(self):
    fields.check(self)


@pytest.mark.parametrize(
  'model',
  [
    Model(),
    Model(width=2, encoder=ResNet((1, 2, 3)), terms=()),
    Model(terms=(VCReg(1.0), SIGReg(2.0))),
    Model(teacher=ResNet()),
  ],
)
def test_a_config_comes_back_out_of_json(model):
  config = fields.to_dict(model)
  assert config['name'] == 'lewm'
  again = fields.from_dict(MODELS, json.loads(json.dumps(config)))
  assert again == model


def test_what_is_left_out_has_its_default():
  def encoder(**config):
    return fields.from_dict(MODELS, {'name': 'lewm', 'encoder': config}).encoder

  # Named, it is built anew; without a name, it is the default but for these.
  assert encoder(name='vit', patch_size=7) == ViT(depth=12, patch_size=7)
  assert encoder(patch_size=7) == ViT(depth=3, patch_size=7)
  assert encoder(name='resnet') == ResNet()
  terms = {'vcreg': {'variance': 1.0}, 'sigreg': {}}
  config = {'name': 'lewm', 'terms': terms}
  found = fields.from_dict(MODELS, config).terms
  # One order, whatever the dict's.
  assert found == (SIGReg(0.5), VCReg(1.0, 12.0))


@pytest.mark.parametrize(
  'config, message',
  [
    ({}, "model's name must be one of lewm, got None"),
    ({'name': ['lewm']}, r"must be one of .*, got \['lewm'\]"),
    ({'name': 'lwem'}, "got 'lwem'. Did you mean 'lewm'"),
    ({'widht': 1}, "The model 'lewm' has no field 'widht'. Did .* 'width'"),
    ({'zzz': 1}, "no field 'zzz'. It has width, encoder,"),
    ({'encoder': {'name': 'vti'}}, "encoder.name .* Did you mean 'vit'"),
    ({'encoder': {'name': 'vit', 'dept': 1}}, "encoder has .* mean 'depth'"),
    ({'encoder': {'name': 'vit', 'depth': 0}}, 'depth must be a positive'),
    ({'encoder': {'depht': 1}}, "encoder has no field 'depht'"),
    ({'terms': {'sigerg': {}}}, "terms.name .* Did you mean 'sigreg'"),
    ({'terms': {'sigreg': {'wieght': 1.0}}}, 'terms.sigreg has no field'),
  ],
)
def test_what_is_wrong_is_named(config, message):
  if config and 'name' not in config:
    config = {'name': 'lewm', **config}
  with pytest.raises(ValueError, match=message):
    fields.from_dict(MODELS, config)


def test_names_are_taken_once():
  assert ENCODERS.names() == ('resnet', 'vit')
  assert ENCODERS.find('vit') is ViT
  with pytest.raises(ValueError, match="'vit' is that of another encoder"):
    ENCODERS.register(ViT)


@dataclasses.dataclass(frozen=True)
class Kinds:
  count: int = 1
  rest: int = 0
  share: float = 0.5
  sizes: tuple[int, ...] = (1,)
  shares: tuple[float, ...] = (0.5,)
  kind: str = 'a'
  is_odd: bool = False

  def __post_init__(self):
    fields.check(
      self, {'kind': ('a', 'b')}, may_be_zero=('rest',), shares=('share',)
    )


@pytest.mark.parametrize(
  'field, value, message',
  [
    ('count', 0, 'count must be a positive integer, got 0'),
    ('count', True, 'count must be a positive integer, got True'),
    ('rest', -1, 'rest must be an integer of at least 0'),
    ('share', float('nan'), 'share must be a finite number'),
    ('share', 1.5, 'share must be at most 1, got 1.5'),
    ('is_odd', 1, 'is_odd must be true or false, got 1'),
    ('sizes', [], 'sizes must list integers'),
    ('sizes', 'ab', 'sizes must list integers'),
    ('kind', 'c', "kind must be one of a, b, got 'c'"),
    ('sizes', [1.5], 'sizes must list integers'),
    ('shares', [0.5, -1], 'shares must list numbers'),
    ('shares', [float('inf')], 'shares must list numbers'),
    ('shares', (True,), 'shares must list numbers'),
  ],
)
def test_a_field_is_checked_by_the_kind_of_its_default(field, value, message):
  with pytest.raises(ValueError, match=message):
    Kinds(**{field: value})
  assert Kinds(sizes=[0, 2], share=1).sizes == (0, 2)
  assert repr(Kinds(shares=[7, 0.5]).shares) == '(7.0, 0.5)'


@dataclasses.dataclass(frozen=True)
class Counted:
  steps: object = 1
  seed: object = None


@pytest.mark.parametrize(
  ('steps', 'message'),
  [
    *(
      (x, 'steps must be a whole number')
      for x in (1.0, '1', True, float('nan'))
    ),
    (0, 'steps must be at least 1, got 0'),
    (10**20, r'steps must be at most 9223372036854775807'),
  ],
)
def test_counts(steps, message):
  fields.check_counts(Counted(), {'steps': 1, 'seed': 0})
  with pytest.raises(ValueError, match=message):
    fields.check_counts(Counted(steps), {'steps': 1, 'seed': 0})


@dataclasses.dataclass(frozen=True)
class Plain:
  path: str = ''
  rate: float = 1.0
  steps: int = 1
  is_on: bool = False
  most: int | None = None
  shape: tuple[int, ...] = ()


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'path': 5}, 'config.path must be str, got 5'),
    ({'rate': 'x'}, "config.rate must be float, got 'x'"),
    ({'steps': 1.5}, 'config.steps must be int, got 1.5'),
    ({'steps': True}, 'config.steps must be int, got True'),
    ({'is_on': 1}, 'config.is_on must be bool, got 1'),
    ({'most': 'x'}, "config.most must be NoneType or int, got 'x'"),
  ],
)
def test_types(given, message):
  plain = {'path': 'x', 'rate': 1, 'steps': 3, 'most': None, 'shape': [2]}
  fields.check_types('config', Plain, plain)
  with pytest.raises(ValueError, match=message):
    fields.check_types('config', Plain, given)
