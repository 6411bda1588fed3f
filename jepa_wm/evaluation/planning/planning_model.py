"""What planning asks of a world model, and the one place that asks it."""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import planning
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import CostFn, LatentState, Params, Root


class PlanningModel(Protocol):
  """What is asked of a world model; `jepa_wm.WorldModel` is one.

  One that sees the body's own state says so by `proprio_dim` above 0, and its
  `root` takes `proprio` `[B, S]` or `[B, T, S]` and `goal_proprio` `[B, S]`.

  Attributes:
    params: first argument of its functions.
    image_size: height and width of the frames that `root` expects.
    action_block: environment steps that one planned action spans.
    action_dim: size `A` of a planned action.
  """

  @property
  def params(self) -> Params: ...

  @property
  def image_size(self) -> int: ...

  @property
  def action_block(self) -> int: ...

  @property
  def action_dim(self) -> int: ...

  def root(
    self,
    params: Params,
    pixels: jax.Array,
    goal_pixels: jax.Array,
    actions: jax.Array | None = None,
  ) -> Root:
    """Encodes uint8 frames and goals.

    Args:
      params: the model's.
      pixels: `[B, height, width, 3]`, or `[B, T, height, width, 3]` with
        `actions` `[B, T - 1, A]` between them; T above one only where
        `PlannerSettings.history` is.
      goal_pixels: `[B, height, width, 3]`.
      actions: as above.
    """
    ...

  def dynamics(
    self,
    params: Params,
    rng_key: jax.Array,
    action: jax.Array,
    state: LatentState,
  ) -> LatentState:
    """A `DynamicsFn`."""
    ...

  def cost(
    self, params: Params, state: LatentState, action: jax.Array, goal: Any
  ) -> jax.Array:
    """A `CostFn`, what `PlannerSettings.distance` 'squared' stands for."""
    ...

  def latent(self, state: LatentState) -> jax.Array:
    """The latent `[B, N, D]` that other distances compare with the goal."""
    ...

  def raw_actions(self, actions: jax.Array) -> jax.Array:
    """Planned `[..., A]` to raw actions `[..., action_block, raw]`."""
    ...

  def action_bounds(self, low: Any, high: Any) -> planning.ActionBounds:
    """Raw bounds `[raw]` in the planner's units, `[A]`."""
    ...


def root(
  model: PlanningModel,
  params: Params,
  memory: planning.Memory,
  goal: observations.Observation,
) -> Root:
  """The model's root for what has been seen and what is wanted.

  Args:
    model: the model.
    params: its.
    memory: observations `[B, T, ...]` and the blocks `[B, T - 1, A]` between.
    goal: observations `[B, ...]`.
  """
  seen = memory.observations
  actions: tuple[jax.Array, ...] = (memory.actions,)
  if seen['pixels'].shape[1] == 1:
    seen, actions = jax.tree.map(lambda x: x[:, 0], seen), ()
  given: Any = {}
  if 'proprio' in seen:
    given = {'proprio': seen['proprio'], 'goal_proprio': goal['proprio']}
  return model.root(params, seen['pixels'], goal['pixels'], *actions, **given)


def cost_fn(model: PlanningModel, distance: str) -> CostFn:
  """The price of a latent step by a name of `planning.DISTANCES`."""
  if distance == 'squared':
    return model.cost
  return planning.reading(model.latent, planning.DISTANCES[distance])


def check_history(model: PlanningModel, history: int) -> None:
  """Makes sure that the model looks back that far; computes nothing.

  Raises:
    ValueError: what the model says about too many frames.
  """
  if history > 1:
    actions: Any = jax.ShapeDtypeStruct(
      (1, history - 1, model.action_dim), jnp.float32
    )
    memory = planning.Memory(observations.shapes(model, 1, history), actions)
    jax.eval_shape(
      functools.partial(root, model),
      model.params,
      memory,
      observations.shapes(model, 1),
    )
