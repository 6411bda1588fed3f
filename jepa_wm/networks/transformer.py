"""MLP, the pre-norm block and the action-modulated block."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import (
  anchored_attention,
  attention,
  layers,
  remat,
  windows,
)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The sizes in the settings of a transformer; the defaults are ViT-L's.

  Attributes:
    width: size of a token inside.
    depth: blocks.
    num_heads: attention heads; they share the width evenly.
    mlp_dim: hidden width of the MLPs.
  """

  width: int = 1024
  depth: int = 24
  num_heads: int = 16
  mlp_dim: int = 4096

  @property
  def sizes(self) -> dict[str, Any]:
    """These fields alone, for a module."""
    return {x.name: getattr(self, x.name) for x in dataclasses.fields(Sizes)}


class Heads(layers.Module, kw_only=True):
  """A module made of attention and MLPs.

  Attributes:
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLPs.
    dropout: rate inside attention and MLPs.
  """

  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout: float = 0.0


class Mlp(layers.Module):
  """Linear, exact GELU, linear, back to the width of the input.

  Attributes:
    hidden_dim: width between the two maps.
    dropout: rate after the GELU and after the second map.
    dense_fn: how the linear maps start.
  """

  hidden_dim: int
  dropout: float = 0.0
  dense_fn: layers.DenseFn = layers.uniform_dense

  @nn.compact
  def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
    """Maps `tokens` `[..., D]` to `[..., D]`, each on its own."""
    width = tokens.shape[-1]
    dense = functools.partial(self.dense_fn, **self.dtypes)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    hidden = dense(self.hidden_dim, width, name='hidden')(tokens)
    hidden = drop(layers.gelu(hidden))
    return drop(dense(width, self.hidden_dim, name='out')(hidden))


@remat.block
class Block(layers.Module):
  """Pre-norm transformer block: attention, then MLP, each added to its input.

  Attributes:
    mlp_dim: hidden width of the MLP.
    head_dim: size of a head; None where the heads share the width evenly.
    epsilon: of both LayerNorms.
    num_heads: see `attention.Attention`, as the others.
  """

  mlp_dim: int
  num_heads: int
  head_dim: int | None = None
  epsilon: float = 1e-12
  qkv_bias: bool = True
  dropout: float = 0.0
  dense_fn: layers.DenseFn = layers.normal_dense

  @nn.compact
  def __call__(
    self, tokens: jax.Array, *, train: bool = False, **options: Any
  ) -> tuple[jax.Array, attention.KeysValues]:
    """Maps tokens; arguments and results as for `attention.Attention`."""
    attention_norm, mlp_norm = (
      layers.layer_norm(self.epsilon, name=name, **self.dtypes)
      for name in ('attention_norm', 'mlp_norm')
    )
    mixed, past = attention.Attention(
      num_heads=self.num_heads,
      head_dim=self.head_dim or tokens.shape[-1] // self.num_heads,
      qkv_bias=self.qkv_bias,
      dropout=self.dropout,
      dense_fn=self.dense_fn,
      name='attention',
      **self.dtypes,
    )(attention_norm(tokens), train=train, **options)
    asked = options.get('asked')
    tokens = (tokens if asked is None else asked.of(tokens)) + mixed
    mlp = Mlp(
      hidden_dim=self.mlp_dim,
      dropout=self.dropout,
      dense_fn=self.dense_fn,
      name='mlp',
      **self.dtypes,
    )
    return tokens + mlp(mlp_norm(tokens), train=train), past


@remat.block
class ModulatedBlock(Heads):
  """Causal block that a condition shifts, scales and gates (AdaLN-zero).

  Each half computes `x + gate * f(norm(x) * (1 + scale) + shift)`, with the
  six modulations a linear map of `silu(condition)` that starts at zero, so a
  fresh block is the identity. `f` begins with a LayerNorm of its own, as LeWM
  has it.

  Source: DiT, arXiv 2212.09748, section 3.2; LeWM.
  """

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    condition: jax.Array,
    *,
    look: windows.Look | None = None,
    is_last: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, windows.Memory]:
    """Maps tokens under their conditions.

    Args:
      tokens: `[..., T, D]`.
      condition: `[..., T, C]`; with a `look` that of the newest alone.
      look: of the newest token, as of `predictors.WindowPredictor`; what is
        remembered of a condition are its modulations, a linear map of it.
      is_last: whether only the newest is asked for, where there is a `look`;
        the others are then only looked at.
      train: whether dropout is on.

    Returns:
      `[..., T, D]` or `[..., 1, D]`, and what may be remembered.
    """
    made = nn.Dense(
      6 * tokens.shape[-1],
      kernel_init=nn.initializers.zeros,
      name='modulation',
      **self.dtypes,
    )(nn.silu(condition))
    modulation, past, mask, asked = made, None, None, None
    if look is not None:
      given, past = look.memory
      if past is None:
        modulation = windows.whole(given, look.place, made)
        if is_last:
          asked = attention.Asked(1, look.place)
          if look.place is not None:
            mask = windows.seen(look.place, tokens.shape[-2])
    shifts, scales, gates = zip(
      *(jnp.split(half, 3, axis=-1) for half in jnp.split(modulation, 2, -1))
    )
    given = {
      'num_heads': self.num_heads,
      'head_dim': self.head_dim,
      'name': 'attention',
      **self.dtypes,
    }
    attend: Callable[..., Any]
    if train or self.is_initializing():
      plain = attention.Attention(
        **given, causal=True, qkv_bias=False, dropout=self.dropout
      )
      attend = functools.partial(plain, train=train)
    else:
      attend = anchored_attention.AnchoredAttention(**given)
    mlp = Mlp(
      hidden_dim=self.mlp_dim, dropout=self.dropout, name='mlp', **self.dtypes
    )

    def modulate(name, tokens, shift, scale):
      bare = layers.layer_norm(
        1e-6, use_scale=False, use_bias=False, dtype=self.dtype
      )
      affine = layers.layer_norm(1e-5, name=name, **self.dtypes)
      return affine(bare(tokens) * (1 + scale) + shift)

    def last(x):
      return x if asked is None else asked.of(x)

    mixed, own = attend(
      modulate('attention_norm', tokens, shifts[0], scales[0]),
      past=past,
      asked=asked,
      mask=mask,
    )
    tokens = last(tokens) + last(gates[0]) * mixed
    tokens = tokens + last(gates[1]) * mlp(
      modulate('mlp_norm', tokens, last(shifts[1]), last(scales[1])),
      train=train,
    )
    return tokens, windows.Memory(made, own)
