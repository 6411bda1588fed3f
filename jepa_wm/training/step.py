"""One update, and one look at held-out data, as compiled functions."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jepa_wm import families, sharding, world_model
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]
TrainStepFn = Callable[
  [state_lib.TrainState, Batch], tuple[state_lib.TrainState, Metrics]
]
AugmentFn = Callable[[jax.Array, jax.Array], jax.Array]
"""Key and uint8 pixels `[B, T, height, width, 3]` to such pixels."""

EvalStepFn = Callable[[Any, Batch], tuple[Metrics, jax.Array]]


def make_train_step(
  family: Any,
  optimizer: optimizers.AdamW,
  action_statistics: Any,
  mesh: jax.sharding.Mesh,
  *,
  augment_fn: AugmentFn | None = None,
) -> TrainStepFn:
  """Compiles one update of `family` by `optimizer`.

  The loss is that of the whole batch, on any number of devices.

  Args:
    family: gives the loss and keeps the target encoder.
    optimizer: turns gradients into updates.
    action_statistics: normalise the actions on the device; None where the
      family takes none.
    mesh: the state is replicated over it; batches come sharded over `data`.
    augment_fn: what is done to the pixels first; a part of the step's key is
      its own.

  Returns:
    `(state, batch) -> (state, metrics)`, jitted; `state` is donated and must
    not be used again. `batch` holds `observation`, a mapping of uint8 `pixels`
    `[B, T, height, width, C]` and the like, and raw `action`
    `[B, T-1, action_block * raw_dim]`, or what else the family takes. The
    metrics are scalars on the device: `loss` and what the family reports,
    `grad_norm` before clipping, what `optimizer.metrics` says, and the bool
    `finite`, false where the loss, the gradient or the new batch statistics
    hold a NaN or an infinity.
  """
  transformation = optimizer.transformation()

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

    def loss_fn(params):
      loss, (metrics, batch_stats, _) = family.loss(
        {**state.variables, 'params': params},
        state.target_variables,
        batch,
        step_key,
      )
      return loss, (metrics, batch_stats)

    params = state.variables['params']
    (loss, (metrics, batch_stats)), gradient = jax.value_and_grad(
      loss_fn, has_aux=True
    )(params)
    updates, opt_state = transformation.update(
      gradient, state.opt_state, params
    )
    variables = {
      **state.variables,
      'params': optax.apply_updates(params, updates),
      'batch_stats': batch_stats,
    }
    new_state = state.replace(
      step=state.step + 1,
      variables=variables,
      # After the update, so that the average holds the newest parameters.
      target_variables=family.update_target(
        state.target_variables, variables, state.step
      ),
      opt_state=opt_state,
    )
    grad_norm = optax.tree.norm(gradient)
    return new_state, {
      **metrics,
      'loss': loss,
      'grad_norm': grad_norm,
      **optimizer.metrics(state.step),
      'finite': _all_finite((loss, grad_norm, batch_stats)),
    }

  return jax.jit(
    train_step, donate_argnums=0, out_shardings=sharding.replicated(mesh)
  )


def make_eval_step(model: world_model.WorldModel) -> EvalStepFn:
  """Compiles a look at held-out windows, as a planner would use the model.

  Args:
    model: the family and its action statistics; its parameters are not used.

  Returns:
    `(variables, batch) -> (metrics, latents)`, jitted, evaluation mode (no
    dropout, running batch statistics). Both metrics are mean squared errors
    per latent dimension: `prediction_error` of one step after true latents,
    `rollout_error` of the last step after a rollout from the first frame
    alone. `latents` `[B, T, D]` are those of the batch, for telemetry. A
    family without dynamics says by its `evaluate` what its metrics are.
  """
  if not families.has_dynamics(model.family):
    return jax.jit(model.family.evaluate)
  statistics = model.action_statistics
  assert statistics is not None

  def eval_step(variables, batch):
    actions = statistics.normalize(batch['action'])
    proprio = None
    if getattr(model.family, 'proprio_dim', 0):
      proprio = batch['observation']['proprio']
    latents = model.encode(variables, batch['observation']['pixels'], proprio)
    history = model.family.history
    # Never drawn from: evaluation is deterministic.
    rng_key = jax.random.key(0)
    rolled = model.latent_state(variables, latents[:, :1])
    errors = []
    for t in range(1, latents.shape[1]):
      first = max(0, t - history)
      seen = model.latent_state(
        variables, latents[:, first:t], actions[:, first : t - 1]
      )
      predicted, rolled = (
        model.dynamics(variables, rng_key, actions[:, t - 1], state)
        for state in (seen, rolled)
      )
      errors.append(predicted.latents[:, -1] - latents[:, t])
    rollout_error = rolled.latents[:, -1] - latents[:, -1]
    metrics = {
      'prediction_error': jnp.mean(jnp.square(jnp.stack(errors))),
      'rollout_error': jnp.mean(jnp.square(rollout_error)),
    }
    return metrics, latents

  return jax.jit(eval_step)


def _all_finite(tree: Any) -> jax.Array:
  """Whether every number in `tree` is finite, as one bool."""
  leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
  return jnp.all(jnp.stack(leaves))
