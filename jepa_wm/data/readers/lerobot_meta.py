"""What a LeRobot folder says of itself: features, episodes, and their files.

Nothing in it is believed before it is looked at: fields are left out by some
converters, and a template of paths is a small program.
"""

import itertools
import pathlib
import re
import string
from typing import Any

from jepa_wm import files
from jepa_wm.data.readers import reader

try:
  import pyarrow as pa
  import pyarrow.parquet as pq
except ImportError:
  pa = pq = None

# What a table needs to say of an episode, and what it may.
_EPISODE = ('episode_index', 'length', 'data/chunk_index', 'data/file_index')
_MAY = ('tasks', 'dataset_from_index')


def read_info(path: pathlib.Path) -> dict[str, Any]:
  """The dataset's `meta/info.json`, with fields of the types they must have.

  Raises:
    FileNotFoundError: it is no such folder.
    ValueError: the file is damaged, or a field is missing or of another type.
  """
  file = path / 'meta' / 'info.json'
  if not file.is_file():
    raise FileNotFoundError(
      f'{path} is no LeRobot dataset: it has no meta/info.json.'
    )
  found = files.read_json(file)
  if not isinstance(found, dict):
    raise ValueError(f'{file} is no JSON object; copy it again.')
  defaults = {'chunks_size': 1000, 'video_path': None, 'fps': None}
  info: dict[str, Any] = defaults | found
  fields: tuple[tuple[str, Any, str], ...] = (
    ('codebase_version', str, 'a text'),
    ('features', dict, 'an object'),
    ('data_path', str, 'a template of paths'),
    ('video_path', str | None, 'a template of paths'),
    ('chunks_size', int, 'a number above 0'),
    ('fps', int | float | None, 'a number above 0'),
  )
  for name, kinds, what in fields:
    value: Any = info.get(name)
    is_number = isinstance(value, int | float)
    if not isinstance(value, kinds) or (is_number and not value > 0):
      raise ValueError(
        f'{file} is damaged or made by hand: {name} is {value!r:.60}, where '
        f'{what} is expected.'
      )
  for name, feature in info['features'].items():
    if not isinstance(feature, dict) or not isinstance(
      feature.get('dtype'), str
    ):
      raise ValueError(
        f'{file} does not say of which dtype the feature {name!r} is; add it '
        '(video, image, float32, ...).'
      )
  return info


def rows_of_v2(
  path: pathlib.Path, info: dict[str, Any], video: str | None
) -> list[dict[str, Any]]:
  """An entry per episode of version 2.x: number, length and files.

  Args:
    path: the folder.
    info: its `read_info`.
    video: the camera, if it is one of videos.

  Raises:
    FileNotFoundError: `meta/episodes.jsonl` is missing.
    ValueError: it is damaged, or names an episode twice.
  """
  file = path / 'meta' / 'episodes.jsonl'
  rows = files.read_json_lines(file)
  for row in rows:
    _check_row(file, row, ('episode_index', 'length'))
    number = row['episode_index']
    place = {
      'episode_chunk': number // info['chunks_size'],
      'episode_index': number,
    }
    row['data'] = _file(path, info, 'data_path', place)
    if video is not None:
      place['video_key'] = video
      row['video'] = _file(path, info, 'video_path', place)
  return _unique(file, rows)


def rows_of_v3(
  path: pathlib.Path, info: dict[str, Any], video: str | None
) -> list[dict[str, Any]]:
  """As `rows_of_v2`, of version 3.0: also where in its files an episode lies.

  Raises:
    FileNotFoundError: `meta/episodes` is empty.
    ValueError: a table there is damaged, or names an episode twice.
  """
  folder = path / 'meta' / 'episodes'
  tables = sorted(files.visible(folder.rglob('*.parquet')))
  if not tables:
    raise FileNotFoundError(
      f'{path} has no meta/episodes/*/*.parquet; copy it again.'
    )
  camera = f'videos/{video}'
  needed = [*_EPISODE]
  if video is not None:
    needed += [f'{camera}/chunk_index', f'{camera}/file_index']
    needed += [f'{camera}/from_timestamp']
  rows: list[dict[str, Any]] = []
  for file in tables:
    for row in _entries(file, needed, (*_MAY, f'{camera}/to_timestamp')):
      _check_row(file, row, needed)
      place = {
        'chunk_index': row['data/chunk_index'],
        'file_index': row['data/file_index'],
      }
      row['data'] = _file(path, info, 'data_path', place)
      if video is not None:
        place = {
          'video_key': video,
          'chunk_index': row[f'{camera}/chunk_index'],
          'file_index': row[f'{camera}/file_index'],
        }
        row['video'] = _file(path, info, 'video_path', place)
        row['start'] = row[f'{camera}/from_timestamp']
        row['stop'] = row.get(f'{camera}/to_timestamp')
      rows.append(row)
  rows = _unique(folder, rows)
  if video is not None:
    _check_parts(folder, rows, info['fps'])
  # Where a table does not number its rows, they are those of the episodes.
  totals: dict[pathlib.Path, int] = {}
  for row in rows:
    row['first_row'] = totals.get(row['data'], 0)
    totals[row['data']] = row['first_row'] + row['length']
  for row in rows:
    row['file_rows'] = totals[row['data']]
  return rows


def _check_parts(
  folder: pathlib.Path, rows: list[dict[str, Any]], fps: float | None
) -> None:
  """Refuses episodes that share a part of a video.

  Raises:
    ValueError: the part of one begins before that of another ends.
  """
  order = sorted(rows, key=lambda row: (row['video'], row['start']))
  for first, second in itertools.pairwise(order):
    # Up to the middle of its last frame, as far as that is known.
    end = first['start'] + ((first['length'] - 0.5) / fps if fps else 0.0)
    if first['video'] == second['video'] and second['start'] < end:
      raise ValueError(
        f'{folder} gives episodes {first["episode_index"]} and '
        f'{second["episode_index"]} the same part of {first["video"]}, from '
        f'{first["start"]:g} s and from {second["start"]:g} s on; write the '
        'dataset again.'
      )


def _entries(
  file: pathlib.Path, needed: list[str], may: tuple[str, ...]
) -> list[dict[str, Any]]:
  """Rows of a table of episodes, of which statistics are the most."""
  try:
    parquet = pq.ParquetFile(file)
    there = set(parquet.schema_arrow.names)
    if missing := sorted(set(needed) - there):
      raise ValueError(f'{file} lacks the columns {", ".join(missing)}.')
    names = [*needed, *(name for name in may if name in there)]
    return parquet.read(columns=names).to_pylist()
  except (OSError, pa.ArrowException) as error:
    raise files.damaged(file, error) from error


def _check_row(file: pathlib.Path, row: Any, needed: Any) -> None:
  """Refuses an entry whose numbers are missing or none.

  Raises:
    ValueError: it is one.
  """
  if not isinstance(row, dict):
    raise ValueError(f'{file} holds a {type(row).__name__} for an episode.')
  for name in needed:
    kind = int | float if name.endswith('timestamp') else int
    value = row.get(name)
    if not isinstance(value, kind) or not value >= (name == 'length'):
      raise ValueError(
        f'{file} says {name}={value!r:.60} of episode '
        f'{row.get("episode_index")!r:.20}; it is cut off or damaged, copy it '
        'again.'
      )


def _unique(
  file: pathlib.Path, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
  """The entries in order of their numbers.

  Raises:
    ValueError: two have the same.
  """
  rows = sorted(rows, key=lambda row: row['episode_index'])
  numbers = [row['episode_index'] for row in rows]
  for first, second in itertools.pairwise(numbers):
    if first == second:
      raise ValueError(
        f'{file} names episode {first} twice; write the dataset again.'
      )
  return rows


def _file(
  path: pathlib.Path, info: dict[str, Any], name: str, place: dict[str, Any]
) -> pathlib.Path:
  """A file by its template, which may ask for numbers and names alone."""
  template = info[name]
  if template is None:
    raise ValueError(
      f'{path}/meta/info.json has no {name}, where the files are; add it.'
    )
  try:
    for _, field, spec, conversion in string.Formatter().parse(template):
      plain = conversion is None and re.fullmatch(r'(0?\d{1,2})?d?', spec or '')
      if field is not None and (field not in place or not plain):
        raise ValueError(f'no place for {{{field}:{spec}}}')
    filled = template.format(**place)
  except ValueError as error:
    raise ValueError(
      f'{path}/meta/info.json has {name}={template!r:.100}, which cannot be '
      f'filled in with {", ".join(place)} ({error}).'
    ) from error
  return reader.inside(path, filled)
