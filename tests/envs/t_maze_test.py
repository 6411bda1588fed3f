"""T-mazes: what is shown, what is forgotten, what cannot be undone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import occlusion, t_maze, worlds
from jepa_wm.evaluation.planning import pair_making, protocol

GAP, STEPS = 9, 29


@pytest.fixture(
  scope='module', params=['t_maze_distractor', 'occlusion', 'key_door']
)
def played(request):
  """The world, and vectors, pictures and successes of 64 episodes each."""
  world = worlds.get(f'{request.param}_{GAP}')
  env = world.make(image_size=16)

  def play(name, key):
    keys = jax.random.split(key, STEPS)
    state = env.reset(keys[0])
    policy = world.policy(name, env, 0.3)

    def step(carry, key):
      state, memory = carry
      action, memory = policy(key, state, memory)
      seen = env.vector(state), env.render(state), env.success(state, goal)
      return (env.step(state, action), memory), seen

    goal = env.from_vector(state.target)
    return jax.lax.scan(step, (state, policy.init(key, state)), keys)[1]

  keys = jax.random.split(jax.random.key(0), 64)
  play_all = lambda keys: {
    name: jax.vmap(functools.partial(play, name))(keys)
    for name in ('expert', 'either')
  }
  return env, jax.tree.map(np.asarray, jax.jit(play_all)(keys))


def test_the_expert_arrives_and_who_guesses_does_half_of_the_time(played):
  found = {name: np.mean(x[2][:, -1]) for name, x in played[1].items()}
  assert found['expert'] == 1.0
  assert 0.3 < found['either'] < 0.7


def test_nobody_leaves_the_stem_before_its_time_nor_a_room_after(played):
  vectors, _, reached = played[1]['either']
  assert np.all(vectors[:, : GAP + 1, 1] < 0.5)
  assert np.any(vectors[:, GAP + 1, 1] > 0.5)
  in_room = np.abs(vectors[..., 0]) > t_maze.ROOM
  assert np.all(in_room[:, 1:] >= in_room[:, :-1])
  assert np.all(in_room[:, -1])
  # Right is where the cue says, and stays so.
  right = np.sign(vectors[:, -1, 0]) == vectors[:, -1, 2] * vectors[:, -1, 3]
  np.testing.assert_array_equal(reached[:, -1], right)
  assert np.all(reached[:, 1:] >= reached[:, :-1])


def test_the_end_shows_the_colour_and_not_the_arm(played):
  _, pictures, _ = played[1]['expert']
  vectors = played[1]['expert'][0]
  assert {-2.0, 2.0} == set(vectors[:, -1, 0])
  assert len(np.unique(pictures[:, -1], axis=0)) == 1
  wrong = played[1]['either'][1][~played[1]['either'][2][:, -1], -1]
  assert len(np.unique(wrong, axis=0)) == 1
  assert np.any(wrong[0] != pictures[0, -1])


def test_the_cue_is_seen_first_and_then_no_more(played):
  env, shown = played
  vectors, pictures, _ = shown['expert']
  other = np.array(vectors)
  other[..., 2] *= -1  # The other cue,
  render = jax.jit(jax.vmap(lambda x: env.render(env.from_vector(x))))
  # ... for an agent that walks alike.
  of_other = render(jnp.asarray(other[:, : GAP + 1].reshape(-1, 7)))
  changed = np.any(
    np.reshape(of_other, pictures[:, : GAP + 1].shape)
    != pictures[:, : GAP + 1],
    axis=(2, 3, 4),
  )
  # What rolls is in the middle at first.
  shown_from = 1 if type(env) is occlusion.Occlusion else 0
  assert np.all(changed[:, shown_from:3]) and not np.any(changed[:, 3:])


def test_what_blinks_does_until_the_gate_opens():
  env = worlds.get(f't_maze_distractor_{GAP}').make(image_size=16)
  start = env.vector(env.reset(jax.random.key(0)))
  clocks = jnp.zeros((30, 7)).at[:, 4].set(jnp.arange(30.0))
  render = jax.jit(jax.vmap(lambda x: env.render(env.from_vector(x))))
  seen = np.asarray(render(start[None] + clocks))
  assert len(np.unique(seen[3:GAP], axis=0)) > 2
  assert len(np.unique(seen[GAP:], axis=0)) == 1


def test_a_problem_is_a_whole_episode():
  rule = protocol.get('short', environment=f't_maze_{GAP}', num_pairs=4)
  assert rule.budget == rule.goal_offset == GAP + t_maze.WALK
  manifest = pair_making.generate(rule, 4)
  for pair in manifest['pairs']:
    start, goal = pair['start_state'], pair['goal_state']
    assert (pair['start'], start[4], start[5]) == (0, 0, GAP)
    assert (goal[0], goal[2]) == (2 * start[2], start[2])


def test_other_gaps_are_refused_in_a_sentence():
  with pytest.raises(ValueError, match='5 to 200 steps, got 4; take t_maze_5'):
    worlds.get('t_maze_4')
  with pytest.raises(ValueError, match="got 'far' in 't_maze_far'"):
    worlds.get('t_maze_far')
  with pytest.raises(ValueError, match="named 't_maze' already"):
    worlds.register_family('t_maze', worlds.get)
  env = worlds.get('t_maze_9').make()
  assert (env.gap_low, env.gap_high) == (9, 9)
  state = dataclasses.replace(env.reset(jax.random.key(0)), clock=0.0)
  with pytest.raises(ValueError, match='action must have shape'):
    env.step(state, jnp.zeros(3))
  with pytest.raises(
    ValueError, match='x, y, cue, doors, clock, gap, seed, got'
  ):
    env.from_vector(jnp.zeros(3))
