"""A world outside JAX whose every state is known in advance.

Its state is a position and how often it was stepped; a step adds the action,
and noise drawn from the seed of the episode. Some actions break it.
"""

import os
import time

import numpy as np

from jepa_wm.envs import host

RAISE, HANG, DIE, NAN = 90.0, 91.0, 92.0, 93.0


class CountingEnv:
  def reset(self, seed):
    self._rng = np.random.default_rng(seed)
    self._state = np.array([self._rng.normal(), 0.0])

  def place(self, vector):
    self._state = np.array(vector)

  def step(self, action):
    (amount,) = action
    if amount == RAISE:
      raise RuntimeError('the motor is on fire')
    if amount == HANG:
      time.sleep(1e6)
    if amount == DIE:
      os._exit(3)
    if amount == NAN:
      amount = np.nan
    self._state = self._state + np.array([amount + self._rng.normal(), 1.0])

  def render(self):
    return np.full((6, 8, 3), self._state[1], np.uint8)

  def vector(self):
    return self._state

  def proprio(self):
    return self._state[:1]

  def close(self):
    pass


class SlowToOpen(CountingEnv):
  def __init__(self):
    time.sleep(1.5)


def make(image_size=4):
  return host.HostWorld(
    open=CountingEnv,
    image_size=image_size,
    action_low=np.full(1, -1.0),
    action_high=np.full(1, 1.0),
    vector_dim=2,
    proprio_dim=1,
    distance=host.euclidean,
    success=success,
    draw_target=draw_target,
  )


def success(vectors, goals):
  return host.euclidean(vectors, goals) < 0.5


def draw_target(rng, vector):
  return np.array([rng.normal(), vector[1]])


def walk(seed, actions):
  """The states of an episode, in plain NumPy, `[T + 1, 2]`."""
  rng = np.random.default_rng(seed)
  states = [np.array([rng.normal(), 0.0])]
  for action in actions:
    states.append(states[-1] + np.array([action + rng.normal(), 1.0]))
  return np.stack(states)
