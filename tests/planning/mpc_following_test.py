"""Loops whose memory is a model's own state, in a world that tells once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import planning
from jepa_wm.planning import mpc
from jepa_wm.types import Root

CUES = jnp.array([1.0, -1.0, 1.0])


def observe_fn(env_state):
  """A cue, which is shown in the first frame alone."""
  shown = jnp.where(env_state['time'] == 0, CUES, 0.0)
  return {'position': env_state['position'], 'cue': shown}


def play_fn(env_state, block):
  position = env_state['position'] + block
  return {'position': position, 'time': env_state['time'] + 1}, position


def start_fn(params, seen):
  del params
  return {**seen, 'count': jnp.zeros(3, jnp.int32)}


def absorb_fn(params, state, action, seen):
  del params
  return {
    'position': seen['position'],
    'cue': state['cue'] + seen['cue'],
    # What was seen is what was played.
    'count': state['count']
    + jnp.isclose(seen['position'], state['position'] + action)[:, 0],
  }


def root_of_frames(params, memory, goal):
  del params
  seen = memory.observations
  return Root(
    {
      'position': seen['position'][:, -1],
      'cue': seen['cue'].sum(1),
      'count': jnp.zeros(3, jnp.int32),
    },
    goal,
  )


FOLLOWING = planning.Following(
  start_fn, absorb_fn, lambda params, state, goal: Root(state, goal)
)
PLAN_FN = planning.BoundPlanner(
  planner=planning.CEM(num_samples=64, num_elites=6, num_iterations=6),
  dynamics_fn=lambda params, rng_key, action, state: {
    **state,
    'position': state['position'] + action,
  },
  cost_fn=lambda params, state, action, goal: jnp.square(
    state['position'][..., 0] - 3 * state['cue']
  ),
  horizon=3,
  action_dim=1,
  step_weights=planning.step_weights(3, 'all'),
)


def run(rng_key, **settings):
  first = {'position': jnp.zeros((3, 1)), 'time': jnp.int32(0)}
  loop = functools.partial(
    mpc.run_mpc,
    observe_fn=observe_fn,
    plan_fn=PLAN_FN,
    play_fn=play_fn,
    num_plans=4,
    **settings,
  )
  return jax.jit(loop)(None, rng_key, first, jnp.zeros((3, 1)))


def test_what_is_seen_once_is_remembered_by_the_state_alone(rng_key):
  for receding_horizon in (1, 2):
    end, outputs = run(
      rng_key, following=FOLLOWING, receding_horizon=receding_horizon
    )
    np.testing.assert_allclose(end['position'][:, 0], 3 * CUES, atol=0.5)
    assert outputs.played.shape == (4, receding_horizon, 3, 1)
  end, _ = run(rng_key, root_fn=root_of_frames, history=2, receding_horizon=2)
  # It knew at first, and then no more.
  assert np.abs(end['position'][:, 0]).max() < 1.0


def test_every_frame_is_absorbed_once(rng_key):
  state = mpc.first_state(
    {'position': jnp.zeros((3, 1)), 'time': jnp.int32(0)},
    jnp.zeros((3, 1)),
    observe_fn=observe_fn,
    plan_fn=PLAN_FN,
    follows=True,
  )
  step = jax.jit(
    functools.partial(
      mpc.mpc_step,
      observe_fn=observe_fn,
      plan_fn=PLAN_FN,
      play_fn=play_fn,
      following=FOLLOWING,
      receding_horizon=3,
    )
  )
  for number in range(1, 4):
    keys = jax.random.split(jax.random.fold_in(rng_key, number), 3)
    state, _ = step(None, keys, state, jnp.zeros((3, 1)))
    # The last block is played, and what it led to is not looked at.
    assert state.memory.actions.shape == (3, 1, 1)
    np.testing.assert_array_equal(state.memory.state['count'], 3 * number - 1)


def test_one_memory_is_enough(rng_key):
  with pytest.raises(ValueError, match='give either root_fn'):
    run(rng_key, receding_horizon=1)
  with pytest.raises(ValueError, match='give either root_fn'):
    run(
      rng_key, receding_horizon=1, root_fn=root_of_frames, following=FOLLOWING
    )
  with pytest.raises(ValueError, match='history=2 would do nothing beside'):
    run(rng_key, receding_horizon=1, history=2, following=FOLLOWING)
