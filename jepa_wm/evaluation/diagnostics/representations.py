"""What a probe reads: a model's tokens, those of a fresh one, or pixels."""

import itertools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, models
from jepa_wm.evaluation.diagnostics import probe_streams
from jepa_wm.networks import patches
from jepa_wm.types import Observation, Variables

TokensFn = Callable[[Observation], jax.Array]
"""What was seen, arrays `[B, T, ...]` of clips, to float32 `[B, P, D]`."""

IN_MEMORY = 2**30
"""Bytes of tokens of a split that stay in memory where a disk is there."""


def of_model(model: models.Encodes, variables: Variables) -> TokensFn:
  """The tokens of a trained model.

  Those of a clip; or of all its frames, one after another; of a model without
  tokens the latents of the `T` frames.

  Args:
    model: encodes.
    variables: of it, as a checkpoint holds them.

  Returns:
    A function of clips, jitted; more arrays than the model sees may be given.
  """

  @jax.jit
  def encode(variables: Variables, seen: Observation) -> jax.Array:
    has_tokens = model.token_grid is not None
    tokens = model.encode(variables, seen, tokens=has_tokens)
    return tokens.reshape(len(tokens), -1, tokens.shape[-1])

  def tokens(observation: Observation) -> jax.Array:
    names = model.observation_spec
    seen = {name: observation[name] for name in names if name in observation}
    return encode(variables, seen)

  return tokens


def of_random_encoder(model: models.Learns, rng_key: jax.Array) -> TokensFn:
  """The tokens of the same architecture as it was before any training.

  Args:
    model: encodes.
    rng_key: of its parameters, consumed.

  Returns:
    A function of clips, jitted.
  """
  variables = model.for_inference(jax.jit(model.init)(rng_key))
  return of_model(model, variables)


def of_layers(model: models.Learns, layers: int) -> models.Learns:
  """The model, whose tokens are those of so many depths of its encoder.

  Args:
    model: of vjepa or ijepa, unless `layers` is 1.
    layers: see `masked.Masked.inference_layers`.

  Raises:
    ValueError: it has one depth to read alone, or others do not divide it.
  """
  if layers == 1:
    return model
  config = fields.to_dict(model.config)
  if 'inference_layers' not in config:
    raise ValueError(
      f'layers={layers} is for vjepa and ijepa; tokens of {config["name"]} are '
      'those of its last layer.'
    )
  return models.from_config({**config, 'inference_layers': layers})


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
  def tokens(observation: Observation) -> jax.Array:
    pixels = observation['pixels'].astype(jnp.float32) / 255
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
  clips: Mapping[str, np.ndarray],
  *,
  batch_size: int = 32,
  file: pathlib.Path | None = None,
  progress_fn: Callable[[float], None] = lambda share: None,
) -> probe_streams.Tokens:
  """Tokens of many clips, batch by batch.

  Args:
    tokens_fn: one of the functions above.
    clips: what was seen, arrays `[N, T, ...]`.
    batch_size: clips at once; the last batch is filled up, so that one shape
      is compiled.
    file: where tokens are written that are more than `IN_MEMORY` bytes; without
      one they stay in memory.
    progress_fn: told the share that is done, 0..1.

  Returns:
    float32 `[N, P, D]`, mapped from `file` where they are so many.

  Raises:
    OSError: the disk has no room for them.
  """
  count = len(next(iter(clips.values())))
  batch_size = min(batch_size, count)

  def blocks() -> Iterator[np.ndarray]:
    for start in range(0, count, batch_size):
      rows = np.minimum(np.arange(start, start + batch_size), count - 1)
      seen = {name: jnp.asarray(array[rows]) for name, array in clips.items()}
      tokens = np.asarray(tokens_fn(seen), np.float32)
      yield tokens[: count - start]
      progress_fn(min(1.0, (start + batch_size) / count))

  found = blocks()
  first = next(found)
  size = count * first[0].nbytes
  if file is None or size <= IN_MEMORY:
    return jnp.asarray(np.concatenate([first, *found]))
  free = shutil.disk_usage(file.parent).free
  if free < size:
    raise OSError(
      f'The tokens of {count} clips take {size / 1e9:.1f} GB, and '
      f'{file.parent} has {free / 1e9:.1f} GB left: ask for fewer clips, or '
      'choose another folder with --out.'
    )
  # Not through a mapping, which a full disk kills without a word.
  with file.open('wb') as stream:
    shape = (count, *first.shape[1:])
    header = {'descr': '<f4', 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for block in itertools.chain([first], found):
      stream.write(np.ascontiguousarray(block).tobytes())
  mapped: np.memmap = np.load(file, mmap_mode='r', allow_pickle=False)
  return mapped


def _places(steps: int, rows: int, columns: int) -> np.ndarray:
  """Sines and cosines `[steps * rows * columns, 24]` of where a patch is."""
  axes = np.meshgrid(
    *((np.arange(n) + 0.5) / n for n in (steps, rows, columns)), indexing='ij'
  )
  # From half a period over an axis to four: places far apart and close by.
  angles = np.pi * np.stack(axes, -1)[..., None] * 2.0 ** np.arange(4)
  waves = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  return waves.reshape(steps * rows * columns, -1).astype(np.float32)
