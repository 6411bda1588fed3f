"""stable-worldmodel's HDF5: a dataset per column, and where episodes begin.

  ep_len, ep_offset      `[E]`
  pixels                 uint8 `[N, height, width, 3]`, often behind Blosc
  action                 `[N, A]`; NaN in an episode's last row where known
  proprio, state, ...    `[N, ...]`
  step_idx               `[N]`, from 0
  reward                 `[N]`, of the step that led to the row, if it is there

Its `World.collect` of release 0.1.1 never writes the frame after the reset
(`step_idx` begins at 1) and ends every episode with its first action, which
led from the frame that is missing. The other rows' actions do lead from their
frames, and a last row's action is never used, so nothing but the first step is
lost. Files whose actions are shifted by a row are found by `alignment.detect`.
"""

import pathlib
import threading
from typing import Any

import numpy as np

from jepa_wm import files
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data.readers import alignment, columns, frames, hdf5, reader

_EPISODE = ('ep_idx', 'episode_idx', 'episode_index', 'episode_id', 'id')
_STEP = ('step_idx', 'frame_index', 'step_id')
# Episodes looked at to find out how actions are aligned.
_NUM_PROBED = 64


class SwmHdf5:
  """The episodes of one file; see `reader.Reader`."""

  def __init__(self, path: pathlib.Path, options: reader.Options) -> None:
    """Opens a file, or the only one in a folder.

    Args:
      path: the file or folder.
      options: what to read.

    Raises:
      FileNotFoundError: there is none.
      ImportError: h5py is not installed.
      ValueError: it is cut off, ragged, or lacks a column.
    """
    if hdf5.h5py is None:
      raise reader.missing('h5py', f'{path} is HDF5 and')
    options.refuse(path, split='is one HDF5 file and is read whole')
    self.path = _file(path)
    self.warnings: list[str] = []
    self._options = options
    # HDF5 allows one caller at a time; waiting here instead keeps order.
    self._lock = threading.Lock()
    self._file = hdf5.open_file(self.path, rdcc_nbytes=2**26)
    self._items = {
      name: item
      for name, item in hdf5.datasets(self.path, self._file)
      if '/' not in name
    }
    if not self._items:
      raise ValueError(
        f'{self.path} holds groups ({", ".join(self._file) or "nothing"}) and '
        'no columns; robomimic and LIBERO write so, which is not read: write '
        'a dataset per column, with ep_len.'
      )
    self._offsets, self._lengths = self._boundaries(self._items)
    self.num_episodes = len(self._lengths)
    if not self.num_episodes:
      raise ValueError(f'{self.path} holds no episodes.')
    self._check_boundaries()
    flat = {
      name: item
      for name, item in self._items.items()
      if name not in ('ep_len', 'ep_offset')
    }
    self._choice = columns.choose(
      self.path,
      options,
      images=[
        name for name, item in flat.items() if hdf5.is_picture(item.shape)
      ],
      vectors=[name for name, item in flat.items() if item.ndim < 3],
      steps=self._reward(flat),
    )
    self._used = (self._choice.pixels, *self._choice.vectors)
    self._check_readable()
    self._scale = self._find_scale(flat[self._choice.pixels])
    self._note_rows_left_out()
    self._has_terminated = 'terminated' in flat
    self._note_missing_reset(flat)
    self._alignment = self._aligned()
    self.provenance: dict[str, Any] = {
      'format': 'stable-worldmodel HDF5',
      'file': self.path.name,
      'columns': self._choice.to_dict(),
      'alignment': self._alignment,
      'attributes': {
        name: np.asarray(value).tolist()
        for name, value in self._file.attrs.items()
        if np.asarray(value).dtype.kind in 'fiubU'
      },
    }

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    reader.check_index(self, index)
    begin, length = int(self._offsets[index]), int(self._lengths[index])
    where = f'{self.path}, episode {index},'
    rows = slice(begin, begin + length)
    found = {name: self._read(name, rows, where) for name in self._used}
    is_terminal = self._has_terminated and bool(
      self._read('terminated', slice(begin + length - 1, begin + length), where)
    )
    return columns.episode(
      where,
      found,
      self._choice,
      self._options,
      alignment=self._alignment,
      # A row holds what the step to its frame gave.
      reward_alignment='before',
      provenance={'index': index},
      is_terminal=is_terminal,
      scale=self._scale,
    )

  def _read(self, name: str, rows: slice, where: str) -> np.ndarray:
    try:
      with self._lock:
        return hdf5.read(self._items[name], rows)
    except (OSError, RuntimeError) as error:
      raise ValueError(
        f'{where} cannot be read from column {name!r} ({error}); the file is '
        'cut off or damaged, copy it again.'
      ) from error

  def _boundaries(self, names: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """First row and number of rows of each episode."""
    if 'ep_len' in names:
      lengths = self._numbers('ep_len')
      offsets = np.cumsum(lengths) - lengths
      if 'ep_offset' in names:
        offsets = self._numbers('ep_offset')
      if len(offsets) != len(lengths):
        raise ValueError(
          f'{self.path} has {len(lengths)} ep_len and {len(offsets)} '
          'ep_offset; it was not finished, write or copy it again.'
        )
      if (lengths < 0).any():
        raise ValueError(
          f'{self.path} has an episode of {lengths.min()} rows by its ep_len; '
          'write it again.'
        )
      # An episode that was begun and not written has no rows.
      return offsets[lengths > 0], lengths[lengths > 0]
    name = next((name for name in _EPISODE if name in names), None)
    if name is None:
      raise ValueError(
        f'{self.path} does not say where episodes begin: neither ep_len nor '
        f'{", ".join(_EPISODE)} is among {", ".join(sorted(names))}.'
      )
    numbers = self._numbers(name)
    begins = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    again = len(begins) - len(np.unique(numbers[begins]))
    if again:
      raise ValueError(
        f'{self.path} has rows of several episodes side by side: numbers come '
        f'back in {name} {again} times, as where environments ran in parallel; '
        f'sort its rows by {name} and write it again.'
      )
    return begins, np.diff(begins, append=len(numbers))

  def _reward(self, flat: dict[str, Any]) -> dict[str, str]:
    """Where rewards are: a row's is of the step that led to its frame."""
    if 'reward' not in flat or flat['reward'].ndim > 2:
      return {}
    rewards = hdf5.read(flat['reward'], slice(None))
    used = np.zeros(len(rewards), bool)
    for begin, length in zip(self._offsets, self._lengths):
      used[begin + 1 : begin + length] = True
    return columns.reward_of(self.path, 'reward', rewards, used, self.warnings)

  def _numbers(self, name: str) -> np.ndarray:
    """A column of whole numbers, int64 `[N]`."""
    item = self._items[name]
    found = hdf5.read(item, slice(None))
    if found.shape not in ((len(item),), (len(item), 1)) or (
      found.dtype.kind not in 'iuf'
    ):
      raise ValueError(
        f'{self.path} has {item.dtype} {list(item.shape)} in {name}, where one '
        'number a row is expected.'
      )
    found = found.reshape(-1)
    if found.dtype.kind == 'f' and not (np.abs(found) < 2**53).all():
      raise ValueError(
        f'{self.path} has NaN, infinity or more than 2**53 in {name}.'
      )
    if not (found % 1 == 0).all():
      raise ValueError(f'{self.path} has numbers that are not whole in {name}.')
    # Numbers beyond int64 are hashes, which come back as they went.
    return found.astype(np.int64)

  def _check_boundaries(self) -> None:
    """Compares where episodes begin with what the rows say of themselves.

    Raises:
      ValueError: episodes overlap, or rows are of another one or out of order.
    """
    hdf5.check_claim(self.path, int(self._lengths.sum()))
    order = np.argsort(self._offsets, kind='stable')
    begins, ends = self._offsets[order], (self._offsets + self._lengths)[order]
    if (self._offsets < 0).any() or (begins[1:] < ends[:-1]).any():
      raise ValueError(
        f'{self.path} has episodes that overlap by its ep_offset and ep_len; '
        'write it again.'
      )
    named = [
      name
      for name in (*_EPISODE, *_STEP)
      if (item := self._items.get(name)) is not None
      and item.dtype.kind in 'iuf'
      and len(item) >= ends[-1]
    ]
    if not named:
      return
    rows = np.concatenate([np.arange(a, b) for a, b in zip(begins, ends)])
    inner = np.delete(np.arange(len(rows)), np.cumsum(ends - begins) - 1)
    for name in named:
      steps = np.diff(self._numbers(name)[rows])[inner]
      if (steps != 0 if name in _EPISODE else steps <= 0).any():
        raise ValueError(
          f'{self.path} has rows of several episodes between the beginnings of '
          f'two: {name} says so; its ep_len or its rows are wrong, write it '
          'again.'
        )

  def _check_readable(self) -> None:
    """Asserts that columns are long enough and reads a row of each.

    Raises:
      ImportError: the plugin that compressed them is not installed.
      ValueError: they are cut off or damaged.
    """
    rows = int((self._offsets + self._lengths).max())
    ragged = {
      name: length
      for name in self._used
      if (length := len(self._items[name])) < rows
    }
    if ragged:
      raise ValueError(
        f'{self.path} has columns that are too short for its {rows} rows in '
        f'{self.num_episodes} episodes: '
        + ', '.join(f'{name} {length}' for name, length in ragged.items())
        + '; it was not finished, write or copy it again.'
      )
    for name in self._used:
      try:
        self._items[name][:1]
      except (OSError, RuntimeError) as error:
        if hdf5.hdf5plugin is None:
          raise reader.missing(
            'hdf5plugin', f'{self.path} is compressed by a plugin and'
          ) from error
        raise ValueError(
          f'{self.path} cannot be read from column {name!r} ({error}); the '
          'file is cut off or damaged, copy it again.'
        ) from error

  def _find_scale(self, pixels: Any) -> float | None:
    """That of pictures in floats, found in all of them; None for others."""
    if pixels.dtype.kind != 'f':
      return None
    name = self._choice.pixels
    return frames.scale_of(self.path, name, hdf5.pieces(pixels))

  def _note_rows_left_out(self) -> None:
    """Warns of rows that are of no episode, which may be a lost one's."""
    rows = min(len(self._items[name]) for name in self._used)
    used = int(self._lengths.sum())
    if rows > used:
      self.warnings.append(
        f'{self.path} has {rows} rows and its episodes {used}; the others are '
        'left out, which is right if they were never written.'
      )

  def _note_missing_reset(self, flat: dict[str, Any]) -> None:
    name = next((name for name in _STEP if name in flat), None)
    first = int(self._offsets[0])
    if name is None or len(flat[name]) <= first:
      return
    if np.ravel(flat[name][first : first + 1]).tolist() == [1]:
      self.warnings.append(
        f'{self.path}: {name} begins at 1, as stable-worldmodel 0.1.1 writes '
        "it: every episode lacks its first frame, and the last row's action, "
        'which belongs there, is not used.'
      )

  def _aligned(self) -> str:
    """How the actions are aligned, with a warning where that is a repair."""
    if self._options.alignment != 'auto':
      return self._options.alignment
    names = (*self._choice.state, *self._choice.proprio)
    picked = np.unique(
      np.linspace(0, self.num_episodes - 1, _NUM_PROBED).astype(int)
    )
    probed = []
    for index in picked:
      begin, length = int(self._offsets[index]), int(self._lengths[index])
      rows = slice(begin, begin + length)
      actions = self._side_by_side(self._choice.action, rows)
      probed.append((self._side_by_side(names, rows), actions))
    found, doubt = alignment.detect(probed)
    if doubt is not None and not self.warnings:
      # A missing reset frame tells the writer, and that it is right.
      self.warnings.append(
        f'{self.path}: whether its actions are shifted cannot be told '
        f'({doubt}); each is taken to lead from its row to the next.'
      )
    elif found != 'after':
      meaning = {
        'before': "led to its row's frame",
        'rotated': 'led from the next row, the last from the first',
      }[found]
      self.warnings.append(
        f'{self.path}: its actions are shifted by one row (each {meaning}), '
        'which is repaired; --alignment=after takes them as they are.'
      )
    return found

  def _side_by_side(self, names: tuple[str, ...], rows: slice) -> np.ndarray:
    """Columns of numbers, `[T, 0]` where there are none."""
    where = f'{self.path}, rows {rows.start}..{rows.stop},'
    parts = [np.zeros((rows.stop - rows.start, 0), np.float32)]
    for name in names:
      found = self._read(name, rows, where)
      parts.append(columns.vectors(where, found, name))
    return np.concatenate(parts, axis=1)


def looks_like(path: pathlib.Path) -> bool:
  """Whether there is an HDF5 file at `path`, or are some in it."""
  found = files.visible(path.iterdir()) if path.is_dir() else [path]
  return any(file.suffix.lower() in hdf5.SUFFIXES for file in found)


def _file(path: pathlib.Path) -> pathlib.Path:
  """The file itself."""
  if not path.is_dir():
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such file or folder.')
    return path
  found = sorted(
    file
    for file in files.visible(path.iterdir())
    if file.suffix.lower() in hdf5.SUFFIXES
  )
  if len(found) != 1:
    names = ', '.join(file.name for file in found) or 'none'
    raise FileNotFoundError(
      f'{path} must hold one HDF5 file, it holds {names}; name the file.'
    )
  return found[0]
