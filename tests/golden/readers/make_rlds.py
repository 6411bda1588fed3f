"""Writes rlds_tfrecord with TensorFlow and TFDS themselves.

  python tests/golden/readers/make_rlds.py [FOLDER]      # tensorflow-cpu, tfds

Frame t of episode e is (e, 10 t, 7) everywhere, its action (e, t), its state
(t, e, 1), and a second camera is smaller. As in Open X-Embodiment: nested
observations, an instruction, a discount.
"""

import pathlib
import sys

import numpy as np
import tensorflow_datasets as tfds

FOLDER = pathlib.Path(__file__).parent
LENGTHS = (5, 4, 6)
PACKAGE = pathlib.Path(__file__).parent


class MadeUp(tfds.core.GeneratorBasedBuilder):
  """Three episodes."""

  VERSION = tfds.core.Version('0.1.0')
  pkg_dir_path = PACKAGE

  def _info(self):
    features = tfds.features
    step = {
      'observation': features.FeaturesDict(
        {
          'image': features.Image(shape=(12, 16, 3), encoding_format='png'),
          'wrist_image': features.Image(shape=(6, 6, 3), encoding_format='png'),
          'state': features.Tensor(shape=(3,), dtype=np.float32),
          'depth': features.Image(
            shape=(12, 16, 1), dtype=np.uint16, encoding_format='png'
          ),
        }
      ),
      'action': features.Tensor(shape=(2,), dtype=np.float64),
      'language_instruction': features.Text(),
      'discount': features.Scalar(np.float32),
      'reward': features.Scalar(np.float32),
      'is_first': features.Scalar(np.bool_),
      'is_last': features.Scalar(np.bool_),
      'is_terminal': features.Scalar(np.bool_),
    }
    return self.dataset_info_from_configs(
      features=features.FeaturesDict(
        {
          'steps': features.Dataset(step),
          'episode_metadata': features.FeaturesDict(
            {'file_path': features.Text()}
          ),
        }
      )
    )

  def _split_generators(self, download_manager):
    return {'train': self._episodes([0, 1]), 'val': self._episodes([2])}

  def _generate_examples(self, path):
    raise NotImplementedError

  def _episodes(self, numbers):
    for number in numbers:
      steps = []
      last = LENGTHS[number] - 1
      for t in range(LENGTHS[number]):
        image = np.empty((12, 16, 3), np.uint8)
        image[...] = (number, 10 * t, 7)
        steps.append(
          {
            'observation': {
              'image': image,
              'wrist_image': 255 - image[:6, :6],
              'state': np.array([t, number, 1], np.float32),
              'depth': np.full((12, 16, 1), 1000 * t, np.uint16),
            },
            'action': np.array([number, t], np.float64),
            'language_instruction': 'push it',
            'discount': 1.0,
            'reward': float(t == last),
            'is_first': t == 0,
            'is_last': t == last,
            'is_terminal': t == last and number == 1,
          }
        )
      yield (
        str(number),
        {
          'steps': steps,
          'episode_metadata': {'file_path': f'{number}.hdf5'},
        },
      )


if __name__ == '__main__':
  out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
  builder = MadeUp(data_dir=out / 'rlds_tfrecord')
  builder.download_and_prepare()
  print(builder.data_dir)
