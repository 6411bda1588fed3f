import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, recolouring


@dataclasses.dataclass(frozen=True)
class Still:
  """Expects that nothing changes."""

  history: int = 1

  def start(self, variables, latents, actions):
    return latents[..., -1, :]

  def advance(self, variables, state, action):
    return state

  def read(self, state):
    return state


def _found(encode_fn, factor='agent_color'):
  pixels = jax.ShapeDtypeStruct((16, 16, 3), np.uint8)
  model = types.SimpleNamespace(
    params={},
    model=types.SimpleNamespace(acting=Still()),
    image_size=16,
    observation_spec={'pixels': pixels},
    action_block=2,
    encode=lambda params, seen: encode_fn(seen['pixels'] / 255.0),
    normalize_actions=lambda x: x.reshape(*x.shape[:-2], -1),
  )
  episodes = diagnostic.Episodes(None, worlds.get('two_room'), horizon=2)
  question = diagnostic.Question(model, episodes, jax.random.key(0))
  ask = recolouring.Recolouring(factor=factor, num_episodes=8)
  return ask(question).scalars


def test_who_sees_colours_is_surprised_and_who_does_not_is_not():
  # A mean over the picture hardly moves with the agent.
  seeing = _found(lambda pixels: pixels.mean((-3, -2)))
  assert seeing['auroc'] > 0.9 and seeing['ratio'] > 10
  assert seeing['p_value'] < 0.01
  blind = _found(lambda pixels: jnp.zeros((*pixels.shape[:-3], 2)))
  assert blind['auroc'] == 0.5 and blind['p_value'] == 1.0


def test_worlds_and_models_that_have_it_not_are_refused():
  with pytest.raises(ValueError, match='agent_hue'):
    _found(lambda pixels: pixels.mean((-3, -2)), factor='agent_hue')
  model = types.SimpleNamespace(model=types.SimpleNamespace(acting=None))
  question = diagnostic.Question(
    model, diagnostic.Episodes(None), jax.random.key(0)
  )
  with pytest.raises(ValueError, match='takes a model with dynamics and a'):
    recolouring.Recolouring()(question)
