"""How near in latents counts as there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jepa_wm
from jepa_wm import envs, rl
from jepa_wm.rl import reach, rewards


class Line:
  """Numbers, solved where less than 0.1 apart."""

  def success(self, state, goal):
    return jnp.abs(state - goal)[0] < 0.1


def test_the_truth_gives_the_radius_that_tells_pairs_apart():
  places = np.random.default_rng(0).uniform(size=(200, 1)).astype(np.float32)
  # Latents are ten times as far apart, so squares a hundred times.
  found = reach.from_truth(
    Line(), jnp.asarray(10 * places), jnp.asarray(places), num_pairs=20_000
  )
  assert found.used_truth and found.balanced_accuracy > 0.97
  assert found.value == pytest.approx(1.0, rel=0.15)
  assert f'{found.balanced_accuracy:.3f}' in found.how


def test_time_gives_the_median_of_frames_some_steps_apart():
  """Two walkers of unlike speed, and one episode that is too short."""
  walks = [np.arange(15.0), 3 * np.arange(12.0), np.zeros(4)]
  lengths = np.array([len(x) for x in walks])
  offsets = np.cumsum(lengths) - lengths
  latents = np.concatenate(walks)[:, None]
  found = reach.from_time(latents, offsets, lengths)
  # Five pairs 10 apart, two 30 apart: squares 100 and 900.
  assert found.value == 100.0
  assert not found.used_truth and found.balanced_accuracy is None
  assert '10 steps apart in 3 episodes' in found.how
  with pytest.raises(ValueError, match='no episode has frames 15 steps apart'):
    reach.from_time(latents, offsets, lengths, num_steps=15)
  with pytest.raises(ValueError, match='NaN or infinite'):
    reach.from_time(latents * np.nan, offsets, lengths)


def test_a_head_s_distance_gives_the_radius_by_its_own_params():
  """A line folded in two: places that are far apart lie near in latents."""
  places = np.linspace(-1.0, 1.0, 201).astype(np.float32)[:, None]
  folded = np.concatenate([np.abs(places), 0.01 * places], axis=1)
  unfolds = rewards.Measure(
    lambda p, z, g: p['scale'] * jnp.abs(z - g)[..., 1], {'scale': 100.0}, 'way'
  )
  found = reach.from_time(
    folded, np.array([0]), np.array([201]), num_steps=20, measure=unfolds
  )
  assert found.value == pytest.approx(0.2, rel=1e-4)
  assert found.measure == 'way' and 'median way of frames 20' in found.how
  settings = {'num_pairs': 20_000}
  given = Line(), jnp.asarray(folded), jnp.asarray(places)
  truth = reach.from_truth(*given, measure=unfolds, **settings)
  assert truth.balanced_accuracy > 0.97 and truth.measure == 'way'
  assert truth.value == pytest.approx(0.1, rel=0.1)
  assert reach.from_truth(*given, **settings).balanced_accuracy < 0.97
  assert reach.given(3.0, unfolds).measure == 'way'


def test_pairs_that_are_all_unsolved_give_no_radius():
  places = jnp.arange(4.0)[:, None] * jnp.array([[1.0]])

  class Never(Line):
    def success(self, state, goal):
      return jnp.bool(False)

  with pytest.raises(ValueError, match=r'of 50 pairs of 4 frames .* 0 solved'):
    reach.from_truth(Never(), places, places, num_pairs=50)


@pytest.mark.slow
def test_the_shipped_model_knows_when_it_is_there():
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  env, _ = rl.from_world(
    model, envs.TwoRoom(), num=1024, rng_key=jax.random.key(0)
  )
  assert env.reach.value == pytest.approx(0.62, abs=0.1)
  assert env.reach.balanced_accuracy > 0.95
