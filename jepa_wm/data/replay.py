"""Episodes that are added while they are read: the data of online learning.

A folder with a folder for each episode, `00000000`, `00000001`, ..., which
appears when all of it is on the disk:

  episode.json       frames, whether the task ended, provenance
  .../NAME.npy       its columns (`data/columns.py`)

One process adds, any number read. Whatever kills the one that adds loses the
episode it was at.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jepa_wm import files
from jepa_wm.data import columns as columns_lib
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import table as table_lib
from jepa_wm.data import windows as windows_lib

_NUMBER = re.compile(r'[0-9]{8,}')  # The name of an episode's folder.


class _Entry(NamedTuple):
  """An episode on the disk: rows as a `table.Table` has them."""

  columns: dict[str, np.ndarray]
  num_frames: int
  spec: columns_lib.Spec


class Replay:
  """Appends episodes to a folder and cuts windows from those that are there."""

  def __init__(
    self, path: str | os.PathLike[str], *, max_frames: int | None = None
  ):
    """Opens a folder, which is made where it is missing.

    Args:
      path: the folder.
      max_frames: of all episodes together; the oldest ones are dropped when
        another is appended beyond it. None: there is no end.

    Raises:
      ValueError: `max_frames` below one.
    """
    if max_frames is not None and not (
      windows_lib.is_whole(max_frames) and max_frames >= 1
    ):
      raise ValueError(
        f'max_frames must be a whole number of at least 1, got {max_frames!r}.'
      )
    self.path = files.expand(path).absolute()
    self.path.mkdir(parents=True, exist_ok=True)
    self._max_frames = max_frames
    self._entries: dict[int, _Entry] = {}
    self._table: table_lib.Table | None = None

  def append(self, episode: episodes_lib.Episode) -> int:
    """Adds an episode, whole or not at all, and drops what is too old.

    Args:
      episode: with the columns of those that are there.

    Returns:
      Its number, from 0.

    Raises:
      ValueError: it has other columns.
      OSError: the disk is full or cannot be written to.
    """
    self._refresh()
    for entry in self._entries.values():
      episodes_lib.check_spec(episode.spec, entry.spec)
      break
    number = max(self._entries, default=-1) + 1
    with files.folder_written_whole(self.path / f'{number:08d}') as folder:
      (folder / 'observation').mkdir()
      for name, array in episode.columns.items():
        np.save(folder / f'{name}.npy', array)
      described = {
        'columns': columns_lib.to_json(episode.spec),
        'num_frames': episode.num_frames,
        'is_terminal': bool(episode.is_terminal),
        'provenance': episode.provenance,
      }
      (folder / 'episode.json').write_text(json.dumps(described))
    self._refresh()
    excess = self.num_frames - (self._max_frames or self.num_frames)
    for old in sorted(self._entries)[:-1]:
      if excess <= 0:
        break
      excess -= self._entries[old].num_frames
      files.remove_folder(self.path / f'{old:08d}')
    return number

  def rewind(self, end: int) -> None:
    """Forgets the episodes numbered `end` and later.

    Who went back to a checkpoint plays them again; with the `end` of
    `Windows.get_state()` the batches are those of a run that was never killed,
    unless what was there has been dropped for its age since. Other processes
    that read open the replay anew.

    Raises:
      ValueError: an `end` that no episode can have.
    """
    if not windows_lib.is_whole(end) or end < 0:
      raise ValueError(f'end must be a number of an episode, got {end!r}.')
    self._refresh()
    for number in sorted(self._entries, reverse=True):
      if number >= end:
        files.remove_folder(self.path / f'{number:08d}')

  @property
  def end(self) -> int:
    """Number that the next episode will have."""
    self._refresh()
    return max(self._entries, default=-1) + 1

  @property
  def num_frames(self) -> int:
    """Frames of all episodes that are there."""
    self._refresh()
    return sum(entry.num_frames for entry in self._entries.values())

  def check_whole(self) -> None:
    """Makes sure that no episode is missing between two others.

    Raises:
      ValueError: one is.
    """
    self._refresh()
    for number in range(min(self._entries, default=0), self.end):
      if number not in self._entries:
        raise ValueError(
          f'{self.path / f"{number:08d}"} is missing, an episode between two '
          'others; copy it again, or start in an empty folder.'
        )

  def table(self) -> table_lib.Table:
    """The episodes that are there now, the oldest first.

    Raises:
      ValueError: there are none, or one is damaged.
    """
    self._refresh()
    if not self._entries:
      raise ValueError(f'There are no episodes at {self.path} yet; append one.')
    if self._table is None:
      self._table = _joined(str(self.path), list(self._entries.values()))
    return self._table

  def windows(
    self,
    *,
    num_frames: int | Sequence[int],
    stride: int | Sequence[int],
    batch_size: int,
    seed: int,
    columns: Sequence[str] | None = None,
  ) -> 'Windows':
    """Endless batches of windows of what is there when each is asked for.

    Args:
      num_frames: see `windows.cached_windows`, as all of these.
      stride: as there.
      batch_size: windows `B` of a batch, each uniform among all windows.
      seed: of the draws; batch number n is drawn by the seed and n.
      columns: names of what a batch holds; all that are there by default.

    Raises:
      ValueError: a count below one.
    """
    windows_lib.check_batches(batch_size, seed)
    shape: Any = {'num_frames': num_frames, 'stride': stride}
    return Windows(self, shape, batch_size, seed, columns)

  def _refresh(self) -> None:
    """Opens what is new and lets go of what is gone."""
    there = {int(x) for x in os.listdir(self.path) if _NUMBER.fullmatch(x)}
    if there == self._entries.keys():
      return
    entries = {n: x for n, x in self._entries.items() if n in there}
    for number in sorted(there - entries.keys()):
      folder = self.path / f'{number:08d}'
      try:
        entries[number] = entry = _opened(folder)
      except FileNotFoundError as error:
        if folder.is_dir():
          raise files.damaged(folder, error) from error
        continue  # Dropped by the one who adds, between two looks.
      first = entries[min(entries)]
      if entry.spec != first.spec:
        raise ValueError(
          f'{folder} has the columns {columns_lib.to_json(entry.spec)}, and '
          f'those before it {columns_lib.to_json(first.spec)}; a replay is of '
          'one world, start it in an empty folder.'
        )
    self._entries = dict(sorted(entries.items()))
    self._table = None


class Windows:
  """Iterator over batches of a growing replay; see `windows.Gather`."""

  def __init__(
    self,
    replay: Replay,
    shape: dict[str, Any],
    batch_size: int,
    seed: int,
    columns: Sequence[str] | None,
  ):
    """See `Replay.windows`."""
    self._replay, self._shape = replay, shape
    self._batch_size, self._seed = batch_size, seed
    self._columns, self._number = columns, 0
    self._table: table_lib.Table | None = None

  def __iter__(self) -> 'Windows':
    return self

  def __next__(self) -> Any:
    """The next batch, of the episodes that are there now.

    Raises:
      ValueError: none is as long as a window, or no such column.
    """
    table = self._replay.table()
    if table is not self._table:
      self._starts = windows_lib.window_starts(
        table, **self._shape, skip_short_episodes=True
      )
      if self._table is None:
        self._gather = windows_lib.Gather(
          table,
          **self._shape,
          batch_size=self._batch_size,
          columns=self._columns,
        )
      self._table = table
    rng = np.random.default_rng((self._seed, self._number))
    chosen = rng.integers(len(self._starts), size=self._batch_size)
    batch = self._gather(table, self._starts[chosen])
    self._number += 1
    return batch

  def get_state(self) -> dict[str, int]:
    """Position: the next batch, and `end`, the next episode's number."""
    return {'batch': self._number, 'end': self._replay.end}

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes to a position that `get_state` gave.

    Raises:
      ValueError: episodes that were there are not there any more.
    """
    if state['end'] > self._replay.end:
      raise ValueError(
        f'The replay at {self._replay.path} ends at episode '
        f'{self._replay.end}, before episode {state["end"]} that the position '
        'is at; it is not the same, or was cut off.'
      )
    self._replay.check_whole()
    self._number = state['batch']


class _Rows:
  """A column of several episodes, indexed as an array's first axis is."""

  def __init__(self, arrays: list[np.ndarray], offsets: np.ndarray):
    self._arrays, self._offsets = arrays, offsets
    self.dtype = arrays[0].dtype
    self.shape = (sum(map(len, arrays)), *arrays[0].shape[1:])

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows)
    taken = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
    self.take(rows, taken)
    return taken

  def take(self, rows: np.ndarray, out: np.ndarray) -> None:
    """Writes the rows `[...]` to `out` `[..., *]`, which is contiguous."""
    rows, taken = rows.ravel(), out.reshape(-1, *self.shape[1:])
    episodes = np.searchsorted(self._offsets, rows, side='right') - 1
    for number in np.unique(episodes):
      here = episodes == number
      own = rows[here] - self._offsets[number]
      taken[here] = self._arrays[number][own]


def _opened(folder: pathlib.Path) -> _Entry:
  """An episode, pictures mapped; steps have a row of NaN after the last."""
  try:
    described = files.read_json(folder / 'episode.json')
    spec = columns_lib.from_json(described['columns'])
    columns: dict[str, np.ndarray] = {
      name: np.load(
        folder / f'{name}.npy',
        mmap_mode='r' if columns_lib.is_image(name) else None,
      )
      for name in spec
    }
    if columns_lib.spec(columns) != spec or any(
      len(array) != described['num_frames'] - (name in columns_lib.STEPS)
      for name, array in columns.items()
      if name not in columns_lib.EPISODES
    ):
      raise ValueError('its columns are not those that it describes')
  except FileNotFoundError:
    raise
  # What a file that is none leads NumPy and JSON to is of many kinds.
  except Exception as error:
    raise files.damaged(folder, error) from error
  for name in columns_lib.STEPS:
    if name in columns:
      padding = [(0, 1)] + [(0, 0)] * (columns[name].ndim - 1)
      columns[name] = np.pad(columns[name], padding, constant_values=np.nan)
  columns['is_terminal'] = np.asarray(described['is_terminal'])
  return _Entry(columns, described['num_frames'], spec)


def _joined(where: str, entries: list[_Entry]) -> table_lib.Table:
  """One table of several episodes."""
  lengths = np.asarray([entry.num_frames for entry in entries], np.int64)
  offsets = np.cumsum(lengths) - lengths
  columns: dict[str, Any] = {}
  for name in entries[0].columns:
    arrays = [entry.columns[name] for entry in entries]
    once = name in (*columns_lib.EPISODES, 'is_terminal')
    columns[name] = np.stack(arrays) if once else _Rows(arrays, offsets)
  return table_lib.Table(
    where=where, columns=columns, offsets=offsets, lengths=lengths
  )
