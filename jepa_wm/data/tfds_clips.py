"""Clips of any TFDS dataset of videos or images that is on disk already.

The files are read as they are (ArrayRecord, `tf.train.Example` inside, frames
as PNG or JPEG): TFDS' own `Video` feature cannot even be described without
TensorFlow. Nothing is downloaded.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np
import PIL.Image
from tensorflow_datasets.proto import tf_example_pb2

from jepa_wm import fields, files
from jepa_wm.data import rlds
from jepa_wm.data.readers import images, reader

SPLITS = ('train', 'validation', 'held_out')


@dataclasses.dataclass(frozen=True)
class TfdsDataset:
  """A dataset on disk, found and understood.

  Attributes:
    path: the folder with `features.json`.
    pixels: feature that holds a video or an image.
    label: feature that holds the class, None without one.
    num_classes: of `label`, 0 without one.
    splits: for each of `SPLITS` the split of the dataset and the part of it,
      two shares in 0..1.
  """

  path: pathlib.Path
  pixels: str
  label: str | None
  num_classes: int
  splits: dict[str, tuple[str, float, float]]


def find(name: str) -> TfdsDataset:
  """Finds a dataset that TFDS prepared.

  Args:
    name: such as 'moving_mnist', 'ucf101/ucf101_1' or a folder; the newest
      version is taken. Looked for in `$TFDS_DATA_DIR` and in
      `~/tensorflow_datasets`.

  Returns:
    Where it is and what is in it. A dataset without a validation split gives
    the last tenth of its training split for it, one without a test split has
    its validation split held out, and one with a single split is cut 80, 10
    and 10 percent.

  Raises:
    FileNotFoundError: it is not there; the message says where it was sought.
    ValueError: not in the ArrayRecord format, or without videos or images.
  """
  roots = [pathlib.Path.home() / 'tensorflow_datasets', pathlib.Path()]
  if given := os.environ.get('TFDS_DATA_DIR'):
    roots.insert(0, files.expand(given))
  places = [root / files.expand(name) for root in roots]
  found = [
    file.parent
    for place in places
    for file in place.glob('**/features.json')
    if not any(part.startswith('.') for part in file.relative_to(place).parts)
  ]
  if not name or not found:
    raise FileNotFoundError(
      f'There is no TFDS dataset {name!r} at '
      f'{" or ".join(str(place) for place in places)}; prepare it where '
      'TensorFlow is installed (tfds build --file_format=array_record '
      f'{name or "NAME"}), copy it, and set TFDS_DATA_DIR to the folder that '
      'it lies in.'
    )
  path = max(found, key=_version)
  pixels, label, num_classes = _features(path)
  names = {
    file.name.partition('.array_record')[0].rpartition('-')[2]
    for file in files.visible(path.glob('*.array_record*'))
  }
  if not names:
    raise ValueError(
      f'The TFDS dataset at {path} has no ArrayRecord files, which alone can '
      'be read at random; prepare it with --file_format=array_record.'
    )
  return TfdsDataset(path, pixels, label, num_classes, _splits(names))


def tfds_clips(
  dataset: TfdsDataset,
  *,
  split: str,
  image_size: int,
  num_frames: int,
  frame_stride: int,
  batch_size: int,
  seed: int,
  num_threads: int = 2,
  rows: np.ndarray | None = None,
) -> grain.DatasetIterator:
  """Endless batches of clips, every video once per epoch, at a random place.

  A video shorter than a clip holds its last frame, an image stands still.
  Frames are cut to the square in their middle and resized.

  Args:
    dataset: what `find` returned.
    split: one of `SPLITS`.
    image_size: side of the frames in pixels.
    num_frames: frames `T` of a clip.
    frame_stride: frames of the video from one frame of a clip to the next.
    batch_size: clips `B` of a batch.
    seed: of the order and the places.
    num_threads: threads that read ahead; 0 reads when asked.
    rows: as for `windows.cached_windows`.

  Returns:
    Iterator over dicts of `observation`, a dict of `pixels` uint8
    `[B, T, image_size, image_size, 3]`, and, if the dataset has one, `label`
    int32 `[B]`. Resumable, as `windows.cached_windows`.

  Raises:
    ValueError: no such split, a count below one, or an empty split.
  """
  counts = (image_size, num_frames, frame_stride, batch_size)
  fields.check_choice('split', split, SPLITS)
  if min(counts) < 1:
    raise ValueError(
      'image_size, num_frames, frame_stride and batch_size must be at least '
      f'1, got {counts}.'
    )
  name, low, high = dataset.splits[split]
  shards = files.visible(dataset.path.glob(f'*-{name}.array_record*'))
  records = grain.sources.ArrayRecordDataSource(sorted(map(str, shards)))
  first, end = (round(share * len(records)) for share in (low, high))
  if end <= first:
    raise ValueError(
      f'The TFDS dataset at {dataset.path} has no examples for {split!r}: '
      f'{len(records)} in its split {name!r}.'
    )

  def load(index: int, rng: np.random.Generator) -> dict[str, Any]:
    where = f'{dataset.path}, example {first + index} of {name},'
    with reader.promised(dataset.path, where):
      features = tf_example_pb2.Example.FromString(
        records[first + index]
      ).features.feature
      frames = features[dataset.pixels].bytes_list.value
      span = (num_frames - 1) * frame_stride + 1
      start = int(rng.integers(max(1, len(frames) - span + 1)))
      shown = np.minimum(
        start + np.arange(num_frames) * frame_stride, len(frames) - 1
      )
      decoded = {i: _decode(frames[i], image_size) for i in set(shown)}
      pixels = np.stack([decoded[i] for i in shown])
      clip: dict[str, Any] = {'observation': {'pixels': pixels}}
      if dataset.label is not None:
        label = features[dataset.label].int64_list.value[0]
        clip['label'] = np.asarray(label, np.int32)
      return clip

  # As in `windows`: neighbouring seeds must not run through the same orders.
  order_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
  clips = (
    grain.MapDataset.range(end - first)
    .seed(order_seed)
    .shuffle()
    .repeat()
    .random_map(load)
  )
  size = batch_size
  if rows is not None:
    clips, size = _rows_of(clips, rows, batch_size), len(rows)
  return iter(
    # Without it grain rounds the endless length up, for a batch of one too far.
    clips.batch(size, drop_remainder=True).to_iter_dataset(
      grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=2 * num_threads
      )
    )
  )


def _rows_of(
  clips: grain.MapDataset, rows: np.ndarray, batch_size: int
) -> grain.MapDataset:
  """The clips that are these rows of their batch, one batch after the other.

  Each stays the element that it is in one process, and draws the same.
  """
  size = len(rows)
  return grain.MapDataset.range(len(clips) // batch_size * size).map(
    lambda i: clips[i // size * batch_size + int(rows[i % size])]
  )


def _decode(data: bytes, size: int) -> np.ndarray:
  """An image file as uint8 `[size, size, 3]`, the square in its middle."""
  with PIL.Image.open(io.BytesIO(data)) as image:
    images.check_size(*image.size)
    turned = images.upright(image)
    side = min(turned.size)
    left, top = ((length - side) // 2 for length in turned.size)
    square = turned.crop((left, top, left + side, top + side)).convert('RGB')
    square = square.resize((size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(square)


def _version(path: pathlib.Path) -> tuple[int, ...]:
  """The version that a folder is named after, for comparison."""
  parts = path.name.split('.')
  return tuple(int(part) if part.isdigit() else -1 for part in parts)


def _features(path: pathlib.Path) -> tuple[str, str | None, int]:
  """Names of the pixels and of the label, and the number of classes."""
  try:
    described = rlds.check_classes(path / 'features.json')
    features: Mapping[str, Any] = described['featuresDict']['features']
    kinds = {
      name: feature['pythonClassName'].rpartition('.')[2]
      for name, feature in features.items()
    }
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path / "features.json"} is not a description of features that TFDS '
      f'wrote ({error!r}); prepare the dataset again.'
    ) from error
  pixels = [
    name
    for wanted in ('Video', 'Image')
    for name, kind in kinds.items()
    if kind == wanted
  ]
  if not pixels:
    raise ValueError(
      f'The TFDS dataset at {path} has neither a Video nor an Image among its '
      f'features: {kinds}.'
    )
  labels = [name for name, kind in kinds.items() if kind == 'ClassLabel']
  if not labels:
    return pixels[0], None, 0
  label = 'label' if 'label' in labels else labels[0]
  content = features[label]['classLabel']
  return pixels[0], label, int(content['numClasses'])


def _splits(names: set[str]) -> dict[str, tuple[str, float, float]]:
  """Our splits, out of those that a dataset has."""
  train = 'train' if 'train' in names else sorted(names)[0]
  others = [name for name in ('test', 'validation') if name in names - {train}]
  if not others:
    return {
      'train': (train, 0.0, 0.8),
      'validation': (train, 0.8, 0.9),
      'held_out': (train, 0.9, 1.0),
    }
  held_out = (others[0], 0.0, 1.0)
  if len(others) > 1:
    return {
      'train': (train, 0.0, 1.0),
      'validation': (others[1], 0.0, 1.0),
      'held_out': held_out,
    }
  return {
    'train': (train, 0.0, 0.9),
    'validation': (train, 0.9, 1.0),
    'held_out': held_out,
  }
