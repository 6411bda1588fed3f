"""Pixels to patch or tubelet tokens, and positions that tell them apart."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


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


class PatchEmbedding(nn.Module):
  """One linear map for every patch: a convolution whose stride is its size.

  Attributes:
    features: size of a token.
    patch_size: side of a patch.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  features: int
  patch_size: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, pixels: jax.Array) -> jax.Array:
    """Embeds `[..., height, width, C]` as `[..., rows, columns, D]`."""
    return nn.Dense(
      self.features,
      kernel_init=nn.initializers.normal(0.02),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name='projection',
    )(patchify(pixels, patch_size=self.patch_size))


class TubeletEmbedding(nn.Module):
  """One linear map for every tubelet: a 3-D convolution of stride its size.

  Attributes:
    features: size of a token.
    patch_size: side of a patch.
    tubelet_size: frames of a tubelet; 1 for images.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  features: int
  patch_size: int
  tubelet_size: int
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, pixels: jax.Array) -> jax.Array:
    """Embeds `[..., T, height, width, C]` as `[..., t, rows, columns, D]`."""
    return nn.Dense(
      self.features,
      kernel_init=nn.initializers.normal(0.02),
      dtype=self.dtype,
      param_dtype=self.param_dtype,
      name='projection',
    )(
      tubeletify(
        pixels, patch_size=self.patch_size, tubelet_size=self.tubelet_size
      )
    )
