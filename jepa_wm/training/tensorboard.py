"""TensorBoard's files, written where they are asked for.

tensorboardX writes in a thread. On a full disk that thread dies with a
traceback, and who logs waits for it for good.
"""

import pathlib
import time
from typing import Any

_FLUSH_SECONDS = 120.0


class EventsFile:
  """Numbers and words of a run, in a file of its own.

  Args:
    folder: `tensorboard/` of the run; made where it is missing.
    step: steps done so far; what other files hold of later ones is hidden, and
      where none are done they go.

  Raises:
    OSError: it cannot be written, as of all that follows.
  """

  def __init__(self, folder: pathlib.Path, *, step: int):
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    self._summary: Any = summary
    self._event: Any = event_pb2.Event
    folder.mkdir(parents=True, exist_ok=True)
    for other in [] if step else folder.glob('events.out.*.from_step_*'):
      other.unlink()
    self._flushed = -_FLUSH_SECONDS
    # Names hold the second: two short runs must not share one.
    self._writer: Any = event_file_writer.EventsWriter(
      str(folder / 'events'), f'.from_step_{step}'
    )
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(step + 1, session_log=log)

  def add(self, name: str, value: float | str, step: int) -> None:
    """A number or words under a name, of a step."""
    kind = (
      self._summary.text if isinstance(value, str) else self._summary.scalar
    )
    self._write(step, summary=kind(name, value))

  def close(self) -> None:
    """Closes the file."""
    self._writer.close()

  def _write(self, step: int, **what: Any) -> None:
    now = time.time()
    self._writer.write_event(self._event(step=step, wall_time=now, **what))
    if time.monotonic() - self._flushed > _FLUSH_SECONDS:
      self._writer.flush()
      self._flushed = time.monotonic()
