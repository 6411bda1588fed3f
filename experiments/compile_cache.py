"""What XLA has compiled, kept for the next start, unless `--nocompile_cache`.

The folder is the user's own, `compiled/` in `manifests.cache_folder()`. A
program that was compiled for another processor may end the process, so each
kind of them has a folder in it. Whoever sets `JAX_COMPILATION_CACHE_DIR` says
how much goes there, and for how long.
"""

import contextlib
import pathlib
import platform
import re
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import jax
from absl import flags

from jepa_wm import files, sharding
from jepa_wm.evaluation.planning import manifests

MOST_BYTES = 2**30
"""Of all programs; those not used for the longest go first."""

# A file takes up whole blocks.
_BLOCK_BYTES = 4096

# What JAX says of an entry that it cannot read or write.
_FAULT = re.compile(
  r"Error (reading|writing) persistent compilation cache entry for '(.*?)': "
  r'(.*)',
  re.DOTALL,
)


def define(own_flags: flags.FlagValues) -> None:
  """Makes the flag, once."""
  if 'compile_cache' not in own_flags:
    flags.DEFINE_bool(
      'compile_cache',
      True,
      'Keeps what XLA compiles in the cache folder of the user '
      '(~/.cache/jepa_wm/compiled, at most 1 GiB; JAX_COMPILATION_CACHE_DIR '
      'names another), where the next start finds it.',
      flag_values=own_flags,
    )


def use(own_flags: flags.FlagValues) -> None:
  """Does what the flag says, before anything is compiled.

  A folder that cannot be used costs a warning and no result.
  """
  if not own_flags['compile_cache'].value:
    jax.config.update('jax_enable_compilation_cache', False)
    return
  own = jax.config.values['jax_compilation_cache_dir']
  if own is None:
    folder = _of_the_user()
  else:
    folder = pathlib.Path(own) if own else None
  if folder is None:
    return
  # One in somebody's cloud is JAX's business.
  said = '://' not in (own or '') and not _has_room(folder)
  warnings.showwarning = _Mending(folder, warnings.showwarning, said=said)


def _of_the_user() -> pathlib.Path | None:
  """Tells JAX of the folder in the user's cache; None where none can be."""
  try:
    root = manifests.cache_folder() / 'compiled'
    folder = root / _processor()
    # What is in there is run: nobody else writes.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  except (OSError, RuntimeError) as error:  # The second where there is no home.
    _warn(error)
    return None
  with contextlib.suppress(OSError):
    _make_room(root)
  jax.config.update('jax_compilation_cache_dir', str(folder))
  # A program is found in milliseconds, and even a small one compiled in more.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
  return folder


def _has_room(folder: pathlib.Path) -> bool:
  """Whether anything more can be kept there, else says why not."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      # A full disk takes a file, and nothing that is in it.
      file.write(bytes(_BLOCK_BYTES))
      file.flush()
  except OSError as error:
    _warn(error)
    return False
  return True


def _processor() -> str:
  """A name for what programs of a CPU are compiled for."""
  table = pathlib.Path('/proc/cpuinfo')
  said = platform.processor()
  if table.exists():
    # Of the first core; clocks are another at every look.
    lines = table.read_text().partition('\n\n')[0].splitlines()
    features = 'model name', 'flags', 'Features', 'CPU part'
    said = '\n'.join(line for line in lines if line.startswith(features))
  # XLA shares a program out over as many threads.
  cores = str(sharding.num_cores())
  return files.digest(platform.machine(), said, cores)[:16]


def _make_room(root: pathlib.Path) -> None:
  """Deletes what has not been used for the longest, down to `MOST_BYTES`."""
  found = []
  # On GPUs XLA has folders of its own in there.
  for path in root.rglob('*'):
    with contextlib.suppress(OSError):  # Another process makes room, too.
      about = path.stat()
      if not stat.S_ISREG(about.st_mode):
        continue
      # Readers set the one where the file system lets them, writers the other.
      used = max(about.st_atime, about.st_mtime)
      found.append((used, -(-about.st_size // _BLOCK_BYTES), path))
  total = sum(blocks for _, blocks, _ in found) * _BLOCK_BYTES
  for _, blocks, path in sorted(found):
    if total <= MOST_BYTES:
      return
    path.unlink(missing_ok=True)
    total -= blocks * _BLOCK_BYTES


class _Mending:
  """Takes what JAX warns of programs: deletes the broken, says once what fails.

  JAX reads and writes entries as they are. One that was cut off, by a full disk
  or a killed process, would be met at every start and never be written anew.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    show_fn: Callable[..., Any],
    *,
    said: bool = False,
  ) -> None:
    self._folder, self._show_fn, self._said = folder, show_fn, said

  def __call__(self, message: Any, *args: Any, **kwargs: Any) -> None:
    found = _FAULT.match(str(message))
    if found is None:
      self._show_fn(message, *args, **kwargs)
      return
    with contextlib.suppress(OSError):
      for path in self._folder.glob(f'{found[2]}-*'):
        path.unlink(missing_ok=True)
    if found[1] == 'writing' and not self._said:
      self._said = True
      _warn(found[3])


def _warn(error: Any) -> None:
  print(
    f'What is compiled is not kept for the next start ({error}); make room or '
    'name another folder in JAX_COMPILATION_CACHE_DIR, or say '
    '--nocompile_cache.',
    file=sys.stderr,
  )
