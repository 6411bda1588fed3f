"""What planning asks of a world model, and the one place that asks it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import planning
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import (
  CostFn,
  DynamicsFn,
  LatentState,
  Observation,
  Params,
  Root,
)

RootFn = Callable[..., Root]
"""`(params, observation, goal, actions=None)` to where a search begins.

The observation's arrays are `[B, *shape]`, or `[B, T, *shape]` with `actions`
`[B, T - 1, A]` between them; T is above one only where
`PlannerSettings.history` is. The goal's are `[B, *shape]`.
"""


class Steps(observations.Observing, Protocol):
  """A model whose latents actions move; `jepa_wm.WorldModel` is one.

  Attributes:
    params: first argument of its functions.
    action_block: environment steps that one action spans.
    dynamics: one latent step.
  """

  @property
  def params(self) -> Params: ...

  @property
  def action_block(self) -> int: ...

  @property
  def dynamics(self) -> DynamicsFn: ...

  def latent(self, state: LatentState) -> jax.Array:
    """The newest latent `[..., D]` of a state."""
    ...


class PlanningModel(Steps, Protocol):
  """What planning asks of a model; `jepa_wm.WorldModel` is one.

  Attributes:
    action_dim: size `A` of a planned action.
    root: encodes what is seen and what is wanted.
    expecting: what planners that may be surprised compare.
    following: how its own state is carried from frame to frame, where
      `PlannerSettings.memory` is 'state'.
    cost: what `PlannerSettings.distance` 'squared' stands for.
    record: how it was trained; empty where nobody knows.
    agents: whose each number of a planned action is, and what a step costs
      each.
  """

  @property
  def action_dim(self) -> int: ...

  @property
  def cost(self) -> CostFn: ...

  @property
  def expecting(self) -> planning.Expecting: ...

  @property
  def following(self) -> planning.Following: ...

  @property
  def record(self) -> Mapping[str, Any]: ...

  @property
  def agents(self) -> planning.Agents: ...

  @property
  def root(self) -> RootFn: ...

  def raw_actions(self, actions: jax.Array) -> jax.Array:
    """Planned `[..., A]` to raw actions `[..., action_block, raw]`."""
    ...

  def action_bounds(self, low: Any, high: Any) -> planning.ActionBounds:
    """Raw bounds `[raw]` in the planner's units, `[A]`."""
    ...


MEMORIES = ('frames', 'state')
"""What is remembered: the last frames, or the model's own state."""


def root_fn(model: PlanningModel, memory: str) -> Callable[..., Root]:
  """Where a search of the model begins, by one of `MEMORIES`."""
  if memory == 'state':
    return model.following.root
  return functools.partial(root, model)


def root(
  model: PlanningModel,
  params: Params,
  memory: planning.Memory,
  goal: Observation,
) -> Root:
  """The model's root for what has been seen and what is wanted.

  Args:
    model: the model.
    params: its.
    memory: observations `[B, T, ...]` and the blocks `[B, T - 1, A]` between.
    goal: observations `[B, ...]`.
  """
  seen = memory.observations
  if all(x.shape[1] == 1 for x in seen.values()):
    seen = {name: x[:, 0] for name, x in seen.items()}
    return model.root(params, seen, goal)
  return model.root(params, seen, goal, memory.actions)


def cost_fn(model: PlanningModel, distance: str) -> CostFn:
  """The price of a latent step by a name of `planning.DISTANCES`."""
  if distance == 'squared':
    return model.cost
  return planning.reading(model.latent, planning.DISTANCES[distance])


def check_history(model: PlanningModel, history: int) -> None:
  """Makes sure that the model looks back that far; computes nothing.

  Raises:
    ValueError: too many, with what the model says about them.
  """
  if history > 1:
    actions: Any = jax.ShapeDtypeStruct(
      (1, history - 1, model.action_dim), jnp.float32
    )
    memory = planning.Memory(observations.shapes(model, 1, history), actions)
    try:
      jax.eval_shape(
        functools.partial(root, model),
        model.params,
        memory,
        observations.shapes(model, 1),
      )
    except ValueError as error:
      raise ValueError(
        f'history={history} is not what the model looks back on: {error} '
        'Choose a smaller history, or train with a longer predictor.history.'
      ) from error
