"""LeRobot's folders, versions 2.0, 2.1 and 3.0, without the lerobot package.

  meta/info.json         version, features, and where the files are
  2.x  meta/episodes.jsonl                      lengths
       data/chunk-000/episode_000000.parquet    a table per episode
       videos/chunk-000/CAMERA/episode_000000.mp4
  3.0  meta/episodes/chunk-000/file-000.parquet where each episode lies in
       data/chunk-000/file-000.parquet          tables of many episodes and
       videos/CAMERA/chunk-000/file-000.mp4     videos of many

Cameras are videos, or images inside the table. A row's action led from its
frame. Layout: huggingface/lerobot, `src/lerobot/datasets/utils.py`.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data.readers import columns, images, reader, video

try:
  import pyarrow as pa
  import pyarrow.parquet as pq
except ImportError:
  pa = pq = None

_BOOKKEEPING = {
  *('timestamp', 'frame_index', 'episode_index', 'index', 'task_index'),
}


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
    self._info = _info(path)
    version = str(self._info['codebase_version'])
    if not version.startswith(('v2.', 'v3.')):
      raise ValueError(
        f'{path} is a LeRobot dataset of version {version}; v2.0, v2.1 and '
        "v3.0 are read, convert it with lerobot's own script."
      )
    features = self._info['features']
    numbers = {
      name
      for name, feature in features.items()
      if feature['dtype'] not in ('video', 'image', 'string', 'audio')
      and name not in _BOOKKEEPING
    }
    self._videos = {
      name for name, feature in features.items() if feature['dtype'] == 'video'
    }
    in_table = {
      name for name, feature in features.items() if feature['dtype'] == 'image'
    }
    self._choice = columns.choose(
      path,
      options,
      images=sorted(self._videos | in_table),
      vectors=sorted(numbers),
    )
    self._rows = (
      self._rows_of_v2() if version.startswith('v2.') else self._rows_of_v3()
    )
    self.num_episodes = len(self._rows)
    if not self.num_episodes:
      raise ValueError(f'{path} holds no episodes.')
    self.provenance: dict[str, Any] = {
      'format': f'LeRobot {version}',
      'folder': path.name,
      'robot_type': self._info.get('robot_type'),
      'fps': self._info.get('fps'),
      'columns': self._choice.to_dict(),
    }

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    reader.check_index(self, index)
    row = self._rows[index]
    where = f'{self.path}, episode {row["episode_index"]},'
    table = self._table(row, where)
    if len(table) != row['length']:
      raise ValueError(
        f'{where} has {len(table)} rows in its table and {row["length"]} in '
        'meta/episodes; it is cut off, copy it again.'
      )
    found: dict[str, Any] = {
      name: _array(table, name, where) for name in self._choice.vectors
    }
    found[self._choice.pixels] = self._frames(row, table, where)
    alignment = self._options.alignment
    return columns.episode(
      where,
      found,
      self._choice,
      self._options,
      alignment='after' if alignment == 'auto' else alignment,
      provenance={
        'index': index,
        'episode_index': row['episode_index'],
        'tasks': [str(task) for task in row.get('tasks') or []],
      },
    )

  def _rows_of_v2(self) -> list[dict[str, Any]]:
    """An entry per episode: its number, its length and its files."""
    file = self.path / 'meta' / 'episodes.jsonl'
    try:
      lines = file.read_text().splitlines()
      rows = [json.loads(line) for line in lines if line.strip()]
      for row in rows:
        number = int(row['episode_index'])
        place = {
          'episode_chunk': number // int(self._info['chunks_size']),
          'episode_index': number,
        }
        row['data'] = self._info['data_path'].format(**place)
        if self._choice.pixels in self._videos:
          row['video'] = self._info['video_path'].format(
            **place, video_key=self._choice.pixels
          )
        row['length'] = int(row['length'])
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise _damaged(file, error) from error
    return rows

  def _rows_of_v3(self) -> list[dict[str, Any]]:
    """An entry per episode: its number, its length, and where it lies."""
    names = ['episode_index', 'length', 'tasks', 'dataset_from_index']
    names += ['data/chunk_index', 'data/file_index']
    camera = f'videos/{self._choice.pixels}'
    is_video = self._choice.pixels in self._videos
    if is_video:
      names += [f'{camera}/chunk_index', f'{camera}/file_index']
      names += [f'{camera}/from_timestamp']
    files = sorted((self.path / 'meta' / 'episodes').rglob('*.parquet'))
    if not files:
      raise FileNotFoundError(
        f'{self.path} has no meta/episodes/*/*.parquet; copy it again.'
      )
    rows = []
    for file in files:
      try:
        # Statistics are most of such a file.
        rows += pq.read_table(file, columns=names).to_pylist()
        for row in rows:
          if 'data' in row:
            continue
          row['data'] = self._info['data_path'].format(
            chunk_index=row['data/chunk_index'],
            file_index=row['data/file_index'],
          )
          if is_video:
            row['video'] = self._info['video_path'].format(
              video_key=self._choice.pixels,
              chunk_index=row[f'{camera}/chunk_index'],
              file_index=row[f'{camera}/file_index'],
            )
            row['start'] = row[f'{camera}/from_timestamp']
      except (OSError, pa.ArrowException, KeyError) as error:
        raise _damaged(file, error) from error
    begins: dict[str, int] = {}
    for row in rows:
      begin = row['dataset_from_index']
      begins[row['data']] = min(begin, begins.get(row['data'], begin))
    for row in rows:
      row['first_row'] = row['dataset_from_index'] - begins[row['data']]
    return sorted(rows, key=lambda row: row['episode_index'])

  def _table(self, row: dict[str, Any], where: str) -> Any:
    """Rows of one episode, of the columns that are used."""
    file = self.path / row['data']
    names = list(self._choice.vectors)
    if self._choice.pixels not in self._videos:
      names.append(self._choice.pixels)
    try:
      parquet = pq.ParquetFile(file, memory_map=True)
      missing = set(names) - set(parquet.schema_arrow.names)
      if missing:
        raise ValueError(
          f'{where} lacks the columns {", ".join(sorted(missing))} in {file}, '
          f'which has {", ".join(parquet.schema_arrow.names)}.'
        )
      if 'first_row' not in row:
        return parquet.read(columns=names)
      begin, end = row['first_row'], row['first_row'] + row['length']
      groups, group_begin, skipped = [], 0, None
      for group in range(parquet.num_row_groups):
        size = parquet.metadata.row_group(group).num_rows
        if group_begin < end and group_begin + size > begin:
          groups.append(group)
          skipped = begin - group_begin if skipped is None else skipped
        group_begin += size
      table = parquet.read_row_groups(groups, columns=names)
      return table.slice(skipped or 0, row['length'])
    except (OSError, pa.ArrowException) as error:
      raise _damaged(file, error) from error

  def _frames(
    self, row: dict[str, Any], table: Any, where: str
  ) -> Iterable[np.ndarray]:
    if 'video' in row:
      return video.read_frames(
        self.path / row['video'],
        start=row.get('start', 0.0),
        num_frames=row['length'],
      )
    cells = table.column(self._choice.pixels).to_pylist()
    return images.decode(where, map(self._image_bytes, cells))

  def _image_bytes(self, cell: Any) -> bytes:
    """Encoded image of a cell, which holds it or names a file."""
    if cell['bytes'] is not None:
      return cell['bytes']
    return (self.path / cell['path']).read_bytes()


def _info(path: pathlib.Path) -> dict[str, Any]:
  """What the dataset says of itself."""
  file = path / 'meta' / 'info.json'
  if not file.is_file():
    raise FileNotFoundError(
      f'{path} is no LeRobot dataset: it has no meta/info.json.'
    )
  try:
    info = json.loads(file.read_text())
    for name in ('codebase_version', 'features', 'data_path'):
      info[name]
  except (OSError, ValueError, KeyError) as error:
    raise _damaged(file, error) from error
  return info


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


def _damaged(file: pathlib.Path, error: Exception) -> ValueError:
  return ValueError(
    f'{file} is cut off or damaged ({type(error).__name__}: {error}); copy it '
    'again.'
  )
