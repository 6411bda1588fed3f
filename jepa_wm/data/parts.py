"""An archive written in parts, so that a killed conversion can be taken up.

Every part is a small TFDS dataset of its own in a folder that appears by being
renamed, `<parts>/00000`, `<parts>/00001`, ..., with a `part.json` that says
which items it was made of. Where a part ends depends on its episodes alone, so
the joined archive is the same to the bit however often the writing was
interrupted.
"""

import dataclasses
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jepa_wm import files
from jepa_wm.data import columns
from jepa_wm.data import episodes as episodes_lib

# A part is over when it has one of both; less than a minute's work.
_EPISODES_PER_PART = 256
_BYTES_PER_PART = 2**29
# Encoded at once; an addition rewrites the part's metadata.
_EPISODES_PER_ADDITION = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """What is known of a part that is on the disk.

  Attributes:
    path: its folder.
    next_item: number of the item after its last one.
    num_frames: of its episodes, per split.
    digests: of its episodes, per split in order; see `digest`.
    skipped: numbers of the items that gave no episode, and why.
    spec: the columns of its episodes; empty where it holds none.
  """

  path: pathlib.Path
  next_item: int
  num_frames: dict[str, int]
  digests: dict[str, list[str]]
  skipped: list[tuple[int, str]]
  spec: columns.Spec

  @property
  def num_episodes(self) -> int:
    """Episodes in the part."""
    return sum(map(len, self.digests.values()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Encoded:
  """An item ready to be written."""

  number: int
  failure: str | None = None
  example: dict[str, Any] = dataclasses.field(default_factory=dict)
  spec: columns.Spec = dataclasses.field(default_factory=dict)
  digest: str = ''
  num_frames: int = 0
  num_bytes: int = 0


def _encoded(item: tuple[int, episodes_lib.Episode | str]) -> _Encoded:
  from jepa_wm.data import rlds

  number, episode = item
  if isinstance(episode, str):
    return _Encoded(number=number, failure=episode)
  return _Encoded(
    number=number,
    example=rlds.to_example(**vars(episode)),
    spec=episode.spec,
    digest=digest(episode),
    num_frames=episode.num_frames,
    num_bytes=sum(array.nbytes for array in episode.columns.values()),
  )


def digest(episode: episodes_lib.Episode) -> str:
  """Hash of all that an archive keeps of an episode."""
  return files.digest(
    *(
      part
      for name, array in sorted(episode.columns.items())
      for part in (f'{name} {array.shape} {array.dtype}', array)
    ),
    str(bool(episode.is_terminal)),
  )


def finished(directory: pathlib.Path) -> list[Part]:
  """The parts that are complete, in order."""
  parts: list[Part] = []
  while True:
    path = directory / f'{len(parts):05d}'
    if not (path / 'part.json').is_file():
      return parts
    fields = files.read_json(path / 'part.json')
    fields['skipped'] = [tuple(pair) for pair in fields['skipped']]
    fields['spec'] = columns.from_json(fields['spec'])
    parts.append(Part(path=path, **fields))


def check_split(num_episodes: int, held_out_fraction: float) -> None:
  """Makes sure, before they are there, that some are left to train on.

  Raises:
    ValueError: a fraction out of its range, or none is left.
  """
  if not 0 <= held_out_fraction < 1:
    raise ValueError(
      'held_out_fraction must be at least 0 and below 1, got '
      f'{held_out_fraction}.'
    )
  if math.ceil(num_episodes * held_out_fraction - 1e-9) >= num_episodes:
    raise ValueError(
      f'{num_episodes} episodes with held_out_fraction={held_out_fraction} '
      'leave none to train on; take more of them, or hold out fewer.'
    )


def write(
  directory: pathlib.Path,
  items: Iterable[tuple[int, episodes_lib.Episode | str]],
  *,
  held_out_fraction: float,
) -> Iterator[int]:
  """Writes parts behind those that are finished.

  Args:
    directory: of the parts; made where it is missing.
    items: numbers, each with the episode or why there is none, beginning
      behind the last finished part's.
    held_out_fraction: see `episodes.write_episodes`.

  Yields:
    The number of items on the disk, after every part.

  Raises:
    ValueError: episodes of different columns.
    OSError: the disk is full or cannot be written to.
  """
  done = finished(directory)
  spec = next((part.spec for part in done if part.spec), None)
  num_episodes = sum(part.num_episodes for part in done)
  number = len(done)
  iterator = episodes_lib.in_threads(_encoded, items)
  partial = directory / 'partial'
  while True:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    part = _write_part(partial, iterator, spec, num_episodes, held_out_fraction)
    if part is None:
      shutil.rmtree(partial)
      return
    spec = spec or part.spec
    fields = {**vars(part), 'spec': columns.to_json(part.spec)}
    del fields['path']
    (partial / 'part.json').write_text(json.dumps(fields))
    files.replace_folder(partial, directory / f'{number:05d}')
    number += 1
    num_episodes += part.num_episodes
    yield part.next_item


def _write_part(
  path: pathlib.Path,
  items: Iterator[_Encoded],
  spec: columns.Spec | None,
  num_before: int,
  held_out_fraction: float,
) -> Part | None:
  """Writes one part into an empty folder; None where no items are left."""
  from jepa_wm.data import rlds

  writer: Any = None
  waiting: dict[str, list[Any]] = {}
  num_frames: dict[str, int] = {}
  digests: dict[str, list[str]] = {}
  skipped = []
  next_item, num_bytes, count = None, 0, 0

  def flush():
    writer.initialize_splits(list(waiting), fail_if_exists=False)
    writer.add_examples(waiting)
    waiting.clear()

  for item in items:
    next_item = item.number + 1
    if item.failure is not None:
      skipped.append((item.number, item.failure))
      continue
    spec = spec or item.spec
    episodes_lib.check_spec(item.spec, spec, f'number {item.number}')
    if writer is None:
      info = rlds.dataset_info(path, spec, metadata={})
      writer = rlds.Writer(info, max_examples_per_shard=2**31)
    split = episodes_lib.split_name(
      num_before + count, held_out_fraction=held_out_fraction
    )
    waiting.setdefault(split, []).append(item.example)
    digests.setdefault(split, []).append(item.digest)
    num_frames[split] = num_frames.get(split, 0) + item.num_frames
    num_bytes += item.num_bytes
    count += 1
    is_full = count == _EPISODES_PER_PART or num_bytes >= _BYTES_PER_PART
    if is_full or count % _EPISODES_PER_ADDITION == 0:
      flush()
    if is_full:
      break
  if next_item is None:
    return None
  if writer is not None:
    if waiting:
      flush()
    writer.close_all()
  return Part(
    path=path,
    next_item=next_item,
    num_frames=num_frames,
    digests=digests,
    skipped=skipped,
    spec=spec or {},
  )


def join(
  parts: list[Part], path: pathlib.Path, *, provenance: Mapping[str, Any]
) -> None:
  """Makes one archive of parts, whose files it shares.

  Args:
    parts: all of them, in order.
    path: folder to create; removed first where it is there.
    provenance: what all episodes share; JSON-able. Versions are added.

  Raises:
    ValueError: the parts hold no episode for training.
  """
  import tensorflow_datasets as tfds

  from jepa_wm.data import rlds

  shutil.rmtree(path, ignore_errors=True)
  path.mkdir(parents=True)
  lengths: dict[str, list[int]] = {}
  num_bytes: dict[str, int] = {}
  num_frames: dict[str, int] = {}
  for part in parts:
    for split, digests in part.digests.items():
      file = f'episodes-{split}.array_record'
      source = part.path / f'{file}-00000'
      target = path / f'{file}-{len(lengths.setdefault(split, [])):05d}'
      try:
        os.link(source, target)
      except OSError:
        # A file system without links.
        shutil.copyfile(source, target)
      lengths[split].append(len(digests))
      num_bytes[split] = num_bytes.get(split, 0) + source.stat().st_size
      num_frames[split] = num_frames.get(split, 0) + part.num_frames[split]
  if 'train' not in lengths:
    raise ValueError('There is no episode to train on; convert more of them.')
  info = rlds.dataset_info(
    path,
    next(part.spec for part in parts if part.spec),
    metadata={
      'layout': rlds.LAYOUT,
      'provenance': episodes_lib.with_versions(provenance),
      'num_frames': num_frames,
    },
  )
  info.set_file_format('array_record')
  info.set_splits(
    tfds.core.SplitDict(
      [
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=lengths[split],
          num_bytes=num_bytes[split],
          filename_template=tfds.core.ShardedFileTemplate(
            dataset_name='episodes',
            data_dir=path,
            split=split,
            filetype_suffix='array_record',
            template='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}',
          ),
        )
        for split in sorted(lengths)
      ]
    )
  )
  info.write_to_directory(path)
