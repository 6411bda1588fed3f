"""What a probe reads: a model's tokens, those of a fresh one, or pixels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import patches

TokensFn = Callable[[jax.Array], jax.Array]
"""Clips uint8 `[B, T, height, width, 3]` to float32 `[B, P, D]`."""


def of_model(family: Any, variables: Any) -> TokensFn:
  """The tokens of a trained model.

  A family with `tokens(variables, pixels)` gives its own; of another, the
  latents of the `T` frames are the tokens.

  Args:
    family: a system of `jepa_wm.families`.
    variables: of it, as a checkpoint holds them.

  Returns:
    A function of clips, jitted.
  """

  @jax.jit
  def tokens(variables: Any, pixels: jax.Array) -> jax.Array:
    if hasattr(family, 'tokens'):
      return family.tokens(variables, pixels)
    return family.encode(variables, pixels)

  return lambda pixels: tokens(variables, pixels)


def of_random_encoder(family: Any, rng_key: jax.Array) -> TokensFn:
  """The tokens of the same architecture as it was before any training.

  Args:
    family: a system of `jepa_wm.families`.
    rng_key: of its parameters, consumed.

  Returns:
    A function of clips, jitted.
  """
  variables = jax.jit(family.init)(rng_key)
  if hasattr(family, 'inference_variables'):
    variables = family.inference_variables(
      variables, family.init_target(variables)
    )
  return of_model(family, variables)


def of_pixels(
  *, patch_size: int, tubelet_size: int = 1, whole_frames: bool = False
) -> TokensFn:
  """Pixels as tokens.

  Nothing in a patch tells where it was, so its place in the clip is added to
  its features: sines and cosines of time, row and column. A probe that averages
  its tokens would see nothing but the mean patch; it is given whole frames, the
  pixels of each one token.

  Args:
    patch_size: side of a patch.
    tubelet_size: frames of a patch; the last ones of a clip that does not
      divide are left out.
    whole_frames: frames as tokens instead of patches.

  Returns:
    A function of clips, jitted.
  """

  @jax.jit
  def tokens(pixels: jax.Array) -> jax.Array:
    pixels = pixels.astype(jnp.float32) / 255
    if whole_frames:
      return pixels.reshape(*pixels.shape[:2], -1)
    cut = patches.patchify(pixels, patch_size=patch_size)
    num_clips, num_frames, rows, columns, size = cut.shape
    steps = num_frames // tubelet_size
    cut = cut[:, : steps * tubelet_size].reshape(
      num_clips, steps, tubelet_size, rows, columns, size
    )
    cut = jnp.moveaxis(cut, 2, 4)
    cut = cut.reshape(num_clips, steps * rows * columns, tubelet_size * size)
    places = jnp.asarray(_places(steps, rows, columns))
    places = jnp.broadcast_to(places[None], (num_clips, *places.shape))
    return jnp.concatenate([cut, places], axis=-1)

  return tokens


def collect(
  tokens_fn: TokensFn,
  clips: np.ndarray,
  *,
  batch_size: int = 32,
  progress_fn: Callable[[float], None] = lambda share: None,
) -> jax.Array:
  """Tokens of many clips, batch by batch.

  Args:
    tokens_fn: one of the functions above.
    clips: uint8 `[N, T, height, width, 3]`.
    batch_size: clips at once; the last batch is filled up, so that one shape
      is compiled.
    progress_fn: told the share that is done, 0..1.

  Returns:
    float32 `[N, P, D]`.
  """
  batch_size = min(batch_size, len(clips))
  collected = []
  for first in range(0, len(clips), batch_size):
    rows = np.minimum(np.arange(first, first + batch_size), len(clips) - 1)
    tokens = np.asarray(tokens_fn(jnp.asarray(clips[rows])), np.float32)
    collected.append(tokens[: len(clips) - first])
    progress_fn(min(1.0, (first + batch_size) / len(clips)))
  return jnp.asarray(np.concatenate(collected))


def _places(steps: int, rows: int, columns: int) -> np.ndarray:
  """Sines and cosines `[steps * rows * columns, 24]` of where a patch is."""
  axes = np.meshgrid(
    *((np.arange(n) + 0.5) / n for n in (steps, rows, columns)), indexing='ij'
  )
  # From half a period over an axis to four: places far apart and close by.
  angles = np.pi * np.stack(axes, -1)[..., None] * 2.0 ** np.arange(4)
  waves = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  return waves.reshape(steps * rows * columns, -1).astype(np.float32)
