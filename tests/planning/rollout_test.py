import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import rollout
from jepa_wm.types import Root

B, N, H, A, D = 2, 3, 6, 2, 4
HISTORY = 3


@pytest.fixture
def params():
  rng = np.random.default_rng(0)
  return {
    'action': rng.normal(size=(A, D)).astype(np.float32),
    'mix': rng.normal(size=(HISTORY, D, D)).astype(np.float32) / D,
  }


def window_dynamics(params, rng_key, action, state):
  """Predicts from a window of latents that fills from 1 to HISTORY."""
  del rng_key
  window = state['window']
  mix = params['mix'][-window.shape[2] :]
  latent = jnp.tanh(
    jnp.einsum('bntd,tde->bne', window, mix)
    + jnp.einsum('bna,ad->bnd', action, params['action'])
  )
  window = jnp.concatenate([window, latent[:, :, None]], axis=2)
  return {'window': window[:, :, -HISTORY:]}


def window_cost(params, state, action, goal):
  return planning.squared_distance(
    params, state['window'][:, :, -1], action, goal
  )


def loop(params, latent, actions):
  """The same dynamics for one candidate, in plain NumPy: latents [H, D]."""
  window, path = [latent], []
  for action in actions:
    mix = params['mix'][-len(window) :]
    total = sum(x @ m for x, m in zip(window, mix))
    path.append(np.tanh(total + action @ params['action']))
    window = [*window, path[-1]][-HISTORY:]
  return np.stack(path)


def make_problem(horizon=H):
  rng = np.random.default_rng(1)
  root = Root(
    {'window': jnp.asarray(rng.normal(size=(B, 1, D)), jnp.float32)},
    jnp.asarray(rng.normal(size=(B, D)), jnp.float32),
  )
  actions = jnp.asarray(rng.normal(size=(B, N, horizon, A)), jnp.float32)
  return root, actions, jax.random.split(jax.random.key(0), B)


def price(
  params,
  horizon=H,
  cost_fn=window_cost,
  dynamics_fn=window_dynamics,
  step_weights=None,
  actions=None,
):
  root, drawn, rng_keys = make_problem(horizon)

  @jax.jit
  def run(actions):
    state, goal = rollout.broadcast_root(root, N)
    return rollout.rollout(
      params,
      rng_keys,
      state,
      actions,
      goal,
      dynamics_fn,
      cost_fn,
      step_weights=step_weights,
    ).cost

  return run(drawn if actions is None else actions)


# A horizon of 2 ends before the window is full.
@pytest.mark.parametrize('horizon', [1, 2, H])
@pytest.mark.parametrize('kind', ['last', 'all', 'mixed'])
def test_a_growing_state_costs_what_a_plain_loop_says(params, horizon, kind):
  if kind == 'mixed':
    weights = np.arange(1, horizon + 1) % 3
  else:
    weights = planning.step_weights(horizon, kind)
  costs = price(params, horizon, step_weights=weights)
  root, actions, _ = make_problem(horizon)
  for b in range(B):
    for n in range(N):
      start = np.asarray(root.state['window'])[b, 0]
      path = loop(params, start, np.asarray(actions)[b, n])
      distance = np.sum((path - np.asarray(root.goal)[b]) ** 2, axis=-1)
      np.testing.assert_allclose(costs[b, n], weights @ distance, rtol=1e-5)


def test_the_default_counts_the_last_step_and_prices_it_once(params):
  calls = []

  def counting_cost(*args):
    calls.append(1)
    return window_cost(*args)

  costs = price(params, cost_fn=counting_cost)
  assert len(calls) == 1
  np.testing.assert_array_equal(
    costs, price(params, step_weights=planning.step_weights(H, 'last'))
  )


def test_a_step_that_does_not_count_may_cost_nan(params):
  weights = np.array([0, 1, 0, 0, 0, 1])

  def cost(params, state, action, goal):
    # The third step's action is marked, and its price is not a number.
    whole = window_cost(params, state, action, goal)
    return jnp.where(jnp.sum(action, axis=-1) > 100.0, jnp.nan, whole)

  _, actions, _ = make_problem()
  actions = actions.at[:, :, 2].set(100.0)
  poisoned, clean = (
    price(params, cost_fn=cost_fn, step_weights=weights, actions=actions)
    for cost_fn in (cost, window_cost)
  )
  np.testing.assert_array_equal(poisoned, clean)


def test_a_path_is_what_a_plain_loop_passes(params):
  root, actions, rng_keys = make_problem()

  @jax.jit
  def follow(actions):
    return rollout.rollout_path(
      params,
      rng_keys,
      root.state,
      actions,
      window_dynamics,
      read_fn=lambda state: {'latent': state['window'][:, :, -1]},
    )

  path = follow(actions[:, 0])
  assert path['latent'].shape == (B, H, D)
  for b in range(B):
    start = np.asarray(root.state['window'])[b, 0]
    expected = loop(params, start, np.asarray(actions)[b, 0])
    np.testing.assert_allclose(path['latent'][b], expected, atol=1e-5)


def test_a_path_of_a_growing_state_needs_something_to_read(params):
  root, actions, rng_keys = make_problem()
  with pytest.raises(ValueError, match=r'read_fn .* one shape at every step'):
    rollout.rollout_path(
      params, rng_keys, root.state, actions[:, 0], window_dynamics
    )


def test_steps_and_problems_draw_their_own_randomness():
  def dynamics(params, rng_key, action, state):
    del params, action, state
    return jax.vmap(lambda key: jax.random.normal(key, (1, D)))(rng_key)

  @jax.jit
  def path(rng_keys):
    num_problems = len(rng_keys)
    start, actions = (
      jnp.zeros((num_problems, D)),
      jnp.zeros((num_problems, H, A)),
    )
    return rollout.rollout_path({}, rng_keys, start, actions, dynamics)

  rng_keys = jax.random.split(jax.random.key(0), B)
  together = path(rng_keys)
  assert len(np.unique(together)) == B * H * D
  np.testing.assert_array_equal(path(rng_keys[1:])[0], together[1])


@pytest.mark.parametrize('kind', ['last', 'all'])
def test_memory_does_not_grow_with_the_horizon(kind):
  wide, samples = 256, 64

  def dynamics(params, rng_key, action, state):
    del rng_key
    return jnp.tanh(state * params + jnp.mean(action, axis=-1, keepdims=True))

  def temporary_bytes(horizon):
    def run(actions, start):
      return rollout.rollout(
        0.5,
        jax.random.split(jax.random.key(0), 1),
        start,
        actions,
        jnp.zeros((1, 1, wide)),
        dynamics,
        planning.squared_distance,
        step_weights=planning.step_weights(horizon, kind),
      ).cost

    actions = jax.ShapeDtypeStruct((1, samples, horizon, A), jnp.float32)
    start = jax.ShapeDtypeStruct((1, samples, wide), jnp.float32)
    compiled = jax.jit(run).lower(actions, start).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  state_bytes = 4 * samples * wide
  assert temporary_bytes(64) - temporary_bytes(4) < state_bytes


def test_names_the_dynamics_function_that_returns_the_wrong_shape(params):
  def forgets_the_candidates(params, rng_key, action, state):
    del params, rng_key, action
    return {'window': state['window'][:, 0]}

  message = (
    r'dynamics_fn .*forgets_the_candidates must return .* \[2, 3\], but'
    r" state\['window'\] has shape \[2, 1, 4\]"
  )
  with pytest.raises(ValueError, match=message):
    price(params, dynamics_fn=forgets_the_candidates)


@pytest.mark.parametrize(
  ('weights', 'message'),
  [
    (np.ones(H + 1), r'one weight for each of the 6 steps .* shape \[7\]'),
    (np.zeros(H), 'at least one of them not zero'),
    (np.full(H, np.nan), 'must be finite'),
  ],
)
def test_refuses_weights_that_make_no_sense(params, weights, message):
  with pytest.raises(ValueError, match=message):
    price(params, step_weights=weights)
