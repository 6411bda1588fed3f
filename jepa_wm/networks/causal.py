"""LeWM's predictor: a causal transformer that actions modulate."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import attention, layers, predictors, transformer

Cache = tuple[transformer.BlockCache, ...]
"""What a `CausalPredictor` remembers of a window, one per block."""


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class CausalConfig:
  """The settings of a `CausalPredictor`; the defaults are LeWM's.

  Attributes:
    history: longest window of latents.
    width: size of a token inside, published as the latent's.
    depth: blocks.
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLPs.
    dropout: rate inside the blocks.
  """

  name: ClassVar[str] = 'causal'

  history: int = 3
  width: int = 192
  depth: int = 6
  num_heads: int = 16
  head_dim: int = 64
  mlp_dim: int = 2048
  dropout: float = 0.1

  def __post_init__(self) -> None:
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(self)
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; a latent is one vector to it."""
    del grid, state_dim
    return CausalPredictor(
      **{x.name: getattr(self, x.name) for x in dataclasses.fields(self)},
      dtype=dtype,
    )


def slide(cache: Cache) -> Cache:
  """What is left of a full window's cache when its first token drops out.

  Keys and values saw positions that have changed; modulations are of actions.
  """
  return tuple(
    transformer.BlockCache(
      block.modulations[..., 1:, :],
      attention.KeysValues(*(x[..., :0, :] for x in block.past)),
    )
    for block in cache
  )


class CausalPredictor(nn.Module):
  """A causal transformer whose every block the action modulates (AdaLN-zero).

  Token `t` sees latents and actions up to `t` and is trained to become the
  latent at `t + 1`. Positions count from the start of the window, and only the
  latents get them. Where latents or conditions are not `width` wide, one
  linear map each brings them there.

  Source: LeWM.

  Attributes:
    width: size of a token inside and of the output.
    history: longest window.
    depth: blocks.
    num_heads: attention heads.
    head_dim: size of a head.
    mlp_dim: hidden width of the MLPs.
    dropout: rate inside the blocks.
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  width: int
  history: int
  depth: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout: float = 0.0
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    cache: Cache | None = None,
    last_only: bool = False,
    train: bool = False,
  ) -> tuple[jax.Array, Cache]:
    """Predicts one step on for the tokens of a window.

    With a cache this is the same function in fewer operations: keys and values
    of the first P tokens are not computed again, nor are the modulations of
    the first M actions, and with `last_only` the last block answers for the
    last token alone.

    Args:
      latents: `[..., T, D]`, `T` at most `history`.
      conditions: `[..., T - M, C]`, the encoded actions taken at the last
        latents.
      cache: one per block, of the first tokens of this very window.
      last_only: whether only the last token is asked for.
      train: whether dropout is on.

    Returns:
      `[..., T - P, width]`, or `[..., 1, width]`, and the cache of all tokens.

    Raises:
      ValueError: the window is longer than `history`, or the two do not match.
    """
    *lead, num_tokens, latent_dim = latents.shape
    num_known = num_past = 0
    if cache is not None:
      num_known = cache[0].modulations.shape[-2]
      num_past = cache[0].past.keys.shape[-2]
    if num_tokens > self.history:
      raise ValueError(
        f'latents hold a window of {num_tokens} steps, but the predictor was '
        f'built for history={self.history}; pass the last {self.history}.'
      )
    if conditions.shape[:-1] != (*lead, num_tokens - num_known):
      raise ValueError(
        'conditions must be as many as latents, less those in the cache '
        f'({num_known}), got {conditions.shape} for {latents.shape}.'
      )
    dtypes: Any = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
    positions = self.param(
      'positions',
      nn.initializers.normal(1.0),
      (self.history, latent_dim),
      self.param_dtype,
    )[num_past:num_tokens]
    positions = positions.reshape((1,) * len(lead) + positions.shape)
    tokens = (latents[..., num_past:, :] + positions).astype(self.dtype)
    conditions = conditions.astype(self.dtype)
    if latent_dim != self.width:
      tokens = layers.uniform_dense(
        self.width, latent_dim, name='input', **dtypes
      )(tokens)
    if conditions.shape[-1] != self.width:
      conditions = layers.uniform_dense(
        self.width, conditions.shape[-1], name='condition', **dtypes
      )(conditions)
    caches = []
    for index in range(self.depth):
      is_last = index == self.depth - 1
      tokens, block_cache = transformer.ModulatedBlock(
        num_heads=self.num_heads,
        head_dim=self.head_dim,
        mlp_dim=self.mlp_dim,
        dropout=self.dropout,
        name=f'block_{index}',
        **dtypes,
      )(
        tokens,
        conditions,
        cache=None if cache is None else cache[index],
        num_queries=1 if last_only and is_last else None,
        train=train,
      )
      caches.append(block_cache)
    norm = layers.layer_norm(1e-5, name='norm', **dtypes)
    return norm(tokens), tuple(caches)

  def start(
    self, latents: jax.Array, conditions: jax.Array
  ) -> predictors.Window:
    """See `predictors.Predictor`."""
    return predictors.start_window(self, latents, conditions)

  def advance(
    self,
    state: predictors.Window,
    condition: jax.Array,
    readout_fn: predictors.ReadoutFn,
  ) -> predictors.Window:
    """See `predictors.Predictor`."""
    return predictors.advance_window(
      self, state, condition, readout_fn, slide_fn=slide
    )

  @nn.nowrap
  def read(self, state: predictors.Window) -> jax.Array:
    """See `predictors.Predictor`."""
    return state.newest
