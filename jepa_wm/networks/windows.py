"""Windows of latents that fill, then slide: of one shape, or growing.

A window of one shape has room for all its tokens from the start, the oldest
first; what comes after the newest is whatever and is not looked at. So it can
be scanned over, kept in a buffer and chosen by a mask, and the windows of a
batch may hold more or less. It is computed whole at every step. A window that
grows holds what there is and no more, and keys and values besides, so that a
step of a window that fills computes one token.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp


class Memory(NamedTuple):
  """What a predictor remembers of tokens, pytrees of its own.

  Attributes:
    given: leaves `[..., T, *]`, what was made of their conditions.
    past: leaves `[..., T * S, *]`, S of each token (keys and values, say),
      valid while the tokens keep their positions; None where they do not.
  """

  given: Any
  past: Any


class Look(NamedTuple):
  """What the newest token of a window looks back on.

  Attributes:
    memory: of the tokens before it.
    place: int32 `[...]`, how many of them there are, where the window is of one
      shape; None where there are as many as it holds.
  """

  memory: Memory
  place: jax.Array | None


@flax.struct.dataclass
class Window:
  """The state of a predictor that looks back on up to `W` latents.

  Attributes:
    newest: `[..., D]`.
    earlier: `[..., T, D]`, the latents before it; None where nothing but the
      newest matters, as the rest then is.
    memory: of these.
    place: int32 `[...]`, how many of `earlier` there are, where these have room
      for `T = W - 1`; None where there are T, and more to come.
  """

  newest: jax.Array
  earlier: jax.Array | None = None
  memory: Memory | None = None
  place: jax.Array | None = None


def part(look: Look | None, index: int) -> Look | None:
  """What one of several blocks looks back on, each with a memory of its own."""
  if look is None:
    return None
  given, past = look.memory
  past = None if past is None else past[index]
  return Look(Memory(given[index], past), look.place)


def take(
  tokens: jax.Array, place: jax.Array | None, size: int = 1
) -> jax.Array:
  """One token of each window: `[..., T * S, *]` to `[..., S, *]`.

  Args:
    tokens: of T, the leading dims those of `place` or none.
    place: integers `[...]`; the last token where None.
    size: S.
  """
  if place is None:
    return tokens[..., tokens.shape[-2] - size :, :]
  split = tokens.reshape(*tokens.shape[:-2], -1, size, tokens.shape[-1])
  lead = (1,) * (place.ndim + 3 - split.ndim)
  split = split.reshape(*lead, *split.shape)
  # Adding zeros up is exact, and merges with what comes before and after.
  return jnp.sum(jnp.where(_is_at(place, split), split, 0), axis=-3)


def whole(
  buffer: jax.Array, place: jax.Array | None, token: jax.Array
) -> jax.Array:
  """A window `[..., (T + 1) * S, *]` of earlier tokens and its newest.

  Args:
    buffer: `[..., T * S, *]`.
    place: int32 `[...]`, how many of them there are; all where None.
    token: `[..., S, *]`.
  """
  window = jnp.concatenate([buffer, token], axis=-2)
  if place is None:
    return window
  size = token.shape[-2]
  split = window.reshape(*window.shape[:-2], -1, size, window.shape[-1])
  split = jnp.where(_is_at(place, split), jnp.expand_dims(token, -3), split)
  return split.reshape(window.shape)


def push(
  buffer: jax.Array, place: jax.Array | None, token: jax.Array, room: int
) -> jax.Array:
  """Earlier tokens when the newest has become one of them.

  Args:
    buffer: `[..., T, *]`.
    place: int32 `[...]`, how many of them there are; all where None.
    token: `[..., 1, *]`, the newest.
    room: how many are kept; the oldest goes.
  """
  window = whole(buffer, place, token)
  if place is None:
    return window[..., max(0, window.shape[-2] - room) :, :]
  is_full = (place >= room)[..., None, None]
  return jnp.where(is_full, window[..., 1:, :], window[..., :-1, :])


def pad(tokens: jax.Array, room: int) -> jax.Array:
  """Tokens `[..., T, *]` with zeros after them, `[..., room, *]`."""
  more = room - tokens.shape[-2]
  return jnp.pad(tokens, ((0, 0),) * (tokens.ndim - 2) + ((0, more), (0, 0)))


def seen(place: jax.Array, number: int, size: int = 1) -> jax.Array:
  """Which keys of `number` tokens the one at a place sees.

  Args:
    place: int32 `[...]`.
    number: T, tokens of the window.
    size: S.

  Returns:
    Bool `[..., 1, 1, T * S]`, for heads and queries.
  """
  numbers = jnp.repeat(jnp.arange(number), size)
  numbers = numbers.reshape((1,) * place.ndim + (-1,))
  return (numbers <= place[..., None])[..., None, None, :]


def _is_at(place: jax.Array, split: jax.Array) -> jax.Array:
  """Which of tokens `[..., T, S, *]` are at a place: bool `[..., T, 1, 1]`."""
  numbers = jnp.arange(split.shape[-3]).reshape((1,) * place.ndim + (-1,))
  return (numbers == place[..., None])[..., None, None]
