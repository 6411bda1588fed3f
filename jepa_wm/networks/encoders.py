"""What an encoder is: settings by name, and the module that they build.

Every kind is in a file of its own: a Linen module, arrays to features, and the
frozen dataclass of its settings, registered in `ENCODERS`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, units
from jepa_wm.types import Observation, ObservationSpec

ENCODERS = fields.Registry('encoder', 'jepa_wm.networks')

Intermediates = dict[str, jax.Array]


class Unfitted:
  """The part of an encoder's settings that asks for no statistics of data."""

  def fitted(self, variables: Any, observation: Observation) -> Any:
    """See `Encoder`: as they are."""
    del observation
    return variables


class OfFrames(Unfitted):
  """The part of an encoder's settings that has it see square colour frames.

  Attributes:
    image_size: side of the frames in pixels.
    pixel_norm: one of `units.PIXEL_NORMS`, what they are normalised by.
  """

  image_size: int
  pixel_norm: str

  @property
  def clip_length(self) -> int:
    """See `Encoder`: no clips."""
    return 0

  @property
  def spec(self) -> ObservationSpec:
    """See `Encoder`."""
    return pixels_spec(self.image_size)

  def inputs(self, observation: Observation) -> jax.Array:
    """See `Encoder`."""
    return normalized_pixels(observation, self.image_size, self.pixel_norm)


class Encoder(fields.Named, Protocol):
  """The settings of an encoder."""

  @property
  def clip_length(self) -> int:
    """Fewest frames of a clip that it encodes; 0 where it encodes frames."""
    ...

  @property
  def spec(self) -> ObservationSpec:
    """What it observes."""
    ...

  def inputs(self, observation: Observation) -> Any:
    """What its module takes of an observation: checked and normalised.

    Raises:
      ValueError: an array is missing, or of another size or dtype.
    """
    ...

  def fitted(self, variables: Any, observation: Observation) -> Any:
    """The module's variables with statistics of frames of a dataset.

    Itself where the encoder asks for none.
    """
    ...

  def build(self, dtype: Any) -> nn.Module:
    """Builds the module.

    It takes what `inputs` gives and, accepted by all, `train`, and returns
    features `[..., F]` and intermediates by name.
    """
    ...


def pixels_spec(image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The spec of an encoder that observes square colour frames alone."""
  shape = (image_size, image_size, 3)
  return {'pixels': jax.ShapeDtypeStruct(shape, jnp.uint8)}


def normalized_pixels(
  observation: Observation, image_size: int, pixel_norm: str
) -> jax.Array:
  """Pixels of an observation, checked and normalised.

  Args:
    observation: with `pixels` uint8 `[..., image_size, image_size, 3]`.
    image_size: side of the frames.
    pixel_norm: one of `units.PIXEL_NORMS`.

  Returns:
    float32 `[..., image_size, image_size, 3]`.

  Raises:
    ValueError: no pixels, or of another size or dtype.
  """
  pixels = array(observation, 'pixels', pixels_spec(image_size)['pixels'])
  mean, std = units.PIXEL_NORMS[pixel_norm]
  return units.normalize_pixels(pixels, mean=mean, std=std)


def array(
  observation: Observation, name: str, spec: jax.ShapeDtypeStruct
) -> jax.Array:
  """One array of an observation, checked.

  Args:
    observation: named arrays.
    name: of the array.
    spec: its shape without leading dims, and its dtype; where that is floating
      any floating dtype will do.

  Raises:
    ValueError: it is missing, or of another size or dtype.
  """
  if not isinstance(observation, Mapping):
    raise ValueError(
      f'observation: expected named arrays, such as {name!r}, got a '
      f'{type(observation).__name__}.'
    )
  if name not in observation:
    raise ValueError(
      f'observation: {name!r} is missing, there is {sorted(observation)}.'
    )
  found, size = observation[name], spec.shape
  if not isinstance(found, (np.ndarray, np.generic, jax.Array)):
    raise ValueError(
      f'{name}: expected an array, got a {type(found).__name__}.'
    )
  expected = ', '.join(map(str, ('...', *size)))
  if found.shape[max(0, found.ndim - len(size)) :] != size:
    hint = ''
    if name == 'pixels':
      hint = '; render or resize to the image size that the model was built for'
    raise ValueError(
      f'{name}: expected [{expected}], got {list(found.shape)}{hint}.'
    )
  if spec.dtype == jnp.uint8 and found.dtype != jnp.uint8:
    raise ValueError(
      f'{name}: expected uint8 in 0..255, got {found.dtype}; pass the frames '
      'as rendered, normalisation is part of the model.'
    )
  return found


def zeros(spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
  """An observation `[1, 1, ...]` of zeros, to initialise modules with."""
  return {
    name: jnp.zeros((1, 1, *x.shape), x.dtype) for name, x in spec.items()
  }
