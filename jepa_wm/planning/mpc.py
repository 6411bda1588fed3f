"""Model-predictive control: look, plan, play a few blocks, shift, plan again.

The same for every planner (`PlanFn`) and for every model (`RootFn`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks, keys, mpc_state, rollout
from jepa_wm.planning.plan_fn import Clock, Left, PlanFn
from jepa_wm.planning.problem import Plan
from jepa_wm.types import Params, Root

RootFn = Callable[[Params, Any, Any], Root]
"""`(params, memory, goal) -> root`: encodes what has been seen, a `Memory`."""

PlayFn = Callable[[Any, jax.Array], tuple[Any, Any]]
"""`(env_state, block [B, A]) -> (env_state, outputs)`: acts in the worlds."""


class MpcOutput(NamedTuple):
  """What happened between two plans.

  Attributes:
    plan: the plan, leading `[B]`; its diagnostics `[I, B]`.
    played: what `play_fn` gave out, stacked over blocks,
      `[receding_horizon, ...]`.
  """

  plan: Plan
  played: Any


_BEGINNING = Clock(0, np.iinfo(np.int32).max)
"""The first plan, and no end."""


def first_state(
  env_state: Any,
  goal: Any,
  *,
  observe_fn: mpc_state.ObserveFn,
  plan_fn: PlanFn[Any],
  follows: bool = False,
) -> mpc_state.MpcState:
  """The state before the first plan: nothing planned, nothing remembered.

  Args:
    env_state: opaque pytree of the B worlds.
    goal: leaves `[B, ...]`.
    observe_fn: looks at the worlds; asked for its shapes alone.
    plan_fn: whoever will plan.
    follows: whether a model follows what is seen (`mpc_state.Following`).

  Raises:
    ValueError: goals and observations that disagree about B.
  """
  memory: mpc_state.Memory | mpc_state.Followed = mpc_state.first_memory(
    env_state, goal, observe_fn=observe_fn, action_dim=plan_fn.action_dim
  )
  if follows:
    memory = mpc_state.Followed(None, memory.actions)
  warm_start = plan_fn.first(memory.actions.shape[0])
  return mpc_state.MpcState(env_state, warm_start, memory)


def mpc_step(
  params: Params,
  rng_keys: jax.Array,
  state: mpc_state.MpcState,
  goal: Any,
  *,
  observe_fn: mpc_state.ObserveFn,
  root_fn: RootFn | None = None,
  plan_fn: PlanFn[Any],
  play_fn: PlayFn,
  receding_horizon: int,
  history: int = 1,
  following: mpc_state.Following | None = None,
  warm_start: bool = True,
  clock: Clock = _BEGINNING,
) -> tuple[mpc_state.MpcState, MpcOutput]:
  """Looks, plans once and plays the first blocks of the plan.

  The worlds are looked at before the plan, and between blocks only where the
  next plan will remember it, or where a model follows.

  Args:
    params: first argument of `root_fn` and `plan_fn`.
    rng_keys: `[B]`, one key per problem for this plan, consumed.
    state: from `first_state` or from the step before.
    goal: leaves `[B, ...]`, handed to `root_fn`.
    observe_fn: looks at the worlds.
    root_fn: encodes what has been seen; None where a model follows it.
    plan_fn: whoever plans, such as a `BoundPlanner`.
    play_fn: plays one action block `[B, A]`, in the planner's units.
    receding_horizon: how many blocks to play before the next plan.
    history: how many observations `root_fn` sees, fewer in the beginning.
    following: in place of `root_fn` and `history`, a model whose own state is
      the memory, such as `WorldModel.following`.
    warm_start: whether the next plan starts from what is left of this one
      or from nothing.
    clock: what `plan_fn` is told of the time.

  Returns:
    The next state, whose shapes change while the memory fills, and an
    `MpcOutput`.

  Raises:
    ValueError: fewer than one or more than H blocks to play, a history below
      one, a plan whose actions are not `[B, H, A]`, or not one of `root_fn`
      and `following`.
  """
  checks.at_least(history=(history, 1))
  _check_one(root_fn, following, history)
  seen = observe_fn(state.env_state)
  memory: Any = state.memory
  if following is not None:
    root_fn, memory = following.root, following.see(params, memory, seen)
  else:
    now = jax.tree.map(lambda x: jnp.expand_dims(x, 1), seen)
    memory = mpc_state.Memory(
      mpc_state.append(memory.observations, now), memory.actions
    )
  assert root_fn is not None
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
    clock=clock,
  )
  actions = plan.actions[:, :receding_horizon]
  worlds = state.env_state, memory, actions, observe_fn, play_fn
  if following is not None:
    see_fn = functools.partial(following.see, params)
    env_state, memory, played = _play_and_see(*worlds, see_fn)
  else:
    env_state, memory, played = _play(*worlds, history)
  return mpc_state.MpcState(env_state, left, memory), MpcOutput(plan, played)


def plan_step(
  params: Params,
  rng_keys: jax.Array,
  start: Left,
  memory: mpc_state.Memory | mpc_state.Followed,
  goal: Any,
  *,
  root_fn: RootFn,
  plan_fn: PlanFn[Left],
  receding_horizon: int,
  warm_start: bool = True,
  clock: Clock = _BEGINNING,
) -> tuple[Plan, Left]:
  """The part of `mpc_step` that needs no world: encodes and plans once.

  For worlds that JAX cannot play; who plays them keeps the memory.

  Args:
    params: see `mpc_step`, as `rng_keys`, `goal`, `root_fn`, `plan_fn`,
      `receding_horizon`, `warm_start` and `clock`.
    start: what the plan before left.
    memory: with the world as it is among it, as `root_fn` takes it.

  Returns:
    The plan, and what it leaves to the next one.

  Raises:
    ValueError: fewer than one or more than H blocks to play, or a plan whose
      actions are not `[B, H, A]`.
  """
  root = root_fn(params, memory, goal)
  plan, left = plan_fn.plan(params, rng_keys, root, start, clock)
  shape = plan.actions.shape
  num_problems, action_dim = memory.actions.shape[::2]
  if len(shape) != 3 or shape[::2] != (num_problems, action_dim):
    raise ValueError(
      'plan_fn must plan blocks of every problem, [B, H, A] ='
      f' {[num_problems, "H", action_dim]}, got shape {list(shape)}.'
    )
  _check_receding(receding_horizon, shape[1])
  left = plan_fn.shift(left, plan.actions[:, :receding_horizon])
  return plan, left if warm_start else plan_fn.forget(left)


def run_mpc(
  params: Params,
  rng_key: jax.Array,
  env_state: Any,
  goal: Any,
  *,
  observe_fn: mpc_state.ObserveFn,
  root_fn: RootFn | None = None,
  plan_fn: PlanFn[Any],
  play_fn: PlayFn,
  receding_horizon: int,
  num_plans: int,
  history: int = 1,
  following: mpc_state.Following | None = None,
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
      `receding_horizon`, `history`, `following` and `warm_start`.
    num_plans: how often to plan; `num_plans * receding_horizon` blocks are
      played in all.

  Returns:
    The worlds at the end, and an `MpcOutput` whose leaves all lead with
    `[num_plans]`.

  Raises:
    ValueError: fewer than one plan, and what `first_state` and `mpc_step`
      refuse.
  """
  checks.at_least(num_plans=(num_plans, 1))
  state = first_state(
    env_state,
    goal,
    observe_fn=observe_fn,
    plan_fn=plan_fn,
    follows=following is not None,
  )
  num_problems = state.memory.actions.shape[0]
  rng_keys = keys.problem_keys(rng_key, num_problems)

  def turn(
    state: mpc_state.MpcState, number: jax.Array | int
  ) -> tuple[mpc_state.MpcState, MpcOutput]:
    return mpc_step(
      params,
      keys.fold_keys(rng_keys, number),
      state,
      goal,
      observe_fn=observe_fn,
      root_fn=root_fn,
      plan_fn=plan_fn,
      play_fn=play_fn,
      receding_horizon=receding_horizon,
      history=history,
      following=following,
      warm_start=warm_start,
      clock=Clock(
        number * receding_horizon, (num_plans - number) * receding_horizon
      ),
    )

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

  def look_and_play(env_state: Any, block: jax.Array) -> Any:
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


def _play_and_see(
  env_state: Any,
  followed: mpc_state.Followed,
  actions: jax.Array,
  observe_fn: mpc_state.ObserveFn,
  play_fn: PlayFn,
  see_fn: Callable[[mpc_state.Followed, Any], mpc_state.Followed],
) -> tuple[Any, mpc_state.Followed, Any]:
  """Plays blocks `[B, R, A]` and sees what all but the last lead to.

  Returns:
    As of `_play`.
  """
  blocks = jnp.moveaxis(actions, 1, 0)

  def after(state: Any, block: jax.Array) -> mpc_state.Followed:
    return mpc_state.Followed(state, jnp.expand_dims(block, 1))

  def see_and_play(carry: Any, block: jax.Array) -> Any:
    env_state, followed = carry
    followed = see_fn(followed, observe_fn(env_state))
    env_state, played = play_fn(env_state, block)
    return (env_state, after(followed.state, block)), played

  env_state, first = play_fn(env_state, blocks[0])
  played = jax.tree.map(lambda x: jnp.expand_dims(x, 0), first)
  carry = env_state, after(followed.state, blocks[0])
  if len(blocks) > 1:
    carry, rest = jax.lax.scan(see_and_play, carry, blocks[1:])
    played = jax.tree.map(lambda *x: jnp.concatenate(x), played, rest)
  return *carry, played


def _check_one(
  root_fn: RootFn | None,
  following: mpc_state.Following | None,
  history: int,
) -> None:
  if (root_fn is None) == (following is None):
    raise ValueError(
      'give either root_fn, which encodes what is remembered, or following, '
      'whose own state is the memory.'
    )
  if following is not None and history > 1:
    raise ValueError(
      f'history={history} would do nothing beside following, whose own state '
      'is the memory; leave one of the two out.'
    )


def _check_receding(receding_horizon: int, horizon: int) -> None:
  if not 1 <= receding_horizon <= horizon:
    raise ValueError(
      f'receding_horizon must lie in 1..horizon = 1..{horizon}, got'
      f' {receding_horizon}: a plan cannot be played beyond its end.'
    )
