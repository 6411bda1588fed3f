"""Configs of families with a frozen encoder are whole, and ask for it."""

import jax
import numpy as np
import pytest

from experiments import train
from experiments.configs import dino_wm, vjepa2_ac
from jepa_wm import families, world_model
from jepa_wm.training import optimizers


@pytest.mark.parametrize('module', [dino_wm, vjepa2_ac])
def test_every_variant_is_whole(module):
  for variant in module.VARIANTS:
    config = module.get_config(variant).to_dict()
    family = families.from_config(config['model'])
    optimizers.AdamW(num_steps=config['num_steps'], **config['optimizer'])
    assert config['data']['num_frames'] >= family.num_frames
    assert config['frozen_encoder'] in ('', 'two_room_small')
  with pytest.raises(ValueError, match=r"no variant 'large'.*two_room_small"):
    module.get_config('large')


def test_the_full_sizes_are_the_published_models():
  for module, variant, family in (
    (dino_wm, 'two_room', families.DinoWM(dtype='bfloat16')),
    (
      vjepa2_ac,
      'published',
      families.VJEPA2AC(
        dtype='bfloat16',
        encoder=families.VJEPA(
          encoder_dim=1408,
          encoder_depth=40,
          encoder_heads=22,
          encoder_mlp_dim=6144,
          dtype='bfloat16',
        ),
      ),
    ),
  ):
    config = module.get_config(variant).to_dict()
    assert families.from_config(config['model']) == family
  # V-JEPA 2-AC: 256 tokens a frame, of the width of ViT-g.
  assert family.grid == (16, 16)
  assert family.encoder_grid == (16, 16, 1408)


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
  config = dino_wm.get_config('two_room_tiny').to_dict()
  family, frozen = train._family(config['model'], 'two_room_small')
  assert family.encoder.name == 'lewm'
  assert frozen['params']['stage_0_conv']['kernel'].shape == (8, 8, 3, 64)
  _, drawn = train._family(config['model'], 'random')
  shapes = [jax.tree.map(np.shape, x) for x in (drawn, frozen)]
  assert shapes[0] == shapes[1]


def test_a_frozen_encoder_must_be_given_where_there_is_one():
  config = dino_wm.get_config('two_room_tiny').to_dict()
  with pytest.raises(ValueError, match='frozen_encoder must be set'):
    train._family(config['model'], '')
  with pytest.raises(ValueError, match='trains its own encoder'):
    train._family({'name': 'ijepa'}, 'two_room_small')


def test_latents_of_another_run_are_taken_with_what_encodes_them():
  fields = {'name': 'lewm', 'predictor_depth': 3, 'latent_dim': 5}
  family, frozen = train._family(fields, 'two_room_small')
  shipped = world_model.WorldModel.from_checkpoint('two_room_small')
  assert family.predictor_depth == 3
  for name in ('image_size', 'latent_dim', 'encoder', 'encoder_strides'):
    assert getattr(family, name) == getattr(shipped.family, name)
  assert set(frozen['params']) == {'encoder', 'projector'}
