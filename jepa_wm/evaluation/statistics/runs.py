"""A finished run as files: what is kept of it, not to measure it twice."""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jepa_wm import files
from jepa_wm.evaluation.diagnostics import rollout_error
from jepa_wm.evaluation.planning import planning_benchmark

_RECORD, _EPISODES, _ERRORS = 'record.json', 'episodes.csv', 'errors.json'

_COLUMNS = (
  'checkpoint',
  'planner',
  'protocol',
  'shift',
  'seed',
  'pair',
  'success',
  'success_at_end',
  'first_success_step',
  'start_distance',
  'final_distance',
  'solved_at_start',
  'failure',
)


@dataclasses.dataclass(frozen=True)
class Run:
  """What is left of a `planning_benchmark.Result` when it has been drawn.

  Attributes:
    record: as in `results.json`.
    episodes: one row per problem.
    pictures: by file name: 'search.png', 'search_dark.png', the charts
      'map.svg' and 'curve.svg' (parts of a page, which colours them), and,
      where the world can be drawn, 'episodes.gif' and of what there is
      'reached.gif' and 'missed.gif'.
    errors: how far imagination drifts, where that was measured.
  """

  record: dict[str, Any]
  episodes: list[planning_benchmark.Episode]
  pictures: dict[str, bytes]
  errors: rollout_error.RolloutError | None = None


def identify(content: Mapping[str, Any]) -> str:
  """A short hash of JSON-able `content`."""
  return files.digest_json(content)[:16]


def save(run: Run, folder: str | os.PathLike[str]) -> None:
  """Writes a run's folder, all of it or nothing.

  Raises:
    OSError: it cannot be written.
  """
  with files.folder_written_whole(folder) as beside:
    (beside / _RECORD).write_text(json.dumps(run.record, indent=2) + '\n')
    (beside / _EPISODES).write_text(episodes_csv([run]))
    if run.errors is not None:
      text = json.dumps(dataclasses.asdict(run.errors), indent=2)
      (beside / _ERRORS).write_text(text + '\n')
    for name, content in run.pictures.items():
      (beside / name).write_bytes(content)


def load(folder: str | os.PathLike[str]) -> Run:
  """Reads what `save` wrote.

  Raises:
    ValueError: files that are cut off or not what they should be.
    FileNotFoundError: no such folder, or a file of it is missing.
  """
  folder = pathlib.Path(folder)
  try:
    record = json.loads((folder / _RECORD).read_text())
    with (folder / _EPISODES).open(newline='') as file:
      episodes = [_episode(row) for row in csv.DictReader(file)]
    errors = None
    if (folder / _ERRORS).exists():
      text = (folder / _ERRORS).read_text()
      errors = rollout_error.RolloutError(**json.loads(text))
    if len(episodes) != record['num_pairs']:
      raise ValueError(
        f'{len(episodes)} episodes of {record["num_pairs"]} pairs'
      )
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{folder}: not a finished run ({error!r}); remove it to measure it '
      'again.'
    ) from error
  pictures = {
    path.name: path.read_bytes()
    for path in sorted(folder.iterdir())
    if path.suffix in ('.gif', '.png', '.svg')
  }
  return Run(record, episodes, pictures, errors)


def episodes_csv(runs: Iterable[Run]) -> str:
  """Every episode of every run, one a line, as CSV with a heading."""
  stream = io.StringIO()
  writer = csv.DictWriter(stream, _COLUMNS, lineterminator='\n')
  writer.writeheader()
  for run in runs:
    record = run.record
    shared = {
      'checkpoint': record['checkpoint'],
      'planner': record['planner']['name'],
      'protocol': record['protocol']['name'],
      'shift': record['shift'],
      'seed': record['seed'],
    }
    for episode in run.episodes:
      cells = dataclasses.asdict(episode)
      for name in ('success', 'success_at_end', 'solved_at_start'):
        cells[name] = int(cells[name])
      writer.writerow({**shared, **cells})
  return stream.getvalue()


def _episode(row: Mapping[str, str]) -> planning_benchmark.Episode:
  step = row['first_success_step']
  return planning_benchmark.Episode(
    pair=int(row['pair']),
    success=bool(int(row['success'])),
    success_at_end=bool(int(row['success_at_end'])),
    first_success_step=int(step) if step else None,
    start_distance=float(row['start_distance']),
    final_distance=float(row['final_distance']),
    solved_at_start=bool(int(row['solved_at_start'])),
    failure=row['failure'] or None,
  )


def group(runs: Sequence[Run]) -> list[list[Run]]:
  """Puts together what differs by the evaluation's seed alone, in order."""
  groups: dict[str, list[Run]] = {}
  for run in runs:
    record = run.record
    keys = ('checkpoint', 'planner', 'protocol', 'shift', 'manifest_sha256')
    same = identify({key: record[key] for key in keys})
    groups.setdefault(same, []).append(run)
  return list(groups.values())
