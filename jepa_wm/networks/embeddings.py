"""What is learnt on top of frozen features: the body's state beside tokens."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.networks import action_encoders

EMBEDDINGS = fields.Registry('embedding', 'jepa_wm.networks')


@EMBEDDINGS.register
@dataclasses.dataclass(frozen=True)
class ProprioConfig:
  """The settings of a `ProprioEmbedding`; the defaults are DINO-WM's.

  Attributes:
    features: size of the embedding.
    scale: what the state is divided by first.
    weight: of the embedding's distance in the planning cost.
  """

  name: ClassVar[str] = 'linear'

  features: int = 10
  scale: float = 1.0
  weight: float = 1.0

  def __post_init__(self) -> None:
    fields.check(self)
    if not self.scale:
      raise ValueError('scale must be positive, got 0.')

  def build(self, num_tokens: int, proprio_dim: int, dtype: Any) -> nn.Module:
    """Builds the module."""
    return ProprioEmbedding(
      num_tokens=num_tokens,
      proprio_dim=proprio_dim,
      features=self.features,
      scale=self.scale,
      dtype=dtype,
    )


class ProprioEmbedding(nn.Module):
  """A linear embedding of the body's state, beside every token of a frame.

  Source: DINO-WM, arXiv 2411.04983.

  Attributes:
    num_tokens: tokens `P` of a frame.
    proprio_dim: numbers of the state that follow the tokens.
    features: size of the embedding.
    scale: what the state is divided by first.
    dtype: of the computation.
  """

  num_tokens: int
  proprio_dim: int
  features: int
  scale: float = 1.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Embeds the state of `[..., P * F + S]`: `[..., P * (F + features)]`.

    Raises:
      ValueError: the state is missing.
    """
    size = features.shape[-1] - self.proprio_dim
    if size % self.num_tokens:
      raise ValueError(
        f'proprio is missing: the model sees {self.proprio_dim} numbers of the '
        f"body's own state beside the pixels."
      )
    tokens, proprio = features[..., :size], features[..., size:]
    tokens = tokens.reshape(*tokens.shape[:-1], self.num_tokens, -1)
    embedded = action_encoders.LinearEncoder(
      self.features, dtype=self.dtype, name='proprio'
    )(proprio / self.scale)
    shape = (*tokens.shape[:-1], self.features)
    tiled = jnp.broadcast_to(jnp.expand_dims(embedded, -2), shape)
    joined = jnp.concatenate([tokens, tiled.astype(jnp.float32)], axis=-1)
    return joined.reshape(*joined.shape[:-2], -1)
