"""Descent on actions and on the states between them, side by side."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jepa_wm import sharding
from jepa_wm.planning import descent, keys, lagrangian, lifting
from jepa_wm.planning.task import Task


class _Lifted(NamedTuple):
  """Actions and virtual states between two rollouts, leaves `[B, N, ...]`."""

  actions: jax.Array
  latents: Any
  actions_state: optax.OptState
  latents_state: optax.OptState


def descend(
  task: Task,
  lift: lifting.Lift,
  optimizers: tuple[optax.GradientTransformationExtraArgs, ...],
  actions: jax.Array,
  multipliers: lagrangian.Multipliers,
  model_keys: jax.Array,
  *,
  numbers: jax.Array,
  noise_stds: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Moves actions and virtual states together, from a rollout on.

  Args:
    task: the problems.
    lift: how states are lifted.
    optimizers: of one candidate's actions, and of its states.
    actions: `[B, N, H, A]`.
    multipliers: of the guardrails; they stay.
    model_keys: `[B]`, the model's for the rollout.
    numbers: `[n]`, whose keys the updates use.
    noise_stds: `[n]`, deviation of the noise on the states after each.

  Returns:
    The actions, and of the last update the norms of the gradient by them
    `[B, N]` and whether it was usable `[B, N]`.
  """
  of_actions, of_latents = optimizers
  path = lifting.follow(task, lift, actions, model_keys)

  def move(
    lifted: _Lifted, now: tuple[jax.Array, jax.Array]
  ) -> tuple[_Lifted, tuple[jax.Array, jax.Array]]:
    actions, latents, actions_state, latents_state = lifted
    iteration, noise_std = now
    noise_keys, model_keys = task.keys(iteration)

    def total(actions: jax.Array, latents: Any) -> Any:
      prices = lifting.price(task, lift, actions, latents, path, model_keys)
      values = lagrangian.value(prices, multipliers)
      return jnp.sum(values), values

    (by_actions, by_latents), values = jax.grad(
      total, argnums=(0, 1), has_aux=True
    )(actions, latents)
    actions, actions_state, usable = descent.update_each(
      of_actions, by_actions, actions_state, actions, values
    )
    latents, latents_state, _ = descent.update_each(
      of_latents, by_latents, latents_state, latents, values
    )
    actions = sharding.constrain(task.project(actions), 'data', 'samples')
    latents = _disturb(latents, noise_std, noise_keys)
    lifted = _Lifted(actions, latents, actions_state, latents_state)
    return lifted, (descent.norms(by_actions), usable)

  latents = lifting.latents_of(lift, path)
  lifted = _Lifted(
    actions,
    latents,
    descent.init_each(of_actions, actions),
    descent.init_each(of_latents, latents),
  )
  lifted, (grad_norms, usable) = jax.lax.scan(
    move, lifted, (numbers, noise_stds)
  )
  return lifted.actions, (grad_norms[-1], usable[-1])


def _disturb(latents: Any, std: jax.Array, noise_keys: jax.Array) -> Any:
  """Adds noise to leaves `[B, N, ...]`."""
  leaves, structure = jax.tree.flatten(latents)
  disturbed = [
    leaf + std * keys.white_noise(keys.fold_keys(noise_keys, i), leaf.shape[1:])
    for i, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, disturbed)
