"""Pixels to patch or tubelet tokens, and positions that tell them apart."""

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import layers


def patchify(pixels: jax.Array, *, patch_size: int) -> jax.Array:
  """Cuts images into flattened square patches.

  Args:
    pixels: `[..., height, width, C]`, sides multiples of `patch_size`.
    patch_size: side of a patch.

  Returns:
    `[..., height / patch_size, width / patch_size, patch_size**2 * C]`; within
    a patch rows come first, then columns, then channels.

  Raises:
    ValueError: `pixels` are no images, or do not divide into patches.
  """
  if pixels.ndim < 3:
    raise ValueError(
      'pixels must be images [..., height, width, channels], got shape '
      f'{pixels.shape}.'
    )
  *lead, height, width, channels = pixels.shape
  if height % patch_size or width % patch_size:
    raise ValueError(
      f'pixels of {height} x {width} do not divide into patches of '
      f'patch_size={patch_size}; choose sides that are multiples of it.'
    )
  rows, columns = height // patch_size, width // patch_size
  patches = pixels.reshape(
    *lead, rows, patch_size, columns, patch_size, channels
  )
  return jnp.swapaxes(patches, -4, -3).reshape(
    *lead, rows, columns, patch_size**2 * channels
  )


def tubeletify(
  pixels: jax.Array, *, patch_size: int, tubelet_size: int
) -> jax.Array:
  """Cuts clips into flattened tubelets: a square patch over a few frames.

  Args:
    pixels: `[..., T, height, width, C]`, sides multiples of `patch_size`, `T`
      of `tubelet_size`.
    patch_size: side of a patch.
    tubelet_size: frames of a tubelet.

  Returns:
    `[..., T / tubelet_size, rows, columns, tubelet_size * patch_size**2 * C]`;
    within a tubelet frames come first, then rows, columns and channels.

  Raises:
    ValueError: `pixels` are no clips, or do not divide into tubelets.
  """
  if pixels.ndim < 4:
    raise ValueError(
      'pixels must be clips [..., T, height, width, channels], got shape '
      f'{pixels.shape}.'
    )
  num_frames = pixels.shape[-4]
  if num_frames % tubelet_size:
    raise ValueError(
      f'pixels of {num_frames} frames do not divide into tubelets of '
      f'tubelet_size={tubelet_size}; choose a multiple of it.'
    )
  patches = patchify(pixels, patch_size=patch_size)
  *lead, _, rows, columns, size = patches.shape
  patches = patches.reshape(
    *lead, num_frames // tubelet_size, tubelet_size, rows, columns, size
  )
  patches = jnp.moveaxis(patches, -4, -2)
  return patches.reshape(*patches.shape[:-2], tubelet_size * size)


def _cubic_matrix(size: int, num_outputs: int) -> np.ndarray:
  """Weights `[num_outputs, size]` of a bicubic resize along one axis."""
  # PyTorch's kernel: a = -0.75 (jax.image.resize has -0.5), half-pixel centres,
  # samples beyond an edge repeat it, no antialiasing when shrinking.
  a = -0.75
  centres = (np.arange(num_outputs) + 0.5) * size / num_outputs - 0.5
  first = np.floor(centres).astype(int)
  matrix = np.zeros((num_outputs, size))
  for offset in (-1, 0, 1, 2):
    x = np.abs(centres - (first + offset))
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    taps = np.clip(first + offset, 0, size - 1)
    np.add.at(
      matrix, (np.arange(num_outputs), taps), np.where(x <= 1, near, far)
    )
  return matrix


def resize_positions(
  positions: jax.Array, *, shape: tuple[int, int]
) -> jax.Array:
  """Bicubic resize of a grid of position embeddings.

  Equal to PyTorch's `interpolate(mode='bicubic', align_corners=False)`, which
  published ViTs apply when the image has another size than in training.

  Args:
    positions: `[rows, columns, D]`.
    shape: rows and columns wanted.

  Returns:
    `[*shape, D]`; `positions` itself where the shape is the same.
  """
  if positions.shape[:2] == tuple(shape):
    return positions
  rows, columns = (
    jnp.asarray(_cubic_matrix(old, new), positions.dtype)
    for old, new in zip(positions.shape, shape)
  )
  return jnp.einsum('ir,jc,rcd->ijd', rows, columns, positions)


class PatchEmbedding(layers.Module):
  """One linear map for every patch, or every tubelet.

  A convolution whose stride is its size.

  Attributes:
    features: size of a token.
    patch_size: side of a patch.
    tubelet_size: frames of a tubelet; None for images.
  """

  features: int
  patch_size: int
  tubelet_size: int | None = None

  @nn.compact
  def __call__(self, pixels: jax.Array) -> jax.Array:
    """Embeds `[..., height, width, C]` as `[..., rows, columns, D]`.

    Clips `[..., T, height, width, C]` become `[..., t, rows, columns, D]`.
    """
    if self.tubelet_size is None:
      flat = patchify(pixels, patch_size=self.patch_size)
    else:
      flat = tubeletify(
        pixels, patch_size=self.patch_size, tubelet_size=self.tubelet_size
      )
    start = nn.initializers.normal(0.02)
    return nn.Dense(
      self.features, kernel_init=start, name='projection', **self.dtypes
    )(flat)


class Embeds(Protocol):
  """What `embed_image` asks of the module whose parameters it makes."""

  width: int
  patch_size: int
  dtype: Any
  param_dtype: Any

  @property
  def dtypes(self) -> dict[str, Any]:
    """See `layers.Module`."""
    ...

  def param(self, name: str, *args: Any) -> Any:
    """See `nn.Module`."""
    ...


def embed_image(
  module: Embeds, pixels: jax.Array, *, grid: int
) -> tuple[jax.Array, tuple[int, int]]:
  """A class token and patches, each with its place, as a ViT begins.

  Args:
    module: whose parameters they become, within its compact `__call__`.
    pixels: `[..., height, width, C]`, normalised, sides multiples of
      `patch_size`.
    grid: patches along a side of the images whose positions are learned.

  Returns:
    Tokens `[..., 1 + P, width]`, the class token first, then the patches row by
    row; and their rows and columns.
  """
  normal = nn.initializers.normal(0.02)
  size, kind = module.width, module.param_dtype
  cls_token = module.param('cls_token', normal, (size,), kind)
  positions = module.param('positions', normal, (1 + grid**2, size), kind)
  tokens = PatchEmbedding(
    size, module.patch_size, name='patches', **module.dtypes
  )(pixels)
  *lead, rows, columns, _ = tokens.shape
  places = resize_positions(
    positions[1:].reshape(grid, grid, size), shape=(rows, columns)
  )
  positions = jnp.concatenate([positions[:1], places.reshape(-1, size)]).astype(
    module.dtype
  )
  tokens = jnp.concatenate(
    [
      jnp.broadcast_to(cls_token.astype(module.dtype), (*lead, 1, size)),
      tokens.reshape(*lead, rows * columns, size),
    ],
    axis=-2,
  )
  tokens = tokens + positions.reshape((1,) * len(lead) + positions.shape)
  return tokens, (rows, columns)
