"""The predictor of several agents: who they are, and how they meet in hubs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import (
  attention,
  block_causal,
  frames,
  hub_attention,
  layers,
  predictors,
  simplex,
  transformer,
  windows,
)

IDENTITIES = ('simplex', 'slots', 'none')
"""How tokens say whose they are.

  'simplex': heads turn by a vertex of a regular simplex, without parameters;
    in training each sample draws its agents from the pool, in random order;
  'slots': a learned embedding for each number, agent i always the i-th;
  'none': they do not.
"""

TIME_SHARE = 2
"""Half of a head's channels turn by time, and the other half by the agent."""


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class HubsConfig(predictors.TransformerConfig):
  """The settings of a `HubPredictor`.

  Attributes:
    width: size of a token inside.
    num_hubs: learned tokens of every frame that all agents see.
    pool: agents that there may be at most; those of a frame are drawn from it
      in training.
    identity: one of `IDENTITIES`.
    attention: one of `hub_attention.KINDS`.
  """

  name: ClassVar[str] = 'hubs'
  choices: ClassVar[Mapping[str, Sequence[str]]] = {
    'identity': IDENTITIES,
    'attention': hub_attention.KINDS,
  }

  width: int = 192
  depth: int = 6
  mlp_dim: int = 2048
  num_hubs: int = 4
  pool: int = 8
  identity: str = 'simplex'
  attention: str = 'hubs'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.identity == 'simplex':
      simplex.check_pool(self.pool, _agent_pairs(self.head_dim))

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; the last token is the scene's.

    Raises:
      ValueError: more agents than the pool has.
    """
    del state_dim
    num_tokens = grid[0] * grid[1]
    num_agents = num_tokens - 1
    if num_agents < 1:
      raise ValueError(
        "The predictor 'hubs' takes a token of each agent and one of the "
        f'scene, got {num_tokens} in all; use it in the model multi_agent.'
      )
    if self.identity != 'none' and num_agents > self.pool:
      raise ValueError(
        f'num_agents={num_agents} are more than the {self.pool} that the '
        f'predictor tells apart (predictor.pool, {self.identity!r}): take no '
        f'more than {self.pool}, or train with a larger pool.'
      )
    core = HubPredictor(**vars(self), num_agents=num_agents, dtype=dtype)
    return frames.FramePredictor(core, num_tokens=num_tokens)


class HubPredictor(transformer.Heads):
  """Frames of agents' tokens to the next ones, each agent's action added.

  A frame is one token for each agent and one of the scene; to these come
  `num_hubs` learned ones, the same in every frame. An agent's condition is
  added to its token. `hub_attention` says who sees whom, `simplex` how heads
  turn by time and agent. No parameter depends on the number of agents.

  Source: gamma-World, arXiv 2605.28816, and its released code.

  Its fields are those of `HubsConfig`, and `num_agents`, the agents `G` of a
  frame.
  """

  history: int
  width: int
  depth: int
  num_agents: int
  num_hubs: int = 4
  pool: int = 8
  identity: str = 'simplex'
  attention: str = 'hubs'

  @nn.compact
  def __call__(
    self,
    frames: jax.Array,
    conditions: Sequence[jax.Array],
    *,
    look: windows.Look | None = None,
    train: bool = False,
    agents: jax.Array | None = None,
  ) -> tuple[jax.Array, block_causal.Past]:
    """Predicts for every frame the one after it.

    Args:
      frames: `[..., T, G + 1, D]`, the scene last, `T` at most `history`.
      conditions: one, `[..., T, G * C]`, agent by agent.
      look: of the newest frame, see `predictors.WindowPredictor`.
      train: whether dropout is on, and agents are drawn from the pool.
      agents: int `[..., G]`, which of the pool they are; by default, and not
        in training, the first in their order.

    Returns:
      `[..., T, G + 1, D]`, with a `look` `[..., 1, G + 1, D]`, and the past of
      these frames.

    Raises:
      ValueError: the window is longer than `history`, the conditions are not
        as many as the frames, or no agents' own.
    """
    block_causal.check_window(frames, conditions, self.history)
    *lead, num_frames, num_tokens, features = frames.shape
    size = num_tokens + self.num_hubs
    if agents is None:
      agents = self._who(tuple(lead), train)
    tokens = self._tokens(frames, conditions[0], agents)
    past = None if look is None else look.memory.past
    first = block_causal.count_past(look, size)
    rotation = simplex.rotation(
      jnp.arange(first, first + num_frames),
      self._vertices(agents),
      num_time_pairs=self.head_dim // (2 * TIME_SHARE),
    )
    remembered: list[attention.KeysValues] = []
    for index in range(self.depth):
      tokens, keys_values = hub_attention.HubBlock(
        num_heads=self.num_heads,
        head_dim=self.head_dim,
        mlp_dim=self.mlp_dim,
        dropout=self.dropout,
        num_agents=self.num_agents,
        num_hubs=self.num_hubs,
        kind=self.attention,
        name=f'block_{index}',
        **self.dtypes,
      )(
        tokens,
        past=None if past is None else past[index],
        rotation=rotation,
        train=train,
      )
      remembered.append(keys_values)
    if look is not None:
      # Frames after the newest have not been seen by it.
      flat = tokens.reshape(*lead, num_frames * size, self.width)
      place = look.place if past is None else None
      tokens = jnp.expand_dims(windows.take(flat, place, size), -3)
    tokens = tokens[..., :num_tokens, :]
    tokens = layers.layer_norm(1e-5, name='norm', **self.dtypes)(tokens)
    outputs = layers.uniform_dense(
      features, self.width, name='output', **self.dtypes
    )(tokens)
    return outputs, tuple(remembered)

  def _who(self, lead: tuple[int, ...], train: bool) -> jax.Array:
    """Which of the pool the agents are, `[..., G]`."""
    if train and self.identity == 'simplex':
      key = self.make_rng('dropout')
      return simplex.draw(key, lead, self.num_agents, self.pool)
    return jnp.arange(self.num_agents)

  def _vertices(self, agents: jax.Array) -> jax.Array:
    """What tokens of a frame turn by, `[..., S, d]`, and 0 for the shared."""
    num_pairs = _agent_pairs(self.head_dim)
    num_shared = 1 + self.num_hubs
    if self.identity == 'simplex':
      table = jnp.asarray(simplex.vertices(self.pool, num_pairs))
      own = table[agents]
    else:
      own = jnp.zeros((*agents.shape, num_pairs))
    pad = ((0, 0),) * (own.ndim - 2) + ((0, num_shared), (0, 0))
    return jnp.pad(own, pad)

  def _tokens(
    self, frames: jax.Array, given: jax.Array, agents: jax.Array
  ) -> jax.Array:
    """Tokens `[..., T, S, W]`: agents', the scene's, the hubs'."""
    *lead, num_frames, _, features = frames.shape
    if given.shape[-1] % self.num_agents:
      raise ValueError(
        f'conditions must hold those of {self.num_agents} agents, one after '
        f'another, got shape {given.shape}.'
      )
    each = given.reshape(*lead, num_frames, self.num_agents, -1)
    dense = layers.uniform_dense
    seen = dense(self.width, features, name='input', **self.dtypes)(
      frames.astype(self.dtype)
    )
    told = dense(self.width, each.shape[-1], name='condition', **self.dtypes)(
      each.astype(self.dtype)
    )
    if self.identity == 'slots':
      slots = self.param(
        'slots', nn.initializers.normal(1.0), (self.pool, self.width)
      )
      told = told + _in_frames(slots[agents], told)
    start = nn.initializers.normal(0.02)
    scene, hubs = (
      self.param(name, start, (number, self.width), self.param_dtype)
      for name, number in (('scene', 1), ('hubs', self.num_hubs))
    )
    lead_shape = told.shape[:-2]
    own, shared = (
      jnp.broadcast_to(_in_frames(x, told), (*lead_shape, *x.shape))
      for x in (scene, hubs)
    )
    told = jnp.concatenate([told, own], axis=-2)
    return jnp.concatenate([seen + told, shared], axis=-2)


def _agent_pairs(head_dim: int) -> int:
  """Pairs of channels of a head that turn by the agent."""
  return head_dim // 2 - head_dim // (2 * TIME_SHARE)


def _in_frames(tokens: jax.Array, frames: jax.Array) -> jax.Array:
  """Tokens `[..., S, W]` of every frame, to go with `frames` `[..., T, S, W]`.

  Leading dims that are missing are 1, and the dtype is that of `frames`.
  """
  tokens = jnp.expand_dims(tokens, -3).astype(frames.dtype)
  return tokens.reshape((1,) * (frames.ndim - tokens.ndim) + tokens.shape)
