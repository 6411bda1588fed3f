"""The block of frames of tokens that their conditions modulate (AdaLN-zero)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import attention, layers, remat, transformer


@remat.block
class ModulatedFrames(layers.Module):
  """A `transformer.Block` whose halves a condition shifts, scales and gates.

  Each half computes `x + gate * f(norm(x) * (1 + scale) + shift)`; the six are
  a linear map of `silu(condition)` that starts at zero, so that a fresh block
  is the identity.

  Source: DiT, arXiv 2212.09748, section 3.2; for actions, arXiv 2512.24497.

  Its fields are those of `transformer.Block`.
  """

  mlp_dim: int
  num_heads: int
  head_dim: int
  epsilon: float = 1e-6
  qkv_bias: bool = True
  dropout: float = 0.0
  dense_fn: layers.DenseFn = layers.normal_dense

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    *,
    condition: jax.Array,
    train: bool = False,
    **options: Any,
  ) -> tuple[jax.Array, attention.KeysValues]:
    """Maps tokens; arguments and results as for `attention.Attention`.

    Args:
      tokens: `[..., T * S, D]`, S of every frame.
      condition: `[..., T, D]`, of every frame.
      train: whether dropout is on.
      **options: of the attention.
    """
    width, num_tokens = tokens.shape[-1], tokens.shape[-2]
    modulation = nn.Dense(
      6 * width,
      kernel_init=nn.initializers.zeros,
      name='modulation',
      **self.dtypes,
    )(nn.silu(condition))
    repeats = num_tokens // condition.shape[-2]
    modulation = jnp.repeat(modulation, repeats, axis=-2)
    shifts, scales, gates = zip(
      *(jnp.split(half, 3, axis=-1) for half in jnp.split(modulation, 2, -1))
    )

    def modulated(x: jax.Array, shift: jax.Array, scale: jax.Array) -> Any:
      norm = layers.layer_norm(
        self.epsilon, use_scale=False, use_bias=False, dtype=self.dtype
      )
      return norm(x) * (1 + scale) + shift

    mixed, past = attention.Attention(
      num_heads=self.num_heads,
      head_dim=self.head_dim,
      qkv_bias=self.qkv_bias,
      dropout=self.dropout,
      dense_fn=self.dense_fn,
      name='attention',
      **self.dtypes,
    )(modulated(tokens, shifts[0], scales[0]), train=train, **options)

    def last(x: jax.Array) -> jax.Array:
      asked = options.get('asked')
      return x if asked is None else asked.of(x)

    tokens = last(tokens) + last(gates[0]) * mixed
    mlp = transformer.Mlp(
      hidden_dim=self.mlp_dim,
      dropout=self.dropout,
      dense_fn=self.dense_fn,
      name='mlp',
      **self.dtypes,
    )
    inner = modulated(tokens, last(shifts[1]), last(scales[1]))
    return tokens + last(gates[1]) * mlp(inner, train=train), past
