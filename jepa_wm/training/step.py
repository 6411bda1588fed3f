"""One update, of one run or of several, as a compiled function."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from jepa_wm import sharding, units
from jepa_wm.networks import remat
from jepa_wm.training import accumulation
from jepa_wm.training import state as state_lib

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]
TrainStepFn = Callable[
  [state_lib.TrainState, Batch], tuple[state_lib.TrainState, Metrics]
]
JointStepFn = Callable[
  [state_lib.TrainState, Sequence[Batch]],
  tuple[state_lib.TrainState, list[Metrics]],
]
AugmentFn = Callable[[jax.Array, jax.Array], jax.Array]
"""Key and uint8 pixels `[B, T, height, width, 3]` to such pixels."""

ScheduleFn = Callable[[jax.Array], Mapping[str, jax.Array]]
"""Finished updates to what changes by schedule, scalars by name."""


def make_train_step(
  learner: state_lib.Learner,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  *,
  layout: state_lib.Layout | None = None,
  **given: Any,
) -> TrainStepFn:
  """Compiles `update`.

  Args:
    learner: as for `update`.
    optimizer: as for `update`.
    mesh: batches come sharded over its `data`; what is traced may ask for it.
    layout: how the state lies on it, see `state.layout`; replicated by default.
    **given: as for `update`.

  Returns:
    The same, jitted; `state` is donated and must not be used again.
  """
  if layout is None:
    layout = state_lib.layout(learner, optimizer, mesh, 'replicated')
  return jax.jit(
    _within(mesh, update(learner, optimizer, layout=layout, **given)),
    donate_argnums=0,
    out_shardings=(layout, sharding.replicated(mesh)),
  )


def make_joint_step(
  learner: state_lib.Learner,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  **given: Any,
) -> JointStepFn:
  """Compiles an update of several runs as one program.

  Args:
    learner: as for `update`.
    optimizer: as for `update`.
    mesh: as for `make_train_step`.
    **given: as for `update`.

  Returns:
    States stacked, and a batch of each, to new states stacked, and metrics of
    each; jitted, the states are donated.
  """
  one = update(learner, optimizer, **given)

  def joint_step(states, batches):
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    states, metrics = jax.vmap(one)(states, stacked)
    return states, [
      jax.tree.map(lambda x, i=number: x[i], metrics)
      for number in range(len(batches))
    ]

  return jax.jit(
    _within(mesh, joint_step),
    donate_argnums=0,
    out_shardings=sharding.replicated(mesh),
  )


def update(
  learner: state_lib.Learner,
  optimizer: optax.GradientTransformation,
  *,
  layout: state_lib.Layout | None = None,
  policy: str = 'none',
  accumulate: int = 1,
  action_statistics: units.ActionStatistics | None = None,
  augment_fn: AugmentFn | None = None,
  schedule_fn: ScheduleFn | None = None,
) -> TrainStepFn:
  """One update of `learner` by `optimizer`, as a pure function.

  The loss is that of the whole batch, on any number of devices.

  Args:
    learner: gives the loss, and moves what follows the parameters.
    optimizer: turns gradients into updates.
    layout: how the state lies; what lies split is gathered where the loss needs
      it, and changed where it lies.
    policy: one of `remat.POLICIES`, what blocks keep for the backward pass.
    accumulate: chunks that a batch is encoded in; above 1 the learner is an
      `accumulation.Splits`.
    action_statistics: normalise the actions on the device; None where there
      are none, or where they come as they should be.
    augment_fn: what is done to the pixels first; a part of the step's key is
      its own.
    schedule_fn: what to report of the optimiser's schedules.

  Returns:
    `(state, batch) -> (state, metrics)`. `batch` holds `observation`, a mapping
    of uint8 `pixels` `[B, T, height, width, C]` and the like, and raw `action`
    `[B, T-1, action_block * raw_dim]`, or what else the learner takes. The
    metrics are scalars on the device: `loss` and what the learner reports,
    `grad_norm` before clipping, what `schedule_fn` says, and the bool
    `finite`, false where the loss, the gradient or the new batch statistics
    hold a NaN or an infinity.
  """

  def whole(variables):
    if layout is None:
      return variables
    return sharding.gathered(variables, layout.variables)

  def train_step(state, batch):
    if action_statistics is not None:
      action = action_statistics.normalize(batch['action'])
      batch = {**batch, 'action': action}
    step_key = state.step_key()
    if augment_fn is not None:
      # Split only here: a run without augmentation keeps its key, and its bits.
      augment_key, step_key = jax.random.split(step_key)
      seen = batch['observation']
      seen = {**seen, 'pixels': augment_fn(augment_key, seen['pixels'])}
      batch = {**batch, 'observation': seen}

    def variables_fn(params):
      return whole({**state.variables, 'params': params})

    def loss_fn(params):
      losses = learner.losses(variables_fn(params), batch, step_key)
      return losses.loss, (losses.metrics, losses.batch_stats)

    params = state.variables['params']
    with remat.applied(policy):
      if accumulate == 1:
        found, gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
      else:
        parts = cast(accumulation.Splits, learner).parts()
        given = variables_fn, params, batch, step_key
        found, gradient = accumulation.value_and_grad(
          parts, *given, count=accumulate
        )
    loss, (metrics, batch_stats) = found
    updates, opt_state = optimizer.update(gradient, state.opt_state, params)
    variables = {
      **state.variables,
      'params': optax.apply_updates(params, updates),
      'batch_stats': batch_stats,
    }
    new_state = state.replace(
      step=state.step + 1,
      # After the update, so that an average holds the newest parameters.
      variables=learner.after_update(variables, state.step),
      opt_state=opt_state,
    )
    grad_norm = optax.tree.norm(gradient)
    return new_state, {
      **metrics,
      'loss': loss,
      'grad_norm': grad_norm,
      **(schedule_fn(state.step) if schedule_fn else {}),
      'finite': _all_finite((loss, grad_norm, batch_stats)),
    }

  return train_step


def _within(
  mesh: jax.sharding.Mesh, function: Callable[..., Any]
) -> Callable[..., Any]:
  """`function`, which knows the mesh while it is traced."""

  @functools.wraps(function)
  def inside(*args: Any) -> Any:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args)

  return inside


def _all_finite(tree: Any) -> jax.Array:
  """Whether every number in `tree` is finite, as one bool."""
  leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
