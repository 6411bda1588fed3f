"""Discs that share a plane: drawn apart, and kept apart in any order."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_NUM_PROJECTIONS = 3

# Rounding does not count as being too near.
_SLACK = 1e-3

GoFn = Callable[[jax.Array, jax.Array], jax.Array]
"""`(places [G, 2], ways [G, 2]) -> places [G, 2]`, past what stands still."""


def overlap(places: jax.Array, spacing: jax.Array | float) -> jax.Array:
  """Whether any two of `places` `[G, 2]` are nearer than `spacing`."""
  _, gaps = _sides(places, spacing)
  return jnp.any(gaps < -_SLACK)


def choose_apart(drawn: jax.Array, spacing: jax.Array | float) -> jax.Array:
  """Chooses one place for each disc, no two nearer than `spacing`.

  One after the other, each takes the first of its draws that is clear of those
  before it, and if none is, the one that is farthest from them.

  Args:
    drawn: `n` places for each, `[G, n, 2]`.
    spacing: least distance of two.

  Returns:
    `[G, 2]`.
  """
  places = [drawn[0, 0]]
  for draws in drawn[1:]:
    offsets = draws[:, None] - jnp.stack(places)[None]
    nearest = jnp.min(jnp.linalg.norm(offsets, axis=-1), axis=-1)
    places.append(draws[jnp.argmax(jnp.minimum(nearest, spacing))])
  return jnp.stack(places)


def step_apart(
  places: jax.Array,
  ways: jax.Array,
  spacing: jax.Array | float,
  go_fn: GoFn,
) -> jax.Array:
  """Moves discs at once, so that no two come nearer than `spacing`.

  Each keeps to its own half of the gap to every other one, a convex cell; so
  whatever the others do, none is touched, and none comes first. A way that
  leads out of the cell is projected onto it, which lets discs slide past each
  other; where a wall then leads out of it, one coordinate alone is tried, and
  else the disc stays.

  Args:
    places: `[G, 2]`, no two nearer than `spacing`; those that are move apart.
    ways: where each would go, relative to its place, `[G, 2]`.
    spacing: least distance of two.
    go_fn: moves each past what stands still. It may stop a disc anywhere on the
      near side of its way.

  Returns:
    `[G, 2]`; permuting the discs permutes it.

  Source: buffered Voronoi cells, Zhou et al., 2017 (IEEE RA-L 2(2)).
  """
  normals, gaps = _sides(places, spacing)
  shares = 0.5 * gaps

  def in_cell(moves: jax.Array) -> jax.Array:
    return jnp.all(_along(moves, normals) <= shares + _SLACK / 2, axis=-1)

  ways = _into_cells(ways, normals, shares)
  moved = places
  # The last that is allowed is the one that is taken.
  for mask in ((0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
    ends = go_fn(places, ways * jnp.array([mask]))
    moved = jnp.where(in_cell(ends - places)[:, None], ends, moved)
  return moved


def _sides(
  places: jax.Array, spacing: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
  """Directions from each to each `[G, G, 2]`, and gaps `[G, G]`.

  The gap of one to itself is infinite, that of two in one place closed from
  nowhere.
  """
  offsets = places[None, :] - places[:, None]
  lengths = jnp.linalg.norm(offsets, axis=-1)
  normals = offsets / jnp.maximum(lengths, 1e-6)[..., None]
  is_self = jnp.eye(len(places), dtype=bool)
  return normals, jnp.where(is_self, jnp.inf, lengths - spacing)


def _along(moves: jax.Array, normals: jax.Array) -> jax.Array:
  """How far moves `[G, 2]` lead towards each other one, `[G, G]`."""
  return jnp.sum(moves[:, None] * normals, axis=-1)


def _into_cells(
  ways: jax.Array, normals: jax.Array, shares: jax.Array
) -> jax.Array:
  """The nearest ways `[G, 2]` that stay in the cells, about."""
  rows = jnp.arange(len(ways))
  for _ in range(_NUM_PROJECTIONS):
    excess = jnp.maximum(_along(ways, normals) - shares, 0.0)
    # Back behind the side that is left farthest: no sum, so no order.
    worst = jnp.argmax(excess, axis=-1)
    ways -= excess[rows, worst][:, None] * normals[rows, worst]
  towards = _along(ways, normals)
  most = jnp.maximum(shares, 0.0)
  fractions = jnp.where(towards > most, most / jnp.maximum(towards, 1e-6), 1.0)
  return ways * jnp.min(fractions, axis=-1)[:, None]
