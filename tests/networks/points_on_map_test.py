import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.models import lewm
from jepa_wm.networks import conv, looking_around, points_on_map, projectors

ROWS = 8
LAYOUT = points_on_map.Layout(num_points=1, rows=ROWS)


def test_an_encoder_says_where_a_dot_is_in_cells_of_the_map():
  module = points_on_map.PointsOnMap(channels=1)
  pixels = np.zeros((2, 1, 32, 32, 3), np.float32)
  pixels[0, 0, 8:10, 20:22] = 1.0
  pixels[1, 0, 30:, :2] = 1.0
  shapes = jax.eval_shape(module.init, jax.random.key(0), pixels)
  variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  # What is bright in one channel passes, each pixel to where it is.
  for name in ('first', 'near', 'scores'):
    kernel = variables['params'][name]['kernel']
    kernel[0 if name == 'first' else 1, 0 if name == 'first' else 1] = 1.0
  variables['params']['sharpness'][:] = 9.0
  latents, found = module.apply(variables, pixels)
  assert latents.shape == (2, 1, 2 + 64 * 2)
  points, maps = LAYOUT.split(latents)
  np.testing.assert_array_equal(points, found['keypoints'])
  assert maps.shape == found['feature_map'].shape == (2, 1, 8, 8, 2)
  # Pixels of the dot's middle, of which a cell has four, as the map has 8.
  expected = np.array([[21, 9], [1, 31]]) / 4 - 4
  np.testing.assert_allclose(points[:, 0, 0], expected, atol=1e-3)


def test_what_is_small_and_of_its_own_colour_has_a_point_untrained():
  module = points_on_map.PointsOnMap(channels=8)
  pixels = np.full((3, 64, 64, 3), 2.0, np.float32)
  pixels[:, 24:40, :40] = -1.0
  pixels[:, :, 50:] = -1.0
  for frame, (x, y) in enumerate([(44, 12), (10, 50), (20, 8)]):
    pixels[frame, y - 2 : y + 2, x - 2 : x + 2] = [2.0, -2.0, -2.0]
  latents = jax.jit(
    lambda key: module.apply(module.init(key, pixels[:1]), pixels)[0]
  )(jax.random.key(3))
  expected = np.array([[44, 12], [10, 50], [20, 8]]) / 4 - 8
  np.testing.assert_allclose(latents[:, :2], expected, atol=1.0)


def test_a_frame_has_one_latent_whatever_is_beside_it(draw, fill):
  module = points_on_map.PointsOnMapConfig(image_size=16, num_points=2).build(
    jnp.float32
  )
  pixels = draw(2, 3, 16, 16, 3)
  variables = fill(module, pixels)
  apply = jax.jit(lambda x: module.apply(variables, x)[0])
  latents = apply(pixels)
  points, maps = points_on_map.Layout(2, 4).split(latents)
  assert np.abs(points).max() < 2.0
  np.testing.assert_allclose(maps.mean((-3, -2)), 0.0, atol=1e-5)
  np.testing.assert_allclose(maps.var((-3, -2)), 1.0, atol=1e-3)
  np.testing.assert_allclose(
    apply(pixels[1, 2]), latents[1, 2], rtol=1e-4, atol=1e-5
  )


def test_sides_of_a_picture_that_are_no_cells_are_refused():
  with pytest.raises(ValueError, match=r'multiple of 4, pixels .* got 18'):
    points_on_map.PointsOnMapConfig(image_size=18)


def predictor(**fields):
  config = looking_around.LookingAroundConfig(
    rows=ROWS, reach=1, width=8, depth=1, **fields
  )
  return config.build((1, 1), jnp.float32)


def latents_of(points, maps):
  """Latents `[T, D]` of points `[T, 2]` in cells, and one map."""
  middle = (ROWS - 1) / 2
  flat = np.broadcast_to(maps.ravel(), (len(points), maps.size))
  return np.concatenate([points - middle, flat], axis=-1).astype(np.float32)


@pytest.fixture(scope='module')
def moves(draw, fill):
  """Latents `[T, D]` and conditions `[T, 3]` to moves `[T, 2]`, in cells."""
  module = predictor()
  conditions = draw(2, 3)
  size = 2 + ROWS * ROWS
  variables = fill(module, draw(2, size), conditions)

  def move(latents):
    changes, _ = module.apply(variables, latents, conditions)
    np.testing.assert_array_equal(changes[:, 2:], 0.0)
    return changes[:, :2]

  return move


def test_what_is_learnt_at_one_place_holds_at_all(draw, moves):
  maps = np.zeros((ROWS, ROWS), np.float32)
  maps[2:5, 1:4] = draw(3, 3)
  points = np.array([[2.2, 2.9], [2.6, 3.1]])
  found = moves(latents_of(points, maps))
  elsewhere = np.roll(maps, (1, 2), (0, 1))
  away = moves(latents_of(points + np.array([2, 1]), elsewhere))
  np.testing.assert_allclose(away, found, rtol=1e-4, atol=1e-5)
  turned = moves(latents_of(points, maps.T))
  assert np.abs(turned - found).max() > 0.01


def test_a_point_sees_its_reach_and_its_past_and_no_further(draw, moves):
  maps, points = draw(ROWS, ROWS), np.array([[3.5, 3.5], [3.5, 3.5]])
  found = moves(latents_of(points, maps))
  near, far = maps.copy(), maps.copy()
  far[6:] = 0.0
  near[5] = 0.0
  np.testing.assert_allclose(moves(latents_of(points, far)), found, atol=1e-6)
  assert np.abs(moves(latents_of(points, near)) - found).min() > 1e-3
  moved = moves(latents_of(points - np.array([[0.3, 0], [0, 0]]), maps))
  assert np.abs(moved[1] - found[1]).max() > 1e-3
  # The first of a window has none, and is told so.
  alone = moves(latents_of(points, maps))[0]
  np.testing.assert_allclose(alone, found[0], atol=1e-6)


def test_a_latent_of_another_layout_is_refused():
  with pytest.raises(ValueError, match='A latent of 60 numbers does not hold'):
    LAYOUT.split(jnp.zeros(60))


MODEL = {
  'latent_dim': 2 + 2 * ROWS**2,
  'encoder': points_on_map.PointsOnMapConfig(image_size=32),
  'projector': projectors.NoneConfig(),
  'predictor': looking_around.LookingAroundConfig(rows=ROWS),
  'predicts': 'change',
}


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'predicts': 'latent'}, "predicts='change', got 'points_on_map', 'none'"),
    ({'projector': projectors.LinearConfig()}, "'linear' and 'change'"),
    ({'encoder': conv.ConvConfig(image_size=32)}, "got 'conv', 'none'"),
    (
      {'encoder': points_on_map.PointsOnMapConfig(image_size=16)},
      r'predictor.rows=8 must be those of the encoder, 1 and 4 \(a quarter',
    ),
  ],
)
def test_a_model_of_points_on_a_map_is_one_throughout(changes, message):
  assert lewm.LeWM(**MODEL).build().latent_dim == 130
  with pytest.raises(ValueError, match=message):
    lewm.LeWM(**{**MODEL, **changes})


def test_without_a_projector_the_latent_is_as_large_as_the_features():
  module = projectors.NoneConfig().build(4, jnp.float32)
  inputs = np.ones((2, 4), np.float32)
  np.testing.assert_array_equal(module.apply({}, inputs), inputs)
  with pytest.raises(ValueError, match='3 numbers: set latent_dim to that'):
    module.apply({}, inputs[:, :3])
