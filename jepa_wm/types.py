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

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class Root(NamedTuple):
  """A batch of planning problems: where they start and where they should end.

  Attributes:
    state: latent state pytree, every leaf with leading `[B]`.
    goal: goal pytree, every leaf with leading `[B]`; None where the cost looks
      at no goal.
  """

  state: LatentState
  goal: Any = None


DynamicsFn = Callable[[Params, jax.Array, jax.Array, LatentState], LatentState]
"""One latent step of `[B, N]` candidates: `(params, rng_key, action, state)`.

Steps `state`, leaves `[B, N, ...]`, by `action` `[B, N, A]`. `rng_key` is
`[B]`, one key per problem and new at every step, so that what a stochastic
model draws for a problem does not depend on the batch. Leaves may grow for the
first few steps (a history window that fills, a cache); a rollout unrolls those
steps and scans the rest.
"""

CostFn = Callable[[Params, LatentState, jax.Array, Any], jax.Array]
"""Price `[B, N]` of `(params, state, action, goal)`; lower is better.

Of having reached `state` by `action` `[B, N, A]`; `goal` leaves `[B, 1, ...]`.
"""

PolicyFn = Callable[
  [Params, jax.Array | None, jax.Array, jax.Array, jax.Array], jax.Array
]
"""`(params, rng_key, latents, goal, steps) -> [..., A]`: whoever acts.

A normalised action block at `latents` `[..., D]` on the way to `goal`
`[..., D]`. `steps` `[...]` are the
environment steps that may still be played, which few look at. Without an
`rng_key` it is the likeliest block, and nothing is drawn; else one key for all,
so that whoever wants keys of their own maps over them.
"""
