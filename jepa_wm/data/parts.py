"""An archive written in parts, so that a killed conversion can be taken up.

Every part is a small TFDS dataset of its own in a folder that appears by being
renamed, `<parts>/00000`, `<parts>/00001`, ..., with a `part.json` that says
which items it was made of. Where a part ends depends on its episodes alone, so
the joined archive is the same to the bit however often the writing was
interrupted.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds

from jepa_wm import files
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import rlds

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
    sizes: everything about an episode's shape but its length.
  """

  path: pathlib.Path
  next_item: int
  num_frames: dict[str, int]
  digests: dict[str, list[str]]
  skipped: list[tuple[int, str]]
  sizes: dict[str, Any]

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
  sizes: dict[str, Any] = dataclasses.field(default_factory=dict)
  digest: str = ''
  num_frames: int = 0
  num_bytes: int = 0


def _encoded(item: tuple[int, episodes_lib.Episode | str]) -> _Encoded:
  number, episode = item
  if isinstance(episode, str):
    return _Encoded(number=number, failure=episode)
  return _Encoded(
    number=number,
    example=rlds.to_example(**vars(episode)),
    # As they will be when they come back out of JSON.
    sizes=json.loads(json.dumps(episodes_lib.sizes(episode))),
    digest=digest(episode),
    num_frames=len(episode.pixels),
    num_bytes=episode.pixels.nbytes,
  )


def digest(episode: episodes_lib.Episode) -> str:
  """Hash of all that an archive keeps of an episode."""
  arrays = [
    (name, getattr(episode, name))
    for name in ('pixels', 'actions', 'proprio', 'state')
  ]
  return files.digest(
    *(
      part
      for name, array in arrays
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
    fields = json.loads((path / 'part.json').read_text())
    fields['skipped'] = [tuple(pair) for pair in fields['skipped']]
    parts.append(Part(path=path, **fields))


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
    ValueError: episodes of different sizes.
    OSError: the disk is full or cannot be written to.
  """
  done = finished(directory)
  sizes = next((part.sizes for part in done if part.sizes), None)
  num_episodes = sum(part.num_episodes for part in done)
  number = len(done)
  iterator = episodes_lib.in_threads(_encoded, items)
  partial = directory / 'partial'
  while True:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    part = _write_part(
      partial, iterator, sizes, num_episodes, held_out_fraction
    )
    if part is None:
      shutil.rmtree(partial)
      return
    sizes = sizes or part.sizes
    fields = dataclasses.asdict(part)
    del fields['path']
    (partial / 'part.json').write_text(json.dumps(fields))
    files.replace_folder(partial, directory / f'{number:05d}')
    number += 1
    num_episodes += part.num_episodes
    yield part.next_item


def _write_part(
  path: pathlib.Path,
  items: Iterator[_Encoded],
  sizes: dict[str, Any] | None,
  num_before: int,
  held_out_fraction: float,
) -> Part | None:
  """Writes one part into an empty folder; None where no items are left."""
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
    own = item.sizes
    if sizes is None:
      sizes = own
    if own != sizes:
      raise ValueError(
        'All episodes of one archive have the same image, action and state '
        f'sizes: the first has {sizes}, number {item.number} '
        f'{own}.'
      )
    if writer is None:
      info = rlds.dataset_info(
        path, **_shapes(sizes), metadata=tfds.core.MetadataDict()
      )
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
    sizes=sizes or {},
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
    **_shapes(next(part.sizes for part in parts if part.sizes)),
    metadata=tfds.core.MetadataDict(
      provenance=episodes_lib.with_versions(provenance), num_frames=num_frames
    ),
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


def _shapes(sizes: dict[str, Any]) -> dict[str, Any]:
  """Sizes as they were before JSON."""
  return sizes | {'frame': tuple(sizes['frame'])}
