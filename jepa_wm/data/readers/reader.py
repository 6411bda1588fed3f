"""What every reader of a foreign format takes, and what it is."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, Protocol

from jepa_wm import fields
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import resizing

ALIGNMENTS = ('auto', 'after', 'before', 'rotated')

_MOST = {'num_discrete': 65_536, 'image_size': resizing.MOST_PIXELS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What to read, where a format leaves a choice.

  Attributes:
    pixels: column of the frames (the camera); None takes the usual name.
    action: columns joined to an action; None takes the usual name.
    proprio: columns joined to what the body feels; None takes the usual name
      if there is one, empty none.
    state: columns joined to the true state, likewise.
    num_discrete: how many actions there are where a column numbers them; they
      become one-hot rows.
    alignment: what a row's action did: 'after' led from the row's frame to the
      next, 'before' led to the row's frame, 'rotated' is 'before' with the
      first row moved to the end, 'auto' is what the format says, measured
      where its writers disagree.
    split: which one, of a format that has several; None reads all of them in
      order.
    image_size: height and width that frames are brought to; None keeps them.
    fit: how, where they are not square; see `resizing.resize_frames`.
    discrete_start: number of the first numbered action, where a format says it.
  """

  pixels: str | None = None
  action: tuple[str, ...] | None = None
  proprio: tuple[str, ...] | None = None
  state: tuple[str, ...] | None = None
  num_discrete: int | None = None
  alignment: str = 'auto'
  split: str | None = None
  image_size: int | None = None
  fit: str = 'stretch'
  discrete_start: int = 0

  def __post_init__(self) -> None:
    fields.check_choice('alignment', self.alignment, ALIGNMENTS)
    fields.check_choice('fit', self.fit, resizing.FITS)
    fields.check_counts(self, {'num_discrete': 2, 'image_size': 1}, _MOST)
    for name in ('action', 'proprio', 'state'):
      value = getattr(self, name)
      if isinstance(value, str):
        object.__setattr__(self, name, (value,))

  def refuse(self, path: pathlib.Path, **reasons: str) -> None:
    """Refuses options that mean nothing to a format.

    Args:
      path: the source, for the message.
      **reasons: why an option does, under its name.

    Raises:
      ValueError: one of them is not left at its default.
    """
    for field in dataclasses.fields(self):
      if field.name in reasons:
        value = getattr(self, field.name)
        if value != field.default:
          raise ValueError(
            f'{path} {reasons[field.name]}, so --{field.name}={value} has no '
            'effect; leave it out.'
          )


class Reader(Protocol):
  """Random access to the episodes of a foreign source, read when asked for.

  Attributes:
    num_episodes: how many there are.
    provenance: where they come from and how they were read; JSON-able.
    warnings: sentences about what looks wrong, or was repaired.
  """

  num_episodes: int
  provenance: dict[str, Any]
  warnings: list[str]

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    """Episode number `index`; may be called from several threads.

    Raises:
      ValueError: it is cut off, damaged, ragged or not finite.
    """


def missing(package: str, what: str) -> ImportError:
  """What to say where an optional package is not installed."""
  return ImportError(
    f"{what} needs {package}; install it with `pip install 'jepa-wm[readers]'`."
  )


def check_index(reader: Reader, index: int) -> None:
  """Ends a `for` over a reader, and refuses other indices.

  Raises:
    IndexError: there is no such episode.
  """
  if not 0 <= index < reader.num_episodes:
    raise IndexError(f'There are {reader.num_episodes} episodes, not {index}.')


class Guarded:
  """A reader whose every failure is the error that a `Reader` promises."""

  def __init__(self, path: pathlib.Path, reader: Reader) -> None:
    """Wraps what was opened at `path`."""
    self._path, self._reader = path, reader
    self.num_episodes = reader.num_episodes
    self.provenance = reader.provenance
    self.warnings = reader.warnings

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    check_index(self, index)
    with promised(self._path, f'{self._path}, episode {index},'):
      return self._reader[index]


@contextlib.contextmanager
def promised(path: pathlib.Path, where: str) -> Iterator[None]:
  """Turns whatever a damaged or odd source raises into one sentence.

  Args:
    path: the source; an error that names it is a sentence already.
    where: source and episode, for the sentence.

  Raises:
    ValueError: of all that went wrong.
    FileNotFoundError: there is nothing at `path`, in words of ours.
    ImportError: a package is missing.
  """
  try:
    yield
  except (ImportError, NameError):
    # A package that is missing, and a mistake that no source can make.
    raise
  except Exception as error:
    is_ours = type(error) is ValueError or (
      type(error) is FileNotFoundError and error.errno is None
    )
    if is_ours and str(path) in str(error):
      raise
    why = ' '.join(str(error).split())
    raise ValueError(
      f'{where} cannot be read ({type(error).__name__}: {why:.300}); it is cut '
      'off, damaged or laid out in a way that is not known here.'
    ) from error


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """A file of a source that the source itself names.

  Raises:
    ValueError: it is not below the source's folder.
  """
  path = pathlib.PurePosixPath(name)
  if path.is_absolute() or '..' in path.parts or '\0' in name:
    raise ValueError(
      f'{folder} names the file {name!r}, which is outside of it; it is not '
      'read.'
    )
  return folder / name
