"""Augments clips on the device: one draw per clip, the same for all its frames.

Colours are `dm_pix`'s. Crops, flips and shifts are one resampling, written as
two matrices: `dm_pix.affine_transform` gathers eight neighbours of every value,
colour channels among them.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
  """What is done to clips in training; nothing by default.

  The order is crop, flip, shift, then brightness, contrast, saturation, hue.

  Attributes:
    crop_scale: least area of a crop as a share of the frame's, the most is all
      of it; the crop is enlarged bilinearly to the frame's size. 1 crops
      nothing (V-JEPA 0.3, images 0.2 to 0.3).
    crop_ratio: widest a crop may be for its height, and highest for its width;
      its logarithm is uniform. A side longer than the frame's is cut to it.
    flip: probability of a horizontal flip.
    shift: pixels by which a frame is moved at most in either direction, its
      edges repeated (DrQ, arXiv 2004.13649: 4 of 84).
    brightness: what is added at most, either way, of values in 0..1.
    contrast: factors of the distance from the mean are in `1 +- contrast`.
    saturation: factors are in `1 +- saturation`.
    hue: turn of the hue at most, either way, of a full circle of 1.
  """

  crop_scale: float = 1.0
  crop_ratio: float = 4 / 3
  flip: float = 0.0
  shift: float = 0.0
  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  hue: float = 0.0

  def __post_init__(self) -> None:
    ranges = {
      'crop_scale': (0.01, 1),
      'crop_ratio': (1, 10),
      'flip': (0, 1),
      'shift': (0, 1e4),
      'brightness': (0, 1),
      'contrast': (0, 1),
      'saturation': (0, 1),
      'hue': (0, 0.5),
    }
    for name, (low, high) in ranges.items():
      value = getattr(self, name)
      if not low <= value <= high:
        raise ValueError(
          f'augmentation.{name} must be in {low:g}..{high:g}, got {value}.'
        )

  @property
  def is_identity(self) -> bool:
    """Whether clips come out as they went in."""
    return not (self._moves or self._colors)

  @property
  def changes_actions(self) -> tuple[str, ...]:
    """Fields at work that change what an action does to the picture.

    An action that moved to the right moves to the left in a flipped clip, and
    further in an enlarged one. A shifted clip only begins elsewhere.
    """
    found = {'crop_scale': self.crop_scale < 1, 'flip': self.flip > 0}
    return tuple(name for name, works in found.items() if works)

  @property
  def _moves(self) -> bool:
    return bool(self.changes_actions) or self.shift > 0

  @property
  def _colors(self) -> bool:
    return any((self.brightness, self.contrast, self.saturation, self.hue))

  def __call__(self, rng_key: jax.Array, pixels: jax.Array) -> jax.Array:
    """Augments a batch of clips.

    Args:
      rng_key: consumed.
      pixels: uint8 `[B, T, height, width, 3]`.

    Returns:
      The same shape and dtype.

    Raises:
      ValueError: pixels of another rank or dtype.
    """
    if pixels.ndim != 5 or pixels.shape[-1] != 3 or pixels.dtype != jnp.uint8:
      raise ValueError(
        'pixels must be uint8 [B, T, height, width, 3], got '
        f'{pixels.dtype} {list(pixels.shape)}.'
      )
    if self.is_identity:
      return pixels
    keys = jax.random.split(rng_key, len(pixels))
    return jax.vmap(self._augment)(keys, pixels)

  def _augment(self, rng_key: jax.Array, clip: jax.Array) -> jax.Array:
    """One clip `[T, height, width, 3]`."""
    move_key, color_key = jax.random.split(rng_key)
    frames = clip.astype(jnp.float32) / 255
    if self._moves:
      rows, columns = self._resampling(move_key, clip.shape[1], clip.shape[2])
      frames = jnp.einsum('hi,tijc,wj->thwc', rows, frames, columns)
    if self._colors:
      frames = self._recolor(color_key, frames)
    return jnp.round(255 * jnp.clip(frames, 0, 1)).astype(jnp.uint8)

  def _resampling(
    self, rng_key: jax.Array, height: int, width: int
  ) -> tuple[jax.Array, jax.Array]:
    """Weights `[height, height]` and `[width, width]` of a clip's frames."""
    area_key, ratio_key, place_key, flip_key, shift_key = jax.random.split(
      rng_key, 5
    )
    area = jax.random.uniform(area_key, (), minval=self.crop_scale, maxval=1)
    # At full size a crop of another shape would not be the frame any more.
    bound = math.log(self.crop_ratio) if self.crop_scale < 1 else 0.0
    ratio = jnp.exp(
      jax.random.uniform(ratio_key, (), minval=-1, maxval=1) * bound
    )
    sides = jnp.minimum(jnp.sqrt(area * jnp.stack([1 / ratio, ratio])), 1)
    starts = jax.random.uniform(place_key, (2,)) * (1 - sides)
    shifts = jax.random.uniform(shift_key, (2,), minval=-1, maxval=1)
    is_flipped = jax.random.bernoulli(flip_key, self.flip)

    def weights(size: int, axis: int) -> jax.Array:
      """Hats around where each output pixel lies in the input."""
      outputs = (jnp.arange(size) + 0.5) / size
      if axis == 1:
        outputs = jnp.where(is_flipped, 1 - outputs, outputs)
      inputs = (starts[axis] + outputs * sides[axis]) * size - 0.5
      inputs = jnp.clip(inputs - shifts[axis] * self.shift, 0, size - 1)
      apart = jnp.abs(inputs[:, None] - jnp.arange(size)[None])
      return jnp.maximum(0, 1 - apart)

    return weights(height, 0), weights(width, 1)

  def _recolor(self, rng_key: jax.Array, frames: jax.Array) -> jax.Array:
    """Colours of a clip `[T, height, width, 3]` in 0..1."""
    import dm_pix

    draws = jax.random.uniform(rng_key, (4,), minval=-1, maxval=1)
    if self.brightness:
      frames = dm_pix.adjust_brightness(frames, draws[0] * self.brightness)
    if self.contrast:
      # About the mean of the clip: about that of each frame it would flicker.
      clip = frames.reshape(1, -1, frames.shape[-2], 3)
      factor = 1 + draws[1] * self.contrast
      frames = dm_pix.adjust_contrast(clip, factor).reshape(frames.shape)
    if self.saturation or self.hue:
      # Hue and saturation are of colours that exist.
      frames = jnp.clip(frames, 0, 1)
    if self.saturation:
      factor = 1 + draws[2] * self.saturation
      frames = dm_pix.adjust_saturation(frames, factor)
    if self.hue:
      frames = dm_pix.adjust_hue(frames, draws[3] * self.hue)
    return frames
