"""Attention of several agents by way of hubs, at a cost linear in the agents.

Every frame is the tokens of its agents, one of the scene and a few learned
ones, the hubs. An agent's queries see its own tokens and the hubs; the queries
of scene and hubs see everything. What an agent is to know of another one goes
through a hub, which takes two layers.

Source: gamma-World, arXiv 2605.28816, and its released code (sparse hub
attention, SHA).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import attention, layers, remat, rotary, transformer

KINDS = ('hubs', 'dense')
"""Whom an agent's queries see.

  'hubs': its own tokens and the hubs';
  'dense': every token, those of other agents too.
"""


class Hubs(transformer.Heads):
  """What attention and block of frames of agents' tokens are made of.

  Attributes:
    num_agents: agents `G`; their tokens are the first of a frame.
    num_hubs: hubs `Z`, the last tokens of a frame.
    kind: one of `KINDS`.
  """

  num_agents: int
  num_hubs: int
  kind: str = 'hubs'


class HubAttention(Hubs):
  """Self-attention of frames of tokens, those of agents first, hubs last.

  Causal by frame: a token sees those of its own frame and of frames before it.

  Its fields are those of `Hubs`.
  """

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    *,
    past: attention.KeysValues | None,
    rotation: rotary.Rotation,
    train: bool = False,
  ) -> tuple[jax.Array, attention.KeysValues]:
    """Mixes tokens.

    Args:
      tokens: `[..., T, S, D]`, S of every frame.
      past: keys and values of the frames before these.
      rotation: of these `T * S` tokens; past keys are turned already.
      train: whether dropout is on.

    Returns:
      `[..., T, S, D]`, and the keys and values of these tokens.
    """
    *lead, num_frames, size, width = tokens.shape
    inner = self.num_heads * self.head_dim
    dense: layers.DenseFn = functools.partial(
      layers.uniform_dense, **self.dtypes
    )
    flat = tokens.reshape(*lead, num_frames * size, width)
    query, keys, values = (
      dense(inner, width, name=name)(flat) for name in ('query', 'key', 'value')
    )

    def turned(x: jax.Array) -> jax.Array:
      heads = x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
      return rotary.rotate(heads, rotation).reshape(x.shape)

    query, keys = turned(query) * self.head_dim**-0.5, turned(keys)
    own = attention.KeysValues(keys, values)
    if past is not None:
      keys = jnp.concatenate([past.keys, keys], axis=-2)
      values = jnp.concatenate([past.values, values], axis=-2)
    split = lambda x: x.reshape(
      *lead, x.shape[-2] // size, size, self.num_heads, self.head_dim
    )
    drop = nn.Dropout(self.dropout, deterministic=not train)
    how: dict[str, Any] = {'drop': drop, 'train': train}
    if self.kind == 'dense':
      mixed = _together(split(query), split(keys), split(values), **how)
    else:
      asked, *given = map(split, (query, keys, values))
      counts = self.num_agents, self.num_hubs
      rest = asked[..., self.num_agents :, :, :]
      apart = _apart(asked, given[0], given[1], counts, **how)
      together = _together(rest, given[0], given[1], **how)
      mixed = jnp.concatenate([apart, together], axis=-3)
    mixed = mixed.reshape(*lead, num_frames, size, inner)
    return drop(dense(width, inner, name='out')(mixed)), own


@remat.block
class HubBlock(Hubs):
  """Pre-norm block: `HubAttention`, then an MLP, each added to its input.

  Its fields are those of `Hubs`.
  """

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    *,
    past: attention.KeysValues | None,
    rotation: rotary.Rotation,
    train: bool = False,
  ) -> tuple[jax.Array, attention.KeysValues]:
    """Maps tokens; arguments and results as for `HubAttention`."""
    norms = [
      layers.layer_norm(1e-5, name=name, **self.dtypes)
      for name in ('attention_norm', 'mlp_norm')
    ]
    mixed, own = HubAttention(
      num_heads=self.num_heads,
      head_dim=self.head_dim,
      mlp_dim=self.mlp_dim,
      dropout=self.dropout,
      num_agents=self.num_agents,
      num_hubs=self.num_hubs,
      kind=self.kind,
      name='attention',
      **self.dtypes,
    )(norms[0](tokens), past=past, rotation=rotation, train=train)
    tokens = tokens + mixed
    mlp = transformer.Mlp(
      hidden_dim=self.mlp_dim,
      dropout=self.dropout,
      name='mlp',
      **self.dtypes,
    )
    return tokens + mlp(norms[1](tokens), train=train), own


def _seen(num_queries: int, num_keys: int) -> np.ndarray:
  """Which frames are no later, bool `[T, U]`; the queries' are the last."""
  number = np.arange(num_keys)
  return number[num_keys - num_queries :, None] >= number[None]


def _together(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  *,
  drop: nn.Dropout,
  train: bool,
) -> jax.Array:
  """Every token of `[..., T, Q, h, d]` sees all of `[..., U, S, h, d]`."""
  *lead, frames, count, heads, channels = query.shape
  size, mask = keys.shape[-3], None
  if frames > 1:
    seen = _seen(frames, keys.shape[-4]).repeat(count, 0).repeat(size, 1)
    mask = jnp.asarray(seen)
  flat = lambda x: x.reshape(*lead, -1, heads, channels)
  mixed = attention.attend(
    flat(query), flat(keys), flat(values), mask, drop, train=train
  )
  return mixed.reshape(query.shape)


def _apart(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  counts: tuple[int, int],
  *,
  drop: nn.Dropout,
  train: bool,
) -> jax.Array:
  """The tokens of each of `counts` agents see its own and those of the hubs.

  `[..., T, G, h, d]` of `[..., T, S, h, d]` and `[..., U, S, h, d]`.
  """
  num_agents, num_hubs = counts
  *lead, frames, size, heads, channels = keys.shape
  asked = query.shape[-4]

  def of_agents(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x[..., :num_agents, :, :], -3, -4)

  def with_hubs(x: jax.Array) -> jax.Array:
    hubs = x[..., size - num_hubs :, :, :]
    hubs = hubs.reshape(*lead, 1, frames * num_hubs, heads, channels)
    shape = *lead, num_agents, *hubs.shape[-3:]
    return jnp.concatenate(
      [of_agents(x), jnp.broadcast_to(hubs, shape)], axis=-3
    )

  mask = None
  if asked > 1:
    seen = _seen(asked, frames)
    seen = np.concatenate([seen, seen.repeat(num_hubs, 1)], axis=1)
    mask = jnp.asarray(seen)
  mixed = attention.attend(
    of_agents(query),
    with_hubs(keys),
    with_hubs(values),
    mask,
    drop,
    train=train,
  )
  return jnp.moveaxis(mixed, -4, -3)
