import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import masked_predictor, patches, video_vit
from jepa_wm.networks import positions as positions_lib

GRID = (2, 3, 3)
PIXELS = (2, 4, 6, 6, 3)


def make_encoder(**changes):
  sizes = {'width': 24, 'depth': 2, 'num_heads': 2, 'mlp_dim': 32}
  fields = {'patch_size': 2, 'tubelet_size': 2, 'grid': GRID}
  return video_vit.VideoViT(**{**sizes, **fields, **changes})


def make_predictor(**changes):
  sizes = {'width': 12, 'depth': 1, 'num_heads': 2, 'mlp_dim': 16}
  fields = {'features': 24, 'num_mask_tokens': 2, 'grid': GRID}
  return masked_predictor.MaskedPredictor(**{**sizes, **fields, **changes})


@pytest.fixture(scope='module', params=positions_lib.POSITIONS.names())
def positions(request):
  return positions_lib.POSITIONS.find(request.param)()


def test_tubelets_are_a_convolution_of_stride_its_size(draw):
  pixels, weight = draw(2, 4, 6, 4, 3), draw(5, 3, 2, 2, 2)
  expected = jax.lax.conv_general_dilated(
    jnp.moveaxis(jnp.asarray(pixels), -1, 1), weight, (2, 2, 2), 'VALID'
  )
  kernel = np.moveaxis(weight, 1, -1).reshape(5, -1).T
  cut = patches.tubeletify(jnp.asarray(pixels), patch_size=2, tubelet_size=2)
  np.testing.assert_allclose(
    cut @ kernel, np.moveaxis(np.asarray(expected), 1, -1), atol=1e-4
  )


@pytest.mark.slow
def test_all_tokens_in_any_order_are_the_whole_clip(draw, fill, positions):
  encoder, pixels = make_encoder(positions=positions), draw(*PIXELS)
  variables = fill(encoder, pixels)
  whole, outputs = encoder.apply(variables, pixels)
  assert whole.shape == (2, 18, 24) and set(outputs) == {'block_0', 'block_1'}
  order = np.stack([np.random.default_rng(b).permutation(18) for b in (0, 1)])
  shuffled, _ = encoder.apply(variables, pixels, order)
  expected = np.take_along_axis(np.asarray(whole), order[..., None], axis=1)
  np.testing.assert_allclose(shuffled, expected, atol=2e-4)


def test_a_masked_token_cannot_be_seen(draw, fill):
  encoder, pixels = make_encoder(), draw(*PIXELS)
  variables = fill(encoder, pixels)
  ids = np.array([[0, 1, 5, 9]] * 2)
  seen, _ = encoder.apply(variables, pixels, ids)
  changed = pixels.copy()
  # Token 17: the last frames' last patch.
  changed[:, 2:, 4:, 4:] += 1.0
  again, _ = encoder.apply(variables, changed, ids)
  np.testing.assert_array_equal(again, seen)
  whole, _ = encoder.apply(variables, changed)
  assert np.abs(whole - encoder.apply(variables, pixels)[0]).max() > 1e-2


def test_padding_changes_nothing(draw, fill, positions):
  encoder, pixels = make_encoder(positions=positions), draw(*PIXELS)
  variables = fill(encoder, pixels)
  ids = np.array([[0, 4, 11], [2, 3, 17]])
  encode = jax.jit(encoder.apply)
  alone, _ = encode(variables, pixels, ids)
  padded = np.pad(ids, ((0, 0), (0, 2)))
  valid = np.arange(5) < np.full((2, 1), 3)
  tokens, _ = encode(variables, pixels, padded, valid)
  np.testing.assert_allclose(tokens[:, :3], alone, atol=1e-4)
  # Without the validity it does change something.
  seen, _ = encode(variables, pixels, padded)
  assert np.abs(seen[:, :3] - alone).max() > 1e-2

  predictor = make_predictor(positions=positions)
  targets = np.array([[1, 7], [8, 9]])
  variables = fill(predictor, alone, ids, targets)
  predict = jax.jit(predictor.apply)
  expected, _ = predict(variables, alone, ids, targets)
  predicted, _ = predict(
    variables,
    tokens,
    padded,
    np.pad(targets, ((0, 0), (0, 1))),
    context_valid=valid,
    target_valid=np.arange(3) < np.full((2, 1), 2),
  )
  np.testing.assert_allclose(predicted[:, :2], expected, atol=2e-4)


@pytest.mark.slow
def test_the_predictor_knows_places_and_mask_tokens(draw, fill, positions):
  predictor = make_predictor(positions=positions)
  context, ids = draw(2, 4, 24), np.array([[0, 1, 5, 9]] * 2)
  targets = np.array([[2, 3, 12]] * 2)
  variables = fill(predictor, context, ids, targets)
  first, outputs = predictor.apply(variables, context, ids, targets)
  assert first.shape == (2, 3, 24)
  assert outputs['context'].shape == (2, 4, 24)
  turned, _ = predictor.apply(variables, context, ids, targets[:, ::-1])
  np.testing.assert_allclose(turned[:, ::-1], first, atol=1e-4)
  other, _ = predictor.apply(variables, context, ids, targets, mask_index=1)
  assert np.abs(other - first).max() > 1e-2
  third, _ = predictor.apply(variables, context, ids, targets, mask_index=2)
  np.testing.assert_array_equal(third, first)


@pytest.mark.slow
def test_any_leading_axes(draw, fill):
  encoder, pixels = make_encoder(), draw(*PIXELS)
  variables = fill(encoder, pixels)
  tokens, _ = encoder.apply(variables, pixels)
  nested, _ = encoder.apply(variables, pixels.reshape(1, 2, *PIXELS[1:]))
  np.testing.assert_allclose(nested[0], tokens, atol=1e-4)


def test_rotary_positions_take_longer_and_larger_clips(draw, fill, positions):
  encoder, pixels = make_encoder(positions=positions), draw(*PIXELS)
  variables = fill(encoder, pixels)
  longer, _ = encoder.apply(variables, draw(1, 6, 8, 6, 3))
  assert longer.shape == (1, 3 * 4 * 3, 24) and np.isfinite(longer).all()


@pytest.mark.slow
@pytest.mark.parametrize('style', video_vit.INITS)
def test_the_way_back_starts_smaller_the_deeper(style):
  encoder = make_encoder(width=96, mlp_dim=256, depth=3, init_style=style)
  params = jax.jit(encoder.init)(jax.random.key(0), jnp.zeros(PIXELS))['params']
  for index in range(3):
    scale = (2 * (index + 1)) ** 0.5 if style == 'depth_scaled' else 1.0
    for part in ('attention', 'mlp'):
      block = params[f'block_{index}'][part]
      std = float(np.std(block['out']['kernel']))
      assert std == pytest.approx(0.02 / scale, rel=0.05)
    assert float(np.std(block['hidden']['kernel'])) == pytest.approx(
      0.02, rel=0.05
    )


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters(draw):
  encoder = make_encoder(dtype=jnp.bfloat16)
  pixels = draw(*PIXELS)
  variables = jax.jit(encoder.init)(jax.random.key(0), pixels)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  tokens, _ = encoder.apply(variables, pixels)
  exact, _ = make_encoder().apply(variables, pixels)
  np.testing.assert_allclose(
    np.asarray(tokens, np.float32), exact, atol=0.1, rtol=0.1
  )


def test_doors():
  with pytest.raises(ValueError, match=r'5 frames do not divide.*=2'):
    patches.tubeletify(jnp.zeros((5, 4, 4, 3)), patch_size=2, tubelet_size=2)
  with pytest.raises(ValueError, match='clips'):
    patches.tubeletify(jnp.zeros((4, 4, 3)), patch_size=2, tubelet_size=2)
