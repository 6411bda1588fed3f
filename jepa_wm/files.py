"""Files that appear whole or not at all; digests; the nearest name.

The only file that renames, hashes and compares spellings, so that all of these
are done in one way.
"""

import contextlib
import difflib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

Path = str | os.PathLike[str]

_LFS_POINTER = b'version https://git-lfs.github.com/spec/'


def expand(path: Path) -> pathlib.Path:
  """The path with the home directory in place of a leading `~`."""
  return pathlib.Path(path).expanduser()


def visible(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """The paths in order, without names that begin with a dot.

  Finders and unpackers leave such files (`._clip.mp4`, `.DS_Store`).
  """
  return [path for path in paths if not path.name.startswith('.')]


def read_json_text(path: Path) -> str:
  """Text of a JSON file, also of one that begins with a byte order mark.

  Raises:
    OSError: the file cannot be read.
    ValueError: it is not UTF-8.
  """
  try:
    return pathlib.Path(path).read_text(encoding='utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not text in UTF-8 ({error}).') from error


def is_lfs_pointer(path: Path) -> bool:
  """Whether git-lfs has left a pointer here, in place of the file itself.

  Raises:
    OSError: the file cannot be read.
  """
  with pathlib.Path(path).open('rb') as file:
    return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def write_whole(path: Path, content: str | bytes) -> None:
  """Writes a file beside, then renames it: it is never half there.

  Args:
    path: of the file; replaced where it is there. Its folder is made.
    content: text, which becomes UTF-8, or bytes.

  Raises:
    OSError: it cannot be written; what was there is as it was.
  """
  path = pathlib.Path(path)
  # Processes that write the same file do so beside each other.
  beside = path.with_name(f'.{path.name}.{os.getpid()}.writing')
  data = content.encode() if isinstance(content, str) else content
  with _blamed(path, beside):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      beside.write_bytes(data)
      os.replace(beside, path)
    except BaseException:
      beside.unlink(missing_ok=True)
      raise


@contextlib.contextmanager
def folder_written_whole(path: Path) -> Iterator[pathlib.Path]:
  """Gives an empty folder, which becomes `path` when the block ends well.

  Whatever ends the block early leaves at `path` what was there.

  Args:
    path: of the folder; replaced where it is there. Its parents are made.

  Yields:
    The folder beside it to write into.

  Raises:
    OSError: it cannot be written.
  """
  path = pathlib.Path(path).absolute()
  beside = path.with_name(f'.{path.name}.writing')
  old = _old(path)
  with _blamed(path, beside):
    if old.exists() and not path.exists():
      old.rename(path)  # Killed between the two renamings.
    try:
      shutil.rmtree(beside, ignore_errors=True)
      beside.mkdir(parents=True)
      yield beside
      replace_folder(beside, path)
    except BaseException:
      shutil.rmtree(beside, ignore_errors=True)
      raise


def replace_folder(source: Path, destination: Path) -> None:
  """Renames the folder `source`, to stand in place of what is there.

  Raises:
    OSError: it cannot be renamed; what was there is as it was.
  """
  source, destination = pathlib.Path(source), pathlib.Path(destination)
  # A folder cannot be renamed onto a full one, so the old one steps aside.
  old = _old(destination)
  if destination.exists():
    shutil.rmtree(old, ignore_errors=True)
    destination.rename(old)
  try:
    source.rename(destination)
  except BaseException:
    if old.exists() and not destination.exists():
      old.rename(destination)
    raise
  shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
  """Removes a folder, which is out of sight before its first file is gone.

  Raises:
    OSError: it cannot be removed.
  """
  path = pathlib.Path(path)
  shutil.rmtree(path.rename(path.with_name(f'.{path.name}.removing')))


def digest(*parts: Any) -> str:
  """SHA-256 of `parts`, one after the other, in hexadecimal.

  Args:
    *parts: text, bytes, or arrays, of which the numbers alone are counted, in
      C order.
  """
  found = hashlib.sha256()
  for part in parts:
    if isinstance(part, str):
      part = part.encode()
    found.update(
      part if isinstance(part, bytes) else np.asarray(part).tobytes()
    )
  return found.hexdigest()


def digest_file(path: Path) -> str:
  """SHA-256 of a file's content, in hexadecimal.

  Raises:
    OSError: the file cannot be read.
  """
  with pathlib.Path(path).open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def digest_json(content: Any) -> str:
  """SHA-256 of JSON-able `content`, whatever the order of its keys."""
  return digest(json.dumps(content, sort_keys=True, separators=(',', ':')))


def nearest(word: Any, known: Iterable[str]) -> str:
  """`" Did you mean 'x'?"` for the name most like `word`, '' if none is."""
  near = difflib.get_close_matches(str(word), list(known), n=1)
  return f' Did you mean {near[0]!r}?' if near else ''


def _old(path: pathlib.Path) -> pathlib.Path:
  """Where a folder stands while another takes its place."""
  return path.with_name(f'.{path.name}.replaced')


@contextlib.contextmanager
def _blamed(path: pathlib.Path, beside: pathlib.Path) -> Iterator[None]:
  """Names the file that was asked for where the system refuses a write."""
  try:
    yield
  except OSError as error:
    # A sentence of the block's own, or about a file that it read.
    if error.errno is None or not _is_of(error.filename, path, beside):
      raise
    raise OSError(
      error.errno, f'Cannot write: {error.strerror}', str(path)
    ) from error


def _is_of(filename: Any, path: pathlib.Path, beside: pathlib.Path) -> bool:
  """Whether an error's file is what is being written, or not known."""
  if filename is None:
    return True
  own = pathlib.Path(os.fsdecode(filename)).absolute()
  return own == path.absolute() or beside.absolute() in (own, *own.parents)
