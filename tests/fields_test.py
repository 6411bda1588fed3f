import dataclasses
import json
from typing import Any

import pytest

from jepa_wm import fields

ENCODERS: fields.Registry[Any] = fields.Registry('encoder')
TERMS: fields.Registry[Any] = fields.Registry('term')
MODELS: fields.Registry[Any] = fields.Registry('model')


@ENCODERS.register('vit')
@dataclasses.dataclass(frozen=True)
class ViT:
  depth: int = 12
  patch_size: int = 14

  def __post_init__(self):
    fields.check(self, {})


@ENCODERS.register('resnet')
@dataclasses.dataclass(frozen=True)
class ResNet:
  blocks: tuple[int, ...] = (2, 2)

  def __post_init__(self):
    fields.check(self, {})


@TERMS.register('sigreg')
@dataclasses.dataclass(frozen=True)
class SIGReg:
  weight: float = 0.09


@dataclasses.dataclass(frozen=True)
class Momentum:
  start: float = 0.9
  end: float = 1.0


@MODELS.register('lewm')
@dataclasses.dataclass(frozen=True)
class Model:
  width: int = 8
  encoder: Any = fields.one_of(ENCODERS, ViT(depth=3))
  terms: Any = fields.one_of(TERMS, (SIGReg(),))
  momentum: Momentum = Momentum()
  teacher: Any = None


@pytest.mark.parametrize(
  'model',
  [
    Model(),
    Model(width=2, encoder=ResNet((1, 2, 3)), terms=()),
    Model(terms=(SIGReg(0.5), SIGReg(2.0)), momentum=Momentum(start=0.5)),
    Model(teacher=Model(encoder=ResNet())),
  ],
)
def test_a_config_comes_back_out_of_json(model):
  config = fields.to_dict(MODELS, model)
  assert config['name'] == 'lewm' and 'name' not in config['momentum']
  again = fields.from_dict(MODELS, json.loads(json.dumps(config)))
  assert again == model


def test_what_is_left_out_has_its_default():
  def encoder(**config):
    return fields.from_dict(MODELS, {'name': 'lewm', 'encoder': config}).encoder

  # Named, it is built anew; without a name, it is the default but for these.
  assert encoder(name='vit', patch_size=7) == ViT(depth=12, patch_size=7)
  assert encoder(patch_size=7) == ViT(depth=3, patch_size=7)
  assert encoder(name='resnet') == ResNet()
  config = {'name': 'lewm', 'momentum': {'end': 0.5}}
  assert fields.from_dict(MODELS, config).momentum == Momentum(0.9, 0.5)


@pytest.mark.parametrize(
  'config, message',
  [
    ({}, r"model's name must be one of \['lewm'\], got None"),
    ({'name': ['lewm']}, r"must be one of .*, got \['lewm'\]"),
    ({'name': 'lwem'}, "got 'lwem'. Did you mean 'lewm'"),
    ({'widht': 1}, "The model 'lewm' has no field 'widht'. Did .* 'width'"),
    ({'zzz': 1}, "no field 'zzz'. It has width, encoder,"),
    ({'encoder': {'name': 'vti'}}, "encoder's name .* Did you mean 'vit'"),
    ({'encoder': {'name': 'vit', 'dept': 1}}, "'vit' .* mean 'depth'"),
    ({'encoder': {'name': 'vit', 'depth': 0}}, 'depth must be a positive'),
    ({'encoder': {'depht': 1}}, "encoder has no field 'depht'"),
    ({'terms': [{'weight': 1.0}]}, "The term's name must .* got None"),
    ({'momentum': {'edn': 1.0}}, "momentum has no field 'edn'"),
  ],
)
def test_what_is_wrong_is_named(config, message):
  if config and 'name' not in config:
    config = {'name': 'lewm', **config}
  with pytest.raises(ValueError, match=message):
    fields.from_dict(MODELS, config)


def test_names_are_taken_once_and_known_to_their_registry():
  assert ENCODERS.names() == ['resnet', 'vit']
  assert ENCODERS.get('vit') is ViT and ENCODERS.name_of(ViT) == 'vit'
  with pytest.raises(ValueError, match="'vit' is that of another encoder"):
    ENCODERS.register('vit')
  with pytest.raises(ValueError, match='is no encoder with a name'):
    fields.to_dict(MODELS, Model(encoder=SIGReg()))


@dataclasses.dataclass(frozen=True)
class Kinds:
  count: int = 1
  rest: int = 0
  share: float = 0.5
  sizes: tuple[int, ...] = (1,)
  kind: str = 'a'

  def __post_init__(self):
    fields.check(self, {'kind': ('a', 'b')}, may_be_zero=('rest',))


@pytest.mark.parametrize(
  'field, value, message',
  [
    ('count', 0, 'count must be a positive integer, got 0'),
    ('count', True, 'count must be a positive integer, got True'),
    ('rest', -1, 'rest must be an integer of at least 0'),
    ('share', float('nan'), 'share must be a finite number'),
    ('sizes', [], 'sizes must list integers'),
    ('sizes', 'ab', 'sizes must list integers'),
    ('kind', 'c', r"kind must be one of \('a', 'b'\), got 'c'"),
  ],
)
def test_a_field_is_checked_by_the_kind_of_its_default(field, value, message):
  with pytest.raises(ValueError, match=message):
    Kinds(**{field: value})
  assert Kinds(sizes=[0, 2], share=1).sizes == (0, 2)
