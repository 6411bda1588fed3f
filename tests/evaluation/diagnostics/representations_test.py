import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.evaluation.diagnostics import representations

CLIPS = np.random.default_rng(0).integers(0, 256, (5, 4, 8, 8, 3), np.uint8)


class Frames:
  """Latents are a frame's first pixel, times a number."""

  def init(self, rng_key):
    return jax.random.uniform(rng_key, ())

  def encode(self, variables, pixels):
    return variables * pixels[..., 0, 0, :].astype(jnp.float32)


class Patches(Frames):
  """Tokens of a clip need what only a run's end has."""

  def init_target(self, variables):
    return -variables

  def inference_variables(self, variables, target_variables):
    return {'target': target_variables}

  def tokens(self, variables, pixels):
    return variables['target'] * jnp.ones((len(pixels), 6, 2))


def test_latents_of_frames_are_tokens_unless_a_family_has_its_own():
  tokens = representations.of_model(Frames(), 2.0)(jnp.asarray(CLIPS))
  np.testing.assert_array_equal(tokens, 2.0 * CLIPS[:, :, 0, 0])
  tokens = representations.of_model(Patches(), {'target': 3.0})(CLIPS)
  np.testing.assert_array_equal(tokens, np.full((5, 6, 2), 3.0))


def test_the_random_encoder_is_a_fresh_one_as_evaluations_want_it(rng_key):
  drawn = jax.random.uniform(rng_key, ())
  tokens = representations.of_random_encoder(Patches(), rng_key)(CLIPS)
  np.testing.assert_allclose(tokens, np.full((5, 6, 2), -drawn))


def test_patches_of_pixels_are_where_they_were():
  """Token (t, row, column): two frames of 4x4 pixels, then its place."""
  tokens = representations.of_pixels(patch_size=4, tubelet_size=2)(CLIPS)
  assert tokens.shape == (5, 2 * 2 * 2, 2 * 48 + 24)
  token = tokens[3, (1 * 2 + 0) * 2 + 1]
  cut = CLIPS[3, 2:4, 0:4, 4:8].reshape(-1) / 255
  np.testing.assert_allclose(token[:96], cut, atol=1e-6)
  places = np.asarray(tokens[:, :, 96:])
  np.testing.assert_array_equal(places[0], places[4])
  apart = np.abs(places[0][:, None] - places[0][None]).max(-1)
  assert apart[~np.eye(8, dtype=bool)].min() > 0.5


def test_whole_frames():
  tokens = representations.of_pixels(patch_size=4, whole_frames=True)(CLIPS)
  np.testing.assert_allclose(tokens, CLIPS.reshape(5, 4, 192) / 255, atol=1e-6)


def test_collected_in_batches_of_one_shape():
  shapes, shares = set(), []

  def tokens_fn(pixels):
    shapes.add(pixels.shape)
    return pixels[:, :, 0, 0]

  tokens = representations.collect(
    tokens_fn, CLIPS, batch_size=2, progress_fn=shares.append
  )
  np.testing.assert_array_equal(tokens, CLIPS[:, :, 0, 0])
  assert shapes == {(2, 4, 8, 8, 3)} and shares == [0.4, 0.8, 1.0]
