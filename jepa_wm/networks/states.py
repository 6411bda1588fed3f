"""Low-dimensional states to features, alone or beside those of pixels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Intermediates = dict[str, jax.Array]


class StateEncoder(nn.Module):
  """An MLP with a LayerNorm and a ReLU after every hidden map.

  Attributes:
    features: size of the output.
    hidden_dims: widths of the hidden maps; none leaves one linear map.
    scale: what the state is divided by first, so that it comes in units of
      about one.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  features: int
  hidden_dims: tuple[int, ...] = (256, 256)
  scale: float = 1.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, state: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, Intermediates]:
    """Encodes `state`.

    Args:
      state: `[..., S]`.
      train: accepted as by every encoder; nothing here depends on it.

    Returns:
      `[..., features]` and `{'hidden_0': [..., hidden_dims[0]], ...}`.
    """
    del train
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    intermediates: Intermediates = {}
    hidden = state / self.scale
    for index, width in enumerate(self.hidden_dims):
      hidden = nn.Dense(width, name=f'hidden_{index}', **dtypes)(hidden)
      hidden = nn.LayerNorm(1e-5, name=f'norm_{index}', **dtypes)(hidden)
      hidden = nn.relu(hidden)
      intermediates[f'hidden_{index}'] = hidden
    return nn.Dense(self.features, name='out', **dtypes)(hidden), intermediates


class FusedEncoder(nn.Module):
  """Features of pixels and of the body's own state, side by side.

  Source: PLDM (arXiv 2502.14819) and DINO-WM (arXiv 2411.04983) concatenate an
  embedding of the proprioception to the features of the frame.

  Attributes:
    pixels: encodes the frame.
    proprio: encodes the state.
  """

  pixels: nn.Module
  proprio: nn.Module

  def __call__(
    self, observation: tuple[jax.Array, jax.Array], *, train: bool = False
  ) -> tuple[jax.Array, Intermediates]:
    """Encodes a frame and a state.

    Args:
      observation: normalised pixels `[..., height, width, C]` and the state
        `[..., S]`.
      train: as for every encoder.

    Returns:
      `[..., F + G]`, features of the frame first, and the intermediates of the
      two, those of the state with 'proprio_' before their names.

    Raises:
      ValueError: the leading axes of the two differ.
    """
    pixels, proprio = observation
    if pixels.shape[:-3] != proprio.shape[:-1]:
      raise ValueError(
        'pixels and proprio must agree in their leading axes, got '
        f'{pixels.shape} and {proprio.shape}.'
      )
    frame, intermediates = self.pixels(pixels, train=train)
    state, of_state = self.proprio(proprio, train=train)
    beside = {f'proprio_{name}': value for name, value in of_state.items()}
    return (
      jnp.concatenate([frame, state], axis=-1),
      {**intermediates, **beside},
    )
