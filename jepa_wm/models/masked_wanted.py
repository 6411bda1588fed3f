"""What a masked model is to predict: features of an average, or pixels."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.models import masked_tokens, targets
from jepa_wm.networks import patches, video_vit
from jepa_wm.objectives import mask_buckets
from jepa_wm.types import Variables

NORMS = ('layer', 'none')
"""Whether what is wanted of a token is normalised over its features."""

INPUTS = ('whole', 'hidden')
"""What the target encoder sees.

  'whole': all tokens, of which the hidden ones are taken afterwards;
  'hidden': the hidden tokens alone, each target for itself (I-JEPA, arXiv
    2301.08243, Table 11: 56.1 where 'whole' has 67.3).
"""


@targets.MASKED_TARGETS.register
@dataclasses.dataclass(frozen=True)
class Pixels(targets.Still):
  """No encoder: the pixels of hidden tokens are to be predicted.

  Of each patch they are normalised, as in MAE, arXiv 2111.06377.

  Source: V-JEPA (arXiv 2404.08471), Table 1; I-JEPA (arXiv 2301.08243), Table
  7; both with the mean squared error.
  """

  name: ClassVar[str] = 'pixels'
  is_frozen: ClassVar[bool] = False

  def split(self, variables: Variables) -> Variables:
    """See `targets.Target`: there is no collection."""
    return variables


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What is to be predicted of the tokens of clips.

  Attributes:
    encoder: of clips.
    target: the moving average, or `Pixels`.
    dtype: of the encoder's computation.
    num_levels: depths of the encoder, evenly spread and the last among them;
      each is normalised, and they lie side by side (V-JEPA 2.1 has 4).
    norm: one of `NORMS`.
    input: one of `INPUTS`.

  Raises:
    ValueError: levels that do not divide the depth, or levels and an input of
      an encoder that there is none of.
  """

  encoder: video_vit.VideoViTConfig
  target: targets.Target
  dtype: Any
  num_levels: int
  norm: str
  input: str

  def __post_init__(self) -> None:
    if self.encoder.depth % self.num_levels:
      raise ValueError(
        f'encoder.depth={self.encoder.depth} must be a multiple of '
        f'num_levels={self.num_levels}.'
      )
    if self.of_pixels and (self.num_levels, self.input) != (1, 'whole'):
      raise ValueError(
        "target.name='pixels' has no encoder: num_levels must be 1 and "
        f"target_input 'whole', got {self.num_levels} and {self.input!r}."
      )

  @property
  def of_pixels(self) -> bool:
    """Whether pixels are wanted, and no features."""
    return self.target.name == Pixels.name

  @property
  def size(self) -> int:
    """Numbers that are wanted of a token."""
    if self.of_pixels:
      return self.encoder.tubelet_size * self.encoder.patch_size**2 * 3
    return self.num_levels * self.encoder.width

  def everywhere(
    self, variables: Variables, pixels: jax.Array
  ) -> jax.Array | None:
    """What is wanted of every token, float32 `[B, P, size]`.

    Args:
      variables: with the collection 'target' of an average.
      pixels: normalised clips `[B, T, height, width, 3]`.

    Returns:
      None where hidden tokens are encoded alone.
    """
    if self.of_pixels:
      return self._patches(pixels)
    return self._features(variables, pixels) if self.input == 'whole' else None

  def at(
    self,
    everywhere: jax.Array | None,
    variables: Variables,
    pixels: jax.Array,
    ids: jax.Array,
    valid: jax.Array | None,
  ) -> jax.Array:
    """What is wanted of hidden tokens, float32 `[B, ..., K, size]`.

    Args:
      everywhere: what the method of that name gave.
      variables: as for it.
      pixels: as for it.
      ids: integers `[B, K]` or `[B, num_targets, K]`.
      valid: bool, as `ids`, which are no padding; None for all.
    """
    if everywhere is not None:
      return mask_buckets.take(everywhere, ids)
    if ids.ndim == 3:
      lead, clip = ids.shape[:2], pixels.shape[1:]
      pixels = jnp.broadcast_to(pixels[:, None], (*lead, *clip))
    return self._features(variables, pixels, ids, valid)

  def _features(
    self, variables: Variables, pixels: jax.Array, *masks: Any
  ) -> jax.Array:
    params = variables['target']['params']['encoder']
    tokens, outputs = self.encoder.build(self.dtype).apply(
      {'params': params}, pixels, *masks
    )
    stride = self.encoder.depth // self.num_levels
    levels = [
      outputs[f'block_{stride * level - 1}']
      for level in range(1, self.num_levels)
    ]
    features = [
      masked_tokens.normalize(x)
      if self.norm == 'layer'
      else x.astype(jnp.float32)
      for x in (*levels, tokens)
    ]
    return jax.lax.stop_gradient(jnp.concatenate(features, axis=-1))

  def _patches(self, pixels: jax.Array) -> jax.Array:
    cut = patches.tubeletify(
      pixels.astype(jnp.float32),
      patch_size=self.encoder.patch_size,
      tubelet_size=self.encoder.tubelet_size,
    ).reshape(len(pixels), -1, self.size)
    if self.norm == 'none':
      return cut
    # MAE's: an unbiased variance, and its epsilon.
    variance = jnp.var(cut, axis=-1, keepdims=True, ddof=1)
    return (cut - cut.mean(-1, keepdims=True)) * jax.lax.rsqrt(variance + 1e-6)
