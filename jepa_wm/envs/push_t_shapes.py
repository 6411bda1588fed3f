"""Shapes of Push-T's block: each a body of up to three rectangles."""

import dataclasses

import numpy as np

NUM_RECTANGLES = 3
"""Rectangles of a body; the missing ones lie far outside of the world."""

_AWAY = (1e4, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Shape:
  """A body at scale 1 and of mass 1.

  Attributes:
    rectangles: `(x, y, half_x, half_y)` of each, in the body's frame.
    centre: its centre of gravity there.
    moment: of inertia.
  """

  rectangles: tuple[tuple[float, float, float, float], ...]
  centre: tuple[float, float]
  moment: float


def _shape(
  *corners: tuple[float, float, float, float],
  inertia_of: tuple[int, ...] | None = None,
) -> Shape:
  """From `(left, bottom, right, top)` of each, by the peer's formulas.

  The centre of gravity is the plain average of the rectangles' own, and the
  moment the sum of their moments about the body's origin as if each had the
  whole mass: not what a uniform plate has, but what the peer simulates.
  """
  rectangles = tuple(
    ((a + c) / 2, (b + d) / 2, (c - a) / 2, (d - b) / 2)
    for a, b, c, d in corners
  )
  moments = [
    (a * a + a * c + c * c) / 3 + (b * b + b * d + d * d) / 3
    for a, b, c, d in corners
  ]
  counted = range(len(corners)) if inertia_of is None else inertia_of
  x, y = np.mean(rectangles, axis=0)[:2]
  return Shape(
    rectangles, (float(x), float(y)), sum(moments[i] for i in counted)
  )


SHAPES = {
  'L': _shape((0, 0, 1, 2), (0, -1, 2, 0)),
  'T': _shape((-2, 0, 2, 1), (-0.5, 1, 0.5, 4), inertia_of=(0, 0)),
  'Z': _shape((0, 0, 2, 1), (-1, -1, 1, 0)),
  'square': _shape((-1, -1, 1, 1)),
  'I': _shape((-0.5, -2, 0.5, 2)),
  'small_tee': _shape((-1.5, 0, 1.5, 1), (-0.5, 1, 0.5, 2)),
  '+': _shape(
    (-1.5, -0.5, 1.5, 0.5),
    (-0.5, 0.5, 0.5, 1.5),
    (-0.5, -1.5, 0.5, -0.5),
    inertia_of=(0, 0, 0),
  ),
}
"""By the peer's names, in its order; the peer counts them from 1."""

NAMES = tuple(SHAPES)

RECTANGLES = np.asarray(
  [
    shape.rectangles + (_AWAY,) * (NUM_RECTANGLES - len(shape.rectangles))
    for shape in SHAPES.values()
  ]
)
"""`[len(NAMES), 3, 4]`, at scale 1."""

CENTRES = np.asarray([shape.centre for shape in SHAPES.values()])
"""`[len(NAMES), 2]`, at scale 1."""

MOMENTS = np.asarray([shape.moment for shape in SHAPES.values()])
"""`[len(NAMES)]`, at scale 1: they grow with its square."""
