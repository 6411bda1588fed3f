"""Letters for shapes, and the callables that hold the rooms together.

Every shape in this package is written with these letters:

  `B` problems or batch      `T` frames               `N` action samples
  `K` elites                 `H` planning horizon     `A` action size
  `D` latent size            `P` patches              `C` channels
  `G` agents

Pixels are `[..., height, width, C]`. A planner's action of size `A` is one
action block: the raw actions of `action_block` environment steps, one after
another, in normalised units.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

Params = Any
"""Pytree of arrays that a model function takes as its first argument."""

Variables = dict[str, Any]
"""A model's collections of arrays.

'params', which an optimiser trains, 'batch_stats', and where there are such
'frozen', which nothing changes, and 'target', which follows the parameters.
"""

Observation = Mapping[str, jax.Array]
"""Named arrays that agree in their leading dims.

`{'pixels': uint8 [..., height, width, C], 'proprio': [..., S], ...}`.
"""

ObservationSpec = Mapping[str, jax.ShapeDtypeStruct]
"""Shape, without leading dims, and dtype of every array of an observation."""

LatentState = Any
"""Opaque pytree, leading dims `[B]` or `[B, N]`: what a model steps forward."""


class ActionSpec(NamedTuple):
  """The actions of one latent step.

  Attributes:
    dim: raw action dimensions of one environment step.
    block: environment steps, so raw actions, per latent step.
  """

  dim: int
  block: int

  @property
  def size(self) -> int:
    """Size `A` of one action block: its raw actions, flattened."""
    return self.dim * self.block


class Transition(NamedTuple):
  """One step of a world, or a batch of them.

  Attributes:
    observation: before the step.
    action: `[..., A]`.
    reward: `[...]`, of the step.
    discount: `[...]`, 0 where the step ended the task, else usually 1.
    next_observation: after the step.
    extras: whatever else was recorded.
  """

  observation: Observation
  action: jax.Array
  reward: jax.Array
  discount: jax.Array
  next_observation: Observation
  extras: Mapping[str, Any]


class Root(NamedTuple):
  """A batch of planning problems: where they start and where they should end.

  Attributes:
    state: latent state pytree, every leaf with leading `[B]`.
    goal: goal pytree, every leaf with leading `[B]`.
  """

  state: LatentState
  goal: Any


class DynamicsFn(Protocol):
  """One latent step of `[B, N]` candidates."""

  def __call__(
    self,
    params: Params,
    rng_key: jax.Array,
    action: jax.Array,
    state: LatentState,
    /,
  ) -> LatentState:
    """Steps `state`, leaves `[B, N, ...]`, by `action` `[B, N, A]`.

    `rng_key` is `[B]`, one key per problem and new at every step, so that
    what a stochastic model draws for a problem does not depend on the batch.

    Leaves may grow for the first few steps (a history window that fills, a
    cache); a rollout unrolls those steps and scans the rest.
    """
    ...


class CostFn(Protocol):
  """Price `[B, N]` of having reached `state` by `action`, given `goal`."""

  def __call__(
    self, params: Params, state: LatentState, action: jax.Array, goal: Any, /
  ) -> jax.Array:
    """Lower is better; `goal` leaves `[B, 1, ...]`, `action` `[B, N, A]`."""
    ...


class Policy(Protocol):
  """What to do in a latent state, to get to a goal."""

  def __call__(
    self, params: Params, rng_key: jax.Array, state: LatentState, goal: Any
  ) -> jax.Array:
    """Acts in `state`, leaves `[B, ...]`; returns actions `[B, A]`."""
    ...


class EncodeFn(Protocol):
  """Observations to latents."""

  def __call__(self, params: Params, observation: Observation) -> jax.Array:
    """Encodes an observation, leading dims `[...]`, to `[..., D]`."""
    ...
