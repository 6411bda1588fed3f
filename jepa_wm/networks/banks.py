"""Long memory in two running means of the latents, one fast and one slow."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import bounds, fields
from jepa_wm.networks import layers, predictors, transformer


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class BanksConfig:
  """The settings of a `BanksPredictor`.

  Attributes:
    history: longest window of training, and that a state is started from; what
      is remembered goes back further.
    width: size of a token inside.
    depth: MLPs, each added to its input.
    mlp_dim: hidden width of the MLPs.
    dropout: rate inside the MLPs.
    horizons: steps after which a bank holds 1/e of what came in, of each bank.
  """

  name: ClassVar[str] = 'banks'

  history: int = 256
  width: int = 192
  depth: int = 2
  mlp_dim: int = 768
  dropout: float = 0.0
  horizons: tuple[float, ...] = (3.0, 25.0)

  def __post_init__(self) -> None:
    """Checks every field."""
    fields.check(self)
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')
    if not all(0 < x <= bounds.MOST_STEPS for x in self.horizons):
      raise ValueError(
        f'horizons must be positive numbers of steps, at most '
        f'{bounds.MOST_STEPS}, got {self.horizons!r:.60}.'
      )

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; a latent is one vector to it."""
    del grid, state_dim
    return BanksPredictor(**vars(self), dtype=dtype)


@flax.struct.dataclass
class Banked:
  """The state of a `BanksPredictor`, of one size whatever was seen.

  Attributes:
    newest: `[..., D]`, the newest latent.
    banks: float32 `[..., K, D]`, means of all latents up to it.
  """

  newest: jax.Array
  banks: jax.Array


class BanksPredictor(layers.Module):
  """MLPs that see the latent, the action and exponential means of latents.

  A bank begins with the first latent and moves towards each by `alpha = 1 -
  exp(-1 / horizon)`. Linear maps that start at zero add the banks to the
  token, so that a fresh predictor sees the newest latent and action alone.

  Source: LeWorldModel-Memory, whose banks have horizons of 3 and 25.

  Its fields are those of `BanksConfig`, whose `width` the output has.
  """

  history: int
  width: int
  depth: int
  mlp_dim: int
  dropout: float
  horizons: tuple[float, ...]

  def __call__(
    self, latents: jax.Array, conditions: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, jax.Array]:
    """See `predictors.Predictor`; remembers the banks after the window."""
    predictors.check_window(latents, conditions, self.history, None)
    banks = _means(latents, self.horizons)
    outputs = self._step(latents, banks, conditions, train=train)
    return outputs, banks[..., -1, :, :]

  def start(
    self, latents: jax.Array, conditions: jax.Array, *, grows: bool = False
  ) -> Banked:
    """See `predictors.Predictor`."""
    del conditions, grows
    banks = _means(latents, self.horizons)
    return Banked(latents[..., -1, :], banks[..., -1, :, :])

  def advance(
    self,
    state: Banked,
    condition: jax.Array,
    readout_fn: predictors.ReadoutFn,
  ) -> Banked:
    """See `predictors.Predictor`."""
    newest, banks, condition = (
      jnp.expand_dims(x, axis)
      for x, axis in ((state.newest, -2), (state.banks, -3), (condition, -2))
    )
    outputs = self._step(newest, banks, condition)
    latent = readout_fn(newest, outputs)[..., 0, :]
    return self.absorb(state, condition, latent)

  def absorb(
    self, state: Banked, condition: jax.Array, latent: jax.Array
  ) -> Banked:
    """See `predictors.Predictor`; no bank holds an action."""
    del condition
    return Banked(latent, _moved(state.banks, latent, self.horizons))

  @nn.nowrap
  def read(self, state: Banked) -> jax.Array:
    """See `predictors.Predictor`."""
    return state.newest

  @nn.compact
  def _step(
    self,
    latents: jax.Array,
    banks: jax.Array,
    conditions: jax.Array,
    *,
    train: bool = False,
  ) -> jax.Array:
    """Outputs `[..., T, width]` of latents and the banks up to each."""
    dense = lambda name, x: layers.uniform_dense(
      self.width, x.shape[-1], name=name, **self.dtypes
    )(x.astype(self.dtype))
    tokens = dense('input', latents) + dense('condition', conditions)
    for index in range(len(self.horizons)):
      tokens = tokens + nn.Dense(
        self.width,
        use_bias=False,
        kernel_init=nn.initializers.zeros,
        name=f'bank_{index}',
        **self.dtypes,
      )(banks[..., index, :].astype(self.dtype))
    for index in range(self.depth):
      norm = layers.layer_norm(1e-5, name=f'norm_{index}', **self.dtypes)
      tokens = tokens + transformer.Mlp(
        self.mlp_dim, dropout=self.dropout, name=f'mlp_{index}', **self.dtypes
      )(norm(tokens), train=train)
    return layers.layer_norm(1e-5, name='norm', **self.dtypes)(tokens)


def _moved(
  banks: jax.Array, latent: jax.Array, horizons: Sequence[float]
) -> jax.Array:
  """Banks `[..., K, D]` after one more latent `[..., D]`."""
  rates = -np.expm1(-1 / np.asarray(horizons, np.float32))
  rates = rates.reshape((1,) * (banks.ndim - 2) + (-1, 1))
  return banks + rates * (latent[..., None, :] - banks)


def _means(latents: jax.Array, horizons: Sequence[float]) -> jax.Array:
  """Banks up to each of latents `[..., T, D]`: float32 `[..., T, K, D]`."""
  latents = jnp.moveaxis(latents, -2, 0).astype(jnp.float32)
  first = jnp.repeat(latents[0][..., None, :], len(horizons), axis=-2)

  def step(banks: jax.Array, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
    banks = _moved(banks, latent, horizons)
    return banks, banks

  _, banks = jax.lax.scan(step, first, latents)
  return jnp.moveaxis(banks, 0, -3)
