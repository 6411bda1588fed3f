"""A world model as pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

from jepa_wm import world_model


@pytest.fixture(scope='module')
def model():
  return small_model.make(world_model.WorldModel)


def frames(*lead, seed=0):
  return {'pixels': small_model.pixels(*lead, seed=seed)}


def blocks(*lead, seed=1):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(*lead, 10)), jnp.float32)


def test_the_window_grows_to_the_history_and_slides(model, rng_key):
  actions = blocks(4, 2, 5)  # four steps of [B, N] = [2, 5]
  state = jax.jit(model.start)(model.params, frames(2, 1))
  state = jax.tree.map(
    lambda x: jnp.broadcast_to(x[:, None], (2, 5, *x.shape[1:])), state
  )
  latents, played = [model.latent(state)], []
  # Compiled whole: one operation after another takes several times as long.
  dynamics, predict = jax.jit(model.dynamics), jax.jit(model.model.predict)
  for t, action in enumerate(actions):
    state = dynamics(model.params, rng_key, action, state)
    played.append(action)
    # The plain rollout: predict from the last `history` latents seen so far.
    predicted = predict(
      model.params,
      jnp.stack(latents[-3:], axis=-2),
      jnp.stack(played[-3:], axis=-2),
    )
    latents.append(predicted[..., -1, :])
    np.testing.assert_allclose(
      model.latent(state), latents[-1], rtol=1e-5, atol=1e-6, err_msg=t
    )
  # The action matters, or the comparison above says nothing.
  assert np.ptp(np.asarray(model.latent(state)[0]), axis=0).max() > 1e-3


@pytest.mark.parametrize('num_frames', [2, 3])
def test_a_history_of_frames_starts_the_state(model, num_frames, rng_key):
  actions = blocks(4, num_frames)
  state = jax.jit(model.start)(
    model.params, frames(4, num_frames), actions[:, :-1]
  )
  latents = jax.jit(model.encode)(model.params, frames(4, num_frames))
  plain = jax.jit(model.model.predict)(model.params, latents, actions)
  after = jax.jit(model.dynamics)(model.params, rng_key, actions[:, -1], state)
  np.testing.assert_allclose(
    model.latent(after), plain[:, -1], rtol=1e-5, atol=1e-6
  )


def test_a_history_that_does_not_fit(model):
  with pytest.raises(ValueError, match=r'actions: expected \[3, 1, 10\].*None'):
    model.start(model.params, frames(3, 2))
  with pytest.raises(ValueError, match=r'expected 1 to 3 frames.*got 4'):
    model.start(model.params, frames(1, 4), blocks(1, 3))


def test_cost_is_the_squared_distance_to_the_goal(model):
  latents = np.random.default_rng(0).normal(size=(2, 4, 1, 3))
  goal = jnp.ones((2, 1, 3))
  state = model.start_from(model.params, jnp.asarray(latents))
  expected = ((latents[:, :, -1] - 1.0) ** 2).sum(-1)
  np.testing.assert_allclose(
    model.cost(model.params, state, blocks(2, 4), goal), expected, rtol=1e-5
  )


def test_root_encodes_frame_and_goal(model):
  root = jax.jit(model.root)(model.params, frames(3), frames(3, seed=7))
  np.testing.assert_allclose(
    root.goal, model.encode(model.params, frames(3, seed=7)), rtol=1e-5
  )
  np.testing.assert_allclose(
    model.latent(root.state),
    model.encode(model.params, frames(3)),
    rtol=1e-5,
  )


def test_actions_change_units_and_back(model):
  raw = np.random.default_rng(0).uniform(-1, 1, (3, 5, 2)).astype(np.float32)
  normalised = model.normalize_actions(jnp.asarray(raw))
  expected = (raw - np.array([0.5, -1.0])) / np.array([2.0, 4.0])
  np.testing.assert_allclose(normalised, expected.reshape(3, 10), rtol=1e-5)
  np.testing.assert_allclose(model.raw_actions(normalised), raw, atol=1e-6)
  bounds = model.action_bounds(-1.0, np.array([1.0, 3.0]))
  np.testing.assert_allclose(bounds.low, np.tile([-0.75, 0.0], 5), atol=1e-6)
  np.testing.assert_allclose(bounds.high, np.tile([0.25, 1.0], 5), atol=1e-6)
  # Whole numbers have a mean and a deviation with a fraction, too.
  whole = np.ones((5, 2), np.int8)
  np.testing.assert_allclose(
    model.normalize_actions(whole), model.normalize_actions(whole * 1.0)
  )
  np.testing.assert_allclose(
    model.raw_actions(np.ones(10, int)), model.raw_actions(np.ones(10))
  )


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda m: m.normalize_actions(jnp.zeros((2, 5))),
      r'\[..., 5, 2\], raw act',
    ),
    (lambda m: m.normalize_actions(jnp.zeros(10)), r'got \[10\]'),
    (
      lambda m: m.raw_actions(jnp.zeros((2, 20))),
      r'expected size 10 .* got 20',
    ),
    (lambda m: m.action_bounds(-1, np.ones(3)), r'high: expected .* got \[3\]'),
    (lambda m: m.dynamics(m.params, None, 0.0, None), 'size 10 .* got 0'),
    (lambda m: m.encode(m.params, None), 'expected named arrays'),
    (
      lambda m: m.encode(m.params, frames(1)['pixels']),
      'expected named arrays',
    ),
    (
      lambda m: m.encode(m.params, {'pixels': [0]}),
      'expected an array, got a l',
    ),
  ],
)
def test_what_is_of_another_shape_is_named(model, call, message):
  with pytest.raises(ValueError, match=message):
    call(model)


@pytest.mark.parametrize(
  ('pixels', 'message'),
  [
    (jnp.zeros((1, 16, 16, 3)), 'expected uint8 in 0..255, got float32'),
    (jnp.full((1, 16, 16, 3), jnp.nan), 'expected uint8'),
    (jnp.zeros((1, 8, 16, 3), jnp.uint8), r'expected \[..., 16, 16, 3\]'),
    (jnp.zeros((16, 16), jnp.uint8), r'got \[16, 16\]'),
  ],
)
def test_pixels_that_are_none(model, pixels, message):
  with pytest.raises(ValueError, match=message):
    model.encode(model.params, {'pixels': pixels})


def test_an_action_of_the_wrong_size(model, rng_key):
  state = model.start(model.params, frames(1, 1))
  with pytest.raises(ValueError, match=r'expected size 10 .*got 2'):
    model.dynamics(model.params, rng_key, jnp.zeros((1, 2)), state)


def test_there_is_one_level_of_its_units_and_stride(model):
  (level,) = model.levels
  assert level.model is model.model and level.units is model.units
  assert level.stride == model.action_block == 5
  assert model.action_dim == 10 and model.history == 3


def test_what_the_model_sees_it_says(model):
  assert model.image_size == 16
  assert model.observation_spec['pixels'].shape == (16, 16, 3)
  other = {'image': small_model.pixels(1)}
  with pytest.raises(ValueError, match=r"'pixels' is missing, there is .*imag"):
    model.encode(model.params, other)
  with pytest.raises(ValueError, match='one latent a frame and no tokens'):
    model.encode(model.params, frames(1), tokens=True)
