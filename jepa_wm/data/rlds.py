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
from jepa_wm.data import columns as columns_lib

LAYOUT = 2
"""Number of this layout, in the metadata of a dataset that we wrote."""

_NEEDED = ('action', *columns_lib.ENDS)

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
  spec: columns_lib.Spec,
  *,
  metadata: Mapping[str, Any],
) -> Any:
  """Describes a dataset of episodes.

  Args:
    directory: where it will be written.
    spec: the columns of its episodes.
    metadata: saved with the description.
  """
  features = tfds.features

  def feature(name: str, column: columns_lib.Column) -> Any:
    if columns_lib.is_image(name):
      return features.Image(shape=column.shape, encoding_format='png')
    return features.Tensor(shape=column.shape, dtype=np.dtype(column.dtype))

  described = {name: feature(name, column) for name, column in spec.items()}
  step = {n: x for n, x in described.items() if n not in columns_lib.EPISODES}
  step |= {name: features.Scalar(np.bool_) for name in columns_lib.ENDS}
  episode = {n: x for n, x in described.items() if n in columns_lib.EPISODES}
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
        'steps': features.Dataset(columns_lib.nested(step)),
        'episode_metadata': features.FeaturesDict(
          {**episode, 'provenance': features.Text()}
        ),
      }
    ),
    metadata=tfds.core.MetadataDict(metadata),
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


def undecoded(builder: Any, split: str) -> Any:
  """The records of a split as they are on disk, a whole column at once.

  Pictures stay files: they are decoded here, without OpenCV.
  """
  return builder.as_data_source(
    split, decoders={'steps': tfds.decode.SkipDecoding()}
  )


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


def read_spec(path: pathlib.Path, info: Any) -> columns_lib.Spec:
  """The columns of the dataset at `path`, as its `info` describes them.

  Columns of other names than ours, of text or of unknown size are left out.

  Raises:
    ValueError: it lacks a column that all episodes have, or was written by the
      first edition of this code.
  """
  features = dict(info.features)
  steps = features.get('steps')
  found: dict[str, Any] = {}
  if isinstance(steps, tfds.features.Dataset):
    for name, feature in dict(steps.feature).items():
      nested = isinstance(feature, tfds.features.FeaturesDict)
      found |= (
        {f'{name}/{key}': x for key, x in feature.items()}
        if nested
        else {name: feature}
      )
  if missing := [name for name in _NEEDED if name not in found]:
    raise ValueError(
      f'The steps of the episodes at {path} lack the column '
      f'{" and ".join(missing)}; they have {sorted(found)}.'
    )
  try:
    metadata = dict(info.metadata or {})
  except (ValueError, TypeError, RecursionError) as error:
    raise files.damaged(path / 'metadata.json', error) from error
  if 'provenance' in metadata and metadata.get('layout') != LAYOUT:
    raise ValueError(
      f'The episodes at {path} are laid out as another edition of this code '
      'wrote them; collect or convert them again.'
    )
  of_episode = dict(features.get('episode_metadata', {}))
  found |= {n: x for n, x in of_episode.items() if n in columns_lib.EPISODES}
  return {
    name: columns_lib.Column(tuple(x.shape), np.dtype(x.np_dtype).name)
    for name, x in sorted(found.items())
    if columns_lib.is_known(name) and _is_numeric(name, x)
  }


def _is_numeric(name: str, feature: Any) -> bool:
  """Whether a feature is an array of numbers, or of pictures where one is."""
  if isinstance(feature, tfds.features.Image):
    return columns_lib.is_image(name)
  is_tensor = isinstance(feature, tfds.features.Tensor)
  return (
    is_tensor
    and not columns_lib.is_image(name)
    and None not in feature.shape
    and np.dtype(feature.np_dtype).kind in 'biuf'
  )


def to_example(
  *,
  columns: Mapping[str, np.ndarray],
  provenance: Mapping[str, Any],
  is_terminal: bool,
) -> dict[str, Any]:
  """An episode (see `episodes.Episode`) as the nested dict that TFDS stores."""
  num_frames = len(columns['action']) + 1
  last = num_frames - 1
  rows: dict[str, Any] = {
    'is_first': [t == 0 for t in range(num_frames)],
    'is_last': [t == last for t in range(num_frames)],
    'is_terminal': [t == last and is_terminal for t in range(num_frames)],
  }
  episode: dict[str, Any] = {'provenance': json.dumps(provenance)}
  for name, array in columns.items():
    if name in columns_lib.EPISODES:
      episode[name] = array
    elif name in columns_lib.STEPS:
      # RLDS gives the last step an action too; there is none, hence zeros.
      rows[name] = np.concatenate(
        [array, np.zeros_like(array, shape=(1, *array.shape[1:]))]
      )
    elif columns_lib.is_image(name):
      rows[name] = [to_png(frame) for frame in array]
    else:
      rows[name] = array
  return {
    'steps': [
      columns_lib.nested({name: row[t] for name, row in rows.items()})
      for t in range(num_frames)
    ],
    'episode_metadata': episode,
  }


def from_record(
  record: Mapping[str, Any], spec: columns_lib.Spec
) -> dict[str, Any]:
  """Inverts `to_example` for a record read with its steps left encoded."""
  metadata = record.get('episode_metadata', {})
  return {
    'columns': {name: column(record, name, spec) for name in spec},
    'provenance': json.loads(metadata.get('provenance', b'{}')),
    'is_terminal': bool(record['steps']['is_terminal'][-1]),
  }


def column(
  record: Mapping[str, Any], name: str, spec: columns_lib.Spec
) -> np.ndarray:
  """A column of such a record, pictures decoded."""
  if name in columns_lib.EPISODES:
    return np.asarray(record['episode_metadata'][name], spec[name].dtype)
  group, _, rest = name.rpartition('/')
  values = (record['steps'][group] if group else record['steps'])[rest]
  if columns_lib.is_image(name):
    return _from_images(values)
  if name in columns_lib.STEPS:
    return np.asarray(values, np.float32)[:-1]
  return np.asarray(values, spec[name].dtype)


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
