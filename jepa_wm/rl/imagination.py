"""Policies played in a model instead of a world, with gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import world_model
from jepa_wm.types import LatentState, Params, PolicyFn


class Imagined(NamedTuple):
  """What a model expects of a policy.

  Attributes:
    latents: `[H + 1, B, D]`, the first before any action.
    actions: `[H, B, A]`, normalised blocks; `actions[h]` leads from
      `latents[h]` to `latents[h + 1]`.
  """

  latents: jax.Array
  actions: jax.Array


def imagine(
  model: world_model.WorldModel,
  params: Params,
  policy_fn: PolicyFn,
  policy_params: Params,
  rng_key: jax.Array | None,
  state: LatentState,
  goals: jax.Array,
  *,
  horizon: int,
) -> Imagined:
  """Rolls a policy in a model; a function of both, so it has gradients.

  Args:
    model: steps the latents.
    params: of the model.
    policy_fn: acts.
    policy_params: of the policy.
    rng_key: of what the policy draws; None: it does what is likeliest.
    state: leaves `[B, ...]`, where it starts (`model.start_from`).
    goals: `[B, D]`, what the policy is told to reach.
    horizon: H, blocks to play.

  Returns:
    What came of it.
  """
  block = model.action_block

  def step(state: LatentState, h: jax.Array) -> tuple[LatentState, Imagined]:
    key = None if rng_key is None else jax.random.fold_in(rng_key, h)
    left = jnp.full(goals.shape[:1], (horizon - h) * block, jnp.float32)
    action = policy_fn(policy_params, key, model.latent(state), goals, left)
    # Models draw nothing; a stochastic one would take this key.
    dynamics_key = jax.random.key(0) if key is None else key
    state = model.dynamics(params, dynamics_key, action, state)
    return state, Imagined(model.latent(state), action)

  _, path = jax.lax.scan(step, state, jnp.arange(horizon))
  first = model.latent(state)[None]
  return path._replace(latents=jnp.concatenate([first, path.latents]))


def lambda_returns(
  rewards: jax.Array, discounts: jax.Array, values: jax.Array, mix: float
) -> jax.Array:
  """Returns from every step on, bootstrapped from values.

  R_h = r_h + d_h ((1 - mix) V_{h+1} + mix R_{h+1}), and R_H = V_H.

  Source: TD(lambda) as DreamerV3 writes it, arXiv 2301.04104, equation 7.

  Args:
    rewards: `[H, ...]`, of the step from h to h + 1.
    discounts: `[H, ...]`, what is to come after that step counts; 0 where the
      episode ends with it.
    values: `[H, ...]`, of where each step led.
    mix: lambda, 0 (one step) to 1 (all of them).

  Returns:
    `[H, ...]`.
  """

  def back(
    later: jax.Array, now: tuple[jax.Array, jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    reward, discount, value = now
    later = reward + discount * ((1.0 - mix) * value + mix * later)
    return later, later

  _, returns = jax.lax.scan(
    back, values[-1], (rewards, discounts, values), reverse=True
  )
  return returns
