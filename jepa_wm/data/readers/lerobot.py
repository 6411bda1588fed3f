"""LeRobot's folders, versions 2.0, 2.1 and 3.0, without the lerobot package.

  meta/info.json         version, features, and where the files are
  2.x  meta/episodes.jsonl                      lengths
       data/chunk-000/episode_000000.parquet    a table per episode
       videos/chunk-000/CAMERA/episode_000000.mp4
  3.0  meta/episodes/chunk-000/file-000.parquet where each episode lies in
       data/chunk-000/file-000.parquet          tables of many episodes and
       videos/CAMERA/chunk-000/file-000.mp4     videos of many

Cameras are videos, or images inside the table. A row's action led from its
frame. The table's own numbers say which rows are an episode's, its `timestamp`
which frame of a video is a row's. Layout: huggingface/lerobot,
`src/lerobot/datasets/utils.py`.
"""

import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from jepa_wm import files
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data.readers import columns, images, lerobot_meta, reader, video

try:
  import pyarrow as pa
  import pyarrow.parquet as pq
except ImportError:
  pa = pq = None

_BOOKKEEPING = {
  *('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
}
_CAMERAS = ('video', 'image')
# Those that say which row is which.
_INDICES = ('episode_index', 'index', 'frame_index', 'timestamp')
# Episodes whose videos are looked at when a dataset is opened.
_NUM_PROBED = 16


def looks_like(path: pathlib.Path) -> bool:
  """Whether `path` is such a folder."""
  return (path / 'meta' / 'info.json').is_file()


class LeRobot:
  """The episodes of one dataset; see `reader.Reader`."""

  def __init__(self, path: pathlib.Path, options: reader.Options) -> None:
    """Opens a folder.

    Args:
      path: the folder that has `meta` in it.
      options: what to read.

    Raises:
      FileNotFoundError: it is no such folder.
      ImportError: pyarrow is not installed.
      ValueError: another version, a missing column, or a damaged table.
    """
    if pq is None:
      raise reader.missing('pyarrow', f'{path} is a LeRobot dataset and')
    self.path = path
    self.warnings: list[str] = []
    self._options = options
    options.refuse(path, split='is a LeRobot dataset and is read whole')
    info = lerobot_meta.read_info(path)
    self._fps = info['fps']
    version = info['codebase_version']
    if not version.startswith(('v2.', 'v3.')):
      raise ValueError(
        f'{path} is a LeRobot dataset of version {version}; v2.0, v2.1 and '
        "v3.0 are read, convert it with lerobot's own script."
      )
    kinds = {name: item['dtype'] for name, item in info['features'].items()}
    self._choice = columns.choose(
      path,
      options,
      images=sorted(x for x, kind in kinds.items() if kind in _CAMERAS),
      vectors=sorted(
        name
        for name, kind in kinds.items()
        if kind not in (*_CAMERAS, 'string', 'audio')
        and name not in _BOOKKEEPING
      ),
      steps={'reward': 'next.reward'} if 'next.reward' in kinds else {},
    )
    camera = self._choice.pixels
    self._video = camera if kinds[camera] == 'video' else None
    self._is_v2 = version.startswith('v2.')
    rows_fn = (
      lerobot_meta.rows_of_v2 if self._is_v2 else lerobot_meta.rows_of_v3
    )
    self._rows = rows_fn(path, info, self._video)
    self.num_episodes = len(self._rows)
    if not self.num_episodes:
      raise ValueError(f'{path} holds no episodes.')
    total = info.get('total_episodes', self.num_episodes)
    if total != self.num_episodes:
      self.warnings.append(
        f'{path} lists {self.num_episodes} episodes in its meta folder and '
        f'its info.json counts {total!r:.20}; what is not listed is not read, '
        'copy the folder again unless episodes were taken out.'
      )
    self._note_longer_videos()
    self.provenance: dict[str, Any] = {
      'format': f'LeRobot {version}',
      'folder': path.name,
      'robot_type': info.get('robot_type'),
      'fps': self._fps,
      'columns': self._choice.to_dict(),
    }

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    reader.check_index(self, index)
    row = self._rows[index]
    where = f'{self.path}, episode {row["episode_index"]},'
    table = self._table(row, where)
    _check_indices(where, row, table)
    found: dict[str, Any] = {
      name: _array(table, name, where) for name in self._choice.vectors
    }
    found[self._choice.pixels] = self._frames(row, table, where)
    return columns.episode(
      where,
      found,
      self._choice,
      self._options,
      provenance={
        'index': index,
        'episode_index': row['episode_index'],
        'tasks': [str(task) for task in row.get('tasks') or []],
      },
    )

  def _table(self, row: dict[str, Any], where: str) -> Any:
    """Rows of one episode, of the columns that are used."""
    file = row['data']
    names = list(self._choice.vectors)
    if self._video is None:
      names.append(self._choice.pixels)
    try:
      parquet = pq.ParquetFile(file, memory_map=True)
      there = parquet.schema_arrow.names
      if missing := sorted(set(names) - set(there)):
        raise ValueError(
          f'{where} lacks the columns {", ".join(missing)} in {file}, '
          f'which has {", ".join(there)}.'
        )
      names += [name for name in _INDICES if name in there]
      if self._is_v2:
        return parquet.read(columns=names)
      return _part(parquet, names, *_place(where, row, parquet))
    except (OSError, pa.ArrowException) as error:
      raise files.damaged(file, error) from error

  def _frames(
    self, row: dict[str, Any], table: Any, where: str
  ) -> Iterable[np.ndarray]:
    if self._video is None:
      column = table.column(self._choice.pixels).to_pylist()
      return images.decode(where, images.cells(where, self.path, column))
    start = float(row.get('start', 0.0))
    if 'timestamp' in table.column_names:
      times = _array(table, 'timestamp', where).astype(np.float64).reshape(-1)
    elif self._fps is not None:
      times = np.arange(row['length']) / self._fps
    else:
      return video.read_frames(
        row['video'], start=start, num_frames=row['length']
      )
    stop = row.get('stop')
    if stop is not None and start + times[-1] > stop + 1e-3:
      raise ValueError(
        f'{where} has rows up to {times[-1]:g} s and its part of '
        f'{row["video"]} ends after {stop - start:g} s; they are not of one '
        'recording.'
      )
    return video.read_frames_at(row['video'], start + times)

  def _note_longer_videos(self) -> None:
    """Warns where rows were taken out of tables and left in the videos."""
    if self._video is None or not self._is_v2:
      return
    picked = np.linspace(0, self.num_episodes - 1, _NUM_PROBED).astype(int)
    for row in (self._rows[index] for index in np.unique(picked)):
      count = video.claimed_frames(row['video'])
      if count > row['length']:
        self.warnings.append(
          f'{row["video"]} has {count} frames and its table {row["length"]} '
          "rows; frames are those at the rows' timestamps, which is right if "
          'these are still those of the recording.'
        )
        return


def _place(where: str, row: dict[str, Any], parquet: Any) -> tuple[int, int]:
  """First row and number of rows of an episode in a table of several.

  The table's own numbers decide. What the metadata says of rows was left wrong
  by converters, and is of no use where episodes were removed from it.
  """
  if 'episode_index' not in parquet.schema_arrow.names:
    if row['file_rows'] != parquet.metadata.num_rows:
      raise ValueError(
        f'{where} cannot be found in {row["data"]}: it has '
        f'{parquet.metadata.num_rows} rows without episode_index, and the '
        f'episodes of meta/episodes {row["file_rows"]}.'
      )
    return row['first_row'], row['length']
  numbers = parquet.read(columns=['episode_index']).column(0).to_numpy()
  mine = np.flatnonzero(numbers == row['episode_index'])
  if not len(mine):
    there = f'episodes {min(numbers)} to {max(numbers)}' if len(numbers) else ''
    raise ValueError(
      f'{where} is not in {row["data"]}, which has {there or "no rows"}; '
      'meta/episodes names another file, write the dataset again.'
    )
  if mine[-1] - mine[0] + 1 != len(mine):
    raise ValueError(
      f'{where} has rows between those of other episodes in {row["data"]}; '
      'write the table again, one episode after another.'
    )
  return int(mine[0]), len(mine)


def _part(parquet: Any, names: list[str], begin: int, length: int) -> Any:
  """Some rows of a table, of the groups alone that they are in."""
  groups: list[int] = []
  group_begin, skipped = 0, 0
  for group in range(parquet.num_row_groups):
    size = parquet.metadata.row_group(group).num_rows
    if group_begin < begin + length and group_begin + size > begin:
      skipped = skipped if groups else begin - group_begin
      groups.append(group)
    group_begin += size
  return parquet.read_row_groups(groups, columns=names).slice(skipped, length)


def _check_indices(where: str, row: dict[str, Any], table: Any) -> None:
  """Compares the rows with what their episode is said to be.

  Raises:
    ValueError: they are more or fewer, of another episode, or out of order.
  """
  if len(table) != row['length']:
    raise ValueError(
      f'{where} has {len(table)} rows in its table and {row["length"]} in '
      'meta/episodes; it is cut off, copy it again.'
    )
  for name in set(_INDICES) & set(table.column_names):
    numbers = _array(table, name, where).reshape(-1)
    if name == 'episode_index':
      wrong = numbers != row['episode_index']
    else:
      wrong = ~(np.diff(numbers.astype(np.float64)) > 0)
    if wrong.any():
      raise ValueError(
        f'{where} has rows out of order or of another episode in {row["data"]}:'
        f' {name} is {numbers[int(np.argmax(wrong))]} and then '
        f'{numbers[min(int(np.argmax(wrong)) + 1, len(numbers) - 1)]}; write '
        'the table again.'
      )


def _array(table: Any, name: str, where: str) -> np.ndarray:
  """A column, `[T, ...]`; NaN where there is nothing."""
  column = table.column(name).combine_chunks()
  depth = 0
  kind = column.type
  while pa.types.is_nested(kind) and hasattr(kind, 'value_type'):
    kind, depth = kind.value_type, depth + 1
  if pa.types.is_nested(kind):
    raise ValueError(
      f'{where} has {column.type} in the column {name!r}, where numbers are '
      'expected; choose other columns.'
    )
  if not depth:
    return column.to_numpy(zero_copy_only=False)
  try:
    return np.array(column.to_pylist(), kind.to_pandas_dtype())
  except (ValueError, TypeError) as error:
    raise ValueError(
      f'{where} has rows of different sizes in the column {name!r}, or empty '
      'ones; write the episode again.'
    ) from error
