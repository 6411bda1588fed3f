"""Where the numbers of a run go: a line, a log, TensorBoard, a picture."""

import collections
import contextlib
import datetime
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np

from jepa_wm import files
from jepa_wm.training import tensorboard

Record = Mapping[str, Any]


class MetricsLog:
  """The numbers of a run on disk: `metrics.jsonl`, TensorBoard, `curves.png`.

  Opened at the step that a run resumes from, it drops what was logged after
  it, so that a run killed and resumed leaves one history. A run that begins
  drops all: it may be another one.

  Args:
    workdir: folder of the run; `metrics.jsonl` and `tensorboard/` are in it.
    step: steps done so far; records of later ones are dropped.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, step: int):
    self._workdir = files.expand(workdir)
    path = self._workdir / 'metrics.jsonl'
    self._records = [r for r in read(path) if step and r['step'] <= step]
    self._seconds = self._records[-1]['seconds'] if self._records else 0.0
    self._start = time.monotonic()
    text = ''.join(json.dumps(r) + '\n' for r in self._records)
    files.write_whole(path, text)
    self._file = path.open('a')
    self._tensorboard = tensorboard.EventsFile(
      self._workdir / 'tensorboard', step=step
    )

  def write(self, step: int, values: Mapping[str, float | str]) -> None:
    """Logs `values`, named `group/name`, at `step`; words may be among them."""
    # JSON has no word for NaN and infinity: null.
    plain = {
      k: v if isinstance(v, str) or np.isfinite(v) else None
      for k, v in values.items()
    }
    record = {'step': step, 'seconds': round(self.seconds, 3), **plain}
    self._records.append(record)
    with self._naming():
      self._file.write(json.dumps(record) + '\n')
      self._file.flush()
      for name, value in plain.items():
        if value is not None:
          self._tensorboard.add(name, value, step)

  @property
  def records(self) -> Sequence[Record]:
    """All that was logged so far, oldest first."""
    return self._records

  @property
  def seconds(self) -> float:
    """Time the run has taken, with that of the runs it resumes."""
    return self._seconds + time.monotonic() - self._start

  def newest(self) -> dict[str, float | str]:
    """The newest value of every metric."""
    merged = {k: v for record in self._records for k, v in record.items()}
    return {k: v for k, v in merged.items() if '/' in k}

  def draw(self) -> None:
    """Draws `curves.png` from all that was logged so far."""
    draw_curves(self._records, self._workdir / 'curves.png')

  def close(self) -> None:
    """Closes the files."""
    with self._naming(), contextlib.ExitStack() as stack:
      stack.callback(self._tensorboard.close)
      self._file.close()

  @contextlib.contextmanager
  def _naming(self) -> Iterator[None]:
    """Names the folder where the system refuses a write."""
    try:
      yield
    except OSError as error:
      raise OSError(error.errno, error.strerror, str(self._workdir)) from error


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Records of a `metrics.jsonl`, oldest first; none where there is no file.

  A line that a killed run left half written, or that is none of ours, is
  skipped.
  """
  records = []
  path = files.expand(path)
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      record = json.loads(line)
    except (ValueError, RecursionError):
      continue
    if _is_record(record):
      records.append(record)
  return records


def _is_record(content: Any) -> bool:
  return (
    isinstance(content, dict)
    and type(content.get('step')) is int
    and type(content.get('seconds')) in (int, float)
  )


class Progress:
  """A line with rate, time left and losses: rewritten on a terminal.

  Args:
    num_steps: of the whole run.
    step: steps done so far.
    stream: where to write; standard error when None.
  """

  def __init__(
    self, num_steps: int, *, step: int, stream: TextIO | None = None
  ):
    self._num_steps = num_steps
    self._stream = stream or sys.stderr
    self._is_open = False
    self._start = step, time.monotonic()
    self._reports: collections.deque[tuple[int, float]] = collections.deque(
      maxlen=10
    )

  def begin(self, step: int) -> None:
    """Measures from here, unless it does: the first step holds compilation."""
    if not self._reports:
      self._reports.append((step, time.monotonic()))

  def leave_out(self, seconds: float) -> None:
    """Takes no account of the last `seconds`, in which there was no step."""
    for index, (step, moment) in enumerate(self._reports):
      self._reports[index] = step, moment + seconds

  def report(self, step: int, values: Mapping[str, float]) -> None:
    """Shows that `step` steps are done, with the losses in `values`."""
    first_step, first_time = self._start
    if self._reports and self._reports[0][0] < step:
      first_step, first_time = self._reports[0]
    now = time.monotonic()
    self._reports.append((step, now))
    rate = (step - first_step) / max(now - first_time, 1e-9)
    left = datetime.timedelta(
      seconds=round((self._num_steps - step) / max(rate, 1e-9))
    )
    losses = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
    line = (
      f'step {step}/{self._num_steps} ({step / self._num_steps:.0%})  '
      f'{rate:.3g} steps/s  ETA {left}  {losses}'
    )
    if self._stream.isatty():
      width = shutil.get_terminal_size().columns - 1
      # Back to the start, the line, and nothing behind it.
      self._stream.write(f'\r{line[:width]}\x1b[K')
      self._stream.flush()
      self._is_open = True
    else:
      self.say(line)

  def say(self, sentence: str) -> None:
    """Prints a line of its own."""
    self.close()
    print(sentence, file=self._stream, flush=True)

  def close(self) -> None:
    """Ends the line, where it is a rewritten one."""
    if self._is_open:
      print(file=self._stream, flush=True)
      self._is_open = False


_PANEL_INCHES = 4.0, 3.1
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.62, 0.12, 0.5, 0.3
"""Inches of a panel that are its ticks and titles."""


class _Panel(NamedTuple):
  """One plot: what it is called and which metrics are drawn in it."""

  title: str
  prefixes: tuple[str, ...]
  without: tuple[str, ...] = ()
  log: bool = False
  reference: float | None = None


_PANELS = (
  _Panel('Loss', ('train/loss',), log=True),
  _Panel(
    'Terms of the loss',
    ('train/',),
    without=(
      'train/loss',
      'train/straightening',
      'train/grad_norm',
      'train/learning_rate',
      'train/weight_decay',
    ),
    log=True,
  ),
  _Panel('Held-out windows', ('held_out/',), log=True),
  _Panel('Linear probe of the true state', ('probe/probe_r',), reference=1.0),
  _Panel('Latent standard deviation', ('collapse/latent_std',), reference=1.0),
  _Panel('Effective rank', ('collapse/effective_rank',)),
  # A mean cosine: may be negative, so not among the others.
  _Panel('Straightening', ('train/straightening',), reference=0.0),
  _Panel('Gradient norm', ('train/grad_norm',), log=True),
  _Panel('Learning rate', ('train/learning_rate',)),
  _Panel('Weight decay', ('train/weight_decay',)),
)


def draw_curves(
  records: Sequence[Record], path: str | os.PathLike[str]
) -> None:
  """Draws the curves of a run, one panel a subject; empty panels are left out.

  Args:
    records: as in `metrics.jsonl`: `step` and numbers named `group/name`.
    path: of the PNG; replaced when it is complete. Not written where `records`
      hold nothing to draw.
  """
  import matplotlib.figure

  panels = [(panel, _series(records, panel)) for panel in _PANELS]
  panels = [(panel, series) for panel, series in panels if series]
  if not panels:
    return
  num_columns = len(panels) if len(panels) < 4 else -(-len(panels) // 2)
  num_rows = -(-len(panels) // num_columns)
  width, height = _PANEL_INCHES
  size = width * num_columns, height * num_rows
  figure = matplotlib.figure.Figure(figsize=size, dpi=110)
  # Given, not fitted: a layout that measures every text takes as long again.
  figure.subplots_adjust(
    left=_LEFT / size[0],
    right=1 - _RIGHT / size[0],
    bottom=_BOTTOM / size[1],
    top=1 - _TOP / size[1],
    wspace=(_LEFT + _RIGHT) / (width - _LEFT - _RIGHT),
    hspace=(_BOTTOM + _TOP) / (height - _BOTTOM - _TOP),
  )
  axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
  last_step = max(step[-1] for _, s in panels for step, _ in s.values())
  for axis, (panel, series) in zip(axes, panels):
    _draw_panel(axis, panel, series)
    axis.set_xlim(0, 1.02 * max(last_step, 1))
  for axis in axes[len(panels) :]:
    axis.set_axis_off()
  stream = io.BytesIO()
  figure.savefig(stream, format='png')
  files.write_whole(path, stream.getvalue())


def _series(
  records: Sequence[Record], panel: _Panel
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Steps and values of every metric that belongs in `panel`."""
  names = sorted(
    {
      name
      for record in records
      for name in record
      if name.startswith(panel.prefixes) and name not in panel.without
    }
  )
  series = {}
  for name in names:
    points = [
      (record['step'], record[name])
      for record in records
      if record.get(name) is not None
    ]
    if points:
      step, value = np.asarray(points, float).T
      series[name] = (step, value)
  return series


def _draw_panel(
  axis: Any, panel: _Panel, series: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
  """Raw values faint, their running mean strong."""
  import matplotlib.ticker

  for index, (name, (step, value)) in enumerate(series.items()):
    color = f'C{index}'
    # Losses are noisy; a schedule must not be blurred.
    width = max(len(value) // 50, 1) if panel.log else 1
    smooth = _running_mean(value, width=width)
    few = len(value) <= 30
    if width > 1:
      axis.plot(step, value, color=color, alpha=0.25, linewidth=0.8)
    axis.plot(
      step,
      smooth,
      color=color,
      linewidth=1.6,
      marker='o' if few else None,
      markersize=3,
      label=_label(name, smooth[-1]),
    )
  values = np.concatenate([value for _, value in series.values()])
  if panel.log and (values > 0).all():
    axis.set_yscale('log')
    subs = (1.0, 2.0, 5.0) if values.max() < 100 * values.min() else (1.0,)
    axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs))
    axis.yaxis.set_major_formatter('{x:g}')
    axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  if panel.reference is not None:
    axis.axhline(panel.reference, color='0.6', linewidth=0.8, linestyle='--')
  # At a height that is given, for the same reason.
  axis.set_title(panel.title, y=1.0, fontsize=10, loc='left', fontweight='bold')
  axis.set_xlabel('step', fontsize=8, color='0.35')
  axis.tick_params(which='both', labelsize=8, colors='0.35')
  axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
  axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
  axis.grid(alpha=0.25, linewidth=0.6)
  axis.spines[['top', 'right']].set_visible(False)
  axis.spines[['left', 'bottom']].set_color('0.6')
  axis.legend(fontsize=7.5, framealpha=0.8, edgecolor='none', labelcolor='0.2')


def _label(name: str, last: float) -> str:
  """Words for the legend, with the newest value."""
  return f'{name.partition("/")[2].replace("_", " ")}  {last:.3g}'


def _running_mean(values: np.ndarray, *, width: int) -> np.ndarray:
  """Mean of the last `width` values; of fewer at the start."""
  total = np.cumsum(np.insert(values, 0, 0.0))
  end = np.arange(1, len(values) + 1)
  start = np.maximum(end - width, 0)
  return (total[end] - total[start]) / (end - start)
