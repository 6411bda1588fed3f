"""GRASP: actions and the states between them, optimised side by side."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import sharding
from jepa_wm.planning import constraints, descent, lifting, problems, search
from jepa_wm.types import CostFn, DynamicsFn, Params, Root


def grasp_plan(
  params: Params,
  rng_key: jax.Array,
  root: Root,
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  horizon: int,
  action_dim: int,
  num_restarts: int = 1,
  num_iterations: int = 200,
  sync_period: int = 50,
  num_sync_steps: int = 10,
  goal_weight: float = 1.0,
  noise_std: float = 0.01,
  optimizer: optax.GradientTransformation | None = None,
  latent_optimizer: optax.GradientTransformation | None = None,
  sync_optimizer: optax.GradientTransformation | None = None,
  read_fn: lifting.ReadFn | None = None,
  write_fn: lifting.WriteFn | None = None,
  init_mean: jax.Array | None = None,
  init_std: jax.Array | float = 1.0,
  tolerance: float = 1e-3,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  guardrails: Sequence[constraints.Guardrail] = (),
  step_weights: np.ndarray | None = None,
) -> problems.Plan:
  """Plans by optimising actions together with the states between them.

  The states `s_h` that a plan passes are variables like its actions `a_h`.
  With `F` a step of the dynamics, `c` the cost and `w` the step weights, both
  descend on the sum over steps of

    |F(s_h, a_h) - s_h+1|^2 + (w_h + goal_weight) c(F(s_h, a_h))

  in which no gradient passes through the `s_h` that a step starts from, and
  nothing holds the last state. So no gradient runs through a chain of steps,
  where it would vanish or explode over a long horizon, and noise on the
  states, which fades out over the iterations, leads off ridges and out of
  local minima. Before every `sync_period` iterations the states are put to
  where a true rollout passes; after them the actions descend for
  `num_sync_steps` on their true cost, through the whole rollout, because the
  sum above is greedy: each of its steps looks one step ahead. Optimisers
  start afresh each time.

  N candidates, the first of them `init_mean`, are optimised independently of
  each other. The plan is the best of all action sequences that were rolled
  out on the way, the first and the last included, chosen as in
  `gradient.gradient_plan`, and so are guardrails (multipliers are updated
  when states are), action constraints and what is not finite.

  By default all floating-point leaves of a state are optimised and the steps
  are one call of `dynamics_fn`, with N times H candidates, which may then not
  rely on all candidates being at the same step. Where a state grows, or holds
  more than the newest latent, name the latent with `read_fn` and `write_fn`.
  The steps are then taken in turn, each from the state that the one before
  left behind, its latent replaced by the virtual one; gradients still end
  where a step begins.

  Args:
    params: see `search.Search`, as `rng_key`, `root`, `dynamics_fn`,
      `cost_fn`, `horizon`, `action_dim`, `action_constraints`, `guardrails`
      and `step_weights`.
    rng_key: as above.
    root: as above.
    dynamics_fn: as above; differentiable by its action and state.
    cost_fn: as above; differentiable. Its scale matters: it is weighed
      against squared gaps between states.
    horizon: as above.
    action_dim: as above.
    num_restarts: N, candidates.
    num_iterations: updates of actions and states together, a multiple of
      `sync_period`.
    sync_period: how many of them before the states are rolled out again.
    num_sync_steps: updates of the actions through the whole rollout between
      them; may be none.
    goal_weight: what the cost counts at every step, beside `step_weights`.
    noise_std: standard deviation of the noise that is added to the states in
      the first iteration.
    optimizer: of the actions, `optax.adam(0.01)` by default.
    latent_optimizer: of the states, `optax.sgd(0.1)` by default: a squared
      gap has the same curvature for every model, and a rate of 0.5 would put
      a state where the step before it ends.
    sync_optimizer: of the actions through the whole rollout,
      `optax.adam(0.05)` by default.
    read_fn: picks from a state the latent that is optimised, leaves
      `[B, N, ...]`, of one shape at every step.
    write_fn: gives a state another latent; `write_fn(state, read_fn(state))`
      is `state`.
    init_mean: `[B, H, A]`, the first candidate (a warm start), zero by
      default.
    init_std: standard deviation of the others around it, a number, `[A]`,
      `[H, A]` or `[B, H, A]`.
    tolerance: an excess up to it counts as none.
    action_constraints: as above.
    guardrails: as above; differentiable.
    step_weights: as above.

  Returns:
    A `Plan` as from `gradient.gradient_plan`. Its diagnostics have one row
    per rollout of the states: what the actions cost then, and the gradient by
    them of the sum above, in the last iteration that followed.

  Raises:
    ValueError: numbers that are too small, iterations that are no multiple of
      `sync_period`, one of `read_fn` and `write_fn` without the other, a
      state that changes its shape without them, a latent that is not floating
      point or does not fit back into its state, and what
      `gradient.gradient_plan` refuses.
    TypeError: an optimiser that is none.

  Source: Psenka et al., Parallel stochastic gradient-based planning for world
    models (arXiv 2602.00475). There the last state is the goal itself: for a
    squared distance and the default `step_weights` that is the same sum. In
    its authors' code states start between root and goal and stay as they are
    when the actions descend on their true cost.
  """
  task = search.Search(
    params,
    rng_key,
    root,
    dynamics_fn,
    cost_fn,
    horizon,
    action_dim,
    action_constraints,
    guardrails,
    step_weights,
  )
  problems.check_at_least(
    num_restarts=(num_restarts, 1),
    num_iterations=(num_iterations, 1),
    sync_period=(sync_period, 1),
    num_sync_steps=(num_sync_steps, 0),
  )
  for name, value in (('goal_weight', goal_weight), ('noise_std', noise_std)):
    if value < 0.0:
      raise ValueError(f'{name} must be at least 0, got {value}.')
  if num_iterations % sync_period:
    raise ValueError(
      f'num_iterations must be a multiple of sync_period, got {num_iterations}'
      f' and {sync_period}.'
    )
  descent.check_settings(task, tolerance)
  names = 'optimizer', 'latent_optimizer', 'sync_optimizer'
  given = optimizer, latent_optimizer, sync_optimizer
  defaults = optax.adam(0.01), optax.sgd(0.1), optax.adam(0.05)
  of_actions, of_latents, of_sync = map(
    descent.check_optimizer, names, given, defaults
  )
  lift = lifting.make_lift(task, read_fn, write_fn, goal_weight)

  def phase(carry, index: jax.Array):
    actions, multipliers, best = carry
    # The keys after those of the iterations are for what is rolled out whole.
    first_key = num_iterations + index * (num_sync_steps + 1)
    _, model_keys = task.keys(first_key)
    prices = task.price(actions, model_keys)
    best = descent.keep_better(best, actions, prices, tolerance)
    multipliers = descent.tighten(task, multipliers, prices.excess)
    path = lifting.follow(task, lift, actions, model_keys)

    def iterate(carry, iteration: jax.Array):
      actions, latents, actions_state, latents_state = carry
      noise_keys, model_keys = task.keys(iteration)

      def total(actions: jax.Array, latents: Any):
        prices = lifting.price(task, lift, actions, latents, path, model_keys)
        values = descent.lagrangian(prices, multipliers)
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
      std = noise_std * (1.0 - iteration / num_iterations)
      latents = _disturb(latents, std, noise_keys)
      carry = actions, latents, actions_state, latents_state
      return carry, (descent.norms(by_actions), usable)

    def synchronise(iterates: descent.Iterates, number: jax.Array):
      _, model_keys = task.keys(first_key + 1 + number)
      iterates, *_ = descent.step(
        task, of_sync, iterates, model_keys, tolerance=tolerance
      )
      return iterates, None

    latents = lifting.latents_of(lift, path)
    states = (
      descent.init_each(of_actions, actions),
      descent.init_each(of_latents, latents),
    )
    iterations = index * sync_period + jnp.arange(sync_period)
    (after, *_), (grad_norms, usable) = jax.lax.scan(
      iterate, (actions, latents, *states), iterations
    )
    diagnostics = descent.diagnose(
      task, actions, prices, grad_norms[-1], usable[-1]
    )
    iterates = descent.Iterates(
      after, descent.init_each(of_sync, after), multipliers, best
    )
    iterates, _ = jax.lax.scan(
      synchronise, iterates, jnp.arange(num_sync_steps)
    )
    return (iterates.actions, multipliers, iterates.best), diagnostics

  actions = descent.first_candidates(task, num_restarts, init_mean, init_std)
  first = descent.start(task, of_sync, actions)
  num_phases = num_iterations // sync_period
  (actions, _, best), diagnostics = jax.lax.scan(
    phase, (actions, first.multipliers, first.best), jnp.arange(num_phases)
  )
  used = num_iterations + num_phases * (num_sync_steps + 1)
  _, model_keys = task.keys(used)
  prices = task.price(actions, model_keys)
  best = descent.keep_better(best, actions, prices, tolerance)
  return descent.answer(task, best, init_std, diagnostics, used + 1)


def _disturb(latents: Any, std: jax.Array, noise_keys: jax.Array) -> Any:
  """Adds noise to leaves `[B, N, ...]`."""
  leaves, structure = jax.tree.flatten(latents)
  disturbed = [
    leaf
    + std
    * search.white_noise(problems.fold_keys(noise_keys, i), leaf.shape[1:])
    for i, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, disturbed)
