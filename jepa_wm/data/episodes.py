"""Write and open episodes: the archive that every other file is made from.

An archive is a TFDS dataset in the RLDS layout, one ArrayRecord record per
episode, that `tfds.builder_from_directory(path).as_data_source()` reads without
any of our code (and without TensorFlow):

  steps              one entry per frame
    observation
      pixels         PNG
      proprio        float32 `[S]`, what the body feels of itself
      ...            whatever else was seen
    state            float32 `[V]`, the true low-dimensional state
    action           float32 `[raw_dim]`, what was done after this frame; the
                     last frame has none and holds zeros
    reward, discount float32, of that action; zeros there too
    is_first, is_last, is_terminal
  episode_metadata
    label, task, agent
    provenance       JSON: what is particular to this episode

Every column but `action` and the ends is there only where it is known
(`data/columns.py`), and `features.json` says which are.
What all episodes share (environment, its parameters, policy, seed, versions)
is the dataset's own metadata, under `provenance`. The same episodes give the
same files to the bit.
"""

import collections
import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any, TypeVar

import numpy as np

from jepa_wm import files
from jepa_wm import provenance as provenance_lib
from jepa_wm.data import columns as columns_lib

SPLITS = ('train', 'held_out')

_METADATA = ('dataset_info.json', 'features.json', 'metadata.json')
_EPISODES_PER_SHARD = 1000
# Adding to a shard also rewrites the metadata, hence many episodes at a time.
_EPISODES_PER_ADDITION = 64

_In = TypeVar('_In')
_Out = TypeVar('_Out')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
  """One uninterrupted play.

  Attributes:
    columns: arrays under the names of `data/columns.py`, such as
      `observation/pixels` uint8 `[T, height, width, 3]` and `action` float32
      `[T - 1, raw_dim]` in raw units, row t of which leads from frame t to
      frame t + 1.
    provenance: what is particular to this episode; JSON-able.
    is_terminal: the last frame ended the task, not the clock.
  """

  columns: Mapping[str, np.ndarray]
  provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
  is_terminal: bool = False

  def __post_init__(self) -> None:
    """Checks that the arrays tell one story.

    Raises:
      ValueError: see `columns.check`.
    """
    columns_lib.check(self.columns)

  @property
  def num_frames(self) -> int:
    """Frames `T`, one more than actions."""
    return len(self.columns['action']) + 1

  @property
  def pixels(self) -> np.ndarray:
    """The pictures, uint8 `[T, height, width, 3]`."""
    return self.columns[columns_lib.PIXELS]

  @property
  def actions(self) -> np.ndarray:
    """What was done, float32 `[T - 1, raw_dim]`."""
    return self.columns['action']

  @property
  def frame_bytes(self) -> int:
    """Bytes of the pictures of one frame."""
    return sum(
      math.prod(column.shape)
      for name, column in self.spec.items()
      if columns_lib.is_image(name)
    )

  @property
  def spec(self) -> columns_lib.Spec:
    """What the columns are, whatever the length."""
    return columns_lib.spec(self.columns)


def split_name(index: int, *, held_out_fraction: float) -> str:
  """Split of the episode number `index`: evenly spread, the first held out."""
  before, after = (
    math.ceil(count * held_out_fraction - 1e-9) for count in (index, index + 1)
  )
  return 'held_out' if after > before else 'train'


def write_episodes(
  path: str | os.PathLike[str],
  episodes: Iterable[Episode],
  *,
  provenance: Mapping[str, Any],
  held_out_fraction: float = 0.1,
  overwrite: bool = False,
) -> dict[str, int]:
  """Writes an archive, all of it or nothing.

  Episodes are written beside `path` and moved there when the last one is on
  the disk: whatever interrupts the writing leaves at `path` what was there.

  Args:
    path: directory to create.
    episodes: consumed once, in order; all with the same columns of the same
      sizes.
    provenance: what all episodes share; JSON-able. Versions are added.
    held_out_fraction: share of the episodes in the split `held_out`, 0..1.
    overwrite: replaces the directory where there is one.

  Returns:
    Number of episodes per split.

  Raises:
    FileExistsError: there is something at `path` and `overwrite` is False, or
      it is no archive.
    ValueError: no episodes for training, or episodes of different columns.
    OSError: the disk is full or cannot be written to.
  """
  path = files.real(path)
  if not 0 <= held_out_fraction < 1:
    raise ValueError(
      'held_out_fraction must be at least 0 and below 1, got '
      f'{held_out_fraction}.'
    )
  if path.exists() and not overwrite:
    raise FileExistsError(f'{path} is there already; overwrite to replace it.')
  files.check_replaceable(path, is_archive_name)
  try:
    with files.folder_written_whole(path) as folder:
      return _write(folder, episodes, dict(provenance), held_out_fraction)
  except RuntimeError as error:
    if 'failed:' not in str(error):
      raise
    # How ArrayRecord reports what the operating system refused.
    raise OSError(f'Cannot write episodes to {path}: {error}') from error


def is_archive_name(name: str) -> bool:
  """Whether a file of that name may lie in the folder of an archive."""
  return name in ('cache', 'latents', *_METADATA) or '.array_record' in name


def in_threads(
  function: Callable[[_In], _Out], items: Iterable[_In]
) -> Iterator[_Out]:
  """Maps in order, in one thread per core, a few items ahead of the reader."""
  num_threads = os.cpu_count() or 1
  iterator = iter(items)
  pool = futures.ThreadPoolExecutor(num_threads, 'episodes')
  pending: collections.deque[futures.Future[_Out]] = collections.deque()
  try:
    for item in itertools.islice(iterator, 2 * num_threads):
      pending.append(pool.submit(function, item))
    while pending:
      yield pending.popleft().result()
      for item in itertools.islice(iterator, 1):
        pending.append(pool.submit(function, item))
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _write(
  directory: pathlib.Path,
  episodes: Iterable[Episode],
  provenance: dict[str, Any],
  held_out_fraction: float,
) -> dict[str, int]:
  """Writes shards and metadata into an empty directory."""
  from jepa_wm.data import rlds

  iterator = iter(episodes)
  try:
    first = next(iterator)
  except StopIteration:
    raise ValueError('episodes is empty: nothing to write.') from None
  expected = first.spec
  counts = {name: 0 for name in SPLITS}
  metadata: dict[str, Any] = {
    'layout': rlds.LAYOUT,
    'provenance': with_versions(provenance),
    'num_frames': {},
  }
  writer = rlds.Writer(
    rlds.dataset_info(directory, expected, metadata=metadata),
    max_examples_per_shard=_EPISODES_PER_SHARD,
  )

  def encode(episode: Episode) -> tuple[Episode, dict[str, Any]]:
    check_spec(episode.spec, expected)
    return episode, rlds.to_example(**vars(episode))

  encoded = enumerate(in_threads(encode, itertools.chain([first], iterator)))
  while batch := list(itertools.islice(encoded, _EPISODES_PER_ADDITION)):
    examples: dict[str, list[Any]] = {}
    for index, (episode, example) in batch:
      name = split_name(index, held_out_fraction=held_out_fraction)
      examples.setdefault(name, []).append(example)
      counts[name] += 1
      frames = metadata['num_frames'].get(name, 0) + episode.num_frames
      metadata['num_frames'][name] = frames
    writer.initialize_splits(list(examples), fail_if_exists=False)
    writer.add_examples(examples)
  writer.close_all()
  if not counts['train']:
    raise ValueError(
      f'{sum(counts.values())} episodes with held_out_fraction='
      f'{held_out_fraction} leave none to train on; collect more.'
    )
  return counts


def with_versions(provenance: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the versions of what the content of an archive depends on."""
  versions = provenance_lib.versions_of('jax', 'numpy', 'tensorflow-datasets')
  return {**provenance, 'versions': versions}


def check_spec(
  found: columns_lib.Spec, expected: columns_lib.Spec, who: str = 'another'
) -> None:
  """Refuses an episode whose columns are not those of the first one.

  Raises:
    ValueError: they are not; the message names `who` and what differs.
  """
  if found != expected:
    theirs, ours = columns_lib.to_json(found), columns_lib.to_json(expected)
    names = [
      n for n in sorted({**ours, **theirs}) if ours.get(n) != theirs.get(n)
    ]
    raise ValueError(
      'All episodes of one archive have the same columns of the same sizes: '
      f'the first has { {n: ours.get(n) for n in names} }, {who} '
      f'{ {n: theirs.get(n) for n in names} }.'
    )


class EpisodeSource:
  """Random access to the episodes of one split, decoded when asked for.

  Attributes:
    path: where the archive is.
    split: its split.
    spec: the columns of its episodes.
    provenance: what all episodes share.
    num_frames: frames in the split, or None where the writer did not say.
  """

  def __init__(self, path: pathlib.Path, split: str) -> None:
    """Opens; see `open_episodes`."""
    from jepa_wm.data import rlds

    self.path = path
    self.split = split
    builder = _builder(path)
    info = builder.info
    self.spec = rlds.read_spec(path, info)
    if split not in info.splits:
      raise ValueError(
        f'The episodes at {path} have no split {split!r}, only '
        f'{sorted(info.splits)}.'
      )
    with _blamed(path):
      metadata = info.metadata or {}
      self.provenance: dict[str, Any] = dict(metadata.get('provenance', {}))
      self.num_frames: int | None = metadata.get('num_frames', {}).get(split)
    self._length = info.splits[split].num_examples
    with _blamed(path):
      self._records = rlds.undecoded(builder, split)

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Episode:
    from jepa_wm.data import rlds

    if not 0 <= index < self._length:
      raise IndexError(
        f'{self.split} has {self._length} episodes, not {index}.'
      )
    with _blamed(self.path):
      return Episode(**rlds.from_record(self._records[index], self.spec))

  def __iter__(self) -> Iterator[Episode]:
    return (self[index] for index in range(self._length))

  def column(self, index: int, name: str) -> np.ndarray:
    """One column of an episode, whose frames stay encoded.

    Raises:
      KeyError: `spec` does not have it.
    """
    from jepa_wm.data import rlds

    with _blamed(self.path):
      return rlds.column(self._records[index], name, self.spec)


def open_episodes(
  path: str | os.PathLike[str], *, split: str = 'train'
) -> EpisodeSource:
  """Opens one split of an archive.

  Args:
    path: directory that `write_episodes` made, or any TFDS ArrayRecord dataset
      with the same columns.
    split: 'train' or 'held_out'.

  Raises:
    FileNotFoundError: there is no archive at `path`.
    ValueError: a column or the split is missing, or a file is cut off (found
      now or when the episode is read).
  """
  return EpisodeSource(files.expand(path), split)


def open_splits(path: str | os.PathLike[str]) -> dict[str, EpisodeSource]:
  """Opens every split of an archive; raises as `open_episodes` does."""
  path = files.expand(path)
  names = sorted(_builder(path).info.splits)
  return {name: EpisodeSource(path, name) for name in names}


def fingerprint(path: str | os.PathLike[str]) -> str:
  """Identity of an archive: hash of its metadata and its own files' sizes.

  Raises:
    FileNotFoundError: there is no archive at `path`.
  """
  path = files.expand(path)
  if not (path / 'dataset_info.json').is_file():
    raise _not_found(path)
  parts: list[str | bytes] = []
  for file in files.visible(sorted(path.iterdir())):
    # TFDS' Beam writer leaves JSON under the names of shards.
    is_shard = '.array_record' in file.name
    if file.name in _METADATA or (is_shard and file.suffix == '.json'):
      parts += [file.name, file.read_bytes()]
    elif is_shard:
      parts.append(f'{file.name} {file.stat().st_size}')
  return files.digest(*parts)


def _not_found(path: pathlib.Path) -> FileNotFoundError:
  return FileNotFoundError(
    f'No episodes at {path} (no dataset_info.json there); write them with '
    f'`python -m experiments.collect --out={path}`.'
  )


def _builder(path: pathlib.Path) -> Any:
  """TFDS' reader of an archive."""
  from jepa_wm.data import rlds

  if not (path / 'dataset_info.json').is_file():
    raise _not_found(path)
  return rlds.open_builder(path)


@contextlib.contextmanager
def _blamed(path: pathlib.Path) -> Iterator[None]:
  """Says whose fault it is when a record cannot be read."""
  try:
    yield
  # Decoders of records and pictures raise many kinds of errors.
  except Exception as error:
    raise ValueError(
      f'The episodes at {path} are cut off or damaged ({error}); copy or write '
      'them again.'
    ) from error
