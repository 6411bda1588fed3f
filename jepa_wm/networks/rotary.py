"""Rotary positions in time, height and width: attention that sees distance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import fields

STYLES = ('vjepa2', 'interleaved')
"""How the angles are laid out over the pairs of channels that they turn.

  'vjepa2': as in the released V-JEPA 2 weights, which repeat the angles as a
    whole (`[w0..wk, w0..wk]`) while the pairs are neighbours; the two channels
    of a pair then turn by different angles, which is no rotation;
  'interleaved': every angle twice (`[w0, w0, w1, w1, ..]`), a rotation, so that
    attention depends on differences of positions alone (V-JEPA 2.1).
"""


class Rotation(NamedTuple):
  """What turns the first R channels of the queries and keys of `T` tokens.

  Attributes:
    cos: `[..., T, R]` float32.
    sin: `[..., T, R]` float32.
  """

  cos: jax.Array
  sin: jax.Array


def grid_positions(ids: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
  """Where the tokens of given ids are.

  Args:
    ids: integers `[..., K]`, `(t * H + h) * W + w`.
    grid: tokens in time, height and width `(T, H, W)`.

  Returns:
    Integers `[..., K, 3]`: t, h and w.
  """
  _, height, width = grid
  within = ids % (height * width)
  return jnp.stack(
    [ids // (height * width), within // width, within % width], axis=-1
  )


def rotation(
  positions: jax.Array, *, head_dim: int, style: str = 'vjepa2'
) -> Rotation:
  """Angles of tokens at given positions.

  A head's channels are cut in three equal, even segments that turn by time,
  height and width; what is left over does not turn. A token that has no place
  in the frame (an action) has height and width 0, which turn nothing.

  Args:
    positions: numbers `[..., K, 3]`.
    head_dim: size of a head, at least 6.
    style: one of `STYLES`.

  Returns:
    The rotation; `R` is `6 * (head_dim // 6)`.

  Raises:
    ValueError: a head too small to turn, or no such style.

  Source: V-JEPA 2 (arXiv 2506.09985), section 2.1, and its released code.
  """
  # The largest even share of a third of the channels.
  segment = 2 * (head_dim // 3 // 2)
  if segment < 2:
    raise ValueError(
      'rotary positions need head_dim of at least 6, two channels each for '
      f'time, height and width, got {head_dim}.'
    )
  fields.check_choice('style', style, STYLES)
  half = segment // 2
  omega = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
  # In float32 whatever the computation is in: bfloat16 angles are off by .03.
  angles = positions.astype(jnp.float32)[..., None] * omega.reshape(
    (1,) * positions.ndim + (half,)
  )
  if style == 'vjepa2':
    angles = jnp.concatenate([angles, angles], axis=-1)
  else:
    angles = jnp.repeat(angles, 2, axis=-1)
  angles = angles.reshape(*positions.shape[:-1], 3 * segment)
  return Rotation(jnp.cos(angles), jnp.sin(angles))


def rotate(heads: jax.Array, by: Rotation) -> jax.Array:
  """Turns queries or keys.

  Args:
    heads: `[..., T, num_heads, head_dim]`.
    by: the rotation of these `T` tokens; its leading axes may be missing.

  Returns:
    The same shape and dtype.
  """
  size = by.cos.shape[-1]
  lead = (1,) * (heads.ndim - 1 - by.cos.ndim)
  cos, sin = (x.reshape(*lead, *x.shape[:-1], 1, size) for x in by)
  x = heads[..., :size].astype(jnp.float32)
  swapped = jnp.stack([-x[..., 1::2], x[..., 0::2]], axis=-1).reshape(x.shape)
  turned = (x * cos + swapped * sin).astype(heads.dtype)
  return jnp.concatenate([turned, heads[..., size:]], axis=-1)
