"""Two Room as a world outside JAX: the same world behind the other face."""

import dataclasses
import functools

import counting_world
import jax
import numpy as np

from jepa_wm.envs import host, two_room

BROKEN = 1e3
"""A place whose row breaks at the third step."""

_WORLD = two_room.TwoRoom(image_size=28)
_STEP = jax.jit(_WORLD.step)
_RENDER = jax.jit(_WORLD.render)


class HostTwoRoom:
  def reset(self, seed):
    self._count = 0
    self._breaks = False
    self._state = _WORLD.reset(jax.random.key(seed))

  def place(self, vector):
    self._breaks = vector[0] > BROKEN
    self._state = _WORLD.from_vector(np.float32(np.mod(vector, BROKEN)))

  def step(self, action):
    self._count += 1
    if self._breaks and self._count == 3:
      raise RuntimeError('the floor gave way')
    self._state = _STEP(self._state, np.float32(action))

  def render(self):
    return np.asarray(_RENDER(self._state))

  def vector(self):
    return np.asarray(self._state.position, np.float64)

  def proprio(self):
    return self.vector()

  def close(self):
    pass


def distance(vectors, goals):
  return host.euclidean(vectors, goals)


def make(image_size=28):
  return dataclasses.replace(
    counting_world.make(image_size),
    open=HostTwoRoom,
    action_low=np.full(2, -1.0),
    action_high=np.full(2, 1.0),
    proprio_dim=2,
    distance=distance,
    success=lambda vectors, goals: distance(vectors, goals) < 16.0,
    draw_target=lambda rng, vector: rng.uniform(20, 200, 2),
  )


def walker(world, action_noise):
  """Straight to the target, walls or not."""
  return functools.partial(_walk, action_noise)


def _walk(action_noise, rng, target):
  def act(vector, proprio):
    way = target - vector
    way = way / max(np.linalg.norm(way), 1e-6)
    return np.clip(way + action_noise * rng.normal(size=2), -1, 1)

  return act
