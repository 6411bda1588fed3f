"""Discs that share a plane: drawn apart, and kept apart in any order."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_NUM_PROJECTIONS = 3

PATIENCE = 4
"""Steps without getting on after which others make way."""

# Rounding does not count as being too near.
_SLACK = 1e-3

GoFn = Callable[[jax.Array, jax.Array], jax.Array]
"""`(places [G, 2], ways [G, 2]) -> places [G, 2]`, past what stands still."""


def overlap(places: jax.Array, spacing: jax.Array | float) -> jax.Array:
  """Whether any two of `places` `[G, 2]` are nearer than `spacing`."""
  _, gaps = _sides(places, spacing)
  return jnp.any(gaps < -_SLACK)


def are_in_cells(
  places: jax.Array, ends: jax.Array, spacing: jax.Array | float
) -> jax.Array:
  """Whether each may go to where it ends whatever the others do, bool `[G]`.

  See `step_apart`.

  Args:
    places: `[G, 2]`.
    ends: `[G, 2]`.
    spacing: least distance of two.
  """
  normals, gaps = _sides(places, spacing)
  return _fit(ends - places, normals, 0.5 * gaps)


def choose_apart(
  drawn: jax.Array,
  spacing: jax.Array | float,
  allowed: jax.Array | None = None,
) -> jax.Array:
  """Chooses one place for each disc, no two nearer than `spacing`.

  One after the other, each takes the first of its draws that is clear of those
  before it, and if none is, the one that is farthest from them.

  Args:
    drawn: `n` places for each, `[G, n, 2]`.
    spacing: least distance of two.
    allowed: which of them may be taken, bool `[G, n]`; all by default.

  Returns:
    `[G, 2]`.
  """
  if allowed is None:
    allowed = jnp.ones(drawn.shape[:2], bool)
  places = [drawn[0, jnp.argmax(allowed[0])]]
  for draws, may in zip(drawn[1:], allowed[1:]):
    offsets = draws[:, None] - jnp.stack(places)[None]
    nearest = jnp.min(jnp.linalg.norm(offsets, axis=-1), axis=-1)
    room = jnp.where(may, jnp.minimum(nearest, spacing), -1.0)
    places.append(draws[jnp.argmax(room)])
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
  ways = _into_cells(ways, normals, shares)
  moved = places
  # The last that is allowed is the one that is taken.
  for mask in ((0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
    ends = go_fn(places, ways * jnp.array([mask]))
    fits = _fit(ends - places, normals, shares)
    moved = jnp.where(fits[:, None], ends, moved)
  return moved


def steered(
  places: jax.Array,
  waypoints: jax.Array,
  ranks: jax.Array,
  spacing: jax.Array | float,
) -> jax.Array:
  """Ways to waypoints that pass others by the right and make way for some.

  Args:
    places: `[G, 2]`.
    waypoints: where each wants to go, `[G, 2]`.
    ranks: who makes way for whom, `[G]`: for a higher rank of at least
      `PATIENCE`, such as the steps for which a disc has not got on.
    spacing: least distance of two.

  Returns:
    `[G, 2]`, not limited in length.
  """
  ways = waypoints - places
  lengths = jnp.maximum(jnp.linalg.norm(ways, axis=-1, keepdims=True), 1e-6)
  headings = ways / lengths
  offsets = places[None, :] - places[:, None]
  distances = jnp.linalg.norm(offsets, axis=-1)
  others = ~jnp.eye(len(places), dtype=bool)

  # Past whoever is just ahead, by the right where it is right ahead.
  ahead = jnp.einsum('ijk,ik->ij', offsets, headings)
  rights = jnp.stack([-headings[:, 1], headings[:, 0]], axis=-1)
  beside = jnp.einsum('ijk,ik->ij', offsets, rights)
  blocks = others & (ahead > 0) & (ahead < lengths + spacing / 2)
  blocks &= (distances < 1.5 * spacing) & (jnp.abs(beside) < spacing)
  nearest = jnp.argmin(jnp.where(blocks, distances, jnp.inf), axis=-1)
  offset = beside[jnp.arange(len(places)), nearest]
  turn = jnp.where(offset > spacing / 4, -1.0, 1.0)[:, None]
  passing = (headings + 1.5 * turn * rights) * spacing
  ways = jnp.where(jnp.any(blocks, axis=-1, keepdims=True), passing, ways)

  # Out of the way of whoever comes first.
  heads = headings * jnp.minimum(lengths, 3.0 * spacing)
  shares = jnp.einsum('ijk,jk->ij', -offsets, heads)
  shares = jnp.clip(
    shares / jnp.maximum(jnp.sum(heads**2, -1), 1e-6)[None], 0, 1
  )
  aside = -offsets - shares[..., None] * heads[None]
  gaps = jnp.linalg.norm(aside, axis=-1)
  yields = others & (ranks >= PATIENCE)[None] & (ranks[None] > ranks[:, None])
  yields &= gaps < 1.5 * spacing
  to = jnp.argmin(jnp.where(yields, gaps, jnp.inf), axis=-1)
  rows = jnp.arange(len(places))
  away = aside[rows, to] + 0.5 * rights[to]
  away /= jnp.maximum(jnp.linalg.norm(away, axis=-1, keepdims=True), 1e-6)
  return jnp.where(
    jnp.any(yields, axis=-1, keepdims=True), away * spacing, ways
  )


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


def _fit(moves: jax.Array, normals: jax.Array, shares: jax.Array) -> jax.Array:
  """Which moves `[G, 2]` stay in the cells, bool `[G]`."""
  return jnp.all(_along(moves, normals) <= shares + _SLACK / 2, axis=-1)


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
