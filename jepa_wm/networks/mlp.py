"""The MLP of everything that is learnt on frozen latents to act, and many."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers


class MLP(layers.Module):
  """Linear map, LayerNorm and SiLU, `depth` times; then a linear map.

  The last map starts small, so that a policy starts in the middle of its range
  and a value near zero.

  Attributes:
    features: size of the output.
    width: of the hidden layers.
    depth: hidden layers.
    final_scale: variance with which the last map starts, times its inputs.
  """

  features: int
  width: int = 256
  depth: int = 3
  final_scale: float = 0.1

  @nn.compact
  def __call__(self, *inputs: jax.Array) -> jax.Array:
    """Says float32 `[..., features]` of inputs `[..., X]` each.

    Leading dims are broadcast, so that many latents can share a goal.
    """
    lead = jnp.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    hidden = jnp.concatenate(
      [jnp.broadcast_to(x, (*lead, x.shape[-1])) for x in inputs], axis=-1
    ).astype(self.dtype)
    for index in range(self.depth):
      name = f'hidden_{index}'
      # Its bias starts at random: a norm after none cannot tell lengths.
      hidden = layers.uniform_dense(
        self.width, hidden.shape[-1], name=name, **self.dtypes
      )(hidden)
      norm = nn.LayerNorm(name=f'{name}_norm', **self.dtypes)
      hidden = nn.silu(norm(hidden))
    outputs = nn.Dense(
      self.features,
      kernel_init=nn.initializers.variance_scaling(
        self.final_scale, 'fan_in', 'normal'
      ),
      name='out',
      **self.dtypes,
    )(hidden)
    return outputs.astype(jnp.float32)


class Values(layers.Module):
  """An ensemble of MLPs that price the same inputs, each with one number.

  Attributes:
    num_values: E, how many.
    width: see `MLP`, as `depth`.
    depth: hidden layers.
  """

  num_values: int = 2
  width: int = 256
  depth: int = 3

  @nn.compact
  def __call__(self, *inputs: jax.Array) -> jax.Array:
    """Says float32 `[E, ...]` of inputs `[..., X]` each."""
    many = nn.vmap(
      MLP,
      in_axes=None,
      out_axes=0,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      axis_size=self.num_values,
    )
    each = many(1, self.width, self.depth, name='each', **self.dtypes)
    values: jax.Array = each(*inputs)
    return values[..., 0]
