"""One object that acts, against a loop by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_model

import jepa_wm
from jepa_wm import rl
from jepa_wm.planning import keys

B = 2


@pytest.fixture(scope='module')
def model():
  return small_model.make(jepa_wm.WorldModel)


@pytest.fixture(scope='module')
def planner(model):
  search = jepa_wm.CEM(num_samples=8, num_elites=2, num_iterations=2)
  return model.planner(search, horizon=2)


@pytest.fixture(scope='module')
def agent(model, planner):
  return rl.Agent(model, planner, history=2)


def test_it_does_what_a_loop_by_hand_does(model, planner, agent, rng_key):
  seen = [small_model.pixels(B, seed=number) for number in range(3)]
  goal = {'pixels': small_model.pixels(B, seed=9)}
  state = agent.start(rng_key, goal, num_blocks=7)
  problem_keys = keys.problem_keys(rng_key, B)
  warm_start, blocks = None, []
  for number, frame in enumerate(seen):
    acted = agent.act(state, {'pixels': frame})
    # The last two frames, and the block between them.
    window = jnp.stack(seen[max(0, number - 1) : number + 1], axis=1)
    plan = planner(
      keys.fold_keys(problem_keys, number),
      {'pixels': window},
      goal,
      actions=jnp.stack(blocks[-1:], axis=1) if blocks else None,
      warm_start=warm_start,
    )
    np.testing.assert_allclose(acted.plan.actions, plan.actions, atol=1e-5)
    np.testing.assert_allclose(
      acted.actions, model.raw_actions(plan.actions[:, 0]), atol=1e-4
    )
    warm_start = planner.shift(plan, 1)
    blocks.append(plan.actions[:, 0])
    state = acted.state
  assert state.number == 3 and state.num_left == 4
  memory = state.memory
  assert memory.observations.shape == (B, 1, 3)
  assert memory.actions.shape == (B, 1, 10)
  # It is the agent's to keep nothing: the same state does the same again.
  copied = jax.tree.map(jnp.copy, acted.state)
  one, two = (agent.act(x, {'pixels': seen[0]}) for x in (state, copied))
  np.testing.assert_array_equal(one.actions, two.actions)


def test_its_memory_may_be_the_state_of_the_model(model, planner, rng_key):
  agent = rl.Agent(model, planner, memory='state')
  seen = [{'pixels': small_model.pixels(B, seed=n)} for n in range(5)]
  state = agent.start(rng_key, seen[0])
  start, absorb = jax.jit(model.start), jax.jit(model.absorb)
  carried = start(model.params, seen[0])
  for number, frame in enumerate(seen):
    acted = agent.act(state, frame)
    # Longer than a window of three.
    if number:
      block = state.memory.actions[:, 0]
      carried = absorb(model.params, carried, block, frame)
    state = acted.state
  jax.tree.map(
    lambda *x: np.testing.assert_allclose(*x, atol=1e-5),
    state.memory.state,
    carried,
  )
  with pytest.raises(ValueError, match=r'expected arrays \[2, \*shape\]'):
    agent.act(state, {'pixels': small_model.pixels(3)})
  with pytest.raises(ValueError, match='history=2 would do nothing beside'):
    rl.Agent(model, planner, history=2, memory='state')


def test_one_world_needs_no_axis(model, agent, rng_key):
  goal, frame = (small_model.pixels(seed=number) for number in (0, 1))
  state = agent.start(rng_key, {'pixels': goal})
  acted = agent.act(state, {'pixels': frame})
  assert acted.actions.shape == (5, 2)
  again = agent.act(state, {'pixels': frame[None]})
  np.testing.assert_array_equal(acted.actions, again.actions[0])


def test_what_does_not_fit_is_a_sentence(model, planner, agent, rng_key):
  for history in (0, 4):
    with pytest.raises(ValueError, match=r'history must lie in 1\.\.3'):
      rl.Agent(model, planner, history=history)
  state = agent.start(rng_key, {'pixels': small_model.pixels(B)})
  for frames in (small_model.pixels(), small_model.pixels(3)):
    with pytest.raises(ValueError, match=r'expected arrays \[2, \*shape\]'):
      agent.act(state, {'pixels': frames})
