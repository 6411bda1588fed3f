from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.data import simulation


@flax.struct.dataclass
class Walk:
  """A world on a line; its picture and its state tell position and time."""

  gain: float = 2.0
  limit: int = 99
  action_dim: int = flax.struct.field(pytree_node=False, default=2)

  num_traces: ClassVar[int] = 0

  def reset(self, rng_key):
    Walk.num_traces += 1  # Python runs only while tracing.
    place = jax.random.randint(rng_key, (), 0, 50).astype(jnp.float32)
    time = jnp.zeros((), jnp.int32)
    return {'place': place, 'time': time, 'limit': jnp.asarray(self.limit)}

  def step(self, state, action):
    return {
      'place': state['place'] + self.gain * action.sum(),
      'time': state['time'] + 1,
      'limit': state['limit'],
    }

  def render(self, state):
    return jnp.full((4, 4, 3), state['time'], jnp.uint8)

  def vector(self, state):
    return 2.0 * self.proprio(state)

  def proprio(self, state):
    return state['place'][None]


@flax.struct.dataclass
class Steps:
  """Action (how often asked in this episode, noise)."""

  def init(self, rng_key, state):
    return jnp.zeros((), jnp.float32)

  def __call__(self, rng_key, state, memory):
    noise = jax.random.uniform(rng_key, ())
    return jnp.stack([memory, noise]), memory + 1.0


def timed_out(state):
  return state['time'] == state['limit']


def windows(*, limit=99, **options):
  options = {
    'num_frames': 3,
    'stride': 2,
    'batch_size': 64,
    'seed': 0,
    'num_steps': 10,
    'done_fn': timed_out,
  } | options
  return simulation.simulated_windows(Walk(limit=limit), Steps(), **options)


def test_frames_actions_and_states_belong_together():
  batch = next(windows())
  assert jax.tree.map(lambda a: (a.shape, str(a.dtype)), batch) == {
    'observation': {
      'pixels': ((64, 3, 4, 4, 3), 'uint8'),
      'proprio': ((64, 3, 1), 'float32'),
    },
    'action': ((64, 2, 4), 'float32'),
    'state': ((64, 3, 1), 'float32'),
  }
  assert all(isinstance(array, jax.Array) for array in jax.tree.leaves(batch))
  times = np.asarray(batch['observation']['pixels'][:, :, 0, 0, 0]).astype(int)
  np.testing.assert_array_equal(np.diff(times, axis=1), 2)
  actions = np.asarray(batch['action']).reshape(64, 2, 2, 2)
  np.testing.assert_array_equal(actions[..., 0], times[:, :2, None] + [0, 1])
  moves = 2.0 * actions.sum(axis=(2, 3))
  np.testing.assert_allclose(
    np.diff(batch['observation']['proprio'][..., 0], axis=1), moves, rtol=1e-4
  )
  # Every place of a window in the episode: starts 0 to 6.
  assert set(times[:, 0]) == set(range(7))


def test_resumed_is_uninterrupted_and_compiled_once(resumed):
  num_traces = Walk.num_traces
  first, second = resumed(windows)
  other = next(windows(seed=1))
  for batch in (second, other):
    same = jax.tree.map(np.array_equal, first, batch)
    assert not same['observation']['proprio']
    assert not same['action'] and not same['state']
  assert Walk.num_traces == num_traces + 3  # One a stream.


def test_each_process_plays_its_rows(shared_out):
  given = {'num_frames': 2, 'stride': 1, 'batch_size': 4, 'seed': 0}
  shared_out(lambda **own: windows(num_steps=4, **given, **own), 4)


def test_windows_stay_before_the_end_of_the_episode():
  batch = next(windows(limit=7))
  times = np.asarray(batch['observation']['pixels'][:, :, 0, 0, 0])
  assert set(times[:, 0]) == {0, 1, 2, 3}
  batch = next(windows(limit=1))
  assert set(np.asarray(batch['observation']['pixels'][:, 0, 0, 0, 0])) == {0}


def test_play_starts_with_the_reset_and_ends_after_the_last_action(rng_key):
  states, actions, memory = simulation.play(
    Walk(), Steps(), rng_key, num_steps=5
  )
  np.testing.assert_array_equal(states['time'], np.arange(6))
  assert states['place'][0] == np.round(states['place'][0])
  np.testing.assert_allclose(
    np.diff(states['place']), 2.0 * np.asarray(actions).sum(-1), rtol=1e-4
  )
  assert len(set(np.asarray(actions)[:, 1])) == 5
  assert memory == 0.0


@pytest.mark.parametrize(
  ('done', 'expected'),
  [([0, 0, 1, 1], (3, True)), ([1, 0, 0, 0], (1, True)), ([0] * 4, (4, False))],
)
def test_episode_length(done, expected):
  states = {'done': jnp.array(done, bool)}
  length, is_done = simulation.episode_length(states, lambda s: s['done'])
  assert (int(length), bool(is_done)) == expected
  assert int(simulation.episode_length(states, None)[0]) == 4


def test_impossible_counts_are_refused():
  with pytest.raises(ValueError, match='must be at least 1, got 0, 2 and 64'):
    windows(num_frames=0)
  with pytest.raises(ValueError, match='num_steps must be at least 4'):
    windows(num_steps=3)
