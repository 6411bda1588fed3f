"""What a number was measured with: versions and commit."""

import functools
import importlib.metadata
import pathlib
import platform
import subprocess

import jepa_wm
from jepa_wm import files

_ALSO: list[pathlib.Path] = []


def count_in(path: pathlib.Path) -> None:
  """Makes a user's file part of the code that decides the numbers."""
  if path not in _ALSO:
    _ALSO.append(path)
    code.cache_clear()


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that decide the numbers."""
  python = {'python': platform.python_version()}
  return python | versions_of('jax', 'jaxlib', 'flax', 'numpy')


def versions_of(*packages: str) -> dict[str, str]:
  """Version of this package, which need not be installed, and of others.

  Raises:
    importlib.metadata.PackageNotFoundError: one of `packages` is not installed.
  """
  # An attribute of a package that may still be on its way of being imported.
  own = {'jepa-wm': jepa_wm.__version__}
  return own | {name: importlib.metadata.version(name) for name in packages}


@functools.cache
def code(*rooms: str) -> str:
  """Hash of the code that decides the numbers: of this package, and `count_in`.

  Args:
    *rooms: files without their ending, and folders, that count, such as
      'evaluation/planning'; all of the package by default.
  """
  root = pathlib.Path(__file__).parent
  found = [
    path
    for room in rooms or ('',)
    for path in [*(root / room).rglob('*.py'), root / f'{room}.py']
    if path.is_file()
  ]
  return files.digest(
    *(
      part
      for path in sorted(found)
      for part in (str(path.relative_to(root)), path.read_bytes())
    ),
    *(path.read_bytes() for path in sorted(_ALSO)),
  )[:16]


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
