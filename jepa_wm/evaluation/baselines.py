"""What a success rate is measured against: no plan, and a perfect one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import environment as environment_lib
from jepa_wm.envs import policies, worlds
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
  env = environment or worlds.get(protocol.environment).make()
  policy = policies.UniformPolicy(env.action_low, env.action_high)
  return _success_rate(protocol, pairs, env, policy, seed, num_repeats)


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
  world = worlds.get(protocol.environment)
  env = environment or world.make()
  policy = world.policy('expert', env)
  return _success_rate(protocol, pairs, env, policy, 0, 1)


def _success_rate(
  protocol: protocol_lib.Protocol,
  pairs: pairs_lib.Pairs,
  env: environment_lib.Environment,
  policy: Any,
  seed: int,
  num_repeats: int,
) -> float:
  if num_repeats < 1:
    raise ValueError(f'num_repeats must be at least 1, got {num_repeats}.')
  succeeded = _tries(
    protocol,
    env,
    policy,
    jax.random.key(seed),
    jnp.asarray(pairs.ids),
    pairs.starts,
    pairs.goals,
    num_repeats=num_repeats,
  )
  return float(np.mean(np.asarray(succeeded)))


@functools.partial(jax.jit, static_argnames=('protocol', 'num_repeats'))
def _tries(
  protocol: protocol_lib.Protocol,
  env: environment_lib.Environment,
  policy: Any,
  rng_key: jax.Array,
  ids: jax.Array,
  starts: Any,
  goals: Any,
  *,
  num_repeats: int,
) -> jax.Array:
  """Whether each of `[P, num_repeats]` tries succeeded within the budget."""

  def try_once(rng_key: jax.Array, start: Any, goal: Any) -> jax.Array:
    state = dataclasses.replace(start, target=env.vector(goal))
    memory_key, action_key = jax.random.split(rng_key)

    def step(carry, t):
      state, memory, succeeded = carry
      action_t = jax.random.fold_in(action_key, t)
      action, memory = policy(action_t, state, memory)
      state = env.step(state, action)
      succeeded |= env.success(state, goal)
      return (state, memory, succeeded), None

    carry = (state, policy.init(memory_key, state), env.success(state, goal))
    (_, _, succeeded), _ = jax.lax.scan(
      step, carry, jnp.arange(protocol.budget)
    )
    return succeeded

  def try_often(pair_id: jax.Array, start: Any, goal: Any) -> jax.Array:
    keys = jax.random.split(jax.random.fold_in(rng_key, pair_id), num_repeats)
    return jax.vmap(try_once, (0, None, None))(keys, start, goal)

  return jax.vmap(try_often)(ids, starts, goals)
