"""A folder of episodes that is made beside its place, however often killed.

All of it is made in `.OUT.KIND/`, by who holds the place. Once it is whole a
note beside, `.OUT.KIND.json`, says of what plan it is; then the folder takes
its place, what is left goes, and the note goes last. A note tells that somebody
was killed in between, and the same plan goes on from there.
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jepa_wm import files, lock, processes
from jepa_wm.data import episodes as episodes_lib


@dataclasses.dataclass(frozen=True)
class Making:
  """Episodes that are being made.

  Attributes:
    out: folder that they will be; no link.
    kind: of making: 'collect', 'convert'.
    plan_fn: gives what they are made of, JSON-able.
    overwrite: whether they take the place of what is there.
  """

  out: pathlib.Path
  kind: str
  plan_fn: Callable[[], Mapping[str, Any]]
  overwrite: bool

  @property
  def work(self) -> pathlib.Path:
    """Folder beside `out` in which they are made."""
    return self.out.with_name(f'.{self.out.name}.{self.kind}')

  @property
  def archive(self) -> pathlib.Path:
    """Where they are until `place`."""
    return self.work / 'archive'

  def check_place(self) -> None:
    """Refuses what is there, unless a killed process has just put it there.

    Raises:
      FileExistsError: it was there before and `overwrite` is False, or holds
        what we do not write.
    """
    if (
      self.out.exists()
      and not self.overwrite
      and self._finished(self.out) is None
    ):
      raise FileExistsError(
        f'{self.out} is there already; add --overwrite to replace it.'
      )
    files.check_replaceable(self.out, episodes_lib.is_archive_name)

  @contextlib.contextmanager
  def alone(self) -> Iterator[None]:
    """Keeps others out; after a block that ends well `work` is gone.

    Raises:
      FileExistsError: as of `check_place`; another process has just ended.
      HeldError: another process makes something for this place.
      OSError: it cannot be made.
    """
    with lock.hold_place(self.out):
      processes.by_first(self.check_place)
      self.work.mkdir(parents=True, exist_ok=True)
      try:
        yield
        if processes.is_first():
          self.clear()
      finally:
        # It holds what is kept, or the disk is gone.
        with contextlib.suppress(OSError):
          self.work.rmdir()
    self._note.unlink(missing_ok=True)

  def clear(self) -> None:
    """Removes all from `work`."""
    for path in self.work.iterdir():
      files.remove(path)

  def taken_up(self) -> dict[str, Any] | None:
    """What a process told `place` that was killed in it; None of no such one.

    What it had made is in its place then.
    """
    report = self._finished(self.out)
    if report is None:
      report = self._finished(self.archive)
      if report is not None:
        files.replace_folder(self.archive, self.out)
    return report

  def place(self, report: Mapping[str, Any]) -> None:
    """Puts what was made in its place.

    Args:
      report: what is to be known of it, JSON-able.

    Raises:
      FileExistsError: something has come there since `alone` looked.
      OSError: it cannot be put there.
    """
    content = {
      'plan': files.digest_json(self.plan_fn()),
      'made': _identity(self.archive),
      'report': report,
    }
    self.check_place()
    files.write_whole(self._note, json.dumps(content))
    if self.overwrite:
      files.replace_folder(self.archive, self.out)
      return
    try:
      files.put_folder(self.archive, self.out)
    except OSError:
      self._note.unlink(missing_ok=True)
      self.check_place()
      raise

  @property
  def _note(self) -> pathlib.Path:
    return _note(self.out, self.kind)

  def _finished(self, folder: pathlib.Path) -> dict[str, Any] | None:
    """The report of the note, where a folder is what it tells of."""
    try:
      content = files.read_json(self._note)
      is_there = content['made'] == _identity(folder)
      plan = files.digest_json(self.plan_fn()) if is_there else ''
      return dict(content['report']) if content['plan'] == plan else None
    # No note, no folder, or no note of ours.
    except (FileNotFoundError, LookupError, TypeError, ValueError):
      return None


def is_made(out: pathlib.Path, kind: str) -> bool:
  """Whether something is there, and nobody was killed while cleaning up."""
  return out.exists() and not _note(out, kind).exists()


def _note(out: pathlib.Path, kind: str) -> pathlib.Path:
  return out.with_name(f'.{out.name}.{kind}.json')


def _identity(archive: pathlib.Path) -> str:
  """Of a folder and of the episodes in it; a copy has another one."""
  return f'{archive.stat().st_ino} {episodes_lib.fingerprint(archive)}'
