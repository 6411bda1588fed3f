"""Configs of models with a frozen encoder are whole, and ask for it."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.configs import dino_wm, lewm, vjepa2_ac
from jepa_wm import exports, fields, models
from jepa_wm.models import dino_wm as models_dino_wm
from jepa_wm.models import lewm as models_lewm
from jepa_wm.models import vjepa2_ac as models_vjepa2_ac
from jepa_wm.networks import tokens, video_vit
from jepa_wm.recipes import frozen_encoders, training
from jepa_wm.training import optimizers


@pytest.mark.parametrize('module', [dino_wm, vjepa2_ac])
def test_every_variant_is_whole(module):
  for variant in module.VARIANTS:
    config = module.get_config(variant).to_dict()
    model = models.from_config(config['model'])
    optimizers.AdamW(num_steps=config['num_steps'], **config['optimizer'])
    assert config['data']['num_frames'] >= model.num_frames
    assert config['frozen_encoder'] in ('', 'two_room_small')
  with pytest.raises(
    ValueError, match=r"variant must be .*two_room_small.*got 'large'"
  ):
    module.get_config('large')


def test_the_full_sizes_are_the_published_models():
  config = dino_wm.get_config('two_room').to_dict()['model']
  published = dataclasses.replace(models_dino_wm.DinoWM(), dtype='bfloat16')
  assert models.from_config(config).config == published
  config = vjepa2_ac.get_config('published').to_dict()['model']
  published = models_vjepa2_ac.VJEPA2AC(
    dtype='bfloat16',
    encoder=tokens.TokensConfig(
      encoder=video_vit.VideoViTConfig(
        size='giant', width=1408, depth=40, num_heads=22, mlp_dim=6144
      ),
      norm='token',
      proprio_dim=7,
    ),
  )
  assert models.from_config(config).config == published
  # V-JEPA 2-AC: 256 tokens a frame, of the width of ViT-g.
  assert published.encoder.grid == (16, 16)
  assert published.encoder.token_features == 1408


def test_the_published_schedule_rises_stays_and_falls():
  config = vjepa2_ac.get_config('published').to_dict()
  optimizer = optimizers.AdamW(
    num_steps=config['num_steps'], **config['optimizer']
  )
  # Updates are numbered from 1.
  for number, rate in (
    (2250, 2.5e-4),
    (4500, 4.25e-4),
    (90_000, 4.25e-4),
    (92_250, 2.125e-4),
    (94_500, 0.0),
  ):
    found = optimizer.schedule(number - 1)
    assert found == pytest.approx(rate, rel=1e-6, abs=1e-12)


def test_the_shipped_encoder_is_read():
  model = models.from_config(
    dino_wm.get_config('two_room_tiny').to_dict()['model']
  )
  assert model.config.encoder.encoder.name == 'conv'
  frozen = frozen_encoders.adopt(model, 'two_room_small')
  inner = frozen['params']['encoder']['encoder']
  assert inner['stage_0_conv']['kernel'].shape == (8, 8, 3, 64)
  drawn = frozen_encoders.adopt(model, 'random')
  shapes = [jax.tree.map(np.shape, x) for x in (drawn, frozen)]
  assert shapes[0] == shapes[1]


def test_a_frozen_encoder_must_be_given_where_there_is_one():
  config = dino_wm.get_config('two_room_tiny').to_dict()
  with pytest.raises(ValueError, match='frozen_encoder must be set'):
    training.read_config({**config, 'frozen_encoder': ''})
  with pytest.raises(ValueError, match='trains its own encoder'):
    frozen_encoders.adopt(
      models.from_config({'name': 'ijepa'}), 'two_room_small'
    )


def test_latents_of_another_run_are_taken_with_what_encodes_them():
  config = fields.to_dict(models_lewm.LeWM())
  config['predictor']['depth'] = 3
  frozen_config = frozen_encoders.freeze(config, 'two_room_small')
  model = models.from_config(frozen_config)
  shipped = exports.WorldModel.from_checkpoint('two_room_small').model.config
  assert model.config.predictor.depth == 3
  for name in ('encoder', 'projector', 'latent_dim'):
    assert getattr(model.config, name) == getattr(shipped, name)
  frozen = frozen_encoders.adopt(model, 'two_room_small')
  assert set(frozen['params']) == {'encoder', 'projector'}
  # What differs is refused by its name, and not trained with in silence.
  for changes, message in (
    ({'latent_dim': 5}, 'has latent_dim=8, and config.model says latent_dim=5'),
    ({'encoder': {**frozen_config['encoder'], 'features': 9}}, 'features=128'),
    ({'encoder': {'name': 'resnet18'}}, 'encoder.blocks='),
  ):
    other = models.from_config({**frozen_config, **changes})
    with pytest.raises(ValueError, match=message):
      frozen_encoders.adopt(other, 'two_room_small')


@pytest.mark.parametrize('module', [lewm, dino_wm])
def test_a_command_brings_the_encoder_of_a_run(module, monkeypatch):
  arguments = ['train', '--config.frozen_encoder=two_room_small']
  monkeypatch.setattr('sys.argv', arguments)
  variant = 'two_room_plain' if module is lewm else 'two_room'
  model = models.from_config(module.get_config(variant).to_dict()['model'])
  assert model.is_frozen and frozen_encoders.adopt(model, 'two_room_small')
