"""Episodes of host worlds are what their seeds say, broken ones left out."""

import dataclasses

import counting_world
import numpy as np
import pytest

from jepa_wm.envs import host_stage, policies, worlds
from jepa_wm.recipes import collecting


class DriftEnv(counting_world.CountingEnv):
  """Moves by the action; one episode in three breaks at its fifth step."""

  def reset(self, seed):
    self._seed, self._state = seed, np.zeros(2)

  def step(self, action):
    self._state = self._state + np.array([action[0], 1.0])
    if self._seed % 3 == 0 and self._state[1] == 5:
      raise RuntimeError('adrift')
    return float(action[0])

  def proprio(self):
    return self._state[1:]


def make(image_size=8):
  return dataclasses.replace(
    counting_world.make(image_size),
    open=DriftEnv,
    success=lambda vectors, goals: vectors[..., 1] == goals[..., 1],
    draw_target=lambda rng, vector: np.array([0.0, rng.choice([6, 8, 20])]),
    gives_reward=True,
    parameters={'water': 'calm'},
  )


@pytest.fixture
def recipe(monkeypatch):
  entry = worlds.World(
    make=make,
    policies={'expert': policies.host_smooth},
    place=lambda vectors: vectors,
    state_names=('x', 't'),
    unit='m',
    on_host=True,
  )
  monkeypatch.setitem(worlds.WORLDS, 'drift', entry)
  return lambda **changes: collecting.Collecting(
    **{
      'environment': 'drift',
      'num_episodes': 6,
      'episode_length': 9,
      'min_episode_length': 5,
      'image_size': 4,
      'policy': 'mixture',
      'mixture': {'expert': 1.0, 'random': 1.0},
      **changes,
    }
  )


def play(recipe):
  entry = worlds.get(recipe.environment)
  with host_stage.HostStage(
    entry.make(image_size=recipe.image_size), entry.policy, num_workers=0
  ) as stage:
    return list(collecting.played_episodes(recipe, stage=stage))


def test_episodes_are_functions_of_their_number(recipe, capsys):
  some, more = play(recipe()), play(recipe(num_episodes=20))
  assert len(some) == 6 and len(more) == 20
  for one, other in zip(some, more):
    assert one.provenance == other.provenance
    np.testing.assert_array_equal(one.actions, other.actions)
  assert 'broke: RuntimeError: adrift' in capsys.readouterr().out
  for episode in more:
    np.testing.assert_array_equal(
      episode.columns['reward'], episode.actions[:, 0]
    )
    length = len(episode.pixels)
    assert length in (7, 9, 10) and episode.is_terminal == (length < 10)
    np.testing.assert_array_equal(
      episode.columns['state'][:, 1], np.arange(length)
    )
    np.testing.assert_array_equal(
      episode.columns['observation/proprio'][:, 0], np.arange(length)
    )
    np.testing.assert_array_equal(episode.pixels[:, 0, 0, 0], range(length))
    np.testing.assert_allclose(
      np.diff(episode.columns['state'][:, 0]), episode.actions[:, 0], atol=1e-6
    )
  assert {e.provenance['policy'] for e in more} == {'expert', 'random'}


def test_the_record_says_what_the_world_is(recipe):
  found = recipe().provenance()
  assert found['environment_parameters'] == {'image_size': 4, 'water': 'calm'}
