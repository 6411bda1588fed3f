import dataclasses
import types

import jax
import jax.numpy as jnp
import line_world
import numpy as np
import pytest
from adding import Adding

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import (
  diagnostic,
  host_violations,
  surprise,
  violations,
)


def _found(model, scale=1.0, num_episodes=32):
  rng = np.random.default_rng(0)
  action = rng.normal(size=(num_episodes, 3, 4)).astype(np.float32)
  start = 3 * rng.normal(size=(num_episodes, 1, 4)).astype(np.float32)
  paths = np.concatenate([start, start + action.cumsum(1)], axis=1)
  looked = diagnostic.Looked({}, scale * paths, action, None, None)
  question = diagnostic.Question(
    types.SimpleNamespace(model=model, params={}),
    types.SimpleNamespace(look=lambda *_: looked, world=None),
    jax.random.key(0),
  )
  return surprise.Surprise()(question).scalars


def test_a_model_that_is_right_is_surprised_by_teleports_alone():
  found = _found(Adding())
  assert found['plain'] < 1e-9 and found['auroc'] == 1.0
  # Two starts 3 sqrt(2) apart in every dimension, and their walks.
  assert 18 < found['teleport'] < 26
  assert found['ratio'] > 1e6 and found['p'] < 1e-6 and found['t'] > 0


def test_a_model_of_constant_latents_tells_nothing():
  found = _found(Adding(gain=0.0), scale=0.0)
  assert found['auroc'] == 0.5 and found['plain'] == found['teleport'] == 0.0
  assert found['p'] == 1.0


def test_errors_are_those_of_a_loop():
  found = _found(Adding(gain=0.5))
  rng = np.random.default_rng(0)
  action = rng.normal(size=(32, 3, 4))
  assert found['plain'] == pytest.approx(0.25 * np.mean(action**2), rel=1e-5)
  assert 0.9 < found['auroc'] < 1.0


def test_models_without_dynamics_are_refused():
  config = types.SimpleNamespace(name='ijepa')
  still = types.SimpleNamespace(acting=None, config=config)
  with pytest.raises(
    ValueError, match='model with dynamics, and ijepa has none'
  ):
    _found(still)
  assert jnp.isfinite(_found(Adding())['ratio'])


@dataclasses.dataclass(frozen=True)
class Seeing(Adding):
  """Its latents are places read off pictures of Two Room, and colours."""

  image_size: int = 28
  action_block: int = 2
  sees_color: bool = False

  @property
  def observation_spec(self):
    return {'pixels': jax.ShapeDtypeStruct((28, 28, 3), jnp.uint8)}

  params = model = property(lambda self: self)

  def encode(self, params, observation):
    """The centre of what is neither black nor white, and its redness."""
    pixels = observation['pixels'].astype(jnp.float32) / 255
    light = pixels.max(-1) - pixels.min(-1)
    total = light.sum((-2, -1)) + 1e-6
    centres = jnp.arange(28.0).reshape((1,) * (light.ndim - 1) + (-1,))
    x = (light * centres).sum((-2, -1)) / total
    y = (jnp.swapaxes(light, -2, -1) * centres).sum((-2, -1)) / total
    red = 100 * (pixels[..., 0] * light).sum((-2, -1)) / total
    blue = red if self.sees_color else jnp.zeros_like(red)
    return jnp.stack([x, y, blue, blue], -1)

  def normalize_actions(self, actions):
    """5 px of 224 a step, in pixels of the small picture."""
    moved = jnp.clip(actions, -1, 1).sum(-2) * 5 / 8
    return jnp.pad(moved, ((0, 0), (0, 0), (0, 2)))


def _played(model, **sizes):
  episodes = types.SimpleNamespace(world=worlds.get('two_room'))
  examined = types.SimpleNamespace(
    model=model,
    params={},
    **{
      name: getattr(model, name)
      for name in (
        'action_block', 'image_size', 'observation_spec', 'encode',
        'normalize_actions',
      )
    },
  )  # fmt: skip
  question = diagnostic.Question(examined, episodes, jax.random.key(1))
  return surprise.Surprise(**sizes)(question), examined


def test_played_teleports_surprise_and_colours_do_where_they_are_seen():
  sizes = {'num_blocks': 4, 'num_episodes': 12}
  blind, _ = _played(Seeing(), **sizes)
  seeing, _ = _played(Seeing(sees_color=True), **sizes)
  for found in (blind, seeing):
    assert found.verdict == 'surprised' and found.scalars['auroc'] > 0.9
    assert set(found.figures) == {
      'surprise.png', 'surprise_dark.png', 'surprise_frames.png',
      'surprise_frames_dark.png',
    }  # fmt: skip
  assert blind.scalars['colour'] < 0.01 * blind.scalars['teleport']
  assert seeing.scalars['p_colour'] < 0.01
  assert seeing.scalars['colour'] > 100 * blind.scalars['colour']


@pytest.mark.parametrize(
  'name',
  [
    'two_room',
    # They compile for many seconds.
    *(
      pytest.param(x, marks=pytest.mark.slow) for x in ('push_t', 'point_maze')
    ),
  ],
)
def test_what_is_changed_is_what_is_named_alone(name):
  world, model = worlds.get(name), Seeing()
  shown = violations.play(
    model, world, jax.random.key(0), num_blocks=4, num_episodes=2
  )
  plain, colour, teleport = (
    np.asarray(shown.seen[x]['pixels'], int)
    for x in ('plain', 'colour', 'teleport')
  )
  assert shown.moment == 2 and plain.shape == (2, 5, 28, 28, 3)
  for changed in (colour, teleport):
    np.testing.assert_array_equal(changed[:, :2], plain[:, :2])
    assert (changed[:, 2:] != plain[:, 2:]).any((2, 3, 4)).all()
  # A dot of another colour and a dot elsewhere; all else is as it was, but
  # for rounding.
  share = lambda one, other: (np.abs(one - other) > 2).any(-1).mean()
  assert max(share(colour[:, t], plain[:, t]) for t in (2, 3, 4)) < 0.1
  assert share(teleport[:, 2], plain[:, 2]) < 0.1


def test_worlds_on_the_host_are_teleported_too():
  world = worlds.World(
    make=line_world.make,
    policies={'expert': line_world.expert},
    place=lambda vectors: vectors,
    state_names=('place',),
    unit='steps',
    on_host=True,
  )
  shown = host_violations.play(
    line_world.LineModel(action_block=2),
    world,
    jax.random.key(0),
    num_blocks=4,
    num_episodes=6,
  )
  assert set(shown.seen) == {'plain', 'teleport'} and shown.moment == 2
  plain, odd = (
    # Places below zero, to which the line goes on, wrap around.
    np.asarray(shown.seen[x]['pixels'])[:, :, 0, 0, 0].view(np.int8) / 10
    for x in ('plain', 'teleport')
  )
  np.testing.assert_array_equal(odd[:, :2], plain[:, :2])
  # At the start of the episode before, and on by the same actions.
  np.testing.assert_array_equal(odd[:, 2], np.roll(plain[:, 0], 1))
  moved = np.asarray(shown.actions).reshape(6, 4, 2, 3).sum(2)
  moved = moved[..., 2] - moved[..., 0]
  np.testing.assert_array_equal(np.diff(odd[:, 2:]), moved[:, 2:])
  np.testing.assert_array_equal(np.diff(plain), moved)
