"""Model-predictive control: plan, play a few blocks, shift, plan again."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import problems
from jepa_wm.types import Params, Root

RootFn = Callable[[Params, Any, Any], Root]
"""`(params, env_state, goal) -> root`: looks at the world, encodes."""

PlanFn = Callable[[Params, jax.Array, Root, jax.Array], problems.Plan]
"""`(params, rng_keys [B], root, init_mean [B, H, A]) -> plan`."""

PlayFn = Callable[[Any, jax.Array], tuple[Any, Any]]
"""`(env_state, block [B, A]) -> (env_state, outputs)`: acts in the world."""


class MpcOutput(NamedTuple):
  """What happened between two plans.

  Attributes:
    plan: the plan, leading `[B]`; its diagnostics `[I, B]`.
    played: what `play_fn` gave out, stacked over blocks,
      `[receding_horizon, ...]`.
  """

  plan: problems.Plan
  played: Any


def mpc_step(
  params: Params,
  rng_keys: jax.Array,
  env_state: Any,
  goal: Any,
  warm_start: jax.Array,
  *,
  root_fn: RootFn,
  plan_fn: PlanFn,
  play_fn: PlayFn,
  receding_horizon: int,
) -> tuple[Any, jax.Array, MpcOutput]:
  """Plans once and plays the first blocks of the plan.

  Args:
    params: first argument of `root_fn` and `plan_fn`.
    rng_keys: `[B]`, one key per problem for this plan, consumed.
    env_state: opaque pytree of the B worlds, and of whatever memory (recent
      frames) `root_fn` wants to see.
    goal: leaves `[B, ...]`, handed to `root_fn`.
    warm_start: `[B, H, A]`, the mean that the search starts from.
    root_fn: encodes what is seen now.
    plan_fn: a planner with its settings bound.
    play_fn: plays one action block `[B, A]`, in the planner's units.
    receding_horizon: how many blocks to play before the next plan.

  Returns:
    The worlds afterwards, the next warm start `[B, H, A]`, and an
    `MpcOutput`.

  Raises:
    ValueError: fewer than one or more than H blocks to play, or a plan whose
      actions are not `[B, H, A]`.
  """
  horizon = warm_start.shape[1]
  _check_receding(receding_horizon, horizon)
  root = root_fn(params, env_state, goal)
  plan = plan_fn(params, rng_keys, root, warm_start)
  if plan.actions.shape != warm_start.shape:
    raise ValueError(
      'plan_fn must plan as many actions as warm_start holds, [B, H, A] ='
      f' {list(warm_start.shape)}, got shape {list(plan.actions.shape)}.'
    )
  blocks = jnp.moveaxis(plan.actions[:, :receding_horizon], 1, 0)
  env_state, played = jax.lax.scan(play_fn, env_state, blocks)
  warm_start = shift(plan.actions, receding_horizon)
  return env_state, warm_start, MpcOutput(plan, played)


def run_mpc(
  params: Params,
  rng_key: jax.Array,
  env_state: Any,
  goal: Any,
  *,
  root_fn: RootFn,
  plan_fn: PlanFn,
  play_fn: PlayFn,
  horizon: int,
  action_dim: int,
  receding_horizon: int,
  num_plans: int,
  warm_start: bool = True,
) -> tuple[Any, MpcOutput]:
  """Runs the closed loop; under `jax.jit` all of it is one program.

  Args:
    params: first argument of `root_fn` and `plan_fn`.
    rng_key: one key (problem i uses `fold_in(rng_key, i)`) or `[B]` keys;
      plan number p of a problem uses `fold_in(its key, p)`. Consumed.
    env_state: opaque pytree of the B worlds, see `mpc_step`.
    goal: leaves `[B, ...]`.
    root_fn: encodes what is seen now.
    plan_fn: a planner with its settings bound, of the same `horizon`.
    play_fn: plays one action block `[B, A]`, in the planner's units.
    horizon: H, blocks in a plan.
    action_dim: A, size of a block.
    receding_horizon: blocks played before the next plan.
    num_plans: how often to plan; `num_plans * receding_horizon` blocks are
      played in all.
    warm_start: whether a plan starts from what is left of the one before it
      (see `shift`) or from zero.

  Returns:
    The worlds at the end, and an `MpcOutput` whose leaves all lead with
    `[num_plans]`.

  Raises:
    ValueError: fewer than one plan, blocks to play outside 1..horizon, or
      goals that disagree about B.
  """
  num_problems = problems.count(goal, 'goal')
  rng_keys = problems.problem_keys(rng_key, num_problems)
  if num_plans < 1:
    raise ValueError(f'num_plans must be at least 1, got {num_plans}.')
  _check_receding(receding_horizon, horizon)
  cold = jnp.zeros((num_problems, horizon, action_dim), jnp.float32)

  def step(carry, plan_index):
    env_state, init_mean = carry
    env_state, rest, output = mpc_step(
      params,
      problems.fold_keys(rng_keys, plan_index),
      env_state,
      goal,
      init_mean,
      root_fn=root_fn,
      plan_fn=plan_fn,
      play_fn=play_fn,
      receding_horizon=receding_horizon,
    )
    return (env_state, rest if warm_start else cold), output

  (env_state, _), outputs = jax.lax.scan(
    step, (env_state, cold), jnp.arange(num_plans)
  )
  return env_state, outputs


def shift(actions: jax.Array, num_played: int) -> jax.Array:
  """Drops what has been played and pads the end with zeros.

  Args:
    actions: `[B, H, A]`.
    num_played: how many blocks to drop.

  Returns:
    `[B, H, A]`.
  """
  return jnp.pad(actions[:, num_played:], ((0, 0), (0, num_played), (0, 0)))


def _check_receding(receding_horizon: int, horizon: int) -> None:
  if not 1 <= receding_horizon <= horizon:
    raise ValueError(
      f'receding_horizon must lie in 1..horizon = 1..{horizon}, got'
      f' {receding_horizon}: a plan cannot be played beyond its end.'
    )
