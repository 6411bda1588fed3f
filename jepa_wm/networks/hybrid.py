"""Long memory at a constant cost: windows, linear attention between them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.networks import (
  layers,
  linear_attention,
  predictors,
  remat,
  transformer,
  windowed_attention,
)

_LEAST_HEAD = 6  # Channels that rotary positions need.


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class HybridConfig(predictors.TransformerConfig):
  """The settings of a `HybridPredictor`.

  Attributes:
    history: longest window of training, and that a state is started from; what
      is remembered goes back further.
    width: size of a token inside.
    linear_every: every so many-th block is linear attention, as published the
      fourth; 1 for Gated DeltaNet alone.
    window: tokens that a token of the other blocks sees.
    dilations: tokens from one to the next of these, of the blocks in turn.
    kernel_size: of the convolutions of linear attention.
    chunk: tokens that linear attention takes at once in training.
  """

  name: ClassVar[str] = 'hybrid'
  choices: ClassVar[Mapping[str, Sequence[str]]] = {}

  history: int = 256
  width: int = 192
  depth: int = 4
  num_heads: int = 6
  head_dim: int = 32
  mlp_dim: int = 768
  linear_every: int = 4
  window: int = 8
  dilations: tuple[int, ...] = (1, 1, 4, 1)
  kernel_size: int = 4
  chunk: int = 32

  def __post_init__(self) -> None:
    """Checks every field.

    Raises:
      ValueError: a field out of its range, or one that would do nothing.
    """
    super().__post_init__()
    if 0 in self.dilations:
      raise ValueError(f'dilations must be positive, got {self.dilations}.')
    if self.head_dim < _LEAST_HEAD:
      raise ValueError(
        f'head_dim must be at least {_LEAST_HEAD}, channels that turn with '
        f'time, got {self.head_dim}.'
      )
    if self.depth < self.linear_every:
      raise ValueError(
        f'linear_every={self.linear_every} would do nothing with '
        f'depth={self.depth}: no block would be linear attention, so that what '
        'is older than the windows would be forgotten; take a depth of '
        f'{self.linear_every} or more.'
      )
    if self.linear_every == 1:
      for name in ('window', 'dilations'):
        if getattr(self, name) != getattr(type(self), name):
          raise ValueError(
            f'{name}={getattr(self, name)} would do nothing with '
            'linear_every=1, where no block has a window; leave it out.'
          )

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; a latent is one vector to it."""
    del grid, state_dim
    return HybridPredictor(**vars(self), dtype=dtype)


@flax.struct.dataclass
class Remembered:
  """The state of a `HybridPredictor`, of one size whatever was seen.

  Attributes:
    newest: `[..., D]`, the newest latent, which no block has seen.
    memories: of the blocks, of all tokens before it.
  """

  newest: jax.Array
  memories: tuple[Any, ...]


@remat.block
class MixingBlock(layers.Module):
  """What mixes tokens in time, then an MLP, modulated as in LeWM's predictor.

  Each half computes `x + gate * f(norm(x) * (1 + scale) + shift)`; the six are
  a linear map of `silu(condition)` that starts at zero.

  Source: DiT, arXiv 2212.09748, section 3.2.

  Attributes:
    mixer: `linear_attention.GatedDeltaNet` or
      `windowed_attention.WindowedAttention`.
    mlp_dim: hidden width of the MLP.
    dropout: rate after the mixer and inside the MLP.
  """

  mixer: nn.Module
  mlp_dim: int
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    condition: jax.Array,
    memory: Any = None,
    *,
    train: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Maps tokens `[..., T, D]` under conditions `[..., T, C]`.

    Args:
      tokens: of any time.
      condition: of each.
      memory: of the mixer, of the tokens before these.
      train: whether dropout is on.

    Returns:
      `[..., T, D]`, and the memory after these.
    """
    modulation = nn.Dense(
      6 * tokens.shape[-1],
      kernel_init=nn.initializers.zeros,
      name='modulation',
      **self.dtypes,
    )(nn.silu(condition))
    parts = jnp.split(modulation, 6, axis=-1)

    def modulated(shift: jax.Array, scale: jax.Array) -> jax.Array:
      norm = layers.layer_norm(
        1e-6, use_scale=False, use_bias=False, dtype=self.dtype
      )
      return norm(tokens) * (1 + scale) + shift

    mixed, memory = self.mixer(modulated(*parts[:2]), memory)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    tokens = tokens + parts[2] * drop(mixed)
    mlp = transformer.Mlp(
      self.mlp_dim, dropout=self.dropout, name='mlp', **self.dtypes
    )
    return tokens + parts[5] * mlp(modulated(*parts[3:5]), train=train), memory


class HybridPredictor(transformer.Heads):
  """Blocks of windowed attention, every few one that remembers everything.

  Token `t` sees latents and actions up to `t` and is trained to become the
  latent at `t + 1`, all tokens of a window at once. A state holds the matrices
  of linear attention and the keys and values in the windows: its size, and
  what a step costs, do not depend on how much was seen.

  Source: Kairos, arXiv 2606.16533 (hybrid linear temporal attention, with
  Gated DeltaNet as of arXiv 2412.06464 as the linear one); actions modulate as
  in LeWM.

  Its fields are those of `HybridConfig`, whose `width` the output has.
  """

  history: int
  width: int
  depth: int
  linear_every: int
  window: int
  dilations: tuple[int, ...]
  kernel_size: int
  chunk: int

  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    train: bool = False,
  ) -> tuple[jax.Array, tuple[Any, ...]]:
    """See `predictors.Predictor`; remembers what its blocks do."""
    predictors.check_window(latents, conditions, self.history, None)
    return self.see(latents, conditions, None, train=train)

  @nn.compact
  def see(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    memories: tuple[Any, ...] | None,
    *,
    train: bool = False,
  ) -> tuple[jax.Array, tuple[Any, ...]]:
    """Goes on with more latents and conditions, however many came before.

    Args:
      latents: `[..., T, D]`.
      conditions: `[..., T, C]`, of the actions taken at them.
      memories: what the last call gave; None at first.
      train: whether dropout is on.

    Returns:
      Outputs `[..., T, width]`, and the memories after these.
    """
    tokens, conditions = (
      x.astype(self.dtype)
      if x.shape[-1] == self.width
      else layers.uniform_dense(
        self.width, x.shape[-1], name=name, **self.dtypes
      )(x.astype(self.dtype))
      for name, x in (('input', latents), ('condition', conditions))
    )
    after = []
    for index in range(self.depth):
      tokens, memory = MixingBlock(
        self._mixer(index),
        self.mlp_dim,
        self.dropout,
        name=f'block_{index}',
        **self.dtypes,
      )(
        tokens,
        conditions,
        None if memories is None else memories[index],
        train=train,
      )
      after.append(memory)
    norm = layers.layer_norm(1e-5, name='norm', **self.dtypes)
    return norm(tokens), tuple(after)

  def start(
    self, latents: jax.Array, conditions: jax.Array, *, grows: bool = False
  ) -> Remembered:
    """See `predictors.Predictor`."""
    del grows
    number = conditions.shape[-2]
    if number:
      _, memories = self(latents[..., :number, :], conditions)
    else:
      lead = latents.shape[:-2]
      memories = tuple(self._mixer(i).empty(lead) for i in range(self.depth))
    return Remembered(latents[..., -1, :], memories)

  def advance(
    self,
    state: Remembered,
    condition: jax.Array,
    readout_fn: predictors.ReadoutFn,
  ) -> Remembered:
    """See `predictors.Predictor`."""
    newest = jnp.expand_dims(state.newest, -2)
    outputs, memories = self.see(
      newest, jnp.expand_dims(condition, -2), state.memories
    )
    return Remembered(readout_fn(newest, outputs)[..., 0, :], memories)

  def absorb(
    self, state: Remembered, condition: jax.Array, latent: jax.Array
  ) -> Remembered:
    """See `predictors.Predictor`."""
    seen = jnp.expand_dims(latent, -2)
    return self.advance(state, condition, lambda newest, outputs: seen)

  @nn.nowrap
  def _mixer(self, index: int) -> Any:
    """What mixes in time in a block, for the block to own."""
    how = {**self.dtypes, 'parent': None}
    if (index + 1) % self.linear_every == 0:
      return linear_attention.GatedDeltaNet(
        self.num_heads, self.head_dim, self.kernel_size, self.chunk, **how
      )
    dilation = self.dilations[index % len(self.dilations)]
    return windowed_attention.WindowedAttention(
      self.num_heads, self.head_dim, self.window, dilation, **how
    )

  @nn.nowrap
  def read(self, state: Remembered) -> jax.Array:
    """See `predictors.Predictor`."""
    return state.newest
