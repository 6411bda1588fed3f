"""Every config builds what it names; what ships was trained by its config."""

import dataclasses
import pathlib

import ml_collections
import pytest
from absl import flags
from ml_collections import config_flags

from experiments.configs import (
  dino_wm,
  heads,
  ijepa,
  lewm,
  memory,
  multi_agent,
  pldm,
  vjepa,
  vjepa2_ac,
)
from jepa_wm import exports, models
from jepa_wm.data import augmentation
from jepa_wm.data import config as data_config
from jepa_wm.models import heads as models_heads
from jepa_wm.models import lewm as models_lewm
from jepa_wm.models import pldm as models_pldm
from jepa_wm.training import memory as memory_lib
from jepa_wm.training import optimizers

SHIPPED = exports.SHIPPED / 'two_room_small'


@pytest.mark.parametrize(
  'module, variant',
  [
    (module, name)
    for module in (lewm, pldm, multi_agent)
    for name in module.VARIANTS
  ],
)
def test_every_variant_is_whole(module, variant):
  config = module.get_config(variant).to_dict()
  model = models.from_config(config['model'])
  optimizers.AdamW(num_steps=config['num_steps'], **config['optimizer'])
  # A window must hold what the loss predicts.
  assert config['data']['num_frames'] >= model.num_frames


def _leaves(config, prefix='config'):
  """Dotted names and values of all that can be a flag."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _leaves(value, f'{prefix}.{name}')
    else:
      yield f'{prefix}.{name}', value


@pytest.mark.parametrize(
  'module',
  [dino_wm, heads, ijepa, lewm, memory, pldm, vjepa, vjepa2_ac],
  ids=lambda module: pathlib.Path(module.__file__).stem,
)
@pytest.mark.filterwarnings('ignore:the load_module')
def test_every_documented_field_is_a_flag_of_every_variant(module, monkeypatch):
  run = 'num_steps seed log_every eval_every checkpoint_every '
  run += 'checkpoint_seconds keep_checkpoints frozen_encoder'
  for variant in module.VARIANTS:
    config = module.get_config(variant)
    values = dict(_leaves(config))
    documented = {f'config.{name}' for name in run.split()}
    sections = {'data': data_config.DataConfig, 'optimizer': optimizers.AdamW}
    if module is heads:
      sections['head'] = models_heads.HEADS.find(config.head.name)
    else:
      documented.add('config.evals')
      documented |= {
        f'config.{field.name}'
        for field in dataclasses.fields(memory_lib.Memory)
      }
      sections['augmentation'] = augmentation.Augmentation
      sections['model'] = models.MODELS.find(config.model.name)
    for where, kind in sections.items():
      documented |= {
        f'config.{where}.{field.name}'
        for field in dataclasses.fields(kind)
        # The run says it.
        if (where, field.name) != ('optimizer', 'num_steps')
      }
    # What holds settings of its own is a flag for each of them.
    held = {x.rpartition('.')[0] for x in values}
    held |= {x.rpartition('.')[0] for x in held}
    assert documented <= values.keys() | held, variant
    own = flags.FlagValues()
    config_flags.DEFINE_config_file('config', flag_values=own)
    argv = ['train', f'--config={module.__file__}:{variant}']
    argv += [f'--{name}={value}' for name, value in values.items()]
    # ml_collections looks there for the overrides of a config.
    monkeypatch.setattr('sys.argv', argv)
    own(argv)
    assert own.config.to_dict() == config.to_dict(), variant


def test_the_full_size_is_the_published_model():
  model = lewm.get_config('two_room').to_dict()['model']
  published = dataclasses.replace(models_lewm.LeWM(), dtype='bfloat16')
  assert models.from_config(model).config == published


def test_the_full_size_of_pldm_is_the_published_one():
  model = pldm.get_config('two_room').to_dict()['model']
  published = dataclasses.replace(models_pldm.PLDM(), dtype='bfloat16')
  assert models.from_config(model).config == published


def test_an_unknown_variant_names_those_there_are():
  with pytest.raises(
    ValueError, match=r"variant must .*two_room_small.*mean 'two_room'"
  ):
    lewm.get_config('two_rooms')
  with pytest.raises(
    ValueError, match=r"variant must .*two_room_gru.*mean 'two_room'"
  ):
    pldm.get_config('two_rooms')


def test_what_ships_is_what_its_config_trains():
  config = lewm.get_config('two_room_small').to_dict()
  shipped = exports.WorldModel.from_checkpoint('two_room_small')
  assert shipped.model == models.from_config(config['model'])
  trained = shipped.record['config']
  assert trained['num_steps'] == config['num_steps']
  assert trained['seed'] == config['seed']
  assert trained['data']['batch_size'] == config['data']['batch_size']
  assert optimizers.AdamW(**trained['optimizer']) == optimizers.AdamW(
    num_steps=config['num_steps'], **config['optimizer']
  )


def test_what_ships_is_small():
  assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 4_000_000


def _chosen(monkeypatch, *arguments):
  monkeypatch.setattr('sys.argv', ['train', *arguments])
  config = lewm.get_config('two_room_small').model.to_dict()
  monkeypatch.setattr('sys.argv', ['train'])
  return config, lewm.get_config('two_room_small').model.to_dict()


def test_a_kind_asked_for_brings_its_fields_and_keeps_what_both_have(
  monkeypatch,
):
  config, plain = _chosen(
    monkeypatch,
    '--config.model.encoder.name=vit',
    *('--config.model.predictor.name', 'recurrent'),
    '--config.model.terms.vcreg.variance=3',
  )
  assert config['encoder'] == {
    'name': 'vit',
    'size': 'tiny',
    'patch_size': 14,
    'image_size': 64,
    'pixel_norm': 'imagenet',
  }
  assert config['predictor'] == {
    'name': 'recurrent',
    'history': 1,
    'memory_dim': 0,
  }
  assert set(config['terms']) == {*plain['terms'], 'vcreg'}
  assert config['terms']['prediction'] == plain['terms']['prediction']
  assert config['projector'] == plain['projector']


def test_a_kind_within_a_kind_can_be_asked_for(monkeypatch):
  config, plain = _chosen(
    monkeypatch,
    '--config.model.encoder.name=fused',
    '--config.model.encoder.pixels.name=keypoints',
  )
  assert config['encoder']['pixels']['name'] == 'keypoints'
  assert config['encoder']['proprio']['name'] == 'state'
  assert plain['encoder']['name'] == 'conv'
  with pytest.raises(ValueError, match=r"encoder.name must be .*mean 'vit'"):
    _chosen(monkeypatch, '--config.model.encoder.name=vti')


def test_another_head_brings_its_fields(monkeypatch):
  monkeypatch.setattr('sys.argv', ['train', '--config.head.name=decoder'])
  config = heads.get_config('probe')
  assert set(config.head) == {'name', 'channels', 'patch_size'}
  assert config.num_steps == 1000
  monkeypatch.setattr('sys.argv', ['train', '--config.head.name=decodr'])
  with pytest.raises(ValueError, match="Did you mean 'decoder'"):
    heads.get_config('probe')
