"""Simplex rotations: any two agents of a pool are equally far apart.

Agent i of a pool of n turns the pairs of channels of its queries and keys by
the coordinates of a vertex of a regular simplex. No parameter belongs to an
agent, and no two agents of the pool are nearer to each other than others, so
that a model which has seen two of them may be given any.

Source: gamma-World, arXiv 2605.28816, and its released code (simplex rotary
agent encoding, SRAE).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import rotary


def check_pool(pool: int, num_pairs: int) -> None:
  """Refuses a pool whose simplex would not be regular.

  The released code lets through `n = d + 1`, where a row of zeros is centred
  with the others, and some agents end up nearer to each other.

  Args:
    pool: agents `n`.
    num_pairs: pairs of channels `d` that an agent turns.

  Raises:
    ValueError: there are more agents than pairs.
  """
  if pool > num_pairs:
    raise ValueError(
      f'pool={pool} agents need as many pairs of channels to be equally far '
      f"apart, and the agents' part of a head has {num_pairs} (a quarter of "
      f'head_dim): take head_dim={4 * pool} or a pool of {num_pairs}.'
    )


def vertices(pool: int, num_pairs: int) -> np.ndarray:
  """Vertices of a regular simplex, centred at the origin.

  Rows of the identity less their mean, each of length 1: their products are 1
  on the diagonal and `-1 / (n - 1)` off it. Of a pool of one nothing turns.

  Args:
    pool: how many, `n`.
    num_pairs: coordinates `d`, at least `n`.

  Returns:
    float32 `[n, d]`, the angles of an agent's pairs in radians.

  Raises:
    ValueError: fewer coordinates than vertices.
  """
  check_pool(pool, num_pairs)
  if pool == 1:
    return np.zeros((1, num_pairs), np.float32)
  rows = np.eye(pool, num_pairs)
  rows -= rows.mean(axis=0)
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  return rows.astype(np.float32)


def draw(rng_key: jax.Array, lead: tuple[int, ...], agents: int, pool: int):
  """Distinct agents of a pool for every sample, in random order.

  Args:
    rng_key: consumed.
    lead: leading dims of the samples.
    agents: how many of them there are, `G`.
    pool: of how many.

  Returns:
    int32 `[*lead, G]`.
  """
  noise = jax.random.uniform(rng_key, (*lead, pool))
  return jnp.argsort(noise, axis=-1)[..., :agents].astype(jnp.int32)


def rotation(
  frames: jax.Array, agents: jax.Array, *, num_time_pairs: int
) -> rotary.Rotation:
  """Angles of tokens by their frame and by whose they are.

  The first pairs of a head turn by time, as in `rotary` (interleaved), those
  after them by the agent.

  Args:
    frames: number of each frame, `[T]`.
    agents: vertices of the tokens of a frame, `[..., S, d]`; zeros, the centre
      of the simplex, for those that are no agent's.
    num_time_pairs: pairs that turn by time.

  Returns:
    The rotation of `[..., T * S]` tokens; `R` is twice all pairs.
  """
  *lead, size, num_pairs = agents.shape
  omega = 10000.0 ** (
    -jnp.arange(num_time_pairs, dtype=jnp.float32) / num_time_pairs
  )
  times = frames.astype(jnp.float32)[:, None] * omega[None]
  times = times.reshape((1,) * len(lead) + (-1, 1, num_time_pairs))
  shape = (*lead, frames.shape[0], size)
  times = jnp.broadcast_to(times, (*shape, num_time_pairs))
  owners = jnp.broadcast_to(jnp.expand_dims(agents, -3), (*shape, num_pairs))
  angles = jnp.concatenate([times, owners], axis=-1)
  angles = jnp.repeat(angles, 2, axis=-1)
  angles = angles.reshape(*lead, -1, angles.shape[-1])
  return rotary.Rotation(jnp.cos(angles), jnp.sin(angles))
