"""Writes swm.h5 with stable-worldmodel 0.1.1 itself, and swm_blosc.h5.

PYTHONPATH=. /path/to/peer/python tests/golden/readers/make_swm.py [FOLDER]
"""

import pathlib
import sys

import h5py
import hdf5plugin
import numpy as np

FOLDER = pathlib.Path(__file__).parent


def collect(path):
  """Two episodes of Two Room, played and written by the peer."""
  from benchmarks import peer

  world = peer.stable_worldmodel.World(
    'swm/TwoRoom-v1', num_envs=2, image_shape=(8, 8), max_episode_steps=6
  )
  from stable_worldmodel.policy import RandomPolicy

  class Heard(RandomPolicy):
    """Remembers what it saw and did, and when."""

    def __init__(self, **options):
      super().__init__(**options)
      self.heard = []

    def get_action(self, info, **options):
      action = super().get_action(info, **options)
      self.heard.append(
        (
          np.array(info['proprio']),
          np.array(action),
          np.array(info['step_idx']),
        )
      )
      return action

  policy = Heard(seed=3)
  world.set_policy(policy)
  path.unlink(missing_ok=True)
  world.collect(path, episodes=2, seed=0, format='hdf5', progress=False)
  return policy.heard


def compressed(path):
  """The layout of the published files: Blosc, a last action of NaN."""
  rng = np.random.default_rng(0)
  lengths = np.array([5, 4, 6])
  steps = np.concatenate([np.arange(length) for length in lengths])
  episode = np.repeat(np.arange(3), lengths)
  pixels = np.zeros((15, 8, 8, 3), np.uint8)
  pixels[...] = np.stack([episode, steps, steps * 0 + 7], -1)[:, None, None]
  action = rng.uniform(-1, 1, (15, 2)).astype(np.float32)
  action[np.cumsum(lengths) - 1] = np.nan
  state = rng.normal(size=(15, 7))
  with h5py.File(path, 'w') as file:
    blosc = hdf5plugin.Blosc(cname='lz4')
    for name, array in {
      'pixels': pixels,
      'action': action,
      'proprio': state[:, [0, 1, 5, 6]],
      'state': state,
      'step_idx': steps,
      'ep_idx': episode,
    }.items():
      file.create_dataset(name, data=array, chunks=array.shape, **blosc)
    file['ep_len'] = lengths
    file['ep_offset'] = np.cumsum(lengths) - lengths


if __name__ == '__main__':
  folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
  collect(folder / 'swm.h5')
  compressed(folder / 'swm_blosc.h5')
