"""A forbidden zone, drawn over pictures of the world."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jepa_wm.envs import worlds, zones
from jepa_wm.evaluation.report import figures

_STRENGTH = 0.3


def corners(
  record: Mapping[str, Any], vector: np.ndarray
) -> tuple[np.ndarray, bool] | None:
  """Where the edge of what a result forbids is in the picture.

  Args:
    record: of a result.
    vector: `[V]`, any state of its world.

  Returns:
    Corners `[n, 2]`, fractions of the picture's width and height, and whether
    what is forbidden lies inside; None where nothing is, or no place.
  """
  said = record['planner'].get('guardrail')
  if said is None:
    return None
  environment = record['protocol']['environment']
  zone = zones.parse(said['zone'], environment)
  edge = zone.outline(vector)
  if edge is None:
    return None
  return worlds.get(environment).place(edge), zone.kind != 'outside'


def tint(
  pictures: np.ndarray, record: Mapping[str, Any], vector: np.ndarray
) -> np.ndarray:
  """Pictures `[..., height, width, 3]` with what is forbidden in another hue.

  Args:
    pictures: uint8.
    record: of a result.
    vector: `[V]`, any state of its world.
  """
  found = corners(record, vector)
  if found is None:
    return pictures
  places, is_inside = found
  height, width = pictures.shape[-3:-1]
  mask = Image.new('L', (width, height), 0 if is_inside else 1)
  edge = [(float(x) * width, float(y) * height) for x, y in places]
  ImageDraw.Draw(mask).polygon(edge, fill=1 if is_inside else 0)
  share = _STRENGTH * np.asarray(mask, np.float32)[..., None]
  color = np.array(
    [int(figures.FAILURE[i : i + 2], 16) for i in (1, 3, 5)], np.float32
  )
  return ((1 - share) * pictures + share * color).astype(np.uint8)


def polygon(record: Mapping[str, Any], vector: np.ndarray, size: int) -> str:
  """What is forbidden as part of an SVG `size` wide and high, or nothing."""
  found = corners(record, vector)
  if found is None:
    return ''
  places, is_inside = found
  points = ' '.join(f'{x:.1f},{y:.1f}' for x, y in size * places)
  kind = 'zone' if is_inside else 'zone around'
  return f'<polygon class="{kind}" points="{points}"/>'
