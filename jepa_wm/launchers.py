"""Launchers: what their variables say of the processes that they start."""

import functools
import os

from jax._src.clusters import cloud_tpu_cluster

# For every launcher: this process's number and how many there are, in variables
# that it sets for every process it starts.
LAUNCHERS = (
  ('JAX_PROCESS_ID', 'JAX_NUM_PROCESSES'),
  ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS'),
  ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
)
COORDINATOR = 'JAX_COORDINATOR_ADDRESS'
_JOIN = 'JEPA_WM_JOIN_SECONDS'
_TPU_HOSTS, _TPU_HOST = 'TPU_WORKER_HOSTNAMES', 'TPU_WORKER_ID'


def place() -> tuple[int, int]:
  """Number of this process, and how many there are, by the environment.

  Touches no device.

  Returns:
    `(0, 1)` where no launcher says anything.

  Raises:
    ValueError: a variable is not a number.
  """
  for index, count in LAUNCHERS:
    found = number(count)
    if found is not None and found > 1:
      return number(index) or 0, found
  hosts = os.environ.get(_TPU_HOSTS, '').count(',') + 1
  return (number(_TPU_HOST) or 0, hosts) if hosts > 1 else (0, 1)


def address() -> tuple[str, int] | None:
  """Host and port of process 0, where the environment says them.

  Raises:
    ValueError: it is not that.
  """
  text = os.environ.get(COORDINATOR)
  if text is None:
    return None
  host, _, port = text.rpartition(':')
  if not host or not port.isdecimal() or not 1 <= int(port) < 2**16:
    raise ValueError(
      f'{COORDINATOR} must be host:port, got {text!r}; a port is a number from '
      '1 to 65535.'
    )
  return host.strip('[]'), int(port)


def join_seconds() -> int:
  """How long processes wait for each other at the start.

  Raises:
    ValueError: the variable is not a number.
  """
  return number(_JOIN) or 300


def apart() -> dict[str, str]:
  """The environment of a process started from here that is to be alone."""
  own = {name for names in LAUNCHERS for name in names}
  own |= {COORDINATOR, _TPU_HOSTS, _TPU_HOST}
  return {name: x for name, x in os.environ.items() if name not in own}


def has_company() -> bool:
  """Whether the environment says that this process is one of several."""
  if COORDINATOR in os.environ or ',' in os.environ.get(_TPU_HOSTS, ''):
    return True
  counts = (number(count) for _, count in LAUNCHERS[1:])
  return any((count or 1) > 1 for count in counts) or _is_in_slice()


@functools.cache
def _is_in_slice() -> bool:
  """Whether this is a host of a TPU slice that its machine alone knows of."""
  hosts = cloud_tpu_cluster.GceTpuCluster
  return bool(hosts.is_env_present()) and hosts.get_process_count() > 1


def number(name: str) -> int | None:
  """A variable of the environment, None where it is not set.

  Raises:
    ValueError: it is not a number.
  """
  text = os.environ.get(name)
  if text is None:
    return None
  if not text.isdecimal():
    raise ValueError(
      f'Environment variable {name} must be a number, got {text!r}.'
    )
  return int(text)
