"""Files that appear whole or not at all; digests; the nearest name.

The only file that hashes, compares spellings, parses the JSON of others and,
with `renames`, renames, so that all of these are done in one way.
"""

import contextlib
import difflib
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jepa_wm import renames

Path = str | os.PathLike[str]

# `pathlib` makes one slash of two.
_BUCKET = re.compile(r'(gs|s3|az|abfss?|hdfs|https?):/')

# Of a name, on every file system of Linux and macOS.
_MOST_LETTERS = 255

_MOST_JSON_BYTES = 2**29

_LFS_POINTER = b'version https://git-lfs.github.com/spec/'


def expand(path: Path) -> pathlib.Path:
  """The path with the home directory in place of a leading `~`.

  Raises:
    ValueError: nobody of that name has one, it is no text of UTF-8, empty, or
      no folder of this machine but a bucket.
  """
  text = str(path)
  if not text.strip():
    # The current folder is '.', and what is empty was not meant.
    raise ValueError(f'{text!r} names no file or folder; give a path.')
  if bucket := _BUCKET.match(text):
    raise ValueError(
      f'{text} names a bucket ({bucket[1]}), and all that is read or written '
      'lies in folders: mount it (gcsfuse, mount-s3) and name the folder, or '
      'copy what is needed.'
    )
  if '\0' in text or text.encode(errors='ignore').decode() != text:
    raise ValueError(f'{text!r} is no path; name it in letters of UTF-8.')
  if any(len(part.encode()) > _MOST_LETTERS for part in text.split('/')):
    raise ValueError(
      f'{text[:40]}... is no path: a name in it is longer than '
      f'{_MOST_LETTERS} letters.'
    )
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    raise ValueError(
      f'{path}: there is no such home directory; give the whole path.'
    ) from error


def real(path: Path) -> pathlib.Path:
  """Where a path leads through `~` and links, to be written there.

  What is renamed onto a link takes its place, and leaves empty the disk that
  it led to.
  """
  return pathlib.Path(os.path.realpath(expand(path)))


def check_replaceable(path: Path, is_ours: Callable[[str], bool]) -> None:
  """Refuses to put a folder in the place of what we did not write.

  Args:
    path: where a folder will be.
    is_ours: whether a name in such a folder is one that we give.

  Raises:
    FileExistsError: there is a file, or a folder with something else in it.
  """
  path = real(path)
  if path.exists() and not path.is_dir():
    raise FileExistsError(
      f'{path} is a file, where a folder is to be written; choose another.'
    )
  there = path.iterdir() if path.exists() else ()
  # Finders leave files of their own; other hidden ones are somebody's.
  left = re.compile(r'\._.*|\.DS_Store|\..*\.(writing|replaced|partial)')
  others = sorted(
    x.name for x in there if not (is_ours(x.name) or left.fullmatch(x.name))
  )
  if others:
    raise FileExistsError(
      f'{path} holds {", ".join(others[:4])}, which is not of what is written '
      'there and would be gone; choose another folder, or remove it yourself.'
    )


def visible(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """The paths in order, without names that begin with a dot.

  Finders and unpackers leave such files (`._clip.mp4`, `.DS_Store`).
  """
  return [path for path in paths if not path.name.startswith('.')]


def is_lfs_pointer(path: pathlib.Path) -> bool:
  """Whether git-lfs left a few lines of text in place of the file."""
  try:
    with path.open('rb') as file:
      return file.read(len(_LFS_POINTER)) == _LFS_POINTER
  except OSError:
    return False


def damaged(path: pathlib.Path, error: object) -> ValueError:
  """What to say of a file that cannot be read, and what to do about it.

  Args:
    path: the file.
    error: what went wrong, an exception or a sentence.
  """
  if is_lfs_pointer(path):
    return ValueError(
      f'{path} is a git-lfs pointer and not the file itself; run `git lfs '
      'pull` where it was cloned.'
    )
  kind = f'{type(error).__name__}: ' if isinstance(error, Exception) else ''
  # Some libraries speak in several lines.
  why = f'{kind}{" ".join(str(error).split()):.300}'
  return ValueError(f'{path} is cut off or damaged ({why}); copy it again.')


def read_json(path: pathlib.Path, *, pairs: bool = False) -> Any:
  """What a JSON file of others holds; a byte order mark is skipped.

  Args:
    path: the file.
    pairs: gives objects as lists of pairs, of which a key may be there twice.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is cut off, no JSON, or nested too deep to be meant well.
  """
  return parse_json(path, _text(path), pairs=pairs)


def read_json_lines(path: pathlib.Path) -> list[Any]:
  """What each line of a JSONL file of others holds; empty lines are skipped.

  Lines end at a line feed alone: texts hold what `str.splitlines` cuts at.

  Raises:
    FileNotFoundError: no such file.
    ValueError: as of `read_json`.
  """
  return [parse_json(path, x) for x in _text(path).split('\n') if x.strip()]


def parse_json(path: pathlib.Path, text: str, *, pairs: bool = False) -> Any:
  """What JSON text out of a file holds; see `read_json`."""
  try:
    return json.loads(text, object_pairs_hook=list if pairs else None)
  except (ValueError, RecursionError, MemoryError) as error:
    raise damaged(path, error) from error


def place(out: Path) -> pathlib.Path:
  """The path of a folder that can be made, or is there; makes nothing.

  Raises:
    ValueError: as `expand`.
    OSError: a file is there or on the way, or nobody may write.
  """
  path = expand(out)
  there = next(x for x in (path, *path.parents) if x.exists())
  if not there.is_dir() or not os.access(there, os.W_OK):
    why = 'nobody may write there' if there.is_dir() else 'it is no folder'
    raise OSError(
      f'out: cannot write to {str(path)!r} ({there}: {why}); choose another '
      'folder with --out.'
    )
  return path


def writable(out: pathlib.Path) -> pathlib.Path:
  """Makes the folder and tries to write to it.

  Raises:
    OSError: it cannot be made or written to.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as probe:
      probe.write(b'0' * 2**20)
  except OSError as error:
    reason = error.strerror or str(error)
    raise OSError(
      f'out: cannot write to {str(out)!r} ({reason}); choose another folder '
      'with --out.'
    ) from error
  return out


def write_whole(path: Path, content: str | bytes) -> None:
  """Writes a file beside, then renames it: it is never half there.

  Args:
    path: of the file; replaced where it is there. Its folder is made.
    content: text, which becomes UTF-8, or bytes.

  Raises:
    OSError: it cannot be written; what was there is as it was.
  """
  path = real(path)
  # Processes that write the same file do so beside each other.
  beside = renames.beside(path)
  data = content.encode() if isinstance(content, str) else content
  with _blamed(path, beside):
    path.parent.mkdir(parents=True, exist_ok=True)
    renames.remove_abandoned(path)
    try:
      with renames.open_own(beside) as file:
        file.write(data)
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
  path = real(path)
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
  if destination.exists() and renames.exchange(source, destination):
    shutil.rmtree(source, ignore_errors=True)
    return
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


def put_folder(source: Path, destination: Path) -> None:
  """Renames the folder `source` to where nothing is, or an empty folder.

  Raises:
    OSError: something is there, or it cannot be renamed.
  """
  pathlib.Path(source).rename(destination)


def remove(path: pathlib.Path) -> None:
  """Removes a file, or a folder with all that is in it.

  Raises:
    OSError: it cannot be removed.
  """
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
  """Removes a folder, which is out of sight before its first file is gone.

  Raises:
    OSError: it cannot be removed.
  """
  path = pathlib.Path(path)
  aside = path.with_name(f'.{path.name}.removing')
  shutil.rmtree(aside, ignore_errors=True)  # Of one that was killed.
  shutil.rmtree(path.rename(aside))


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


def nearest(word: Any, known: Iterable[Any]) -> str:
  """`" Did you mean 'x'?"` for the name most like `word`, '' if none is."""
  near = difflib.get_close_matches(str(word), list(map(str, known)), n=1)
  return f' Did you mean {near[0]!r}?' if near else ''


def _old(path: pathlib.Path) -> pathlib.Path:
  """Where a folder stands while another takes its place."""
  return path.with_name(f'.{path.name}.replaced')


def _text(path: pathlib.Path) -> str:
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file; copy the source again.')
  if (size := path.stat().st_size) > _MOST_JSON_BYTES:
    raise damaged(path, f'{size / 1e9:.1f} GB of JSON, more than is read')
  try:
    return path.read_bytes().decode('utf-8-sig')
  except (OSError, ValueError) as error:
    raise damaged(path, error) from error


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
