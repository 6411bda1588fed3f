"""Writes minari.zip with the minari package (0.5.4), images as JPEG as it does.

MINARI_DATASETS_PATH=/tmp/minari python tests/golden/readers/make_minari.py
"""

import os
import pathlib
import shutil
import sys

import gymnasium as gym
import minari
import numpy as np

FOLDER = pathlib.Path(__file__).parent


class World(gym.Env):
  """A square whose level is the time, and a number that says so exactly."""

  observation_space = gym.spaces.Dict(
    {
      'image': gym.spaces.Box(0, 255, (32, 32, 3), np.uint8),
      'state': gym.spaces.Box(-1e3, 1e3, (3,)),
    }
  )
  action_space = gym.spaces.Box(-1, 1, (2,))

  def _see(self):
    image = np.full((32, 32, 3), 20 + 10 * self.time, np.uint8)
    state = np.array([self.time, self.number, 1], np.float32)
    return {'image': image, 'state': state}

  def reset(self, *, seed=None, options=None):
    self.number = 0 if seed is None else seed
    self.time = 0
    return self._see(), {'clock': np.float32(0)}

  def step(self, action):
    self.time += 1
    info = {'clock': np.float32(self.time)}
    done = self.number == 1 and self.time == 4
    return self._see(), 1.0, done, self.time == 5, info


def write(name, env):
  """Two episodes: one runs out of time, one ends."""
  collector = minari.DataCollector(env, record_infos=True)
  for episode in range(2):
    collector.reset(seed=episode)
    done = False
    while not done:
      time = collector.unwrapped.time
      action = np.array([episode, time], np.float32) / 10
      *_, terminated, truncated, _ = collector.step(action)
      done = terminated or truncated
  return collector.create_dataset(name, algorithm_name='fixture')


if __name__ == '__main__':
  out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
  write('fixture/world-v0', World())
  source = pathlib.Path(os.environ['MINARI_DATASETS_PATH']) / 'fixture/world-v0'
  # HDF5 is mostly zeros at this size.
  shutil.make_archive(str(out / 'minari'), 'zip', source)
