"""Published parameter counts, of the sizes that have names."""

import jax
import jax.numpy as jnp
import pytest

from jepa_wm import fields
from jepa_wm.networks import (
  causal,
  encoders,
  masked_predictor,
  positions,
  sizes,
  video_vit,
)
from jepa_wm.networks import dinov2 as dinov2_lib

SIN_COS = positions.SinCos()


def _count(module, *args):
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), *(jnp.zeros(x) for x in args)
  )
  return sum(x.size for x in jax.tree.leaves(shapes['params']))


@pytest.mark.parametrize(
  'size, given, published',
  [
    # V-JEPA 2's, with rotary positions, and the first's; counted in its code.
    ('large', {}, 303.89),
    ('huge', {}, 631.65),
    ('giant', {}, 1012.17),
    ('large', {'image_size': 224, 'positions': SIN_COS}, 303.89),
    # I-JEPA's, of images.
    (
      'giant16',
      {'image_size': 224, 'tubelet_size': 1, 'num_frames': 1},
      1011.1,
    ),
  ],
)
def test_video_encoders_have_the_published_parameters(size, given, published):
  positions_of = {'positions': SIN_COS} if size == 'giant16' else {}
  config = video_vit.VideoViTConfig(size=size, **{**given, **positions_of})
  module = config.build(jnp.float32)
  clip = (1, config.num_frames, config.image_size, config.image_size, 3)
  assert _count(module, clip) / 1e6 == pytest.approx(published, abs=0.06)


def test_a_name_says_all_fields_and_comes_back():
  config = video_vit.VideoViTConfig(size='giant')
  assert config.sizes == sizes.VIT['giant']
  described = fields.to_dict(config)
  assert fields.from_dict(encoders.ENCODERS, described) == config
  # As it is where a config of one size is given the name of another.
  larger = fields.from_dict(encoders.ENCODERS, {**described, 'size': 'huge'})
  assert larger.sizes == sizes.VIT['huge']
  with pytest.raises(
    ValueError, match="width=100 would do nothing: size='huge'"
  ):
    video_vit.VideoViTConfig(size='huge', width=100)
  with pytest.raises(ValueError, match=r'size must be .*giant'):
    video_vit.VideoViTConfig(size='gigantic')


def test_predictors_have_the_published_parameters():
  # The released LeWM: 10,791,360 (stable-worldmodel 0.1.1).
  module = causal.CausalConfig(size='small').build((1, 1), jnp.float32)
  assert _count(module, (1, 3, 192), (1, 3, 192)) == 10_791_360
  # V-JEPA 2's: 22.1 to 22.4 M, rounded, with the encoders it is released with.
  encoder = video_vit.VideoViTConfig(size='large')
  masked = masked_predictor.MaskedPredictorConfig()
  module = masked.build(encoder, encoder.width, jnp.float32)
  ids = jnp.zeros((1, 4), jnp.int32)
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), jnp.zeros((1, 4, 1024)), ids, ids
  )
  count = sum(x.size for x in jax.tree.leaves(shapes['params']))
  assert 22.05e6 <= count <= 22.45e6


@pytest.mark.parametrize(
  'size, millions', [('small', 22.06), ('base', 86.58), ('large', 304.37)]
)
def test_dinov2_has_the_published_parameters(size, millions):
  module = dinov2_lib.Dinov2Config(size=size).build(jnp.float32)
  side = dinov2_lib.POSITIONS_GRID * dinov2_lib.PATCH_SIZE
  found = _count(module, (1, side, side, 3)) / 1e6
  assert found == pytest.approx(millions, abs=0.01)
