"""What is drawn over the picture of an agent: paths, goals, marks."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from jepa_wm.evaluation.report import figures

_OVERSAMPLING = 3
_PAPER = '#ffffff'


def lay(overlay: Image.Image, *, over: Image.Image) -> None:
  """Puts a transparent picture over another of its size."""
  over.paste(overlay, mask=overlay.getchannel('A'))


def draw_path(
  places: np.ndarray, goal: np.ndarray, action_block: int, *, size: int
) -> Image.Image:
  """A line through places, and a goal.

  Args:
    places: `[n, 2]`, fractions of the picture.
    goal: `[2]`, ringed.
    action_block: places from one dot to the next.
    size: pixels of the picture's side.
  """

  def draw(canvas: _Canvas) -> None:
    line = canvas.points(places)
    dots = places[action_block::action_block]
    width, rim = int(1.6 * _OVERSAMPLING), _OVERSAMPLING
    # First a rim of paper, so that all can be seen on a dark ground as well.
    canvas.ring(goal, 10.0, _PAPER, width=3 * rim)
    canvas.draw.line(line, fill=_PAPER, width=width + 2 * rim, joint='curve')
    for place in dots:
      canvas.ring(place, 3.4, _PAPER)
    canvas.ring(goal, 9.0, figures.SUCCESS, width=rim)
    canvas.draw.line(line, fill=figures.PLAN, width=width, joint='curve')
    for place in dots:
      canvas.ring(place, 2.4, figures.PLAN)

  return _drawn(draw, size)


def draw_move(
  before: np.ndarray, after: np.ndarray, *, size: int
) -> Image.Image:
  """A cross where something was taken from, a thin line to where it was put.

  Args:
    before: `[2]`, fractions of the picture.
    after: `[2]`.
    size: pixels of the picture's side.
  """

  def draw(canvas: _Canvas) -> None:
    line = canvas.points(np.stack([before, after]))
    for color, extra in ((_PAPER, 2 * _OVERSAMPLING), (figures.FAILURE, 0)):
      canvas.draw.line(line, fill=color, width=_OVERSAMPLING + extra)
      canvas.cross(before, 4.5, color, int(1.8 * _OVERSAMPLING) + extra)

  return _drawn(draw, size)


def draw_subgoal(place: np.ndarray, *, size: int) -> Image.Image:
  """A diamond at a place `[2]`, fractions of a picture `size` pixels wide."""

  def draw(canvas: _Canvas) -> None:
    for radius, color in ((7.0, _PAPER), (5.5, figures.SUBGOAL)):
      canvas.diamond(place, radius, color)

  return _drawn(draw, size)


class _Canvas:
  """A transparent picture, some times as large as it is to be."""

  def __init__(self, size: int):
    self._scale = size * _OVERSAMPLING
    self.image = Image.new('RGBA', (self._scale, self._scale), _PAPER + '00')
    self.draw = ImageDraw.Draw(self.image)

  def points(self, places: np.ndarray) -> list[tuple[float, ...]]:
    return [tuple(place) for place in places * self._scale]

  def ring(
    self, place: np.ndarray, radius: float, color: str, width: int = 0
  ) -> None:
    """A circle of a line's `width`, or a dot."""
    x, y = place * self._scale
    radius *= _OVERSAMPLING
    self.draw.ellipse(
      (x - radius, y - radius, x + radius, y + radius),
      fill=None if width else color,
      outline=color if width else None,
      width=width,
    )

  def diamond(self, place: np.ndarray, radius: float, color: str) -> None:
    x, y = place * self._scale
    r = radius * _OVERSAMPLING
    self.draw.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], color)

  def cross(
    self, place: np.ndarray, radius: float, color: str, width: int
  ) -> None:
    x, y = place * self._scale
    r = radius * _OVERSAMPLING
    for end in (r, -r):
      self.draw.line((x - r, y - end, x + r, y + end), color, width)


def _drawn(draw: Callable[[_Canvas], None], size: int) -> Image.Image:
  """What `draw` leaves on a canvas, `size` pixels wide and high."""
  canvas = _Canvas(size)
  draw(canvas)
  return canvas.image.resize((size, size), Image.Resampling.LANCZOS)
