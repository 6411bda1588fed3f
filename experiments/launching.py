"""Runs the jobs of a study: as processes of this machine, or through Slurm."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from jepa_wm import files, launchers, recipes

_PATH = re.compile(r'(--(?:data|import)=)(.+)')
_NVIDIA = pathlib.Path('/proc/driver/nvidia/gpus')

# Takes a core, and becomes the command behind it. Killed, whoever starts jobs
# cannot tell them; Linux can (PR_SET_PDEATHSIG).
_IN_PLACE = """
import ctypes, os, signal, sys
if sys.platform == 'linux':
  ctypes.CDLL(None).prctl(1, signal.SIGTERM)
  if sys.argv[1]:
    os.sched_setaffinity(0, {int(sys.argv[1])})
os.execv(sys.argv[2], sys.argv[2:])
"""


def define(own_flags: flags.FlagValues) -> None:
  """Makes the flags that say who runs the jobs."""
  flags.DEFINE_enum(
    'launcher',
    'local',
    ['local', 'submitit'],
    'Who runs the jobs: processes of this machine, or Slurm through submitit.',
    flag_values=own_flags,
  )
  flags.DEFINE_multi_string(
    'slurm',
    [],
    'A parameter of submitit, as in --slurm=slurm_partition=gpu or '
    '--slurm=cluster=local; once for each.',
    flag_values=own_flags,
  )


def launch(
  own_flags: flags.FlagValues,
  ablation: recipes.Ablation,
  lines: Mapping[str, str],
) -> None:
  """Runs the jobs as the flags say; see `local` and `submitit`."""
  slurm: Sequence[str] = own_flags['slurm'].value or ()
  if own_flags['launcher'].value == 'submitit':
    submitit(ablation, lines, slurm)
    return
  if slurm:
    raise ValueError('slurm is for --launcher=submitit; leave one out.')
  local(ablation, lines)


def commands(ablation: recipes.Ablation, again: str) -> dict[str, str]:
  """A command line for each job: the units that share a training.

  Args:
    ablation: what is run.
    again: the command line that runs all of it.

  Returns:
    By the digest of the training; a line needs nothing but the repository.
  """
  words = [
    word
    for word in shlex.split(again)
    if not word.startswith(
      (
        '--emit',
        '--launcher',
        '--slurm',
        '--jobs',
        '--out',
        '--dry_run',
      )
    )
  ]
  # Jobs run in the repository, wherever this process does.
  words = [_PATH.sub(lambda x: x[1] + os.path.abspath(x[2]), w) for w in words]
  return {
    group[0].training: shlex.join(
      [
        *words,
        f'--out={ablation.out}',
        f'--units={",".join(unit.digest for unit in group)}',
      ]
    )
    for group in ablation.groups()
  }


def local(ablation: recipes.Ablation, lines: Mapping[str, str]) -> None:
  """Runs jobs as processes, each with a core or a GPU of its own.

  Args:
    ablation: what is run.
    lines: a command line for each job.

  Raises:
    OSError: the folder of the logs cannot be written.
  """
  places = _places(ablation.asked.jobs)
  logs = files.writable(ablation.out) / 'logs'
  logs.mkdir(exist_ok=True)
  waiting = [
    group for group in ablation.groups() if not all(map(recipes.is_done, group))
  ]
  # Each of several processes begins elsewhere; what another is at, or has done,
  # jobs wait for and leave alone.
  index, count = launchers.place()
  start = len(waiting) * index // count
  waiting = waiting[start:] + waiting[:start]
  running: dict[int, tuple[subprocess.Popen[bytes], str]] = {}
  began, total = time.monotonic(), len(waiting)
  try:
    while waiting or running:
      free = [place for place in range(len(places)) if place not in running]
      for place in free[: len(waiting)]:
        group = waiting.pop(0)
        if all(map(recipes.is_done, group)):
          continue
        process = _start(
          lines[group[0].training],
          places[place],
          logs / f'{group[0].training}.log',
        )
        running[place] = process, str(group[0])
      for place, (process, name) in list(running.items()):
        if process.poll() is not None:
          del running[place]
          number = total - len(waiting) - len(running)
          minutes = (time.monotonic() - began) / 60
          ended = (
            ''
            if process.returncode == 0
            else (f', ended with code {process.returncode}; see {logs}')
          )
          print(
            f'{number} of {total} trainings after {minutes:.1f} min: {name}'
            f'{ended}',
            flush=True,
          )
      time.sleep(0.2)
  finally:
    for process, _ in running.values():
      process.send_signal(signal.SIGTERM)
    for process, _ in running.values():
      process.wait()


def submitit(
  ablation: recipes.Ablation, lines: Mapping[str, str], slurm: Sequence[str]
) -> None:
  """Runs jobs as one array of submitit, and waits for it.

  Args:
    ablation: what is run.
    lines: a command line for each job.
    slurm: parameters as 'name=value'; `cluster` chooses submitit's executor,
      and all others are those of `AutoExecutor.update_parameters`.

  Raises:
    ValueError: submitit is not installed, not 'name=value', or a parameter
      that submitit does not take.
    OSError: the folder cannot be written.
  """
  if launchers.place()[1] > 1:
    raise ValueError(
      'launcher submitit starts its own jobs; start one process.'
    )
  try:
    import submitit as package
  except ImportError as error:
    raise ValueError(
      "launcher submitit needs the package: pip install 'jepa-wm[slurm]'."
    ) from error
  parameters: dict[str, Any] = {}
  for given in slurm:
    name, equals, value = given.partition('=')
    if not equals:
      raise ValueError(f'slurm must be name=value, got {given!r}.')
    parameters[name] = int(value) if value.isdecimal() else value
  cluster = parameters.pop('cluster', None)
  if ablation.asked.jobs and cluster is None:
    parameters.setdefault('slurm_array_parallelism', ablation.asked.jobs)
  files.writable(ablation.out)
  try:
    executor = package.AutoExecutor(ablation.out / 'submitit', cluster=cluster)
    executor.update_parameters(**parameters)
  # What submitit raises on a name, a type or a cluster it does not know.
  except (NameError, TypeError, ValueError, RuntimeError) as error:
    raise ValueError(f'slurm: {" ".join(str(error).split())}') from error
  # What is done costs a job nothing but its start.
  todo = [
    lines[group[0].training]
    for group in ablation.groups()
    if not all(map(recipes.is_done, group))
  ]
  jobs = executor.map_array(_call, todo) if todo else []
  for number, job in enumerate(jobs, start=1):
    job.wait()
    print(f'{number} of {len(jobs)} jobs: {job.job_id} {job.state}', flush=True)


def _call(line: str) -> int:
  """Runs a command line in the repository; what a job of Slurm does."""
  return subprocess.run(_words(line), cwd=_root(), check=False).returncode


def _root() -> pathlib.Path:
  return pathlib.Path(__file__).parents[1]


def _words(line: str) -> list[str]:
  """The words of a command line, with this very Python."""
  return [sys.executable, *shlex.split(line)[1:]]


def _places(jobs: int | None) -> list[dict[str, str]]:
  """What tells jobs apart: the number of a GPU, or of a core."""
  gpus = sorted(_NVIDIA.iterdir()) if _NVIDIA.exists() else []
  if gpus:
    count = jobs or len(gpus)
    return [{'CUDA_VISIBLE_DEVICES': str(i % len(gpus))} for i in range(count)]
  cores = [*range(os.cpu_count() or 1)]
  if sys.platform == 'linux':
    cores = sorted(os.sched_getaffinity(0))
  return [
    {'core': str(cores[i % len(cores)])} for i in range(jobs or len(cores))
  ]


def _start(
  line: str, place: Mapping[str, str], log: pathlib.Path
) -> subprocess.Popen[bytes]:
  """Starts a job in its place; it ends with this process."""
  chosen = {k: x for k, x in place.items() if k != 'core'}
  with log.open('ab') as stream:
    return subprocess.Popen(
      [sys.executable, '-c', _IN_PLACE, place.get('core', ''), *_words(line)],
      cwd=_root(),
      env={**launchers.apart(), **chosen},
      stdout=stream,
      stderr=subprocess.STDOUT,
    )
