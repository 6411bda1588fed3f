"""Data of others, brought to our size, written as our archive, and verified."""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tqdm

from jepa_wm import fields, files, provenance
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import cache_writer, resizing
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import parts as parts_lib
from jepa_wm.envs import worlds
from jepa_wm.recipes import making

if TYPE_CHECKING:
  from jepa_wm.data import readers

STORES = ('auto', *cache_writer.STORES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converting:
  """What is converted into what.

  Attributes:
    source: file or folder to read.
    format: what the source is: swm, rlds, lerobot, minari or dino_wm; 'auto'
      looks.
    options: fields of `readers.Options`, beside the next two.
    image_size: height and width of the frames; 0 keeps those of the source.
    fit: what is done to frames that are not square, see
      `resizing.resize_frames`.
    held_out_fraction: share of the episodes, evenly spread, that training never
      sees.
    environment: world that the episodes are from, to be planned in (two_room,
      push_t, ...).
    skip_damaged: leaves out episodes that cannot be read, and names them.
  """

  source: str
  format: str = 'auto'
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  image_size: int = 64
  fit: str = 'stretch'
  held_out_fraction: float = 0.1
  environment: str | None = None
  skip_damaged: bool = False

  def __post_init__(self) -> None:
    """Checks what the readers do not.

    Raises:
      ValueError: `held_out_fraction` leaves nothing to train on, a negative
        `image_size`, or no such `fit` or option.
    """
    from jepa_wm.data import readers

    most = {'image_size': resizing.MOST_PIXELS}
    fields.check_counts(self, {'image_size': 0}, most)
    if self.environment is not None:
      worlds.get(self.environment)
    fields.check_choice('fit', self.fit, resizing.FITS)
    known = [field.name for field in dataclasses.fields(readers.Options)]
    fields.check_names('options', self.options, known)
    if not 0 <= self.held_out_fraction < 1:
      raise ValueError(
        'held_out_fraction must be at least 0 and below 1, got '
        f'{self.held_out_fraction}.'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What came of a conversion.

  Attributes:
    counts: episodes per split.
    skipped: numbers of the episodes that were left out, and why.
    store: 'flat' or 'chunks'.
  """

  counts: dict[str, int]
  skipped: list[tuple[int, str]]
  store: str


def convert(
  recipe: Converting,
  out: str | os.PathLike[str],
  *,
  store: str = 'auto',
  max_cache_gb: float | None = None,
  overwrite: bool = False,
  restart: bool = False,
  progress: bool = True,
) -> Report:
  """Converts, from where an interrupted conversion has stopped.

  Args:
    recipe: what is converted into what.
    out: directory to create.
    store: what training will read, one of `STORES`.
    max_cache_gb: size above which 'auto' takes chunks.
    overwrite: replaces the directory where there is one.
    restart: forgets an unfinished conversion to `out`.
    progress: draws progress bars.

  Raises:
    FileExistsError: there is something at `out`, or an unfinished conversion
      of something else.
    HeldError: another process converts to `out`.
    FileNotFoundError: no source.
    ImportError: a package is missing, which is named.
    OSError: the disk is full or cannot be written to.
    ValueError: the source is damaged or lacks a column, nothing is left to
      train on, a size without effect, or what was written is not what was read.
  """
  from jepa_wm.data import readers

  out = files.real(out)
  if max_cache_gb is not None and not (
    store == 'auto' and 0 <= max_cache_gb < math.inf
  ):
    raise ValueError(
      'max_cache_gb must be a finite number from 0, and goes with store=auto, '
      f'got {max_cache_gb} with store={store}.'
    )
  sizes = {'store': store, 'max_cache_gb': max_cache_gb}
  made = making.Making(
    out, 'convert', lambda: {**_plan(recipe), **sizes}, overwrite
  )
  made.check_place()
  reader = readers.open_reader(
    recipe.source,
    format=recipe.format,
    image_size=recipe.image_size or None,
    fit=recipe.fit,
    **recipe.options,
  )
  for warning in reader.warnings:
    # On the bars' own stream, and at once: the conversion may take hours.
    tqdm.tqdm.write(f'Warning: {warning}', file=sys.stderr)
  parts_lib.check_split(reader.num_episodes, recipe.held_out_fraction)
  with made.alone():
    found = made.taken_up()
    if found is None:
      report = _convert(
        recipe, reader, made, store, max_cache_gb, restart, progress
      )
      found = dataclasses.asdict(report)
      made.place(found)
  skipped = [(index, why) for index, why in found['skipped']]
  return Report(**{**found, 'skipped': skipped})


def _convert(
  recipe: Converting,
  reader: 'readers.Reader',
  made: making.Making,
  store: str,
  max_cache_gb: float | None,
  restart: bool,
  progress: bool,
) -> Report:
  """Converts in the folder `made.work`, which nobody else works in."""
  _take_up(recipe, made.work, restart)
  parts = _read_parts(recipe, reader, made.work, progress)
  archive = made.archive
  parts_lib.join(
    parts,
    archive,
    provenance={
      **({'environment': recipe.environment} if recipe.environment else {}),
      'source': reader.provenance,
      'warnings': list(reader.warnings),
      'recipe': dataclasses.asdict(recipe),
      'num_skipped': sum(len(part.skipped) for part in parts),
      'commit': provenance.commit(),
    },
  )
  if store == 'auto':
    store = cache_lib.fitting_store(archive, max_gb=max_cache_gb)
  _verify_and_store(archive, parts, store, progress)
  digests = [pair for part in parts for pair in part.digests.items()]
  return Report(
    counts={
      name: sum(len(found) for split, found in digests if split == name)
      for name in episodes_lib.SPLITS
    },
    skipped=[pair for part in parts for pair in part.skipped],
    store=store,
  )


def _read_parts(
  recipe: Converting,
  reader: 'readers.Reader',
  work: pathlib.Path,
  progress: bool,
) -> list[parts_lib.Part]:
  """Reads what is left of the source, in parts that are kept."""
  parts = parts_lib.finished(work / 'parts')
  begin = parts[-1].next_item if parts else 0
  try:
    with tqdm.tqdm(
      desc=f'converting {pathlib.Path(recipe.source).name}',
      total=reader.num_episodes,
      initial=begin,
      unit=' episodes',
      disable=not progress,
    ) as bar:
      for _ in parts_lib.write(
        work / 'parts',
        _items(reader, begin, recipe, bar),
        held_out_fraction=recipe.held_out_fraction,
      ):
        pass
  except RuntimeError as error:
    if 'failed:' not in str(error):
      raise
    # How ArrayRecord reports what the operating system refused.
    raise OSError(f'Cannot write to {work}: {error}') from error
  return parts_lib.finished(work / 'parts')


def _take_up(recipe: Converting, work: pathlib.Path, restart: bool) -> None:
  """Makes sure that what is in `work` is of the same conversion."""
  if restart:
    _clear(work)
  plan = json.dumps(_plan(recipe), indent=2)
  file = work / 'plan.json'
  if not parts_lib.finished(work / 'parts'):
    # What came to nothing is in nobody's way.
    _clear(work)
    files.write_whole(file, plan)
  elif not file.is_file() or file.read_text() != plan:
    raise FileExistsError(
      f'{work} holds an unfinished conversion of another source or with other '
      'options; add --restart to forget it, or finish it first.'
    )


def _plan(recipe: Converting) -> dict[str, Any]:
  """What parts are made of."""
  source = _identity(files.expand(recipe.source))
  return {'recipe': dataclasses.asdict(recipe), 'source': source}


def _clear(work: pathlib.Path) -> None:
  """Removes what an earlier conversion left."""
  (work / 'plan.json').unlink(missing_ok=True)
  for name in ('parts', 'archive'):
    shutil.rmtree(work / name, ignore_errors=True)


def _identity(path: pathlib.Path) -> str:
  """Hash of the names, sizes and times of the files at `path`."""
  lines = []
  try:
    for file in sorted(path.rglob('*')) if path.is_dir() else [path]:
      if file.is_file():
        status = file.stat()
        name = file.relative_to(path) if path.is_dir() else file.name
        lines.append(f'{name} {status.st_size} {status.st_mtime_ns}\n')
  except OSError as error:
    # Not one of writing, which is what callers take it for.
    raise ValueError(f'{path} cannot be read ({error}).') from error
  return files.digest(*lines)


def _items(
  reader: 'readers.Reader', begin: int, recipe: Converting, bar: Any
) -> Iterator[tuple[int, episodes_lib.Episode | str]]:
  """Episodes, read ahead in threads."""

  def read(index: int) -> tuple[int, episodes_lib.Episode | str]:
    try:
      episode = reader[index]
    except ValueError as error:
      if not recipe.skip_damaged:
        raise
      return index, str(error)
    return index, episode

  for item in episodes_lib.in_threads(read, range(begin, reader.num_episodes)):
    yield item
    bar.update()


def _verify_and_store(
  archive: pathlib.Path,
  parts: list[parts_lib.Part],
  store: str,
  progress: bool,
) -> None:
  """Reads everything back once: to compare it, and for training to read.

  Raises:
    ValueError: an episode is not what was converted.
  """
  sources = episodes_lib.open_splits(archive)
  if store == 'flat':
    cache_lib.check_space(archive, cache_lib.num_bytes(sources))
  with cache_writer.CacheWriter(archive, store=store) as writer:
    for split, source in sources.items():
      expected = [
        digest for part in parts for digest in part.digests.get(split, [])
      ]
      if len(source) != len(expected):
        raise ValueError(
          f'{archive} holds {len(source)} episodes in {split} and '
          f'{len(expected)} were converted; add --restart to begin again.'
        )
      decoded = episodes_lib.in_threads(source.__getitem__, range(len(source)))
      for index, episode in enumerate(
        tqdm.tqdm(
          decoded,
          desc=f'verifying {split}, caching it',
          total=len(source),
          unit=' episodes',
          disable=not progress,
        )
      ):
        if parts_lib.digest(episode) != expected[index]:
          raise ValueError(
            f'Episode {index} of {split} in {archive} is not what was '
            'converted: the disk or memory is faulty; add --restart to begin '
            'again.'
          )
        writer.add(episode, split=split)
    writer.commit()
