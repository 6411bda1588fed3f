"""What worlds in a plane share: actions `(x, y)`, factors, picture sizes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


class PlaneWorld:
  """Actions `(x, y)` in [-1, 1] and a size of pictures, for a world to inherit.

  Raises:
    ValueError: an `image_size` that is not a positive integer.
  """

  image_size: int

  def __post_init__(self) -> None:
    # Rebuilt from every pytree operation, so only static fields are checked.
    check_image_size(self.image_size)

  @property
  def action_dim(self) -> int:
    """Size of a raw action, 2: `(x, y)`."""
    return 2

  @property
  def action_low(self) -> jax.Array:
    """Lower bounds of an action, `[2]`."""
    return jnp.full([2], -1.0)

  @property
  def action_high(self) -> jax.Array:
    """Upper bounds of an action, `[2]`."""
    return jnp.full([2], 1.0)


def factor(*values: float) -> Any:
  """A field of a world whose default is `values`, float32 `[n]`."""
  return flax.struct.field(
    default_factory=lambda: np.asarray(values, np.float32)
  )


def check_image_size(image_size: int) -> None:
  """Asserts that a picture can be that high and wide.

  Raises:
    ValueError: it is not a positive integer.
  """
  if not isinstance(image_size, int) or image_size < 1:
    raise ValueError(
      'image_size must be a positive integer (height and width in pixels), '
      f'got {image_size!r}.'
    )


def pair(
  name: str,
  value: jax.typing.ArrayLike,
  dtype: jax.typing.DTypeLike | None = jnp.float32,
) -> jax.Array:
  """`value` as an array `[2]` of `dtype`, its own where that is None.

  Raises:
    ValueError: it has another shape; the message calls it `name`.
  """
  value = jnp.asarray(value, dtype)
  if value.shape != (2,):
    raise ValueError(
      f'{name} must have shape (2,), x and y, got {value.shape}; batches go '
      'through jax.vmap.'
    )
  return value
