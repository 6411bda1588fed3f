"""A world model as pure functions, and the folder it is kept in."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import families, jepa, units, world_model

FIELDS = {
  'name': 'lewm',
  'image_size': 16,
  'encoder': 'conv',
  'encoder_channels': (4,),
  'encoder_strides': (8,),
  'encoder_blocks': (0,),
  'encoder_features': 8,
  'projector_dim': 8,
  'latent_dim': 3,
  'predictor_dim': 8,
  'predictor_depth': 2,
  'predictor_heads': 2,
  'predictor_head_dim': 4,
  'predictor_mlp_dim': 8,
  'history': 3,
}


@pytest.fixture(scope='module')
def model():
  family = families.from_config(FIELDS)
  # Drawn here: a fresh predictor is deaf to actions (AdaLN-zero), and drawing
  # each tensor by JAX would take longer than all tests of this file.
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: jnp.asarray(rng.uniform(0.1, 0.6, leaf.shape), leaf.dtype),
    jax.eval_shape(family.init, jax.random.key(0)),
  )
  statistics = units.ActionStatistics(
    np.array([0.5, -1.0], np.float32), np.array([2.0, 4.0], np.float32)
  )
  return world_model.WorldModel(family, params, statistics, {'date': 'today'})


@pytest.fixture
def folder(model, tmp_path):
  model.save(tmp_path / 'model')
  return tmp_path / 'model'


def frames(*lead, seed=0):
  shape = (*lead, 16, 16, 3)
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(0, 256, shape, np.uint8))


def blocks(*lead, seed=1):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(*lead, 10)), jnp.float32)


def test_the_window_grows_to_the_history_and_slides(model, rng_key):
  actions = blocks(4, 2, 5)  # four steps of [B, N] = [2, 5]
  state = jax.jit(model.initial_state)(model.params, frames(2, 1))
  state = jax.tree.map(
    lambda x: jnp.broadcast_to(x[:, None], (2, 5, *x.shape[1:])), state
  )
  latents, played = [state.latents[..., 0, :]], []
  # Compiled whole: one operation after another takes several times as long.
  dynamics, predict = jax.jit(model.dynamics), jax.jit(model.family.predict)
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
    assert state.latents.shape == (2, 5, min(t + 2, 3), 3)
    np.testing.assert_allclose(
      state.latents[..., -1, :], latents[-1], rtol=1e-5, atol=1e-6, err_msg=t
    )
  # The action matters, or the comparison above says nothing.
  assert np.ptp(np.asarray(state.latents[0, :, -1]), axis=0).max() > 1e-3


@pytest.mark.parametrize('num_frames', [2, 3])
def test_a_history_of_frames_starts_the_state(model, num_frames, rng_key):
  actions = blocks(4, num_frames)
  state = jax.jit(model.initial_state)(
    model.params, frames(4, num_frames), actions[:, :-1]
  )
  assert state.latents.shape == (4, num_frames, 3)
  plain = jax.jit(model.family.predict)(model.params, state.latents, actions)
  after = jax.jit(model.dynamics)(model.params, rng_key, actions[:, -1], state)
  np.testing.assert_allclose(
    model.latent(after), plain[:, -1], rtol=1e-5, atol=1e-6
  )


def test_a_history_that_does_not_fit(model):
  with pytest.raises(ValueError, match=r'actions: expected \[3, 1, 10\].*None'):
    model.initial_state(model.params, frames(3, 2))
  with pytest.raises(ValueError, match=r'expected 1 to 3 frames.*got 4'):
    model.initial_state(model.params, frames(1, 4), blocks(1, 3))


def test_cost_is_the_squared_distance_to_the_goal(model):
  latents = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 2, 3)))
  goal = jnp.ones((2, 1, 3))
  state = jepa.LatentState(latents)
  expected = ((np.asarray(latents)[:, :, -1] - 1.0) ** 2).sum(-1)
  np.testing.assert_allclose(
    model.cost(model.params, state, blocks(2, 4), goal), expected, rtol=1e-5
  )


def test_root_encodes_frame_and_goal(model):
  root = jax.jit(model.root)(model.params, frames(3), frames(3, seed=7))
  np.testing.assert_allclose(
    root.goal, model.encode(model.params, frames(3, seed=7)), rtol=1e-5
  )
  np.testing.assert_allclose(
    root.state.latents[:, 0], model.encode(model.params, frames(3)), rtol=1e-5
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
    model.encode(model.params, pixels)


def test_an_action_of_the_wrong_size(model, rng_key):
  state = model.initial_state(model.params, frames(1, 1))
  with pytest.raises(ValueError, match=r'expected size 10 .*got 2'):
    model.dynamics(model.params, rng_key, jnp.zeros((1, 2)), state)


def test_saved_and_loaded_is_the_same(model, folder):
  loaded = world_model.WorldModel.from_checkpoint(folder)
  assert loaded.family == model.family
  assert loaded.record == {'date': 'today'}
  jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
  np.testing.assert_array_equal(
    loaded.action_statistics.std, model.action_statistics.std
  )
  np.testing.assert_array_equal(
    loaded.encode(loaded.params, frames(2)),
    model.encode(model.params, frames(2)),
  )


def test_a_run_is_loaded_by_its_working_directory(model, tmp_path):
  model.save(tmp_path / 'run' / 'export')
  assert world_model.WorldModel.from_checkpoint(tmp_path / 'run').record


def test_saving_again_replaces_and_leaves_nothing_beside(model, folder):
  model.save(folder)
  assert [p.name for p in folder.parent.iterdir()] == ['model']
  assert sorted(p.name for p in folder.iterdir()) == [
    'config.json',
    'model.safetensors',
  ]


def test_what_ships_is_named_where_nothing_is_found():
  with pytest.raises(FileNotFoundError, match=r"'no/such'.*two_room_small"):
    world_model.WorldModel.from_checkpoint('no/such')


def edit_config(folder, **changes):
  path = folder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path):
  path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda f: cut(f / 'model.safetensors'), 'not a whole safetensors file'),
    (lambda f: cut(f / 'config.json'), 'may be cut off'),
    (lambda f: edit_config(f, format_version=0), 'layout 0, .* reads layout 1'),
    (
      lambda f: edit_config(f, family=FIELDS | {'latent_dim': 4}),
      r'is \[.*\], the family .lewm. as configured has \[.*4\], and \d+ others',
    ),
    (
      lambda f: edit_config(f, family=FIELDS | {'predictor_depth': 3}),
      r"block_2/.*' is missing, the family 'lewm' .* has \[.*\d+ others differ",
    ),
    (
      lambda f: edit_config(f, family=FIELDS | {'name': 'lwem'}),
      "got 'lwem'. Did you mean 'lewm'",
    ),
    (
      lambda f: edit_config(f, family=FIELDS | {'latent_dims': 4}),
      "no field 'latent_dims'. Did you mean 'latent_dim'",
    ),
  ],
)
def test_a_damaged_export_says_what_is_wrong(folder, damage, message):
  damage(folder)
  with pytest.raises(ValueError, match=message):
    world_model.WorldModel.from_checkpoint(folder)


def test_missing_weights(folder):
  (folder / 'model.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='missing beside its config'):
    world_model.WorldModel.from_checkpoint(folder)
