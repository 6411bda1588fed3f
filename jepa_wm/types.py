"""Letters for shapes, and the callables that hold the rooms together.

Every shape in this package is written with these letters:

  `B` problems or batch      `T` frames               `N` action samples
  `K` elites                 `H` planning horizon     `A` action size
  `D` latent size            `P` patches              `C` channels

Pixels are `[..., height, width, C]`. A planner's action of size `A` is one
action block: the raw actions of `action_block` environment steps, one after
another, in normalised units.
"""

from typing import Any, NamedTuple, Protocol

import jax

Params = Any
"""Pytree of arrays that a model function takes as its first argument."""

LatentState = Any
"""Opaque pytree, leading dims `[B]` or `[B, N]`: what a model steps forward."""


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


class EncodeFn(Protocol):
  """Pixels to latents."""

  def __call__(self, params: Params, pixels: jax.Array) -> jax.Array:
    """Encodes uint8 `pixels` `[..., height, width, C]` to `[..., D]`."""
    ...
