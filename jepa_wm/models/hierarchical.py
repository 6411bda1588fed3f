"""Levels above a model, in its latents: each a model of its own timescale."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm import units
from jepa_wm.models import model as model_lib
from jepa_wm.models.heads import head as head_lib
from jepa_wm.types import (
  ActionSpec,
  LatentState,
  Observation,
  ObservationSpec,
  PolicyFn,
  Variables,
)


@dataclasses.dataclass(frozen=True)
class Macros(model_lib.Alone):
  """A model whose actions are macro-actions; a `model.Advances`.

  What it encodes, and how far latents are apart, is said by the model below.
  Its variables are `{'model': those of the model, 'head': those of the head}`.

  Attributes:
    base: the model whose latents these are.
    upper: where macro-actions lead.
    config: settings of the head that knows it.
  """

  base: model_lib.Advances
  upper: head_lib.UpperLevel
  config: Any

  @property
  def observation_spec(self) -> ObservationSpec:
    """See `model.Encodes`."""
    return self.base.observation_spec

  @property
  def latent_dim(self) -> int:
    """See `model.Encodes`."""
    return self.base.latent_dim

  @property
  def token_grid(self) -> tuple[int, ...] | None:
    """See `model.Encodes`."""
    return self.base.token_grid

  @property
  def clip_length(self) -> int | None:
    """See `model.Encodes`."""
    return self.base.clip_length

  @property
  def action_spec(self) -> ActionSpec:
    """A macro-action of M numbers, which are no raw actions."""
    return ActionSpec(self.upper.macro_dim, 1)

  @property
  def history(self) -> int:
    """One latent is all that it looks at."""
    return 1

  @property
  def policy(self) -> PolicyFn | None:
    """Nobody acts on this level."""
    return None

  def encode(
    self,
    variables: Variables,
    observation: Observation,
    *,
    tokens: bool = False,
  ) -> jax.Array:
    """See `model.Encodes`."""
    return self.base.encode(variables['model'], observation, tokens=tokens)

  def start(
    self,
    variables: Variables,
    latents: jax.Array,
    actions: jax.Array,
    *,
    grows: bool = False,
  ) -> LatentState:
    """The newest of latents `[..., L, D]`; see `model.Advances`."""
    del variables, actions, grows
    return latents[..., -1, :]

  def advance(
    self, variables: Variables, state: LatentState, action: jax.Array
  ) -> LatentState:
    """Where a macro-action `[..., M]` leads."""
    return self.upper.step(variables['head'], action, state)

  def absorb(
    self,
    variables: Variables,
    state: LatentState,
    action: jax.Array,
    latent: jax.Array,
  ) -> LatentState:
    """The latent `[..., D]` that is seen; nothing else is remembered."""
    del variables, state, action
    return latent

  def read(self, state: LatentState) -> jax.Array:
    """A state is its latent."""
    latent: jax.Array = state
    return latent

  def distance(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """See `model.Advances`."""
    return self.base.distance(latents, goal)


def stack(
  ground: model_lib.Level, above: Sequence[Any]
) -> tuple[model_lib.Level, ...]:
  """The levels of a model, finest first.

  Args:
    ground: of the model itself.
    above: trained heads, the lowest first: `head` with the role `level`, and
      `params`.

  Raises:
    ValueError: a head without the role, or one whose stride is no multiple of
      that of the level below, or not longer.
  """
  levels = [ground]
  for found in above:
    head, below = found.head, levels[-1]
    upper: head_lib.UpperLevel | None = head.roles.level
    if upper is None:
      raise ValueError(
        f'The head {head.config.name!r} knows no macro-actions, so it is no '
        "level of a model; pass one that does, such as 'waypoints'. What says "
        'subgoals alone goes above a planner (hierarchy.planner).'
      )
    stride = upper.stride * ground.stride
    if stride <= below.stride or stride % below.stride:
      raise ValueError(
        f'A step of the head {head.config.name!r} spans {stride} environment '
        f'steps and one of the level below {below.stride}; a level above must '
        'span a multiple, such as '
        f'{2 * below.stride}: train one with another stride.'
      )
    size = upper.macro_dim
    levels.append(
      model_lib.Level(
        Macros(ground.model, upper, head.config),
        # As they are.
        units.ActionStatistics(
          np.zeros(size, np.float32), np.ones(size, np.float32)
        ),
        stride,
        {'model': ground.params, 'head': found.params},
      )
    )
  return tuple(levels)
