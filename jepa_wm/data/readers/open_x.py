"""RLDS as Open X-Embodiment has it: TFDS folders of ArrayRecord or TFRecord.

  dataset_info.json, features.json            in a folder named by a version
  NAME-SPLIT.tfrecord-00000-of-00010, ...     or .array_record-...

One record an episode; `steps` of `observation/...`, `action`, `is_first`,
`is_last`, `is_terminal`. A step's action led from its observation; the last
step's means nothing. Columns are named by their path, 'observation/image'. No
TensorFlow is needed, and no dataset's code is run.
"""

import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jepa_wm import files
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import rlds
from jepa_wm.data.readers import columns, images, reader, tfrecord

_NO_VECTORS = {
  *('is_first', 'is_last', 'is_terminal', 'reward', 'discount'),
  *('language_embedding', 'observation/natural_language_embedding'),
}


def looks_like(path: pathlib.Path) -> bool:
  """Whether `path` is such a folder, or the one above its versions."""
  return bool(_versions(path))


class OpenX:
  """The episodes of one dataset; see `reader.Reader`."""

  def __init__(self, path: pathlib.Path, options: reader.Options) -> None:
    """Opens a folder.

    Args:
      path: of one version, or the folder of the dataset if it has one version.
      options: what to read.

    Raises:
      FileNotFoundError: there is no dataset, or several versions.
      ValueError: it has no steps, lacks a column or split, or is cut off.
    """
    self.path = _only_version(path)
    self.warnings: list[str] = []
    self._options = options
    builder = rlds.open_builder(self.path)
    info = builder.info
    self._features = info.features
    steps = dict(self._features).get('steps')
    if not isinstance(steps, tfds.features.Dataset):
      raise ValueError(
        f'{self.path} is no RLDS dataset: it has no steps, only '
        f'{", ".join(sorted(dict(self._features)))}.'
      )
    found = dict(_leaves(steps.feature))
    self._choice = columns.choose(
      self.path,
      options,
      images=[name for name, feature in found.items() if _is_image(feature)],
      vectors=[
        name
        for name, feature in found.items()
        if _is_vector(feature) and name not in _NO_VECTORS
      ],
      steps={
        name: name
        for name in ('reward', 'discount')
        if name in found and found[name].shape == ()
      },
    )
    names = list(info.splits) if options.split is None else [options.split]
    missing = set(names) - set(info.splits)
    if missing or not names:
      raise ValueError(
        f'{self.path} has no split {options.split!r}, only '
        f'{", ".join(sorted(info.splits)) or "nothing"}.'
      )
    file_format = str(info.file_format.value) if info.file_format else ''
    opened = _Records if 'array' in file_format else _TfRecords
    self._splits = {name: opened(builder, name) for name in names}
    ends = itertools.accumulate(len(split) for split in self._splits.values())
    self._ends = np.array(list(ends))
    self.num_episodes = int(self._ends[-1])
    if not self.num_episodes:
      raise ValueError(f'{self.path} holds no episodes.')
    self.provenance: dict[str, Any] = {
      'format': f'RLDS ({file_format})',
      'name': info.name,
      'version': str(info.version),
      'splits': names,
      'columns': self._choice.to_dict(),
    }

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    reader.check_index(self, index)
    number = int(np.searchsorted(self._ends, index, side='right'))
    split, records = list(self._splits.items())[number]
    own = index - int(self._ends[number]) + len(records)
    where = f'{self.path}, {split} episode {own},'
    try:
      steps = records[own]['steps']
    except (OSError, RuntimeError, EOFError) as error:
      raise ValueError(
        f'{where} cannot be read ({error}); the source is cut off or damaged, '
        'copy it again.'
      ) from error
    if np.any(steps.get('is_first', ())[1:]):
      raise ValueError(
        f'{where} has the first step of another one in it (is_first); write '
        'one record per episode.'
      )
    found: dict[str, Any] = {
      name: np.asarray(_at(steps, name)) for name in self._choice.vectors
    }
    pixels = _at(steps, self._choice.pixels)
    if np.asarray(pixels[0]).dtype.kind in 'SO':
      pixels = images.decode(where, pixels)
    else:
      pixels = np.asarray(pixels)
    found[self._choice.pixels] = pixels
    ends = steps.get('is_terminal')
    return columns.episode(
      where,
      found,
      self._choice,
      self._options,
      provenance={'index': index, 'split': split},
      is_terminal=ends is not None and bool(ends[-1]),
    )


class _Records:
  """Records of an ArrayRecord split, images as they are encoded."""

  def __init__(self, builder: Any, split: str) -> None:
    try:
      self._source = rlds.undecoded(builder, split)
    except (OSError, RuntimeError, EOFError) as error:
      for file in builder.info.splits[split].filepaths:
        if files.is_lfs_pointer(pathlib.Path(file)):
          raise files.damaged(pathlib.Path(file), error) from error
      raise ValueError(
        f'The files of {split} are cut off or missing ({error}); copy the '
        'source again.'
      ) from error

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Any:
    return self._source[index]


class _TfRecords:
  """Records of a TFRecord split, images as they are encoded."""

  def __init__(self, builder: Any, split: str) -> None:
    self._features = builder.info.features
    info = builder.info.splits[split]
    self._places: list[tuple[pathlib.Path, int, int]] = []
    for file, expected in zip(info.filepaths, info.shard_lengths, strict=True):
      path = pathlib.Path(file)
      offsets = tfrecord.record_offsets(path)
      if len(offsets) != expected:
        raise ValueError(
          f'{path} holds {len(offsets)} episodes and dataset_info.json names '
          f'{expected}; it is cut off, copy it again.'
        )
      self._places += [(path, int(a), int(b)) for a, b in offsets]

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> Any:
    data = tfrecord.read_record(*self._places[index])
    return self._features.deserialize_example_np(
      data, decoders={'steps': tfds.decode.SkipDecoding()}
    )


def _versions(path: pathlib.Path) -> list[pathlib.Path]:
  """Folders at or below `path` that TFDS wrote."""
  below = sorted([*path.glob('*'), *path.glob('*/*')])
  found = [path, *files.visible(below)]
  named = [
    folder
    for folder in found
    if (folder / 'dataset_info.json').is_file()
    and (folder / 'features.json').is_file()
  ]
  return named[:1] if named[:1] == [path] else named


def _only_version(path: pathlib.Path) -> pathlib.Path:
  found = _versions(path)
  if len(found) != 1:
    names = ', '.join(str(folder.relative_to(path)) for folder in found)
    raise FileNotFoundError(
      f'{path} must hold one TFDS dataset, with dataset_info.json and '
      f'features.json; it holds {names or "none"}.'
    )
  return found[0]


def _leaves(feature: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """Every feature that is no dict, by its path."""
  if isinstance(feature, tfds.features.FeaturesDict):
    for key, child in feature.items():
      yield from _leaves(child, f'{name}/{key}' if name else key)
  else:
    yield name, feature


def _is_image(feature: Any) -> bool:
  if isinstance(feature, tfds.features.Image):
    return np.dtype(feature.np_dtype) == np.uint8
  return (
    isinstance(feature, tfds.features.Tensor)
    and len(feature.shape) == 3
    and np.dtype(feature.np_dtype) == np.uint8
  )


def _is_vector(feature: Any) -> bool:
  return (
    isinstance(feature, tfds.features.Tensor)
    and not isinstance(feature, (tfds.features.Image, tfds.features.Text))
    and len(feature.shape) <= 2
    and np.dtype(feature.np_dtype).kind in 'fiub'
  )


def _at(steps: Any, name: str) -> Any:
  for key in name.split('/'):
    steps = steps[key]
  return steps
