"""Every config builds what it names; what ships was trained by its config."""

import dataclasses

import pytest

from experiments.configs import lewm, pldm
from jepa_wm import families, world_model
from jepa_wm.training import optimizers

SHIPPED = world_model.SHIPPED / 'two_room_small'


@pytest.mark.parametrize(
  'module, variant',
  [(module, name) for module in (lewm, pldm) for name in module.VARIANTS],
)
def test_every_variant_is_whole(module, variant):
  config = module.get_config(variant).to_dict()
  family = families.from_config(config['model'])
  optimizers.AdamW(num_steps=config['num_steps'], **config['optimizer'])
  # A window must hold what the loss predicts.
  assert config['data']['num_frames'] >= family.num_frames


def test_the_full_size_is_the_published_model():
  model = lewm.get_config('two_room').to_dict()['model']
  published = dataclasses.replace(families.LeWM(), dtype='bfloat16')
  assert families.from_config(model) == published


def test_the_full_size_of_pldm_is_the_published_one():
  model = pldm.get_config('two_room').to_dict()['model']
  published = dataclasses.replace(families.PLDM(), dtype='bfloat16')
  assert families.from_config(model) == published


def test_an_unknown_variant_names_those_there_are():
  with pytest.raises(
    ValueError, match=r"no variant 'two_rooms'.*two_room_small"
  ):
    lewm.get_config('two_rooms')
  with pytest.raises(ValueError, match=r"no variant 'two_rooms'.*two_room_gru"):
    pldm.get_config('two_rooms')


def test_what_ships_is_what_its_config_trains():
  config = lewm.get_config('two_room_small').to_dict()
  shipped = world_model.WorldModel.from_checkpoint('two_room_small')
  assert shipped.family == families.from_config(config['model'])
  trained = shipped.record['config']
  assert trained['num_steps'] == config['num_steps']
  assert trained['seed'] == config['seed']
  assert trained['data']['batch_size'] == config['data']['batch_size']
  assert optimizers.AdamW(**trained['optimizer']) == optimizers.AdamW(
    num_steps=config['num_steps'], **config['optimizer']
  )


def test_what_ships_is_small():
  assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 4_000_000
