"""Folders of results, each of one command alone."""

import contextlib
import pathlib
from collections.abc import Iterator

from jepa_wm import files, lock, processes

PLAN, PROBE = 'experiments.plan', 'experiments.probe'


@contextlib.contextmanager
def hold(out: pathlib.Path, command: str) -> Iterator[None]:
  """Keeps others out of the folder that `--out` names, as `lock.hold_results`.

  Args:
    out: the folder.
    command: `PLAN` or `PROBE`, whose results will lie there.

  Raises:
    HeldError: another process works there.
    OSError: it cannot be written to.
    ValueError: the results of the other command are there, and would be gone.
  """
  with lock.hold_results(out):
    processes.by_first(lambda: _check(out, command))
    yield


def _check(out: pathlib.Path, command: str) -> None:
  try:
    found = files.read_json(out / 'results.json')
    first = found[0] if isinstance(found, list) else found
    there = PLAN if 'planner' in first else PROBE
  except (FileNotFoundError, LookupError, TypeError, ValueError):
    return  # Nothing that anybody would miss.
  if there != command:
    raise ValueError(
      f'{out} holds results of {there}, which would be gone; choose another '
      '--out, or remove them.'
    )
