"""Launchers: what their variables say of the processes that they start."""

import functools
import os

from jax._src import clusters
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

_MOST_PROCESSES, _MOST_SECONDS = 100_000, 7 * 24 * 3600
"""JAX makes room for as many processes as it is told of."""


def place() -> tuple[int, int]:
  """Number of this process, and how many there are, by the environment.

  Touches no device.

  Returns:
    `(0, 1)` where no launcher says anything.

  Raises:
    ValueError: as of `number`.
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
    ValueError: the variable is not a number, or more than a week.
  """
  return number(_JOIN, _MOST_SECONDS) or 300


def apart() -> dict[str, str]:
  """The environment of a process started from here that is to be alone."""
  own = {name for names in LAUNCHERS for name in names}
  own |= {COORDINATOR, _TPU_HOSTS, _TPU_HOST}
  return {name: x for name, x in os.environ.items() if name not in own}


def has_company() -> bool:
  """Whether the environment says that this process is one of several."""
  return COORDINATOR in os.environ or _is_launched()


def check_whole() -> None:
  """Refuses some of JAX's variables where nobody knows the others.

  Raises:
    ValueError: names what is missing.
  """
  (index_name, count_name), *_ = LAUNCHERS
  index, count = number(index_name), number(count_name)
  if COORDINATOR in os.environ:
    # With neither JAX asks its launchers, and says so where there are none.
    is_whole = (index is None) == (count is None) or _is_known_to_jax()
  else:
    is_whole = index is None if count is None else count <= 1
  if is_whole or _is_launched():
    return
  names = (index_name, count_name, COORDINATOR)
  missing = [f'{x} is not set' for x in names if x not in os.environ]
  given = [f'{x} is {os.environ[x]}' for x in names if x in os.environ]
  raise ValueError(
    f'{" and ".join(given)}, but {" and ".join(missing)}; give every '
    'process all three: its number from 0, how many there are, and host:port '
    'of number 0.'
  )


def _is_known_to_jax() -> bool:
  """Whether JAX finds a launcher that it can ask."""
  return any(
    x.is_env_present()
    for x in clusters.ClusterEnv._cluster_types
    if not x.opt_in_only_method
  )


def _is_launched() -> bool:
  """Whether a launcher says that there are several processes."""
  if ',' in os.environ.get(_TPU_HOSTS, ''):
    return True
  counts = (number(count) for _, count in LAUNCHERS[1:])
  return any((count or 1) > 1 for count in counts) or _is_in_slice()


@functools.cache
def _is_in_slice() -> bool:
  """Whether this is a host of a TPU slice that its machine alone knows of."""
  hosts = cloud_tpu_cluster.GceTpuCluster
  return bool(hosts.is_env_present()) and hosts.get_process_count() > 1


def number(name: str, most: int = _MOST_PROCESSES) -> int | None:
  """A variable of the environment, None where it is not set.

  Raises:
    ValueError: it is not a number, or above `most`.
  """
  text = os.environ.get(name)
  if text is None:
    return None
  # Python reads no more than 4300 digits.
  if not text.isdecimal() or len(text) > 20 or int(text) > most:
    raise ValueError(
      f'Environment variable {name} must be a number up to {most}, got '
      f'{text!r}.'
    )
  return int(text)
