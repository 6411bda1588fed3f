"""Processes: how several join for one run, wait for each other, and end.

Each has devices of its own, and `sharding` lays arrays over those of all. What
they must agree on besides goes through JAX's coordination service, as it does
in Orbax: no device takes part, so one may work for hours while others wait.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed

from jepa_wm import joining, last_words, launchers, sharding

_HEARTBEAT_SECONDS = 30
"""A process that was silent for so long is lost, and all others end."""

_SLICE_MS = 1000
"""How often who waits looks whether a signal has come."""

_FIRST_SPEAKS_SECONDS = 3.0
"""What all of them find wrong is said by the first, which ends the others."""

_BROKEN = (
  'Gloo ',
  'NCCL ',
  'Connection reset by peer',
  'Connection closed by peer',
  'Socket closed',
  'coordination service',
)
"""What errors of collectives speak of when another process is gone."""

_INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""

_said = {'number': 0}


class ElsewhereError(OSError):
  """The first process could not do what this one waited for."""


def initialize() -> None:
  """Joins the other processes of a run, if the environment names any.

  Call it once, before anything touches a device. It acts under Slurm's `srun`
  and Open MPI's `mpirun` with more than one task, on a TPU pod, and where
  `JAX_COORDINATOR_ADDRESS` is set (with `JAX_NUM_PROCESSES` and
  `JAX_PROCESS_ID`, unless one of those launchers knows them). Otherwise, and
  the second time, it does nothing.

  Raises:
    ValueError: a variable is missing or out of its range, nobody answers at
      the address, or its port is taken.
  """
  index, count = (launchers.number(name) for name in launchers.LAUNCHERS[0])
  address = launchers.address()
  launchers.check_whole()
  if address is not None and count is None and launchers.place()[1] > 1:
    # JAX asks fewer launchers than there are (Open MPI 5 is none of them).
    index, count = launchers.place()
  if index is not None and count is not None and index >= count:
    raise ValueError(
      f'JAX_PROCESS_ID must be below JAX_NUM_PROCESSES={count}, got {index}: '
      'processes are numbered from 0.'
    )
  if jax.distributed.is_initialized() or not launchers.has_company():
    return
  seconds = launchers.join_seconds()
  if address is not None:
    joining.look_up(*address)
    if index:
      joining.wait_for(*address, seconds)
    elif index is not None:
      joining.check_free(address[1])
  _join(index, count, seconds)


def _join(index: int | None, count: int | None, seconds: int) -> None:
  """See `initialize`; what is None is for JAX to find out."""
  who, several = launchers.place() if count is None else (index, count)
  where = os.environ.get(launchers.COORDINATOR)
  at = f' at {where}' if where else ''
  waits = (
    f'Waits for {several - 1} more of {several} processes{at}, up to '
    f'{seconds} s.'
  )
  # It would keep SIGTERM for itself; `training.hooks` is who agrees on it.
  jax.config.update('jax_enable_preemption_service', False)
  # CPU devices share a few threads, and an all-reduce keeps its thread while it
  # waits: two programs at once, in another order elsewhere, wait for ever.
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  try:
    with (
      joining.told('' if who or several == 1 else waits),
      joining.interruptible(),
    ):
      jax.distributed.initialize(
        num_processes=count,
        process_id=index,
        initialization_timeout=seconds,
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      )
  except ValueError as error:
    raise ValueError(
      f'JAX cannot tell where process 0 is ({error}); set '
      'JAX_COORDINATOR_ADDRESS to its host:port, and JAX_NUM_PROCESSES and '
      'JAX_PROCESS_ID unless Slurm or Open MPI number the processes.'
    ) from error
  except RuntimeError as error:
    why = str(error).strip().partition('\n')[0]
    at = f' at {distributed.global_state.coordinator_address}'
    raise ValueError(
      f'Process {who} could not join the others{at} ({why}); choose a port '
      'that is free on the host of process 0, and give every process a number '
      'of its own.'
    ) from error


def is_first() -> bool:
  """Whether this process is the one that logs, draws, exports and prints."""
  return sharding.is_alone() or jax.process_index() == 0


def from_first(do: Callable[[], Any]) -> Any:
  """What the first process gets by doing something, known to all of them.

  All call it in the same order, and wait for as long as it takes.

  Args:
    do: called in the first process alone, where it has no devices but its own
      and nobody to wait for; gives what JSON can hold.

  Raises:
    ElsewhereError: it failed there; the first process raises what it was.
  """
  if sharding.is_alone():
    return do()
  key = _next_key()
  if not is_first():
    found = json.loads(_heard(key))
    if 'failed' in found:
      raise ElsewhereError(found['failed'])
    return found['done']
  try:
    with sharding.alone():
      done = do()
  except Exception as error:
    _say(key, {'failed': str(error)})
    raise
  _say(key, {'done': done})
  return done


def by_first(do: Callable[[], object]) -> None:
  """Lets the first process do something while the others wait.

  As `from_first`, but for what it gives.
  """

  def done() -> None:
    do()

  from_first(done)


def tell_idle(what: str) -> None:
  """Says that all processes but the first only wait, where there are any."""
  if not sharding.is_alone() and is_first():
    print(
      f'{what} gains nothing from several processes: this one works, and '
      f'{jax.process_count() - 1} wait.',
      file=sys.stderr,
    )


def check_alone(what: str) -> None:
  """Refuses several processes.

  Args:
    what: is done by one process alone.

  Raises:
    ValueError: there are several.
  """
  if not sharding.is_alone():
    raise ValueError(
      f'{what} is done by one process, and {jax.process_count()} were started; '
      'start one.'
    )


def gather(value: Any) -> list[Any]:
  """What each process gives, in their order, known to all of them.

  All call it in the same order, and wait for the last.

  Args:
    value: what JSON can hold.
  """
  if sharding.is_alone():
    return [value]
  key = _next_key()
  _say(f'{key}/{jax.process_index()}', value)
  return [json.loads(_heard(f'{key}/{i}')) for i in range(jax.process_count())]


def wait_for_all() -> None:
  """Waits until all processes are here, however long that takes."""
  gather(None)


@contextlib.contextmanager
def joined(words: Sequence[str]) -> Iterator[None]:
  """A command that may be one of several: joins, and what ends one ends all.

  Nothing changes for a process that is alone. Of several the first alone is
  heard; one that fails says why and ends without waiting, and the others end
  within a minute, each in a sentence.

  Args:
    words: of the command line, which must be the same for all.
  """
  try:
    is_alone = not launchers.has_company()
    if is_alone:
      # Says what is missing, if half of it is there.
      initialize()
  except ValueError as error:
    sys.exit(str(error))
  if is_alone:
    yield
    return
  own = _listened_to()
  try:
    _begin(words, own)
    yield
    wait_for_all()
  except SystemExit as stop:
    # All of them end so, as after a signal: in order.
    if not isinstance(stop.code, str):
      raise
    if isinstance(stop.__context__, KeyboardInterrupt):
      _leave(stop.code, own, _INTERRUPTED)
    _end(stop.code, own)
  except KeyboardInterrupt:
    _leave('Interrupted beside the other processes.', own, _INTERRUPTED)
  except BaseException as error:
    known = isinstance(error, (ValueError, OSError))
    lines = traceback.format_exception(error)
    _end(str(error) if known else ''.join(lines).rstrip(), own)


def _begin(words: Sequence[str], own: Any) -> None:
  """Joins, and leaves the speaking to the first."""
  try:
    initialize()
  except ValueError as error:
    _leave(str(error), own, 1)
  _check_same(list(words))
  _meet()
  if not is_first():
    sys.stdout = sys.stderr = open(os.devnull, 'w')  # noqa: SIM115


def _end(said: str, stream: Any) -> None:
  """Ends with a sentence, which is the first's where all of them have it."""
  if any(sign in said for sign in _BROKEN):
    os.write(2, f'{last_words.LOST}\n'.encode())
    said = ''
  elif jax.distributed.is_initialized() and not is_first():
    time.sleep(_FIRST_SPEAKS_SECONDS)
    said = f'Process {jax.process_index()}: {said}'
  _leave(said, stream, 1)


def _leave(said: str, stream: Any, code: int) -> None:
  """Ends at once: nobody is there to wait for."""
  if said:
    print(said, file=stream, flush=True)
  sys.stdout.flush()
  # Whatever is registered for the end would wait for the others.
  os._exit(code)


def _listened_to() -> Any:
  """Puts `last_words` behind what C++ writes to standard error.

  Returns:
    The stream that Python goes on writing to.
  """
  global _listener
  own = os.fdopen(os.dup(2), 'w', buffering=1, errors='replace')
  # It ends after us: by the end of what it reads.
  _listener = subprocess.Popen(
    [sys.executable, '-I', '-S', last_words.__file__], stdin=subprocess.PIPE
  )
  os.dup2(_listener.stdin.fileno(), 2)
  _listener.stdin.close()
  sys.stderr = own
  return own


_listener: Any = None


def _check_same(words: Sequence[str]) -> None:
  """Refuses processes that were started to do different things.

  Raises:
    ValueError: names the first word that differs.
  """
  for index, other in enumerate(gather(list(words))):
    for mine, theirs in zip([*words, ''], [*other, '']):
      if mine != theirs:
        raise ValueError(
          f'Process {index} was started with {theirs or "nothing"} where '
          f'process {jax.process_index()} has {mine or "nothing"}; start all '
          'of them with the same command.'
        )


def _meet() -> None:
  """Connects the devices while all processes are here.

  Gloo gives that up after 30 s, and compiling may take some of them longer.
  """
  firsts = {x.process_index: x for x in reversed(jax.devices())}
  for chosen in (jax.devices(), [firsts[index] for index in sorted(firsts)]):
    mesh = jax.make_mesh(
      (len(chosen),),
      ('data',),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=chosen,
    )
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    ours = sum(x.process_index == jax.process_index() for x in chosen)
    given = jax.make_array_from_process_local_data(split, np.ones(ours))
    add = jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))
    add(given).block_until_ready()


def _next_key() -> str:
  _said['number'] += 1
  return f'jepa_wm/{_said["number"]}'


def _say(key: str, value: Any) -> None:
  client: Any = distributed.global_state.client
  client.key_value_set(key, json.dumps(value))


def _heard(key: str) -> str:
  """What is said under a key, once it is."""
  client: Any = distributed.global_state.client
  while True:
    try:
      text: str = client.blocking_key_value_get(key, _SLICE_MS)
    except jax.errors.JaxRuntimeError as error:
      if 'DEADLINE_EXCEEDED' not in str(error):
        raise
    else:
      return text
