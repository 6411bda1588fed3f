"""Probes: small heads that read something off frozen tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import layers, transformer

PROBES = ('linear', 'mlp', 'attentive')
"""What there is.

  'linear': a linear map of the tokens' mean (I-JEPA, arXiv 2301.08243);
  'mlp': the same with one hidden layer;
  'attentive': a learned query attends to the tokens (V-JEPA).
"""

_EPSILON = 1e-5  # Of the published probes; their encoders have 1e-6.


class PooledProbe(layers.Module):
  """Reads outputs off the average of the tokens.

  Attributes:
    features: number of outputs.
    hidden_dim: width of the hidden layer; None has none, a linear probe.
  """

  features: int
  hidden_dim: int | None = None

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Reads float32 `[..., features]` off `tokens` `[..., P, D]`."""
    pooled = jnp.mean(tokens.astype(jnp.float32), axis=-2)
    if self.hidden_dim is not None:
      pooled = layers.gelu(
        layers.normal_dense(
          self.hidden_dim, pooled.shape[-1], name='hidden', **self.dtypes
        )(pooled)
      )
    outputs = layers.normal_dense(
      self.features, pooled.shape[-1], name='head', **self.dtypes
    )(pooled)
    return outputs.astype(jnp.float32)


class AttentiveProbe(layers.Module):
  """A learned query attends to the tokens, then a linear map.

  `q = q + CrossAttention(q, norm1(x))`, `q = q + Mlp(norm2(q))`, outputs
  `Linear(q)`. As in the released code, and not in the papers, the query itself
  is not normalised, nothing is projected after the attention, and no norm
  follows the MLP. With a depth above 1, `depth - 1` self-attention blocks
  without positions come first.

  Source: V-JEPA, arXiv 2404.08471, appendix D (depth 1); V-JEPA 2, arXiv
  2506.09985 (depth 4, 16 heads); their released code.

  Attributes:
    features: number of outputs.
    num_heads: attention heads; they share the width evenly.
    depth: blocks in all, the one with the query last.
    width: size that a first linear map brings the tokens to, so that
      representations of different sizes meet the same probe; None (published)
      takes them as they come.
    mlp_ratio: hidden width of the MLPs over that of a token.
  """

  features: int
  num_heads: int
  depth: int = 1
  width: int | None = None
  mlp_ratio: int = 4

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Reads float32 `[..., features]` off `tokens` `[..., P, D]`.

    Raises:
      ValueError: a width that the heads cannot share, or no block.
    """
    dtypes = self.dtypes
    if self.width is not None:
      tokens = layers.normal_dense(
        self.width, tokens.shape[-1], name='embed', **dtypes
      )(tokens)
    width = tokens.shape[-1]
    if width % self.num_heads or self.depth < 1:
      raise ValueError(
        f'An attentive probe of depth {self.depth} with {self.num_heads} heads '
        f'on tokens of size {width}: the depth must be at least 1 and the size '
        'a multiple of the heads; set width.'
      )
    mlp_dim = self.mlp_ratio * width
    for index in range(self.depth - 1):
      tokens, _ = transformer.Block(
        num_heads=self.num_heads,
        mlp_dim=mlp_dim,
        epsilon=_EPSILON,
        name=f'block_{index}',
        **dtypes,
      )(tokens)
    query = self.param(
      'query',
      nn.initializers.truncated_normal(0.02),
      (1, width),
      self.param_dtype,
    )
    lead = tokens.shape[:-2]
    query = jnp.broadcast_to(query.astype(self.dtype), (*lead, 1, width))
    normed = layers.layer_norm(_EPSILON, name='cross_norm', **dtypes)(tokens)
    query = query + self._attend(query, normed)
    normed = layers.layer_norm(_EPSILON, name='mlp_norm', **dtypes)(query)
    query = query + transformer.Mlp(
      hidden_dim=mlp_dim, dense_fn=layers.normal_dense, name='mlp', **dtypes
    )(normed)
    outputs = layers.normal_dense(self.features, width, name='head', **dtypes)(
      query[..., 0, :]
    )
    return outputs.astype(jnp.float32)

  def _attend(self, query: jax.Array, tokens: jax.Array) -> jax.Array:
    """Attention of `query` `[..., 1, D]` to `tokens`, without output map."""
    width = tokens.shape[-1]
    head_dim = width // self.num_heads

    def heads(name, x):
      mapped = layers.normal_dense(width, width, name=name, **self.dtypes)(x)
      return mapped.reshape(*mapped.shape[:-1], self.num_heads, head_dim)

    logits = jnp.einsum(
      '...qhd,...khd->...hqk',
      heads('cross_query', query) * head_dim**-0.5,
      heads('cross_key', tokens),
      preferred_element_type=jnp.float32,
    )
    weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
    mixed = jnp.einsum(
      '...hqk,...khd->...qhd', weights, heads('cross_value', tokens)
    )
    return mixed.reshape(*mixed.shape[:-2], width)
