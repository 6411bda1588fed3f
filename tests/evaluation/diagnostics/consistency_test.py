"""Rollouts that agree with themselves, and such as do not, by closed forms."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adding import Adding

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import consistency, diagnostic


@dataclasses.dataclass(frozen=True)
class Gliding(Adding):
  """Actions push; a restart loses the speed."""

  def start(self, variables, latents, actions, *, grows=False):
    return latents[..., -1, :], jnp.zeros_like(latents[..., -1, :])

  def advance(self, variables, state, action):
    speed = state[1] + action
    return state[0] + speed, speed

  def read(self, state):
    return state[0]


def _question(model, paths, action, world=None, examined=None):
  looked = diagnostic.Looked({}, paths, action, None, None)
  episodes = types.SimpleNamespace(look=lambda *_: looked, world=world)
  examined = examined or types.SimpleNamespace(model=model, params={})
  return diagnostic.Question(examined, episodes, jax.random.key(0))


def test_a_restart_loses_what_latents_do_not_say():
  rng = np.random.default_rng(0)
  action = rng.normal(size=(16, 4, 2)).astype(np.float32)
  straight = np.pad(action.cumsum(1), ((0, 0), (1, 0), (0, 0)))
  found = consistency.Consistency()(_question(Adding(), straight, action))
  assert found.scalars['restarted'] == pytest.approx(0.0, abs=1e-9)
  assert found.scalars['error'] == pytest.approx(0.0, abs=1e-9)
  glided = np.pad(action.cumsum(1).cumsum(1), ((0, 0), (1, 0), (0, 0)))
  found = consistency.Consistency()(_question(Gliding(), glided, action))
  # Two steps at the speed that the first two actions gave.
  lost = np.mean(np.square(2 * action[:, :2].sum(1)))
  variance = glided.reshape(-1, 2).var(0).mean()
  assert found.scalars['restarted'] == pytest.approx(lost / variance, rel=1e-4)
  assert found.scalars['error'] == pytest.approx(0.0, abs=1e-9)
  with pytest.raises(ValueError, match='three frames or more'):
    consistency.Consistency()(_question(Adding(), straight[:, :2], action))


def test_what_does_not_change_is_what_drifts():
  vectors = np.stack(
    [np.linspace(0, 5, 11), np.full(11, 2.0), np.zeros(11)], axis=-1
  )[None]
  read = np.zeros((1, 3, 3))
  read[0, :, 1] = [1.0, 1.5, 3.0]
  drift = consistency._drift(vectors, read, np.array([1.0, 4.0, 0.0]))
  # The first moves, the last is the same in all episodes and tells nothing.
  np.testing.assert_allclose(drift, [[0.0, 0.125, 0.5]])


@pytest.mark.slow
def test_a_model_that_creeps_drifts_by_what_it_creeps(perfect_model):
  class Creeping(type(perfect_model)):
    def dynamics(self, params, rng_key, action, state):
      after = super().dynamics(params, rng_key, action, state)
      return dataclasses.replace(after, latents=after.latents + 1.0)

  rng = np.random.default_rng(0)
  action = rng.normal(size=(4, 2, 2)).astype(np.float32)
  paths = np.pad(action.cumsum(1), ((0, 0), (1, 0), (0, 0)))
  small = consistency.Consistency(
    num_steps=50, num_rollouts=8, num_probe_frames=64
  )
  drifts = []
  for examined in (perfect_model, Creeping()):
    drifts.append(small._drifts(
      _question(Adding(), paths, action, examined=examined),
      worlds.get('two_room'),
    ))  # fmt: skip
  right, creeping = (x['rest'][:, -1].mean() for x in drifts)
  # Ten blocks of a pixel; positions of fresh states deviate by some 56.
  assert right < 0.03 and 0.1 < creeping < 0.25
  assert drifts[0]['rest'].shape == (16, 11)
