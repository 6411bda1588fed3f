"""What an episode holds: columns, each with a name, optional but the action.

  observation/*          a row a frame: `observation/pixels` uint8
                         `[T, height, width, 3]`, `observation/proprio` `[T, S]`
                         what the body feels of itself, a second camera
                         `observation/pixels_wrist`, whatever else was seen
  state                  a row a frame: the true low-dimensional state `[T, V]`
  action                 a row a step, `[T - 1, raw_dim]` float32 in raw units:
                         row t leads from frame t to frame t + 1
  reward, discount       a number a step, `[T - 1]` float32
  label, task, agent     once an episode: a number or an array
  is_first, is_last,     a bool a frame; nobody writes them, they follow from
  is_terminal            where an episode ends

The name says all: those under `observation/` that begin with `pixels` are
pictures, and are kept as such.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jepa_wm import files

PIXELS = 'observation/pixels'
PROPRIO = 'observation/proprio'

STEPS = ('action', 'reward', 'discount')
"""A row between two frames."""

EPISODES = ('label', 'task', 'agent')
"""Once for an episode."""

ENDS = ('is_first', 'is_last', 'is_terminal')

_FRAMES = re.compile(r'state|observation/[a-z0-9_]+')


class Column(NamedTuple):
  """An entry of a column.

  Attributes:
    shape: without the axis of frames or steps.
    dtype: its name.
  """

  shape: tuple[int, ...]
  dtype: str


Spec = dict[str, Column]
"""What a dataset's episodes hold, under its name."""


def is_image(name: str) -> bool:
  """Whether a column holds pictures."""
  return name.startswith(PIXELS)


def is_known(name: str) -> bool:
  """Whether an episode may hold a column of this name."""
  return name in STEPS + EPISODES or bool(_FRAMES.fullmatch(name))


def spec(columns: Mapping[str, np.ndarray]) -> Spec:
  """What an episode's columns are, whatever its length."""
  return {
    name: Column(
      tuple(array.shape[0 if name in EPISODES else 1 :]), array.dtype.name
    )
    for name, array in sorted(columns.items())
  }


def to_json(spec: Spec) -> dict[str, Any]:
  """A spec as JSON holds it."""
  return {name: [list(x.shape), x.dtype] for name, x in spec.items()}


def from_json(described: Mapping[str, Any]) -> Spec:
  """Inverts `to_json`."""
  return {
    name: Column(tuple(shape), dtype)
    for name, (shape, dtype) in described.items()
  }


def known(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The columns without those whose rows are empty: nothing is known there."""
  return {n: x for n, x in columns.items() if 0 not in x.shape[1:]}


def check(columns: Mapping[str, np.ndarray]) -> None:
  """Checks that the columns of an episode tell one story.

  Args:
    columns: under their names.

  Raises:
    ValueError: no action, an unknown name, a wrong shape or dtype, or a number
      that is not finite.
  """
  if 'action' not in columns:
    raise ValueError(
      f'An episode must have the column action, got {sorted(columns)}.'
    )
  for name, array in columns.items():
    if not isinstance(array, (np.ndarray, np.generic)):
      raise ValueError(
        f'{name} must be a NumPy array, got a {type(array).__name__}.'
      )
  # Where there are no steps to count by, there is one frame.
  num_frames = len(columns['action']) + 1
  if PIXELS in columns and columns[PIXELS].ndim == 4:
    num_frames = len(columns[PIXELS])
  for name, array in columns.items():
    if not is_known(name):
      raise ValueError(
        f'A column is named observation/*, state, {", ".join(STEPS)}, '
        f'{", ".join(EPISODES)}, got {name!r}.'
      )
    if is_image(name):
      _check_image(name, array, num_frames)
    elif name in STEPS:
      _check_steps(name, array, num_frames - 1)
    elif array.dtype.kind not in 'biuf' or not array.size:
      raise ValueError(
        f'{name} must hold numbers, got {array.dtype} {array.shape}; leave it '
        'out where nothing is known.'
      )
    elif name not in EPISODES and len(array) != num_frames:
      raise ValueError(
        f'{name} must be [{num_frames}, ...] for {num_frames} frames, got '
        f'{array.dtype} {array.shape}.'
      )
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
      raise ValueError(f'{name} must be finite, got NaN or infinity.')


def _check_image(name: str, array: np.ndarray, num_frames: int) -> None:
  if (
    array.ndim != 4
    or array.dtype != np.uint8
    or array.shape[-1] != 3
    or not array.size
    or len(array) != num_frames
  ):
    raise ValueError(
      f'{name} must be uint8 [T, height, width, 3] with at least one frame and '
      f'{num_frames} of them, got {array.dtype} {array.shape}.'
    )


def _check_steps(name: str, array: np.ndarray, num_steps: int) -> None:
  size = '[{}, size]' if name == 'action' else '[{}]'
  if (
    array.ndim != (2 if name == 'action' else 1)
    or array.dtype != np.float32
    or len(array) != num_steps
    or 0 in array.shape[1:]
  ):
    raise ValueError(
      f'{name} must be float32 {size.format(num_steps)} for {num_steps + 1} '
      f'frames, got {array.dtype} {array.shape}.'
    )


def nested(columns: Mapping[str, Any]) -> dict[str, Any]:
  """`{'observation/pixels': x}` as `{'observation': {'pixels': x}}`."""
  tree: dict[str, Any] = {}
  for name, value in columns.items():
    group, _, rest = name.rpartition('/')
    (tree.setdefault(group, {}) if group else tree)[rest] = value
  return tree


def seeing(available: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
  """The columns of a window for who looks at some observations alone.

  Args:
    available: columns that there are.
    names: what is looked at, `pixels` and the like, whether it is there or not.

  Returns:
    Those of `names`, and all that is no observation.
  """
  others = (x for x in available if not x.startswith('observation/'))
  seen = (f'observation/{name}' for name in names)
  return (*seen, *(x for x in others if x not in ENDS))


def chosen(
  columns: Sequence[str] | None, available: Mapping[str, Any], where: str
) -> tuple[str, ...]:
  """The columns of a window: those asked for, or all that there are.

  Raises:
    ValueError: one that is not there was asked for; `where` is named.
  """
  if columns is None:
    return tuple(name for name in available if name not in ENDS)
  for name in columns:
    if name not in available:
      raise ValueError(
        f'There is no column {name!r} at {where}, only {sorted(available)}.'
        + files.nearest(name, available)
      )
  return tuple(columns)
