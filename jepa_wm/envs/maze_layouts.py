"""Small mazes, all of them: which layouts there are, and which are held out.

A layout is a number, bit `row * size + column` of which tells whether there is
a wall. There are few enough to list, so training and held-out layouts are two
halves of one list, and no layout can be in both.
"""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields

SIZE = 4
"""Rows and columns of a diverse maze."""

U_MAZE = 0b000_011_000
"""The U of 3 x 3 cells: bit 0 is the cell in the upper left corner."""

SPLITS = ('train', 'held_out')

_HELD_OUT_SHARE = 5
_MIN_OPEN, _MAX_OPEN = 0.5, 0.75
_MAX_PATH = 8
_MAX_OPEN_NEIGHBOURS = 6
_CELLS = SIZE * SIZE
_JITTER = 0.25


def walls(layout: np.ndarray, size: int) -> np.ndarray:
  """Tells the bits of layouts apart.

  Args:
    layout: integers, any shape.
    size: rows and columns.

  Returns:
    bool `[..., size, size]`.
  """
  bits = (np.asarray(layout)[..., None] >> np.arange(size * size)) & 1
  return bits.astype(bool).reshape(*np.shape(layout), size, size)


@functools.cache
def diverse(split: str, num_layouts: int | None = None) -> np.ndarray:
  """Layouts of 4 x 4 cells of a split, in an order that never changes.

  Half to three quarters of the cells are open, all of them connected, the
  longest of the shortest paths is less than 8 cells, and no open cell has more
  than 6 open neighbours among 8: the rules of PLDM's generator. A fifth is held
  out, together with all that is a turned or mirrored layout of it, which is
  more than PLDM asks for.

  Args:
    split: 'train' or 'held_out'.
    num_layouts: how many; the first of them. All by default.

  Returns:
    int32 `[num_layouts]`.

  Raises:
    ValueError: another split, or more layouts than there are.

  Source: PLDM (arXiv 2502.14819), its configuration of 40 maps.
  """
  fields.check_choice('layouts', split, SPLITS)
  layouts = _valid()
  classes = _symmetric(layouts).min(axis=0)
  held_out = np.array([_scrambled(c) % _HELD_OUT_SHARE == 0 for c in classes])
  chosen = layouts[held_out == (split == 'held_out')]
  chosen = chosen[np.argsort([_scrambled(c) for c in chosen], kind='stable')]
  num_layouts = len(chosen) if num_layouts is None else num_layouts
  if not 1 <= num_layouts <= len(chosen):
    raise ValueError(
      f'num_layouts must be 1 to {len(chosen)} for the split {split!r}, got '
      f'{num_layouts}.'
    )
  return chosen[:num_layouts].astype(np.int32)


def check(layouts: np.ndarray, size: int) -> None:
  """Makes sure that there is somewhere to go in layouts, and a way to it.

  Raises:
    ValueError: not a row of numbers of `size * size` bits, fewer than two open
      cells, or open cells that no way leads to.
  """
  layouts = np.asarray(layouts)
  if layouts.ndim != 1 or not np.issubdtype(layouts.dtype, np.integer):
    raise ValueError(
      'layouts must be a row of whole numbers, bit row * size + column of each '
      f'a wall, got {layouts.dtype} {list(layouts.shape)}.'
    )
  _check(layouts.astype(np.int64).tobytes(), size)


@functools.lru_cache(maxsize=64)
def _check(content: bytes, size: int) -> None:
  layouts = np.frombuffer(content, np.int64)
  if not len(layouts) or np.any((layouts < 0) | (layouts >> (size * size))):
    raise ValueError(
      f'layouts must be numbers of {size * size} bits, one of each cell of '
      f'{size} x {size}, and at least one, got {layouts.tolist()[:5]}.'
    )
  is_open = ~walls(layouts, size)
  if np.any(few := is_open.sum((1, 2)) < 2):
    raise ValueError(
      f'layout {layouts[few][0]} has fewer than two open cells of {size} x '
      f'{size} (0 bits), so there is nowhere to go.'
    )
  first = is_open.reshape(len(layouts), -1).argmax(axis=1)
  reached = (np.arange(size * size) == first[:, None]).reshape(is_open.shape)
  for _ in range(size * size):
    padded = np.pad(reached, ((0, 0), (1, 1), (1, 1)))
    beside = padded[:, 2:, 1:-1] | padded[:, :-2, 1:-1]
    beside |= padded[:, 1:-1, 2:] | padded[:, 1:-1, :-2]
    reached |= beside & is_open
  if np.any(apart := (reached != is_open).any((1, 2))):
    raise ValueError(
      f'layout {layouts[apart][0]} has open cells that no way leads to from '
      'the others, so goals cannot be reached; open a way or close them.'
    )


def _scrambled(number: int) -> int:
  return zlib.crc32(int(number).to_bytes(4, 'little'))


def _symmetric(layouts: np.ndarray) -> np.ndarray:
  """The eight turned and mirrored layouts of each, `[8, L]`."""
  grids = walls(layouts, SIZE)
  weights = 1 << np.arange(_CELLS).reshape(SIZE, SIZE)
  turned = [np.rot90(grids, turns, axes=(-2, -1)) for turns in range(4)]
  all_eight = turned + [np.swapaxes(grid, -2, -1) for grid in turned]
  return np.stack([(grid * weights).sum((-2, -1)) for grid in all_eight])


def _valid() -> np.ndarray:
  """Every layout that follows the rules, ascending."""
  layouts = np.arange(1 << _CELLS, dtype=np.uint32)
  is_open = ~walls(layouts, SIZE)
  padded = np.pad(is_open, ((0, 0), (1, 1), (1, 1))).astype(np.int8)
  shifts = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
  neighbours = sum(padded[:, i : i + SIZE, j : j + SIZE] for i, j in shifts)
  crowded = is_open & (neighbours > _MAX_OPEN_NEIGHBOURS)
  share = is_open.mean((1, 2))
  layouts = layouts[
    ~crowded.any((1, 2)) & (share >= _MIN_OPEN) & (share <= _MAX_OPEN)
  ]
  # Bits that a flood from each of the cells has reached, all layouts at once.
  free = ~layouts & np.uint32((1 << _CELLS) - 1)
  reached = np.stack([free & np.uint32(1 << cell) for cell in range(_CELLS)])
  for _ in range(_MAX_PATH - 1):
    reached = _flood(reached) & free
  connected = (reached == 0) | (reached == free)
  return layouts[connected.all(axis=0)]


def _flood(bits: np.ndarray) -> np.ndarray:
  """Adds the cells above, below, left and right of the cells in `bits`."""
  column = sum(1 << (row * SIZE) for row in range(SIZE))
  first, last = np.uint32(column), np.uint32(column << (SIZE - 1))
  sideways = ((bits & ~last) << np.uint32(1)) | (
    (bits & ~first) >> np.uint32(1)
  )
  upright = (bits << np.uint32(SIZE)) | (bits >> np.uint32(SIZE))
  return bits | sideways | upright


def with_border(walls: jax.Array) -> jax.Array:
  """The walls and those around them, bool `[size + 2, size + 2]`."""
  return jnp.pad(walls, 1, constant_values=True)


def cell_of(position: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
  """Row and column of the cell at `position` `[2]`, in `with_border`."""
  column, row = jnp.clip(jnp.floor(position).astype(jnp.int32) + 1, 1, size)
  return row, column


def sample_place(rng_key: jax.Array, walls: jax.Array) -> jax.Array:
  """A place in a random open cell, up to 0.25 from its centre, `[2]`."""
  cell_key, place_key = jax.random.split(rng_key)
  scores = jax.random.uniform(cell_key, walls.shape)
  cell = jnp.argmax(jnp.where(walls, -1.0, scores))
  corner = jnp.stack([cell % walls.shape[1], cell // walls.shape[1]])
  return (
    corner.astype(jnp.float32)
    + 0.5
    + jax.random.uniform(place_key, (2,), minval=-_JITTER, maxval=_JITTER)
  )
