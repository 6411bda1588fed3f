"""Where a number was measured: device, versions, commit."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess

import jax

_PACKAGES = ('jepa-wm', 'jax', 'jaxlib', 'flax', 'numpy')


def device() -> str:
  """The devices that JAX computes on, with the processor's name for CPUs."""
  devices = jax.local_devices()
  kind = devices[0].device_kind
  if devices[0].platform == 'cpu':
    return f'{_processor()}, {os.cpu_count()} cores'
  return f'{len(devices)} x {kind}'


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that decide the numbers."""
  found = {'python': platform.python_version()}
  return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def commit() -> str | None:
  """The commit of the checkout this file lies in, None outside of one.

  Ends in '-dirty' where tracked files differ from that commit.
  """
  here = pathlib.Path(__file__)

  def git(*arguments: str) -> str:
    return subprocess.run(
      ['git', '-C', str(here.parent), *arguments],
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    ).stdout.strip()

  try:
    # An installed copy may lie inside a checkout of something else.
    git('ls-files', '--error-unmatch', here.name)
    return git('describe', '--always', '--dirty', '--abbrev=40', '--match=')
  except (OSError, subprocess.SubprocessError):
    return None


def _processor() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    lines = []
  for line in lines:
    if line.startswith('model name'):
      return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
