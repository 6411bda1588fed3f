"""The model as an environment: its numbers, its shapes and its sentences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import envs, planning, rl
from jepa_wm.data import table
from jepa_wm.rl import environment_params, reach, rewards

KEY = jax.random.key(0)
GOALS = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture(scope='module')
def model():
  return small_model.make(jepa_wm.WorldModel, history=1)


def make(model, reward_fn=None, **given):
  """A latent environment of a few drawn latents, none of them near a goal."""
  env = rl.LatentEnvironment(
    model,
    rewards.negative_distance() if reward_fn is None else reward_fn,
    (-1.0, -2.0),
    (1.0, 2.0),
    reach.given(1e-3),
  )
  starts = np.random.default_rng(0).normal(size=(4, 3)) + 3.0
  settings = {'reach': 1e-3, 'max_steps': 3, **given}
  return env, environment_params.make(model, starts, GOALS, **settings)


def stepped(env):
  return lambda action, params: env.step_env(
    KEY, env.reset(KEY, params)[1], action, params
  )


def actions(*lead, seed=2):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(-3, 3, (*lead, 10)), jnp.float32)


def test_a_rollout_is_that_of_the_planner(model, rng_key):
  env, params = make(model, max_steps=9)
  raw = actions(2, 6)
  keys = jax.random.split(rng_key)

  @jax.jit
  @jax.vmap
  def play(key, raw):
    observation, state = env.reset(key, params)

    def step(state, action):
      found = env.step_env(key, state, action, params)
      return found.state, found

    return observation, state, jax.lax.scan(step, state, raw)[1]

  observation, state, found = play(keys, raw)
  # Clipped to the bounds, and in the model's units.
  bounds = np.tile([1.0, 2.0], 5)
  blocks = np.clip(raw, -bounds, bounds).reshape(2, 6, 5, 2)
  path = planning.rollout_path(
    model.params,
    keys,
    state.latent,
    model.normalize_actions(blocks),
    model.dynamics,
    read_fn=model.latent,
  )
  np.testing.assert_allclose(
    found.observation[..., :3], path, rtol=1e-6, atol=1e-6
  )
  goals = np.repeat(state.goal[:, None], 6, axis=1)
  np.testing.assert_array_equal(found.observation[..., 3:], goals)
  np.testing.assert_allclose(
    found.reward, -np.sum((path - goals) ** 2, axis=-1), rtol=1e-5
  )
  assert np.ptp(observation) > 0 and np.ptp(path[:, 1:] - path[:, :-1]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('num_frames', [1, 3])
def test_a_history_of_frames_keeps_its_shape(num_frames, rng_key):
  """From one frame or a full window, over the end of episodes."""
  model = small_model.make(jepa_wm.WorldModel, history=3)
  env, _ = make(small_model.make(jepa_wm.WorldModel, history=1))
  env = dataclasses.replace(env, model=model)
  rng = np.random.default_rng(0)
  starts = rng.normal(size=(1, num_frames, 3)) + 3.0
  played = jnp.asarray(rng.normal(size=(1, num_frames - 1, 10)), jnp.float32)
  params = environment_params.make(
    model, starts, GOALS, start_actions=played, reach=1e-3, max_steps=4
  )
  raw = actions(8)

  @jax.jit
  def play(key):
    _, state = env.reset(key, params)

    def step(state, action):
      found = env.step(key, state, action, params)
      return found.state, found.info['final_observation']

    return jax.lax.scan(step, state, raw)[1]

  bounds = np.tile([1.0, 2.0], 5)
  blocks = model.normalize_actions(
    np.clip(raw, -bounds, bounds).reshape(8, 5, 2)
  )
  # Twice the same start, four blocks each; a planner's state grows.
  both = (jnp.repeat(x, 2, axis=0) for x in (params.starts, played))
  state = model.start_from(model.params, *both, grows=True)
  path = planning.rollout_path(
    model.params,
    jax.random.split(rng_key),
    state,
    blocks.reshape(2, 4, 10),
    model.dynamics,
    read_fn=model.latent,
  )
  found = play(rng_key)[:, :3].reshape(2, 4, 3)
  np.testing.assert_allclose(found, path, rtol=2e-6)


def test_an_episode_is_cut_and_begins_anew(model, rng_key):
  env, params = make(model)
  reset = jax.jit(env.reset)

  @jax.jit
  def play(key, params):
    _, state = env.reset(key, params)

    def step(state, given):
      found = env.step(*given[:1], state, *given[1:], params)
      return found.state, found

    keys = jax.random.split(key, 7)
    return jax.lax.scan(step, state, (keys, actions(7)))[1]

  found = play(rng_key, params)
  np.testing.assert_array_equal(found.truncated, [0, 0, 1, 0, 0, 1, 0])
  np.testing.assert_array_equal(found.state.time, [1, 2, 0, 1, 2, 0, 1])
  assert not found.terminated.any() and not found.info['broken'].any()
  # What is seen where one ends is what the step led to, and then a reset.
  np.testing.assert_array_equal(
    found.observation[:2], found.info['final_observation'][:2]
  )
  keys = jax.random.split(jax.random.split(rng_key, 7)[2])
  fresh, _ = reset(keys[1], params)
  np.testing.assert_array_equal(found.observation[2], fresh)
  np.testing.assert_allclose(found.info['discount'], 0.97)
  # A radius so wide that every step arrives: an array, so the same program.
  wide = play(rng_key, params.replace(reach=jnp.float32(1e6)))
  assert wide.terminated.all() and not wide.truncated.any()
  assert wide.info['reached'].all() and not wide.info['discount'].any()
  assert not np.any(wide.state.time)
  assert play._cache_size() == 1


@pytest.mark.slow
def test_an_ensemble_is_a_vmap_over_params(model, rng_key):
  env, params = make(model)
  other = params.replace(
    model=jax.tree.map(lambda x: 0.9 * x, params.model),
    units=dataclasses.replace(params.units, mean=params.units.mean + 1.0),
    max_steps=jnp.int32(2),
  )

  def play(params):
    _, state = env.reset(rng_key, params)

    def step(state, action):
      found = env.step(rng_key, state, action, params)
      return found.state, found

    return jax.lax.scan(step, state, actions(2))[1]

  both = jax.jit(jax.vmap(play))(
    jax.tree.map(lambda *x: jnp.stack(x), params, other)
  )
  alone = jax.jit(play)
  one_by_one = jax.tree.map(
    lambda *x: jnp.stack(x), alone(params), alone(other)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), both, one_by_one
  )
  assert alone._cache_size() == 1
  seen = both.info['final_observation'][..., :3]
  assert not np.allclose(seen[0], seen[1], atol=1e-2)
  np.testing.assert_array_equal(both.truncated, [[0, 0], [0, 1]])


def test_what_is_not_finite_ends_the_episode_and_goes_no_further(
  model, rng_key
):
  env, params = make(model)
  _, state = env.reset(rng_key, params)
  step = jax.jit(env.step_env)
  broken = params.replace(
    model=jax.tree.map(lambda x: x * jnp.nan, params.model)
  )
  for action, given in (
    (actions().at[3].set(jnp.nan), params),
    (actions(), broken),
  ):
    found = step(rng_key, state, action, given)
    assert found.info['broken'] and found.truncated and not found.terminated
    assert found.reward == 0.0
    np.testing.assert_array_equal(found.observation, env.observe(state))


def test_spaces_are_in_raw_units(model, rng_key):
  env, params = make(model)
  space = env.action_space(params)
  np.testing.assert_array_equal(space.high, np.tile([1.0, 2.0], 5))
  drawn = jax.vmap(space.sample)(jax.random.split(rng_key, 64))
  assert drawn.shape == (64, 10) and jax.vmap(space.contains)(drawn).all()
  assert not space.contains(1.5 * drawn[0].at[0].set(1.0))
  np.testing.assert_allclose(np.abs(drawn).max(0), space.high, rtol=0.1)
  seen = env.observation_space(params)
  assert seen.shape == (6,) and seen.sample(rng_key).shape == (6,)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda e, p: jax.eval_shape(stepped(e), jnp.zeros(2), p),
      r'action: expected \[10\], a block of 5 raw actions of 2 .* got \[2\]',
    ),
    (
      lambda e, p: jax.eval_shape(
        stepped(
          dataclasses.replace(
            e, reward_fn=rewards.from_function(lambda *s: s[0])
          )
        ),
        actions(),
        p,
      ),
      r'reward must be one number for each latent, shape \[\], got \[3\]',
    ),
    (
      lambda e, p: environment_params.make(
        e.model, np.zeros((2, 4)), GOALS, reach=1.0
      ),
      r'starts: .* size 3 as this model has them, got shape \[2, 1, 4\]',
    ),
    (
      lambda e, p: environment_params.make(
        e.model, GOALS, GOALS * [[1], [np.nan], [1], [1], [np.inf]], reach=1.0
      ),
      r'goals: .* NaN or infinity in 2 of 5 rows, the first of them row 1\.',
    ),
    (
      lambda e, p: environment_params.make(
        e.model, np.zeros((2, 2, 3)), GOALS, reach=1.0
      ),
      r'latents: expected 1 to 1 frames \(history\), got 2',
    ),
    (
      lambda e, p: environment_params.make(
        e.model, GOALS, GOALS, reach=1.0, goal_ranges=np.tile([3, 6], (5, 1))
      ),
      r'goal_ranges: expected \[5, 2\].* within the 5 goals',
    ),
    (
      lambda e, p: environment_params.make(e.model, GOALS, GOALS, reach=np.nan),
      r'reach: expected a distance above 0, got nan',
    ),
    (
      lambda e, p: environment_params.make(e.model, GOALS[:0], GOALS, reach=1),
      r'starts: expected at least one row, got none',
    ),
    (
      lambda e, p: dataclasses.replace(e, low=(1.0, 3.0)),
      r'low: expected bounds below high',
    ),
    (
      lambda e, p: dataclasses.replace(e, low=(0.0,)),
      r'low: expected a number or \[2\]',
    ),
    (
      lambda e, p: jax.eval_shape(
        e.reset, KEY, p.replace(goals=jnp.zeros((5, 4)))
      ),
      r'goals: expected latents of size 3 of this model, got shape \[5, 4\]',
    ),
    (
      lambda e, p: rl.from_frames(
        e.model, {'pixels': small_model.pixels(2)}, low=-1, high=[1, 2, 3]
      ),
      r'high: expected a number or \[2\], one for each raw action, got \[3\]',
    ),
    (
      lambda e, p: rl.from_frames(
        e.model, {'pixels': small_model.pixels(2)}, low=-1, high=1
      ),
      r'reach: frames alone do not say',
    ),
  ],
)
def test_what_does_not_fit_is_named(model, call, message):
  with pytest.raises(ValueError, match=message):
    call(*make(model))


@pytest.mark.slow
def test_a_world_gives_starts_and_the_radius(model):
  world = envs.TwoRoom()
  env, params = rl.from_world(model, world, num=300, rng_key=KEY, max_steps=7)
  assert params.starts.shape == (300, 1, 3) and params.max_steps == 7
  np.testing.assert_array_equal(params.starts[:, 0], params.goals)
  states = jax.vmap(world.reset)(jax.random.split(KEY, 300)[::299])
  seen = jax.vmap(dataclasses.replace(world, image_size=16).render)(states)
  np.testing.assert_allclose(
    model.encode(model.params, {'pixels': seen}), params.goals[::299], 1e-4
  )
  assert env.reach.used_truth and env.reach.balanced_accuracy > 0.5
  assert params.reach == np.float32(env.reach.value)
  assert env.low == (-1.0, -1.0) and env.high == (1.0, 1.0)


def episodes(lengths=(12, 4, 9), **more):
  """Recorded episodes whose frame number n shows what `pixels` gives row n."""
  total = sum(lengths)
  rng = np.random.default_rng(3)
  columns = {
    'observation/pixels': np.asarray(small_model.pixels(total)),
    'action': rng.normal(size=(total, 2)).astype(np.float32),
  }
  ends = np.cumsum(lengths)
  columns['action'][ends - 1] = np.nan
  return table.Table(
    where='here',
    columns={**columns, **more},
    offsets=ends - lengths,
    lengths=np.array(lengths),
  )


@pytest.mark.parametrize('goals', ['future', 'dataset', 'resets'])
def test_episodes_give_starts_goals_and_a_radius_without_the_truth(
  model, goals
):
  kept = episodes()
  env, params = rl.from_episodes(model, kept, low=-1, high=1, goals=goals)
  latents = model.encode(model.params, {'pixels': small_model.pixels(25)})
  if goals == 'future':
    # At least a block before the end of their episodes.
    starts = np.r_[:7, 16:20]
    ranges = [[s + 5, 12 if s < 12 else 25] for s in starts]
  else:
    starts = np.arange(25)
    ranges = np.tile([0, 25 if goals == 'dataset' else 3], (25, 1))
  wanted = latents[np.array([0, 12, 16])] if goals == 'resets' else latents
  np.testing.assert_allclose(params.starts[:, 0], latents[starts], atol=1e-5)
  np.testing.assert_allclose(params.goals, wanted, atol=1e-5)
  np.testing.assert_array_equal(params.goal_ranges, ranges)
  pairs = np.array([0, 1])  # Ten steps apart in the first episode.
  median = np.median(np.sum((latents[pairs] - latents[pairs + 10]) ** 2, -1))
  assert env.reach.value == pytest.approx(median, rel=1e-4)
  assert not env.reach.used_truth and 'no true state' in env.reach.how


def test_episodes_give_windows_with_what_was_played_between_their_frames():
  model, kept = small_model.make(jepa_wm.WorldModel), episodes()
  _, params = rl.from_episodes(
    model, kept, low=-1, high=1, goals='dataset', history=2
  )
  rows = np.r_[5:12, 21:25]  # A block into their episodes.
  latents = model.encode(model.params, {'pixels': small_model.pixels(25)})
  windows = np.stack([latents[rows - 5], latents[rows]], axis=1)
  np.testing.assert_allclose(params.starts, windows, atol=1e-5)
  raw = kept.columns['action'][rows[:, None] - 5 + np.arange(5)]
  np.testing.assert_allclose(
    params.start_actions[:, 0], model.normalize_actions(raw), atol=1e-6
  )


def test_episodes_that_give_nothing(model):
  ask = lambda kept, **more: rl.from_episodes(
    model, kept, low=-1, high=1, **more
  )
  with pytest.raises(ValueError, match=r'goals must be one of .*got'):
    ask(episodes(), goals='past')
  with pytest.raises(ValueError, match=r'here is long enough.* has 4'):
    ask(episodes((4, 3)))
  with pytest.raises(ValueError, match='10 steps apart, the longest has 9'):
    ask(episodes((9, 3)))
  with pytest.raises(ValueError, match='num: expected at least 1, got 0'):
    ask(episodes(), num=0)
  bare = episodes()
  bare.columns.pop('observation/pixels')
  with pytest.raises(ValueError, match=r"no column 'observation/pixels'.*act"):
    ask(bare)


def test_success_is_counted_in_the_distance_that_is_given(model):
  farther = rewards.Measure(
    lambda p, z, g: p * jnp.sum(jnp.abs(z - g), -1), jnp.float32(2.0), 'twice'
  )
  env, params = rl.from_episodes(
    model, episodes(), low=-1, high=1, goals='dataset', measure=farther
  )
  rows, latents = np.array([0, 1]), np.asarray(params.goals)
  apart = 2 * np.abs(latents[rows] - latents[rows + 10]).sum(-1)
  assert env.reach.value == pytest.approx(np.median(apart), rel=1e-4)
  assert env.reach.measure == 'twice'

  @jax.jit
  def play(params):
    _, state = env.reset(KEY, params)
    return env.step_env(KEY, state, jnp.zeros(10), params)

  step = play(params)
  seen, goal = jnp.split(step.observation, 2)
  expected = float(2 * jnp.sum(jnp.abs(seen - goal)))
  assert step.info['distance'] == pytest.approx(expected, rel=1e-5)
  # By its params: nothing of it is baked in.
  near = play(params.replace(distance=jnp.float32(0.0)))
  assert near.info['distance'] == 0.0 and near.info['reached']
  assert near.terminated and not step.terminated


def test_frames_in_hand_and_a_radius_of_ones_own(model):
  pixels = small_model.pixels(3)
  env, params = rl.from_frames(
    model,
    {'pixels': pixels},
    {'pixels': pixels[:2]},
    low=-1,
    high=[1, 2],
    reach=0.5,
  )
  assert params.starts.shape == (3, 1, 3) and params.goals.shape == (2, 3)
  assert env.reach.how == 'given' and env.high == (1.0, 2.0)
