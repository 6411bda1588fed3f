"""Graphs of latents that were seen: nodes, what led where, shortest paths."""

from typing import Any

import jax
import jax.numpy as jnp

_CHUNK = 4096


def farthest_points(
  latents: jax.Array, number: int, rng_key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Latents that leave no other far from all of them.

  Each is the one farthest from those before it; the first is drawn.

  Args:
    latents: `[N, D]`.
    number: K, how many.
    rng_key: consumed.

  Returns:
    `[K, D]`, and how far the others are from them at most, a scalar. Where
    fewer than K differ, the rest repeat one.
  """

  def step(carry: tuple[jax.Array, jax.Array], _: None) -> Any:
    apart, row = carry
    chosen = latents[row]
    apart = jnp.minimum(apart, _squared(latents, chosen))
    return (apart, jnp.argmax(apart)), chosen

  start = jax.random.randint(rng_key, (), 0, len(latents))
  everywhere = jnp.full(len(latents), jnp.inf)
  (apart, _), chosen = jax.lax.scan(
    step, (everywhere, start), None, length=number
  )
  return chosen, jnp.sqrt(jnp.max(apart))


def nearest(latents: jax.Array, nodes: jax.Array) -> jax.Array:
  """The nearest node `[N]` of latents `[N, D]` among `[K, D]`."""
  return jax.lax.map(
    lambda latent: jnp.argmin(_squared(nodes, latent)),
    latents,
    batch_size=_CHUNK,
  )


def apart(latents: jax.Array, nodes: jax.Array) -> jax.Array:
  """How far latents `[..., D]` are from nodes `[K, D]`, `[..., K]`."""
  return jnp.sqrt(_squared(nodes, jnp.expand_dims(latents, -2)))


def shortest(steps: jax.Array) -> jax.Array:
  """Lengths of the shortest paths between all nodes (Floyd and Warshall).

  Args:
    steps: `[K, K]`, of the edges from row to column, infinite where there is
      none.
  """

  def through(node: jax.Array, found: jax.Array) -> jax.Array:
    return jnp.minimum(found, found[:, node, None] + found[node][None])

  return jax.lax.fori_loop(0, len(steps), through, steps)


def with_edge(
  paths: jax.Array, tail: jax.Array, head: jax.Array, length: jax.Array
) -> jax.Array:
  """Shortest paths `[K, K]` once an edge from tail to head is there, too."""
  through = paths[:, tail, None] + length + paths[head][None]
  return jnp.minimum(paths, through)


def _squared(nodes: jax.Array, latents: jax.Array) -> jax.Array:
  """Squared distance of nodes `[K, D]` from latents `[..., 1, D]` or `[D]`."""
  lead = (1,) * (latents.ndim - 2)
  if latents.ndim == 1:
    latents = latents[None]
  return jnp.sum(jnp.square(nodes.reshape(*lead, *nodes.shape) - latents), -1)
