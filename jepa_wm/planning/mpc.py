"""Model-predictive control: look, plan, play a few blocks, shift, plan again.

The same for every planner (`bind`) and for every model (`RootFn`).
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import constraints, mpc_state, problems, rollout
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

RootFn = Callable[[Params, mpc_state.Memory, Any], Root]
"""`(params, memory, goal) -> root`: encodes what has been seen."""

PlanFn = Callable[[Params, jax.Array, Root, mpc_state.WarmStart], problems.Plan]
"""`(params, rng_keys [B], root, warm_start) -> plan`, see `bind`."""

PlayFn = Callable[[Any, jax.Array], tuple[Any, Any]]
"""`(env_state, block [B, A]) -> (env_state, outputs)`: acts in the worlds."""


class MpcOutput(NamedTuple):
  """What happened between two plans.

  Attributes:
    plan: the plan, leading `[B]`; its diagnostics `[I, B]`.
    played: what `play_fn` gave out, stacked over blocks,
      `[receding_horizon, ...]`.
  """

  plan: problems.Plan
  played: Any


def bind(
  planner: Callable[..., problems.Plan],
  dynamics_fn: DynamicsFn,
  cost_fn: CostFn,
  *,
  action_dim: int,
  action_constraints: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = (),
  **settings: Any,
) -> PlanFn:
  """Gives a planner its model and its settings.

  What comes out starts from the warm start: from its mean and its elites where
  the planner takes them (`init_mean`, `init_elites`), and within the reach of
  the block that was played last where a constraint limits the rate.

  Args:
    planner: any of this room, or one with the same arguments.
    dynamics_fn: one latent step.
    cost_fn: the price of a step.
    action_dim: A, size of a block.
    action_constraints: one or several.
    **settings: further keyword arguments of the planner, `horizon` among them.

  Raises:
    ValueError: a setting that the planner does not take, or constraints that
      cannot be met.
  """
  taken = inspect.signature(planner).parameters.keys()
  limits = constraints.as_tuple(action_constraints, action_dim)
  given = {*settings, *(['action_constraints'] if limits else [])}
  if unknown := sorted(given - taken):
    name = getattr(planner, '__name__', type(planner).__name__)
    raise ValueError(f'{name} takes no argument {unknown[0]!r}.')

  def plan_fn(params, rng_keys, root, warm_start) -> problems.Plan:
    start = {'init_mean': warm_start.mean}
    if warm_start.elites.shape[1]:
      start['init_elites'] = warm_start.elites
    if limits:
      start['action_constraints'] = tuple(
        limit.following(warm_start.previous) for limit in limits
      )
    start = {name: start[name] for name in start.keys() & taken}
    return planner(
      params,
      rng_keys,
      root,
      dynamics_fn,
      cost_fn,
      action_dim=action_dim,
      **{**start, **settings},
    )

  return plan_fn


def mpc_step(
  params: Params,
  rng_keys: jax.Array,
  state: mpc_state.MpcState,
  goal: Any,
  *,
  observe_fn: mpc_state.ObserveFn,
  root_fn: RootFn,
  plan_fn: PlanFn,
  play_fn: PlayFn,
  receding_horizon: int,
  history: int = 1,
  warm_start: bool = True,
) -> tuple[mpc_state.MpcState, MpcOutput]:
  """Looks, plans once and plays the first blocks of the plan.

  The worlds are looked at before the plan, and between blocks only where the
  next plan will remember it.

  Args:
    params: first argument of `root_fn` and `plan_fn`.
    rng_keys: `[B]`, one key per problem for this plan, consumed.
    state: from `mpc_state.first_state` or from the step before.
    goal: leaves `[B, ...]`, handed to `root_fn`.
    observe_fn: looks at the worlds.
    root_fn: encodes what has been seen.
    plan_fn: a planner with its settings bound (`bind`).
    play_fn: plays one action block `[B, A]`, in the planner's units.
    receding_horizon: how many blocks to play before the next plan.
    history: how many observations `root_fn` sees, fewer in the beginning.
    warm_start: whether the next plan starts from what is left of this one
      (see `mpc_state.shift`) or from nothing.

  Returns:
    The next state, whose shapes change while the memory fills, and an
    `MpcOutput`.

  Raises:
    ValueError: fewer than one or more than H blocks to play, a history below
      one, or a plan whose actions are not `[B, H, A]`.
  """
  _check_receding(receding_horizon, state.warm_start.mean.shape[1])
  problems.check_at_least(history=(history, 1))
  now = jax.tree.map(
    lambda x: jnp.expand_dims(x, 1), observe_fn(state.env_state)
  )
  memory = mpc_state.Memory(
    mpc_state.append(state.memory.observations, now), state.memory.actions
  )
  plan, left = plan_step(
    params,
    rng_keys,
    state.warm_start,
    memory,
    goal,
    root_fn=root_fn,
    plan_fn=plan_fn,
    receding_horizon=receding_horizon,
    warm_start=warm_start,
  )
  env_state, memory, played = _play(
    state.env_state,
    memory,
    plan.actions[:, :receding_horizon],
    observe_fn,
    play_fn,
    history,
  )
  return mpc_state.MpcState(env_state, left, memory), MpcOutput(plan, played)


def plan_step(
  params: Params,
  rng_keys: jax.Array,
  start: mpc_state.WarmStart,
  memory: mpc_state.Memory,
  goal: Any,
  *,
  root_fn: RootFn,
  plan_fn: PlanFn,
  receding_horizon: int,
  warm_start: bool = True,
) -> tuple[problems.Plan, mpc_state.WarmStart]:
  """The part of `mpc_step` that needs no world: encodes and plans once.

  For worlds that JAX cannot play; who plays them keeps the memory.

  Args:
    params: see `mpc_step`, as `rng_keys`, `goal`, `root_fn`, `plan_fn`,
      `receding_horizon` and `warm_start`.
    rng_keys: as above.
    start: what the plan before left.
    memory: with the world as it is among it.
    goal: as above.
    root_fn: as above.
    plan_fn: as above.
    receding_horizon: as above.
    warm_start: as above.

  Returns:
    The plan, and what it leaves to the next one.

  Raises:
    ValueError: fewer than one or more than H blocks to play, or a plan whose
      actions are not `[B, H, A]`.
  """
  shape = start.mean.shape
  _check_receding(receding_horizon, shape[1])
  plan = plan_fn(params, rng_keys, root_fn(params, memory, goal), start)
  if plan.actions.shape != shape:
    raise ValueError(
      'plan_fn must plan as many actions as the warm start holds, [B, H, A] ='
      f' {list(shape)}, got shape {list(plan.actions.shape)}.'
    )
  left = mpc_state.WarmStart(
    mpc_state.shift(plan.mean, receding_horizon),
    mpc_state.shift(plan.elites, receding_horizon),
    plan.actions[:, receding_horizon - 1],
  )
  if not warm_start:
    left = left._replace(
      mean=jnp.zeros_like(left.mean),
      elites=jnp.full_like(left.elites, jnp.nan),
    )
  return plan, left


def run_mpc(
  params: Params,
  rng_key: jax.Array,
  env_state: Any,
  goal: Any,
  *,
  observe_fn: mpc_state.ObserveFn,
  root_fn: RootFn,
  plan_fn: PlanFn,
  play_fn: PlayFn,
  horizon: int,
  action_dim: int,
  receding_horizon: int,
  num_plans: int,
  history: int = 1,
  warm_start: bool = True,
) -> tuple[Any, MpcOutput]:
  """Runs the closed loop; under `jax.jit` all of it is one program.

  Args:
    params: first argument of `root_fn` and `plan_fn`.
    rng_key: one key (problem i uses `fold_in(rng_key, i)`) or `[B]` keys;
      plan number p of a problem uses `fold_in(its key, p)`. Consumed.
    env_state: opaque pytree of the B worlds.
    goal: leaves `[B, ...]`.
    observe_fn: see `mpc_step`, as `root_fn`, `plan_fn`, `play_fn`,
      `receding_horizon`, `history` and `warm_start`.
    root_fn: as above.
    plan_fn: as above; of the same `horizon`.
    play_fn: as above.
    horizon: H, blocks in a plan.
    action_dim: A, size of a block.
    receding_horizon: as above.
    num_plans: how often to plan; `num_plans * receding_horizon` blocks are
      played in all.
    history: as above.
    warm_start: as above.

  Returns:
    The worlds at the end, and an `MpcOutput` whose leaves all lead with
    `[num_plans]`.

  Raises:
    ValueError: fewer than one plan, and what `mpc_state.first_state` and
      `mpc_step` refuse.
  """
  problems.check_at_least(num_plans=(num_plans, 1))
  _check_receding(receding_horizon, horizon)
  begin = functools.partial(
    mpc_state.first_state,
    env_state,
    goal,
    observe_fn=observe_fn,
    horizon=horizon,
    action_dim=action_dim,
  )
  state = begin()
  num_problems = state.warm_start.mean.shape[0]
  rng_keys = problems.problem_keys(rng_key, num_problems)

  def turn(state: mpc_state.MpcState, number: jax.Array | int):
    return mpc_step(
      params,
      problems.fold_keys(rng_keys, number),
      state,
      goal,
      observe_fn=observe_fn,
      root_fn=root_fn,
      plan_fn=plan_fn,
      play_fn=play_fn,
      receding_horizon=receding_horizon,
      history=history,
      warm_start=warm_start,
    )

  after, _ = jax.eval_shape(turn, state, 0)
  if num_elites := after.warm_start.elites.shape[1]:
    state = begin(num_elites=num_elites)
  state, outputs = rollout.scan_growing(turn, state, num_plans)
  output = jax.tree.map(lambda *x: jnp.concatenate(x), *outputs)
  return state.env_state, output


def _play(
  env_state: Any,
  memory: mpc_state.Memory,
  actions: jax.Array,
  observe_fn: mpc_state.ObserveFn,
  play_fn: PlayFn,
  history: int,
) -> tuple[Any, mpc_state.Memory, Any]:
  """Plays blocks `[B, R, A]`, remembering what the next plan will see.

  Returns:
    The worlds, the memory, and what `play_fn` gave out, `[R, ...]`.
  """

  def look_and_play(env_state: Any, block: jax.Array):
    seen = observe_fn(env_state)
    env_state, played = play_fn(env_state, block)
    return env_state, (seen, played)

  observations, blocks = memory.observations, jnp.moveaxis(actions, 1, 0)
  # What the first block follows has been seen already.
  num_seen = min(len(blocks), history) - 1
  num_blind = len(blocks) - num_seen
  env_state, played = jax.lax.scan(play_fn, env_state, blocks[:num_blind])
  if num_seen:
    env_state, (seen, rest) = jax.lax.scan(
      look_and_play, env_state, blocks[num_blind:]
    )
    seen = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), seen)
    observations = mpc_state.append(observations, seen)
    played = jax.tree.map(lambda *x: jnp.concatenate(x), played, rest)
  memory = mpc_state.Memory(
    observations, mpc_state.append(memory.actions, actions)
  )
  return env_state, mpc_state.newest(memory, history - 1), played


def _check_receding(receding_horizon: int, horizon: int) -> None:
  if not 1 <= receding_horizon <= horizon:
    raise ValueError(
      f'receding_horizon must lie in 1..horizon = 1..{horizon}, got'
      f' {receding_horizon}: a plan cannot be played beyond its end.'
    )
