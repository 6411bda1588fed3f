"""What a success rate is measured against: no plan, and a perfect one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import environment as environment_lib
from jepa_wm.envs import host, worlds
from jepa_wm.evaluation import host_baselines, observations
from jepa_wm.evaluation import pairs as pairs_lib
from jepa_wm.evaluation import protocol as protocol_lib


def random_floor(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  environment: environment_lib.Environment | None = None,
  seed: int = 0,
  num_repeats: int = 20,
) -> float:
  """Success rate of uniformly random actions on the same pairs and budget.

  Args:
    protocol: budget and success rule.
    pairs: the problems.
    environment: the world; the protocol's with default factors of variation if
      left out.
    seed: of the actions.
    num_repeats: how often every pair is tried.

  Returns:
    Share of tries that succeeded, 0..1.

  Raises:
    ValueError: no repeat.
  """
  return _success_rate(
    protocol, pairs, environment, 'random', seed, num_repeats
  )


def expert_ceiling(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  *,
  environment: environment_lib.Environment | None = None,
) -> float:
  """Success rate of the noiseless expert, which knows state, goal and walls.

  Args:
    protocol: budget and success rule.
    pairs: the problems; their goals become the expert's target.
    environment: the world; the protocol's with default factors of variation if
      left out.

  Returns:
    Share of pairs that succeeded, 0..1.
  """
  return _success_rate(protocol, pairs, environment, 'expert', 0, 1)


def _success_rate(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  environment: environment_lib.Environment | None,
  policy: str,
  seed: int,
  num_repeats: int,
) -> float:
  if num_repeats < 1:
    raise ValueError(f'num_repeats must be at least 1, got {num_repeats}.')
  env: Any = environment or worlds.get(protocol.environment).make()
  if isinstance(env, host.HostWorld):
    return host_baselines.success_rate(
      protocol, pairs, env, policy, seed, num_repeats
    )
  succeeded = _tries(
    protocol,
    environment,
    policy,
    jax.random.key(seed),
    jnp.asarray(pairs.ids),
    pairs.starts,
    pairs.goals,
    pairs.worlds,
    num_repeats=num_repeats,
  )
  return float(np.mean(np.asarray(succeeded)))


@functools.partial(
  jax.jit, static_argnames=('protocol', 'policy', 'num_repeats')
)
def _tries(
  protocol: protocol_lib.Protocol,
  environment: environment_lib.Environment | None,
  policy: str,
  rng_key: jax.Array,
  ids: jax.Array,
  starts: Any,
  goals: Any,
  own_worlds: Any,
  *,
  num_repeats: int,
) -> jax.Array:
  """Whether each of `[P, num_repeats]` tries succeeded within the budget."""
  world = worlds.get(protocol.environment)
  # A world known while compiling is faster than one that is an argument.
  env = world.make() if environment is None else environment
  make_policy = world.policy

  def try_once(
    rng_key: jax.Array, world: Any, start: Any, goal: Any
  ) -> jax.Array:
    act = make_policy(policy, world)
    state = dataclasses.replace(start, target=world.vector(goal))
    memory_key, action_key = jax.random.split(rng_key)

    def step(carry, t):
      state, memory, succeeded, _ = carry
      action_t = jax.random.fold_in(action_key, t)
      action, memory = act(action_t, state, memory)
      state = world.step(state, action)
      at_goal = world.success(state, goal)
      return (state, memory, succeeded | at_goal, at_goal), None

    solved = world.success(state, goal)
    counts = solved & (protocol.success == 'any time')
    carry = (state, act.init(memory_key, state), counts, solved)
    (_, _, succeeded, at_end), _ = jax.lax.scan(
      step, carry, jnp.arange(protocol.budget)
    )
    return at_end if protocol.success == 'at the end' else succeeded

  def try_often(
    world: Any, pair_id: jax.Array, start: Any, goal: Any
  ) -> jax.Array:
    keys = jax.random.split(jax.random.fold_in(rng_key, pair_id), num_repeats)
    return jax.vmap(lambda key: try_once(key, world, start, goal))(keys)

  each = observations.in_worlds(try_often, env, own_worlds)
  return each(ids, starts, goals)
