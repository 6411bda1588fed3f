"""The RLDS layout of an episode, in TFDS' words, without TensorFlow.

TFDS can check, store and find such records without TensorFlow, but can neither
encode an image array nor decode one quickly; both are done here.
"""

import io
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from jepa_wm import files

_COLUMNS = (
  'observation/pixels',
  'action',
  'is_first',
  'is_last',
  'is_terminal',
)

# Features that can be told by name alone; none of them reads or runs a file of
# another's.
_CLASSES = frozenset(
  f'tensorflow_datasets.core.features.{module}.{name}'
  for module, names in {
    'audio_feature': ('Audio',),
    'bounding_boxes': ('BBoxFeature',),
    'class_label_feature': ('ClassLabel',),
    'dataset_feature': ('Dataset',),
    'features_dict': ('FeaturesDict',),
    'image_feature': ('Image',),
    'labeled_image': ('LabeledImage',),
    'optional_feature': ('Optional',),
    'scalar': ('Scalar',),
    'sequence_feature': ('Sequence',),
    'tensor_feature': ('Tensor',),
    'text_feature': ('Text',),
    'translation_feature': ('Translation', 'TranslationVariableLanguages'),
    'video_feature': ('Video',),
  }.items()
  for name in names
)
# Prose, in which braces mean nothing.
_TEXTS = ('description', 'valueRange', 'value_range')


def dataset_info(
  directory: pathlib.Path,
  *,
  frame: tuple[int, ...],
  raw_dim: int,
  proprio_size: int,
  state_size: int,
  metadata: Mapping[str, Any],
) -> Any:
  """Describes a dataset of episodes.

  Args:
    directory: where it will be written.
    frame: `(height, width, 3)`.
    raw_dim: size of a raw action.
    proprio_size: numbers `S` that the body feels of itself.
    state_size: size `V` of the low-dimensional state.
    metadata: a `tfds.core.MetadataDict`, saved with the description.
  """
  features = tfds.features
  step = {
    'observation': features.FeaturesDict(
      {
        'pixels': features.Image(shape=frame, encoding_format='png'),
        # A column without numbers in it is left out: TFDS cannot read it back.
        **{
          name: features.Tensor(shape=(size,), dtype=np.float32)
          for name, size in (('proprio', proprio_size), ('state', state_size))
          if size
        },
      }
    ),
    'action': features.Tensor(shape=(raw_dim,), dtype=np.float32),
    'is_first': features.Scalar(np.bool_),
    'is_last': features.Scalar(np.bool_),
    'is_terminal': features.Scalar(np.bool_),
  }
  return tfds.core.DatasetInfo(
    builder=tfds.core.DatasetIdentity(
      name='episodes',
      version=tfds.core.Version('1.0.0'),
      data_dir=os.fspath(directory),
      module_name=__name__,
    ),
    description='Episodes in the RLDS layout, written by jepa_wm.',
    features=features.FeaturesDict(
      {
        'steps': features.Dataset(step),
        'episode_metadata': features.FeaturesDict(
          {'provenance': features.Text()}
        ),
      }
    ),
    metadata=metadata,
  )


class _SortedSerializer(tfds.core.ExampleSerializer):
  """Writes an example's columns in the order of their names.

  Left alone, Protocol Buffers order them by hashes that every process seeds
  anew, and the same episodes give other files.
  """

  def serialize_example(self, example: Any) -> bytes:
    return self.get_tf_example(example).SerializeToString(deterministic=True)


class Writer(tfds.core.SequentialWriter):
  """TFDS' writer of ArrayRecord files, the same to the bit every time."""

  def __init__(self, info: Any, *, max_examples_per_shard: int) -> None:
    """Prepares to write what `dataset_info` describes."""
    super().__init__(
      info,
      max_examples_per_shard=max_examples_per_shard,
      file_format='array_record',
    )
    self._serializer = _SortedSerializer(info.features.get_serialized_info())


def open_builder(path: pathlib.Path) -> Any:
  """TFDS' builder of the dataset at `path`; the only door to one.

  TFDS imports the classes that `features.json` names, from the working
  directory too. Only its own may be named, which is found out first.

  Raises:
    ValueError: a class of somebody else is named, or the description cannot be
      read.
  """
  check_classes(path / 'features.json')
  if files.is_lfs_pointer(path / 'dataset_info.json'):
    raise files.damaged(path / 'dataset_info.json', '')
  try:
    return tfds.builder_from_directory(path)
  # TFDS and Protocol Buffers raise many kinds of errors.
  except Exception as error:
    raise ValueError(
      f'The dataset_info.json and features.json at {path} cannot be read '
      f'({error}).'
    ) from error


def check_classes(file: pathlib.Path) -> Any:
  """What a `features.json` holds, if it names no class but TFDS' own.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it does, or is no JSON.
  """
  content = files.read_json(file, pairs=True)
  try:
    names = list(_class_names(file, content))
  except RecursionError as error:
    raise files.damaged(file, error) from error
  for name in names:
    if not isinstance(name, str) or name not in _CLASSES:
      raise ValueError(
        f'{file} names the class {name!r:.100}, which is not of '
        'tensorflow_datasets; it was not imported. Prepare the dataset again '
        'with features of TFDS alone.'
      )
  return files.read_json(file)


def _class_names(file: pathlib.Path, content: Any) -> Iterator[Any]:
  """Every class that a description of features names, at any depth.

  `content` has lists of pairs for objects, of which a key may be there twice.
  """
  if isinstance(content, str):
    # Features may be described by JSON in a text.
    if '{' in content:
      yield from _class_names(file, files.parse_json(file, content, pairs=True))
  elif isinstance(content, list):
    for item in content:
      yield from _class_names(file, item)
  elif isinstance(content, tuple):
    key, value = content
    is_class = key.replace('_', '').lower() == 'pythonclassname'
    if is_class or (key == 'type' and isinstance(value, str)):
      yield value
    elif key in _TEXTS and isinstance(value, str):
      return
    else:
      yield from _class_names(file, value)


def check_columns(path: pathlib.Path, features: Any) -> None:
  """Refuses the dataset at `path` if its `features` lack a column we read.

  Raises:
    ValueError: they do.
  """
  steps = dict(features).get('steps')
  found: set[str] = set()
  if isinstance(steps, tfds.features.Dataset):
    for name, feature in dict(steps.feature).items():
      nested = isinstance(feature, tfds.features.FeaturesDict)
      found |= {f'{name}/{key}' for key in feature} if nested else {name}
  if missing := [name for name in _COLUMNS if name not in found]:
    raise ValueError(
      f'The steps of the episodes at {path} lack the column '
      f'{" and ".join(missing)}; they have {sorted(found)}.'
    )


def to_example(
  *,
  pixels: np.ndarray,
  actions: np.ndarray,
  proprio: np.ndarray,
  state: np.ndarray,
  provenance: Mapping[str, Any],
  is_terminal: bool,
) -> dict[str, Any]:
  """An episode (see `episodes.Episode`) as the nested dict that TFDS stores."""
  last = len(pixels) - 1
  # RLDS gives the last step an action too; there is none, hence zeros.
  actions = np.pad(actions, ((0, 1), (0, 0)))
  return {
    'steps': [
      {
        'observation': {
          'pixels': to_png(frame),
          **({'proprio': body} if len(body) else {}),
          **({'state': true} if len(true) else {}),
        },
        'action': action,
        'is_first': t == 0,
        'is_last': t == last,
        'is_terminal': t == last and is_terminal,
      }
      for t, (frame, body, true, action) in enumerate(
        zip(pixels, proprio, state, actions, strict=True)
      )
    ],
    'episode_metadata': {'provenance': json.dumps(provenance)},
  }


def from_record(record: Mapping[str, Any]) -> dict[str, Any]:
  """Inverts `to_example` for a record read with its steps left encoded."""
  steps = record['steps']
  observation = steps['observation']
  nothing = np.zeros((len(observation['pixels']), 0), np.float32)
  metadata = record.get('episode_metadata', {})
  return {
    'pixels': _from_images(observation['pixels']),
    'actions': np.asarray(steps['action'], np.float32)[:-1],
    'proprio': np.asarray(observation.get('proprio', nothing), np.float32),
    'state': states(record),
    'provenance': json.loads(metadata.get('provenance', b'{}')),
    'is_terminal': bool(steps['is_terminal'][-1]),
  }


def states(record: Mapping[str, Any]) -> np.ndarray:
  """The true states, float32 `[T, V]`, of such a record."""
  observation = record['steps']['observation']
  nothing = np.zeros((len(observation['pixels']), 0), np.float32)
  return np.asarray(observation.get('state', nothing), np.float32)


def to_png(frame: np.ndarray) -> bytes:
  """Encodes uint8 `[height, width, 3]` losslessly.

  Pillow takes three times as long for a small frame, most of it before it meets
  a pixel, and a collection is one call per frame.
  """
  height, width, _ = frame.shape
  # Every row starts with its filter; 0 (none) is smallest for flat renderings.
  rows = np.zeros((height, 1 + 3 * width), np.uint8)
  rows[:, 1:] = frame.reshape(height, -1)
  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  chunks = (
    (b'IHDR', header),
    (b'IDAT', zlib.compress(rows.data, 1)),
    (b'IEND', b''),
  )
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(data))
    + kind
    + data
    + struct.pack('>I', zlib.crc32(data, zlib.crc32(kind)))
    for kind, data in chunks
  )


def _from_images(images: Iterable[bytes]) -> np.ndarray:
  """Decodes image files to uint8 `[T, height, width, 3]`."""
  frames = []
  for data in images:
    with PIL.Image.open(io.BytesIO(data)) as image:
      frames.append(np.asarray(image.convert('RGB')))
  return np.stack(frames)
