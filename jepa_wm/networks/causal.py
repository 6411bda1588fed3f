"""LeWM's predictor: a causal transformer that actions modulate."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax

from jepa_wm.networks import layers, predictors, sizes, transformer, windows


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class CausalConfig(predictors.TransformerConfig):
  """The settings of a `CausalPredictor`; the defaults are LeWM's.

  Attributes:
    width: size of a token inside, published as the latent's.
    size: one of `sizes.CAUSAL`, which says depth, heads and MLP; 'own' for the
      fields themselves.
  """

  name: ClassVar[str] = 'causal'
  choices: ClassVar[Mapping[str, Sequence[str]]] = {
    'size': (sizes.OWN, *sizes.CAUSAL)
  }

  width: int = 192
  depth: int = 6
  mlp_dim: int = 2048
  size: str = sizes.OWN

  def __post_init__(self) -> None:
    """Checks every field, and fills in those that `size` says."""
    sizes.fill_in(self, sizes.CAUSAL)
    super().__post_init__()

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; a latent is one vector to it."""
    del grid, state_dim
    given = {name: x for name, x in vars(self).items() if name != 'size'}
    return CausalPredictor(**given, dtype=dtype)


class CausalPredictor(predictors.WindowPredictor, transformer.Heads):
  """A causal transformer whose every block the action modulates (AdaLN-zero).

  Token `t` sees latents and actions up to `t` and is trained to become the
  latent at `t + 1`. Positions count from the start of the window, and only the
  latents get them. Where latents or conditions are not `width` wide, one
  linear map each brings them there.

  It remembers keys and values of tokens, and the modulations of actions.

  Source: LeWM.

  Its fields are those of `CausalConfig`, whose `width` the output has.
  """

  width: int
  history: int
  depth: int

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, windows.Memory]:
    """See `predictors.WindowPredictor`."""
    *lead, num_tokens, latent_dim = latents.shape
    predictors.check_window(latents, conditions, self.history, look)
    positions = self.param(
      'positions',
      nn.initializers.normal(1.0),
      (self.history, latent_dim),
      self.param_dtype,
    )
    first = 0
    if look is not None and look.memory.past is not None:
      first = look.memory.past[0].num_tokens
    positions = positions[first : first + num_tokens].reshape(
      (1,) * len(lead) + (num_tokens, latent_dim)
    )
    tokens = (latents + positions).astype(self.dtype)
    conditions = conditions.astype(self.dtype)
    if latent_dim != self.width:
      tokens = layers.uniform_dense(
        self.width, latent_dim, name='input', **self.dtypes
      )(tokens)
    if conditions.shape[-1] != self.width:
      conditions = layers.uniform_dense(
        self.width, conditions.shape[-1], name='condition', **self.dtypes
      )(conditions)
    remembered = []
    for index in range(self.depth):
      tokens, memory = transformer.ModulatedBlock(
        num_heads=self.num_heads,
        head_dim=self.head_dim,
        mlp_dim=self.mlp_dim,
        dropout=self.dropout,
        name=f'block_{index}',
        **self.dtypes,
      )(
        tokens,
        conditions,
        look=windows.part(look, index),
        is_last=index == self.depth - 1,
        train=train,
      )
      remembered.append(memory)
    norm = layers.layer_norm(1e-5, name='norm', **self.dtypes)
    given, past = zip(*remembered)
    return norm(tokens), windows.Memory(given, past)
