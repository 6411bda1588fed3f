"""A world model as pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import exports, models, world_model
from jepa_wm.models import heads


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


def test_a_state_is_scanned_over_and_reset_by_a_mask(model):
  """At any history, from one frame on; as a growing one goes."""
  actions = blocks(5, 4)
  first = jax.jit(model.start)(model.params, frames(4, 1))
  done = jnp.array(
    [[False] * 4, [True, False, False, False], *[[False] * 4] * 3]
  )

  def step(state, now):
    action, done = now
    fresh = lambda new, old: jnp.where(
      done.reshape(-1, *[1] * (old.ndim - 1)), new, old
    )
    state = jax.tree.map(fresh, first, state)
    state = model.dynamics(model.params, None, action, state)
    return state, model.latent(state)

  _, path = jax.jit(lambda: jax.lax.scan(step, first, (actions, done)))()
  dynamics = jax.jit(model.dynamics)
  grown = jax.jit(lambda: model.root(model.params, frames(4)).state)()
  late = grown
  for t in range(5):
    grown = dynamics(model.params, None, actions[t], grown)
    np.testing.assert_allclose(path[t, 1:], model.latent(grown)[1:], atol=1e-6)
    if t:
      late = dynamics(model.params, None, actions[t], late)
      np.testing.assert_allclose(path[t, 0], model.latent(late)[0], atol=1e-6)
  # It was reset: twenty times what is let pass above.
  assert np.abs(model.latent(grown)[0] - model.latent(late)[0]).max() > 2e-5


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


def test_what_is_seen_is_absorbed_however_long(model):
  seen, actions = frames(2, 5), blocks(2, 4)
  at = lambda t: {name: x[:, t] for name, x in seen.items()}
  state = jax.jit(model.start)(model.params, at(0))
  absorb = jax.jit(model.absorb)
  for t in range(1, 5):
    state = absorb(model.params, state, actions[:, t - 1], at(t))
  fresh = jax.jit(model.start)(
    model.params, {name: x[:, 2:] for name, x in seen.items()}, actions[:, 2:]
  )
  assert jax.tree.structure(state) == jax.tree.structure(fresh)
  jax.tree.map(
    lambda *x: np.testing.assert_allclose(*x, atol=1e-5), state, fresh
  )


def test_a_state_of_another_model_is_refused(model):
  # Shapes alone: nothing is compiled.
  shapes, latents = jax.eval_shape, jnp.zeros((2, 3))

  def absorb(state, latents=latents):
    return shapes(
      lambda state: model.absorb(model.params, state, blocks(2), latents), state
    )

  root = shapes(model.root, model.params, frames(2))
  absorb(root.state)
  absorb(absorb(root.state))
  state = shapes(model.start, model.params, frames(2))
  other = 'a memory state handed to another model, or .* carries .newest'
  for strange in (
    latents,
    None,
    shapes(lambda x: jax.tree.map(lambda x: x[..., :2], x), state),
    shapes(model.start, model.params, frames(3)),
  ):
    with pytest.raises(ValueError, match=other):
      absorb(strange)
  with pytest.raises(ValueError, match=r'latent: expected \[2, 3\].*got \[2\]'):
    absorb(state, latents[:, 0])
  with pytest.raises(ValueError, match='action: expected size 10'):
    model.absorb(model.params, state, jnp.zeros((2, 4)), latents)
  one = {name: x[0] for name, x in frames(2).items()}
  said = r'seen: pixels must be \[2, .*action \[2, 10\], got \[\d+, \d+, 3\]'
  with pytest.raises(ValueError, match=said):
    model.absorb(model.params, state, blocks(2), one)


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


def test_a_state_starts_from_what_a_root_takes(model):
  start = jax.jit(model.start)
  expected = model.encode(model.params, frames(3))
  one = {'pixels': frames(3)['pixels'][0]}
  for observation, latents in (
    (frames(3), expected),
    ({'pixels': frames(3)['pixels'][:, None]}, expected),
    (one, expected[0]),
  ):
    found = model.latent(start(model.params, observation))
    np.testing.assert_allclose(found, latents, rtol=1e-5, atol=1e-6)


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
    (
      lambda m: m.dynamics(
        m.params, None, blocks(4), m.start(m.params, frames(3, 1))
      ),
      r'expected \[3, 10\], a block for each latent .* got \[4, 10\]',
    ),
    (
      lambda m: m.start_from(m.params, jnp.zeros(3)),
      r'\[..., T, D\] .* got \[3\]',
    ),
    (
      lambda m: m.root(m.params, frames(2), jnp.zeros((2, 4))),
      r'its latents \[2, 3\], got \[2, 4\]',
    ),
    (
      lambda m: m.root(m.params, frames(2)['pixels'], frames(2)),
      'observation: expected named arrays',
    ),
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


def test_a_model_is_an_argument_that_compiles_once_for_equal_configs():
  traced = []

  @jax.jit
  def encode(model, observation):
    traced.append(type(model))
    return model.encode(model.params, observation)

  for kind in (world_model.WorldModel, exports.WorldModel):
    one, other = small_model.make(kind), small_model.make(kind)
    other.record['date'] = 'tomorrow'
    np.testing.assert_array_equal(
      encode(one, frames(2)), encode(other, frames(2))
    )
  # A subclass may do other things by the same settings.
  assert traced == [world_model.WorldModel, exports.WorldModel]
  config = {**small_model.CONFIG, 'action_block': 4}
  wider = world_model.WorldModel(
    models.from_config(config), one.params, one.units
  )
  encode(wider, frames(2))
  assert len(traced) == 3


def test_stacked_models_are_an_ensemble(model):
  other = jax.tree.map(lambda x: x * 1.5, model)
  both = jax.tree.map(lambda *x: jnp.stack(x), model, other)

  def look(model):
    actions = model.normalize_actions(jnp.ones((2, 5, 2)))
    return model.encode(model.params, frames(2)), actions

  found = jax.jit(jax.vmap(look))(both)
  for i, one in enumerate((model, other)):
    for ours, alone in zip(found, jax.jit(look)(one)):
      np.testing.assert_allclose(ours[i], alone, rtol=1e-5)
  assert np.abs(found[0][0] - found[0][1]).max() > 1e-3
  assert both.record == model.record


def test_it_is_shown_in_a_line(model):
  assert repr(model) == (
    'WorldModel(lewm: pixels [16, 16, 3], latent 3, action 5 x 2, history 3; '
    '3,697 parameters)'
  )


def test_a_head_is_an_argument_too():
  head = heads.from_config({'name': 'inverse_dynamics'}, heads.Sizes(3, 10, 5))
  make = lambda: exports.TrainedHead(
    head, head.for_inference(head.init(jax.random.key(0))), 'runs/x', 'abc'
  )
  traced = []
  total = jax.jit(
    lambda head: (
      traced.append(1) or sum(map(jnp.sum, jax.tree.leaves(head.params)))
    )
  )
  assert total(make()) == total(make()) and len(traced) == 1
  assert repr(make()).startswith('TrainedHead(inverse_dynamics of runs/x; ')


def test_a_root_is_made_of_each_problem_under_vmap(model):
  seen, wanted = frames(3), frames(3, seed=7)
  plain = jax.jit(model.root)(model.params, seen, wanted)
  each = jax.jit(jax.vmap(model.root, in_axes=(None, 0, 0)))(
    model.params, seen, wanted
  )
  assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, each)
  np.testing.assert_allclose(each.goal, plain.goal, rtol=1e-5)
  given = model.root(model.params, seen, plain.goal)
  np.testing.assert_array_equal(given.goal, plain.goal)
  assert model.root(model.params, seen).goal is None


def test_a_planner_compiles_once_and_plans_as_cem_plan_does(model):
  traced = []

  def cost(*args):
    traced.append(1)
    return model.cost(*args)

  limits = jepa_wm.Limits(model.action_bounds(-1, 1))
  budget = {'num_samples': 8, 'num_elites': 4, 'num_iterations': 2}
  planner = model.planner(
    jepa_wm.ICEM(**budget, num_kept=2), horizon=3, limits=limits, cost_fn=cost
  )
  seen, wanted = frames(2), frames(2, seed=7)
  plan = planner(jax.random.key(0), seen, wanted)
  num_traced = len(traced)
  face = jax.jit(
    lambda params, root: jepa_wm.icem_plan(
      params,
      jax.random.key(0),
      root,
      model.dynamics,
      model.cost,
      horizon=3,
      action_dim=10,
      action_constraints=limits.actions,
      **budget,
      num_kept=2,
    )
  )
  root = jax.jit(model.root)(model.params, seen, wanted)
  np.testing.assert_allclose(
    plan.actions, face(model.params, root).actions, atol=1e-5
  )
  warm = planner(
    jax.random.key(1), seen, wanted, warm_start=planner.shift(plan, 1)
  )
  other = jax.tree.map(lambda x: 1.5 * x, model.params)
  params = planner(jax.random.key(0), wanted, seen, params=other)
  assert len(traced) == num_traced
  assert np.abs(warm.actions - plan.actions).max() > 1e-3
  assert np.abs(params.cost - plan.cost).max() > 1e-3
  # The goal's latent is another program, and the same plan.
  latent = planner(jax.random.key(0), seen, root.goal)
  np.testing.assert_allclose(latent.actions, plan.actions, atol=1e-5)
  with pytest.raises(ValueError, match=r'num_played .* 1\.\.3, got 4'):
    planner.shift(plan, 4)
  with pytest.raises(
    ValueError, match=r'params .* \[8\] at .*batch_stats.*, got n'
  ):
    planner(jax.random.key(0), seen, wanted, params={'params': {}})
  with pytest.raises(ValueError, match=r"names that are texts, got .*'pixels'"):
    planner(jax.random.key(0), {**seen, 0: 0}, wanted)
