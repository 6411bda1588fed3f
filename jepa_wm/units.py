"""Raw units and a model's: action statistics and pixel norms."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PIXEL_NORMS = {
  'imagenet': (IMAGENET_MEAN, IMAGENET_STD),
  'white_ground': ((0.9, 0.9, 0.9), (0.2, 0.2, 0.2)),
}
"""Means and deviations of channels, by name.

'white_ground' is for things on white paper, which ImageNet's leaves 2.2 to 2.6
deviations from the zeros that a convolution sees beyond the border; here it is
half of one.
"""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ActionStatistics:
  """Mean and standard deviation of every raw action dimension.

  A pytree, so it can be passed into `jit`; saved as JSON with the dataset and
  with every checkpoint.

  Attributes:
    mean: float32 `[raw_dim]`, raw units.
    std: float32 `[raw_dim]`, raw units, positive.
  """

  mean: Any
  std: Any

  def normalize(self, actions: jax.Array) -> jax.Array:
    """Brings actions to zero mean and unit variance.

    Args:
      actions: `[..., k * raw_dim]` in raw units, k raw actions in time order.

    Returns:
      `[..., k * raw_dim]` in units of the standard deviation.

    Raises:
      ValueError: the last axis is not a multiple of `raw_dim`.
    """
    actions = _floating(actions)
    mean, std = self._tiled(actions)
    return (actions - mean) / std

  def denormalize(self, actions: jax.Array) -> jax.Array:
    """Inverts `normalize`.

    Args:
      actions: `[..., k * raw_dim]` in units of the standard deviation.

    Returns:
      `[..., k * raw_dim]` in raw units.

    Raises:
      ValueError: the last axis is not a multiple of `raw_dim`.
    """
    actions = _floating(actions)
    mean, std = self._tiled(actions)
    return actions * std + mean

  def of_agents(self, before: int, after: int) -> 'ActionStatistics':
    """Those of a group of agents, each in the units that all have together.

    Args:
      before: agents whose actions these are, one after another.
      after: agents to have them.

    Returns:
      Mean and deviation of any agent's action, `after` times; these themselves
      of one agent.

    Raises:
      ValueError: the dimensions are not to be shared by `before` agents.
    """
    if before == after == 1:
      return self
    mean, std = (np.asarray(x, np.float64) for x in (self.mean, self.std))
    if mean.size % before:
      raise ValueError(
        f'Statistics of {mean.size} raw action dimensions are not those of '
        f'{before} agents.'
      )
    mean, std = mean.reshape(before, -1), std.reshape(before, -1)
    middle = mean.mean(axis=0)
    spread = np.square(std) + np.square(mean - middle)
    pooled = middle, np.sqrt(spread.mean(axis=0))
    return ActionStatistics(
      *(np.tile(x.astype(np.float32), after) for x in pooled)
    )

  def to_dict(self) -> dict[str, list[float]]:
    """Plain lists of floats, which JSON keeps to the bit."""
    return {
      'mean': np.asarray(self.mean).tolist(),
      'std': np.asarray(self.std).tolist(),
    }

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> 'ActionStatistics':
    """Inverts `to_dict`.

    Raises:
      ValueError: a field is missing, or the two are not vectors of one size
        with a positive, finite standard deviation.
    """
    try:
      mean = np.asarray(fields['mean'], np.float32)
      std = np.asarray(fields['std'], np.float32)
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(
        "Action statistics are {'mean': [...], 'std': [...]} with numbers "
        f'inside, got {fields!r}.'
      ) from error
    if mean.ndim != 1 or mean.shape != std.shape or mean.size == 0:
      raise ValueError(
        'Action statistics need one mean and one std per raw action '
        f'dimension, got shapes {mean.shape} and {std.shape}.'
      )
    if not (
      np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
    ):
      raise ValueError(
        'Action statistics must be finite with a positive std, got mean '
        f'{mean.tolist()} and std {std.tolist()}.'
      )
    return cls(mean=mean, std=std)

  def _tiled(self, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Statistics repeated for every raw action in the last axis."""
    raw_dim = self.mean.shape[-1]
    size = actions.shape[-1] if actions.ndim else 0
    if size == 0 or size % raw_dim:
      raise ValueError(
        f'actions must end in a multiple of {raw_dim} numbers (whole raw '
        f'actions), got shape {actions.shape}.'
      )
    shape = (1,) * (actions.ndim - 1) + (size,)
    mean, std = (
      jnp.tile(jnp.asarray(x, actions.dtype), size // raw_dim).reshape(shape)
      for x in (self.mean, self.std)
    )
    return mean, std


def _floating(actions: jax.Array) -> jax.Array:
  """Actions in which a mean and a deviation have a fraction."""
  actions = jnp.asarray(actions)
  if jnp.issubdtype(actions.dtype, jnp.floating):
    return actions
  return actions.astype(jnp.float32)


def fit(actions: np.ndarray, *, eps: float = 1e-8) -> ActionStatistics:
  """Mean and standard deviation (ddof 0) of raw actions, ignoring NaN rows.

  A dimension that never moves (standard deviation at most `eps`) is given the
  standard deviation 1, so that it normalises to 0 and not to rounding noise.
  Rows that are all one-hot, discrete actions, are left as they are.
  Same convention as the published LeWM recipe, which uses scikit-learn's
  StandardScaler on rows without NaN.

  Args:
    actions: `[..., raw_dim]`, raw units.
    eps: smallest standard deviation taken at its word.

  Raises:
    ValueError: `actions` has no action axis, or no row without NaN.
  """
  actions = np.asarray(actions)
  if actions.ndim < 2 or actions.shape[-1] == 0:
    raise ValueError(
      f'actions must be [..., raw_dim] with rows, got shape {actions.shape}.'
    )
  rows = actions.reshape(-1, actions.shape[-1])
  rows = rows[~np.isnan(rows).any(axis=-1)]
  if not len(rows):
    raise ValueError(
      f'actions of shape {actions.shape} hold no row without NaN, so there is '
      'nothing to fit.'
    )
  size = rows.shape[-1]
  binary = np.all((rows == 0) | (rows == 1))
  if size > 1 and binary and np.all(np.sum(rows, axis=-1) == 1):
    return ActionStatistics(
      np.zeros(size, np.float32), np.ones(size, np.float32)
    )
  mean = rows.mean(axis=0, dtype=np.float64)
  std = rows.std(axis=0, dtype=np.float64)
  std = np.where(std > eps, std, 1.0)
  return ActionStatistics(
    mean=mean.astype(np.float32), std=std.astype(np.float32)
  )


def normalize_pixels(
  pixels: jax.Array,
  *,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  dtype: Any = jnp.float32,
) -> jax.Array:
  """Scales pixels to 0..1, then standardises each channel.

  Args:
    pixels: uint8 `[..., height, width, C]` in 0..255.
    mean: channel means in 0..1, `C` numbers.
    std: channel standard deviations in 0..1, `C` numbers.
    dtype: dtype of the result; the arithmetic is float32.

  Returns:
    `[..., height, width, C]` of `dtype`.

  Raises:
    ValueError: `pixels` are not uint8 images with as many channels as `mean`.
  """
  if pixels.dtype != jnp.uint8:
    raise ValueError(
      f'pixels must be uint8 in 0..255, got {pixels.dtype}; floats in 0..1 '
      'have to be scaled back first.'
    )
  if pixels.ndim < 3 or pixels.shape[-1] != len(mean) or len(mean) != len(std):
    raise ValueError(
      f'pixels must be [..., height, width, {len(mean)}] for {len(mean)} '
      f'channel means and {len(std)} stds, got shape {pixels.shape}.'
    )
  shape = (1,) * (pixels.ndim - 1) + (len(mean),)
  scaled = pixels.astype(jnp.float32) / 255.0
  scaled = scaled - jnp.asarray(mean, jnp.float32).reshape(shape)
  scaled = scaled / jnp.asarray(std, jnp.float32).reshape(shape)
  return scaled.astype(dtype)
