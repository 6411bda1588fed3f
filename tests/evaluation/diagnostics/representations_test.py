from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.evaluation.diagnostics import representations

CLIPS = np.random.default_rng(0).integers(0, 256, (5, 4, 8, 8, 3), np.uint8)


SEEN = {'pixels': CLIPS}


class Frames:
  """Latents are a frame's first pixel, times a number."""

  observation_spec: ClassVar = {
    'pixels': jax.ShapeDtypeStruct((8, 8, 3), np.uint8)
  }
  token_grid: tuple[int, ...] | None = None

  def init(self, rng_key):
    return {'online': jax.random.uniform(rng_key, ())}

  def for_inference(self, variables):
    return {'target': -variables['online']}

  def encode(self, variables, observation, *, tokens=False):
    assert not tokens and set(observation) == {'pixels'}
    first = observation['pixels'][..., 0, 0, :].astype(jnp.float32)
    return variables['target'] * first


class FramePatches(Frames):
  """Every frame has tokens."""

  token_grid = (2, 3)

  def encode(self, variables, observation, *, tokens=False):
    assert tokens
    lead = observation['pixels'].shape[:-3]
    return variables['target'] * jnp.ones((*lead, 6, 2))


class ClipPatches(FramePatches):
  """A clip has tokens."""

  token_grid = (2, 2, 3)

  def encode(self, variables, observation, *, tokens=False):
    assert tokens
    return variables['target'] * jnp.ones((*CLIPS.shape[:1], 12, 2))


def test_latents_of_frames_are_tokens_unless_a_model_has_its_own():
  seen = {**SEEN, 'proprio': np.zeros((5, 4, 2), np.float32)}
  target = {'target': 2.0}
  tokens = representations.of_model(Frames(), target)(seen)
  np.testing.assert_array_equal(tokens, 2.0 * CLIPS[:, :, 0, 0])
  tokens = representations.of_model(FramePatches(), target)(seen)
  np.testing.assert_array_equal(tokens, np.full((5, 4 * 6, 2), 2.0))
  tokens = representations.of_model(ClipPatches(), target)(seen)
  np.testing.assert_array_equal(tokens, np.full((5, 12, 2), 2.0))


def test_the_random_encoder_is_a_fresh_one_as_evaluations_want_it(rng_key):
  drawn = jax.random.uniform(rng_key, ())
  tokens = representations.of_random_encoder(ClipPatches(), rng_key)(SEEN)
  np.testing.assert_allclose(tokens, np.full((5, 12, 2), -drawn))


def test_patches_of_pixels_are_where_they_were():
  """Token (t, row, column): two frames of 4x4 pixels, then its place."""
  tokens = representations.of_pixels(patch_size=4, tubelet_size=2)(SEEN)
  assert tokens.shape == (5, 2 * 2 * 2, 2 * 48 + 24)
  token = tokens[3, (1 * 2 + 0) * 2 + 1]
  cut = CLIPS[3, 2:4, 0:4, 4:8].reshape(-1) / 255
  np.testing.assert_allclose(token[:96], cut, atol=1e-6)
  places = np.asarray(tokens[:, :, 96:])
  np.testing.assert_array_equal(places[0], places[4])
  apart = np.abs(places[0][:, None] - places[0][None]).max(-1)
  assert apart[~np.eye(8, dtype=bool)].min() > 0.5


def test_whole_frames():
  tokens = representations.of_pixels(patch_size=4, whole_frames=True)(SEEN)
  np.testing.assert_allclose(tokens, CLIPS.reshape(5, 4, 192) / 255, atol=1e-6)


def test_collected_in_batches_of_one_shape():
  shapes, shares = set(), []

  def tokens_fn(observation):
    pixels = observation['pixels']
    shapes.add(pixels.shape)
    return pixels[:, :, 0, 0]

  tokens = representations.collect(
    tokens_fn, SEEN, batch_size=2, progress_fn=shares.append
  )
  np.testing.assert_array_equal(tokens, CLIPS[:, :, 0, 0])
  assert shapes == {(2, 4, 8, 8, 3)} and shares == [0.4, 0.8, 1.0]
