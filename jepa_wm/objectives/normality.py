"""One-dimensional tests of a sample against the standard normal, by its order.

They compare the empirical distribution function, so they sort: all samples must
be there, and a sharded batch is gathered. For standard normal samples their
means are 1/6, 1 and 1/12, whatever the sample's size; for anything else they
grow with it. All are differentiable but where samples are equal.

Source: the statistics as in D'Agostino and Stephens, Goodness-of-fit
techniques (1986), section 4.2; LeJEPA, arXiv 2511.08544, compares them with
Epps and Pulley's.
"""

import jax
import jax.numpy as jnp


def cramer_von_mises(views: jax.Array) -> jax.Array:
  """`W^2`, squared distances of distribution functions: `[P]` of `[B, P]`."""
  levels, middles = _levels(views)
  return 1 / (12 * len(views)) + jnp.square(levels - middles).sum(0)


def anderson_darling(views: jax.Array) -> jax.Array:
  """`A^2`, the same with more weight in the tails: `[P]` of `[B, P]`."""
  _, middles = _levels(views)
  ordered = jnp.sort(views, axis=0)
  # In logarithms: far out the distribution function rounds to 0 or 1.
  below = jax.scipy.special.log_ndtr(ordered)
  above = jax.scipy.special.log_ndtr(-ordered[::-1])
  return -len(views) - 2 * (middles * (below + above)).sum(0)


def watson(views: jax.Array) -> jax.Array:
  """`U^2`, `W^2` less what a shift explains: `[P]` of `[B, P]`."""
  levels, _ = _levels(views)
  shift = levels.mean(0) - 0.5
  return cramer_von_mises(views) - len(views) * jnp.square(shift)


STATISTICS = {
  'cramer_von_mises': cramer_von_mises,
  'anderson_darling': anderson_darling,
  'watson': watson,
}
"""The tests by the names that configs have for them."""


def _levels(views: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The normal's distribution function at ordered samples, and its ideal."""
  num_samples = len(views)
  levels = jax.scipy.special.ndtr(jnp.sort(views, axis=0))
  middles = (jnp.arange(num_samples) + 0.5) / num_samples
  return levels, middles[:, None]
