"""Goal-conditioned inverse dynamics: the action that leads on to a goal."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers

_SCALES = tuple(2.0**power for power in range(8))
"""Wavelengths of steps-to-go, in environment steps."""


class GoalActions(layers.Module):
  """Latent, goal and steps to go to the first action block on the way.

  A residual MLP whose blocks are scaled, shifted and gated by the steps to go
  (AdaLN-zero: every block starts as the identity).

  Source: GC-IDM, goal-conditioned inverse dynamics on frozen latents.

  Attributes:
    action_dim: size `A` of an action block.
    width: of the hidden layers.
    depth: residual blocks.
  """

  action_dim: int
  width: int = 256
  depth: int = 3

  @nn.compact
  def __call__(
    self, latents: jax.Array, goals: jax.Array, steps: jax.Array
  ) -> jax.Array:
    """Says what to do first.

    Args:
      latents: `[..., D]`, where we are.
      goals: `[..., D]`, where we want to be.
      steps: `[...]`, environment steps that are left, at least 1.

    Returns:
      float32 `[..., A]`.
    """
    dtypes = self.dtypes
    both = jnp.concatenate([latents, goals], axis=-1).astype(self.dtype)
    hidden = nn.Dense(self.width, name='in', **dtypes)(both)
    condition = nn.Dense(self.width, name='steps', **dtypes)(_features(steps))
    condition = nn.silu(condition)
    for index in range(self.depth):
      name = f'block_{index}'
      modulation = nn.Dense(
        3 * self.width,
        kernel_init=nn.initializers.zeros,
        name=f'{name}_modulation',
        **dtypes,
      )(condition)
      scale, shift, gate = jnp.split(modulation, 3, axis=-1)
      normed = _norm(f'{name}_norm', dtypes)(hidden) * (1.0 + scale) + shift
      inner = nn.Dense(self.width, name=f'{name}_hidden', **dtypes)(normed)
      inner = nn.Dense(self.width, name=f'{name}_out', **dtypes)(nn.silu(inner))
      hidden = hidden + gate * inner
    hidden = nn.silu(_norm('norm', dtypes)(hidden))
    actions = nn.Dense(
      self.action_dim,
      kernel_init=nn.initializers.variance_scaling(0.01, 'fan_in', 'normal'),
      name='out',
      **dtypes,
    )(hidden)
    return actions.astype(jnp.float32)


def _norm(name: str, dtypes: Any) -> nn.LayerNorm:
  return nn.LayerNorm(
    epsilon=1e-5, use_bias=False, use_scale=False, name=name, **dtypes
  )


def _features(steps: jax.Array) -> jax.Array:
  """Sines, cosines and the logarithm of steps `[...]`, `[..., 17]`."""
  steps = jnp.asarray(steps, jnp.float32)[..., None]
  scales = jnp.asarray(_SCALES).reshape((1,) * (steps.ndim - 1) + (-1,))
  angles = steps / scales
  return jnp.concatenate(
    [jnp.sin(angles), jnp.cos(angles), jnp.log1p(steps) / 5.0], axis=-1
  )
