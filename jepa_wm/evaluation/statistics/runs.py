"""A finished run as files: what is kept of it, not to measure it twice."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jepa_wm import files
from jepa_wm.evaluation.diagnostics import finding
from jepa_wm.evaluation.planning import planning_benchmark

_RECORD, _EPISODES = 'record.json', 'episodes.csv'
_FINDINGS, _DIGESTS = 'findings.json', 'digests.json'
# Where the folder's own identity stands among the digests of its files.
_FOLDER = '.'

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
  'steps_inside',
  'num_stopped',
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
    findings: of diagnostics by name, where there were any.
  """

  record: dict[str, Any]
  episodes: list[planning_benchmark.Episode]
  pictures: dict[str, bytes]
  findings: Mapping[str, finding.Finding] = dataclasses.field(
    default_factory=dict
  )


def identify(content: Mapping[str, Any]) -> str:
  """A short hash of JSON-able `content`."""
  return files.digest_json(content)[:16]


def save(run: Run, folder: str | os.PathLike[str]) -> None:
  """Writes a run's folder, all of it or nothing.

  A folder whose name ends in `-` and what `identify` gave holds that run only.

  Raises:
    OSError: it cannot be written.
  """
  with files.folder_written_whole(folder) as beside:
    (beside / _RECORD).write_text(json.dumps(run.record, indent=2) + '\n')
    (beside / _EPISODES).write_text(episodes_csv([run]))
    if run.findings:
      described = {name: x.to_dict() for name, x in run.findings.items()}
      text = json.dumps(described, indent=2)
      (beside / _FINDINGS).write_text(text + '\n')
    for name, found in run.findings.items():
      (beside / name).mkdir()
      for file, content in found.figures.items():
        (beside / name / file).write_bytes(content)
    for name, content in run.pictures.items():
      (beside / name).write_bytes(content)
    digests = {_FOLDER: _identity(folder), **_digests(beside)}
    (beside / _DIGESTS).write_text(json.dumps(digests, indent=2))


def load(folder: str | os.PathLike[str]) -> Run:
  """Reads what `save` wrote.

  Raises:
    ValueError: files that are cut off, not what they should be, or not as
      `save` has written them, or a run in the folder of another.
    FileNotFoundError: no such folder, or a file of it is missing.
  """
  folder = files.expand(folder)
  try:
    record = files.read_json(folder / _RECORD)
    with (folder / _EPISODES).open(newline='') as file:
      episodes = [_episode(row) for row in csv.DictReader(file)]
    findings = {}
    if (folder / _FINDINGS).exists():
      described = files.read_json(folder / _FINDINGS)
      findings = {
        name: finding.from_dict(x, _pictures(folder / name))
        for name, x in described.items()
      }
    if len(episodes) != record['num_pairs']:
      raise ValueError(
        f'{len(episodes)} episodes of {record["num_pairs"]} pairs'
      )
    kept = dict(files.read_json(folder / _DIGESTS))
  except (AttributeError, LookupError, TypeError, ValueError) as error:
    raise ValueError(
      f'{folder}: not a finished run ({error!r:.200}); remove it to measure it '
      'again.'
    ) from error
  expected, came = _identity(folder), kept.pop(_FOLDER, None)
  if expected is not None and came != expected:
    raise ValueError(
      f'{folder}: expected the run {expected} of its name, but another one '
      f'({came or "without a name"}) lies there; remove it to measure it again.'
    )
  there = _digests(folder)
  changed = [x for x in {**kept, **there} if kept.get(x) != there.get(x)]
  if changed:
    raise ValueError(
      f'{folder}: {", ".join(sorted(changed)[:4])} changed after the run was '
      'measured; remove it to measure it again.'
    )
  return Run(record, episodes, _pictures(folder), findings)


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


def _identity(folder: str | os.PathLike[str]) -> str | None:
  """Which run a folder is for, None where its name does not say."""
  found = re.search(r'-([0-9a-f]{16})$', pathlib.Path(folder).name)
  return found and found[1]


def _digests(folder: pathlib.Path) -> dict[str, str]:
  """Hashes of all files of a run, by name."""
  return {
    str(path.relative_to(folder)): files.digest_file(path)
    for path in files.visible(sorted(folder.rglob('*')))
    if path.is_file() and path.name != _DIGESTS
  }


def _pictures(folder: pathlib.Path) -> dict[str, bytes]:
  """Contents of the pictures in a folder, by file name."""
  return {
    path.name: path.read_bytes()
    for path in sorted(folder.iterdir())
    if path.suffix in ('.gif', '.png', '.svg')
  }


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
    steps_inside=int(row['steps_inside']) if row['steps_inside'] else None,
    num_stopped=int(row['num_stopped']) if row['num_stopped'] else None,
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
