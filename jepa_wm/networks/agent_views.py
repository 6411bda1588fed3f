"""Pictures of several agents as each of them sees it: who is me, who is not.

A picture of G agents, each in its own colour, becomes `G + 1` views of three
channels: what is there besides agents, where the agent is, and where the others
are. A view knows neither the agent's colour nor how many there are, so that one
encoder serves all of them, and any number. The last view is that of the scene,
in which nobody is the agent.
"""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import palette
from jepa_wm.networks import encoders
from jepa_wm.types import Observation, ObservationSpec

_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Of ITU-R BT.601, what a colour weighs in a picture of greys."""

_GREY = np.full(3, 3**-0.5)

_HALF_ANGLE = np.pi / len(palette.AGENT_COLORS)
"""Half of what is between two hues: there a colour is neither's."""


def _chroma_plane() -> tuple[np.ndarray, np.ndarray]:
  """An orthonormal basis `[3, 2]` of what is not grey, and colours in it."""
  first = np.array([2.0, -1.0, -1.0]) / 6**0.5
  basis = np.stack([first, np.cross(_GREY, first)], axis=1)
  return basis, palette.AGENT_COLORS / 255.0 @ basis


def soft_masks(pixels: jax.Array, num_agents: int) -> jax.Array:
  """How much of each agent's colour is in a pixel.

  A colour blended with any grey keeps its hue, and its distance from grey says
  how much of it there is; a hue between two colours is in part neither's.

  Args:
    pixels: `[..., height, width, 3]`, 0..255.
    num_agents: of the first so many of `palette.AGENT_COLORS`.

  Returns:
    float32 `[..., G, height, width]`, 0..1.
  """
  basis, colors = _chroma_plane()
  channels = jnp.moveaxis(pixels, -1, 0).astype(jnp.float32) / 255.0
  # Sums written out: products with matrices of three rows take longer.
  x, y = (sum(w * c for w, c in zip(axis, channels)) for axis in basis.T)
  masks = []
  for along in (
    colors[:num_agents] / np.square(colors).sum(1)[:num_agents, None]
  ):
    share = along[0] * x + along[1] * y
    away = jnp.abs(along[0] * y - along[1] * x)
    masks.append(jnp.clip(share - away / np.tan(_HALF_ANGLE), 0.0, 1.0))
  return jnp.stack(masks, axis=-3)


def views(
  pixels: jax.Array, num_agents: int, *, others: bool = True
) -> jax.Array:
  """Views of a picture by each agent, and of the scene.

  Args:
    pixels: uint8 `[..., height, width, 3]`.
    num_agents: agents `G` in the picture, drawn in the first G colours of
      `palette.AGENT_COLORS`.
    others: whether the third channel shows anything.

  Returns:
    uint8 `[..., G + 1, height, width, 3]`: luminance, where agents are white;
    the agent's own mask, in the last view 0; and the others'.
  """
  masks = soft_masks(pixels, num_agents)
  channels = jnp.moveaxis(pixels, -1, 0).astype(jnp.float32) / 255.0
  scene = sum(weight * c for weight, c in zip(_LUMINANCE, channels))
  # What is painted over is not known; the ground of our worlds is white.
  for agent, color in enumerate(palette.AGENT_COLORS[:num_agents] / 255.0):
    scene = scene + masks[..., agent, :, :] * (1.0 - color @ _LUMINANCE)
  scene = jnp.clip(scene, 0.0, 1.0)
  everyone = masks.sum(-3)
  none = jnp.zeros_like(everyone)

  def view(mine: jax.Array) -> jax.Array:
    rest = jnp.minimum(everyone - mine, 1.0) if others else none
    return jnp.stack([scene, mine, rest], axis=-1)

  own = jnp.moveaxis(masks, -3, 0)
  found = jnp.stack([*map(view, own), view(none)], axis=-4)
  return jnp.round(255.0 * found).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True)
class Views(encoders.Unfitted):
  """An encoder of pictures as one of agents, an `encoders.Encoder`.

  Attributes:
    inner: encodes a view, as if it were a colour picture.
    num_agents: agents `G` in a picture.
    others: whether a view shows where other agents are.
  """

  name: ClassVar[str] = 'views'
  clip_length: ClassVar[int] = 0

  inner: encoders.Encoder
  num_agents: int
  others: bool = True

  def __post_init__(self) -> None:
    """Checks that views can be shown to the encoder.

    Raises:
      ValueError: it sees something else than colour frames.
    """
    if self.inner.clip_length or [*self.inner.spec] != ['pixels']:
      raise ValueError(
        f'encoder={self.inner.name!r} sees {", ".join(self.inner.spec)}'
        f'{" of clips" if self.inner.clip_length else ""}, and views of agents '
        "are frames of pixels alone: take one such as 'conv' or 'vit'."
      )
    if self.num_agents > palette.MAX_AGENTS:
      raise ValueError(
        f'num_agents must be at most {palette.MAX_AGENTS}, the colours in '
        f'which agents are told apart, got {self.num_agents}.'
      )

  @property
  def spec(self) -> ObservationSpec:
    """See `encoders.Encoder`."""
    return self.inner.spec

  def inputs(self, observation: Observation) -> Any:
    """See `encoders.Encoder`: `[..., G + 1, *]` of what the inner one takes."""
    pixels = encoders.array(observation, 'pixels', self.spec['pixels'])
    seen = views(jnp.asarray(pixels), self.num_agents, others=self.others)
    return self.inner.inputs({'pixels': seen})

  def build(self, dtype: Any) -> nn.Module:
    """See `encoders.Encoder`; features are those of the views in a row."""
    return ViewEncoder(self.inner.build(dtype))


class ViewEncoder(nn.Module):
  """One encoder of all views, whose features stand in a row.

  Attributes:
    inner: views to features and intermediates.
  """

  inner: nn.Module

  def __call__(
    self, inputs: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, encoders.Intermediates]:
    """Encodes views `[..., G + 1, *]` as `[..., (G + 1) * F]`."""
    features, found = self.inner(inputs, train=train)
    *lead, number, size = features.shape
    return features.reshape(*lead, number * size), found


class Shared(nn.Module):
  """One module for every part of a vector: an agent, or a token.

  Attributes:
    inner: maps a part `[..., X]` to `[..., Y]`.
    number: parts `P`.
  """

  inner: nn.Module
  number: int

  def __call__(self, inputs: jax.Array, **how: Any) -> jax.Array:
    """Maps `[..., P * X]` to `[..., P * Y]`; `how` goes to the module."""
    *lead, size = inputs.shape
    parts = inputs.reshape(*lead, self.number, size // self.number)
    outputs: jax.Array = self.inner(parts, **how)
    return outputs.reshape(*lead, self.number * outputs.shape[-1])


class AgentActions(nn.Module):
  """One action encoder for all agents.

  Attributes:
    inner: blocks of one agent `[..., k * a]` to conditions `[..., C]`.
    num_agents: agents `G`.
    block: raw actions `k` of a block.
  """

  inner: nn.Module
  num_agents: int
  block: int

  def __call__(self, actions: jax.Array) -> jax.Array:
    """Encodes blocks of the group.

    Args:
      actions: `[..., k * G * a]`, for each of k steps agent by agent.

    Returns:
      `[..., G * C]`, agent by agent.
    """
    *lead, size = actions.shape
    each = size // (self.block * self.num_agents)
    steps = actions.reshape(*lead, self.block, self.num_agents, each)
    parts = jnp.moveaxis(steps, -2, -3)
    parts = parts.reshape(*lead, self.num_agents, self.block * each)
    outputs: jax.Array = self.inner(parts)
    return outputs.reshape(*lead, self.num_agents * outputs.shape[-1])
