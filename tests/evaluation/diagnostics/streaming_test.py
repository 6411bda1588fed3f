"""States that follow a stream, and such as forget, by closed forms."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adding import Adding

from jepa_wm.evaluation.diagnostics import diagnostic, streaming


@dataclasses.dataclass(frozen=True)
class Counting(Adding):
  """Says by how much it moved last that it moves again, and sums that up."""

  def start(self, variables, latents, actions, *, grows=False):
    return latents[..., -1, :], actions.sum(axis=-2)

  def advance(self, variables, state, action):
    return state[0] + action + state[1], state[1] + action

  def absorb(self, variables, state, action, latent):
    return latent, state[1] + action

  def read(self, state):
    return state[0]


def _asked(model, paths, action, **fields):
  looked = diagnostic.Looked({}, paths, action, None, None)
  episodes = types.SimpleNamespace(look=lambda *_: looked)
  examined = types.SimpleNamespace(model=model, params={})
  question = diagnostic.Question(examined, episodes, jax.random.key(0))
  return streaming.Streaming(**fields)(question)


@pytest.fixture(scope='module')
def action():
  return np.random.default_rng(0).normal(size=(6, 8, 2)).astype(np.float32)


def test_what_needs_no_memory_is_the_same_restarted(action):
  paths = np.pad(action.cumsum(1), ((0, 0), (1, 0), (0, 0)))
  found = _asked(Adding(gain=0.5), paths, action).scalars
  unit = paths.reshape(-1, 2).var(0).mean()
  squares = np.square(action)
  for name, expected in (
    ('error', squares.mean() / 4),
    ('early', squares[:, :2].mean() / 4),
    ('late', squares[:, -2:].mean() / 4),
    ('still', squares.mean()),
  ):
    assert found[name] == pytest.approx(expected / unit, rel=1e-4)
  assert found['apart'] == 0.0
  assert found['state_bytes'] == 2 * 4


def test_a_stream_knows_what_a_window_cannot_hold(action):
  # Each step is the sum of all actions so far: the stream is right.
  moved = np.pad(action.cumsum(1).cumsum(1), ((0, 0), (1, 0), (0, 0)))
  whole = _asked(Counting(history=8), moved, action).scalars
  assert whole['error'] == pytest.approx(0.0, abs=1e-9)
  assert whole['apart'] == pytest.approx(0.0, abs=1e-9)
  found = _asked(Counting(), moved, action, num_moments=1).scalars
  assert found['error'] == pytest.approx(0.0, abs=1e-9)
  # Of a window of two, all actions but the last two are lost.
  lost = np.square(action[:, :-2].sum(1)).mean()
  unit = moved.reshape(-1, 2).var(0).mean()
  assert found['apart'] == pytest.approx(lost / unit, rel=1e-4)


def test_doors(action):
  paths = jnp.zeros((6, 2, 2))
  with pytest.raises(ValueError, match='streaming takes windows of three'):
    _asked(Adding(), np.asarray(paths), action[:, :1])
