"""Actors of any library as policies of the house, and how well they act.

policy_fn = rl.as_policy(env, algo.make_act(state))
result = rl.evaluate(model, policy_fn, (), 'long', num_pairs=200)
print(result.record['success_rate'], result.record['interval_95'])
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import planning, world_model
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
)
from jepa_wm.evaluation.planning import protocol as protocol_lib
from jepa_wm.models.heads import rolling
from jepa_wm.rl import rewards
from jepa_wm.rl.latent_environment import LatentEnvironment
from jepa_wm.types import Params, PolicyFn

ActFn = Callable[[jax.Array, jax.Array], jax.Array]
"""`(observation [2 D], rng_key) -> raw block [block * raw]`: what a
`LatentEnvironment` shows, and what it takes. Those of rejax and PureJaxRL are
of this kind."""


def as_policy(env: LatentEnvironment, act_fn: ActFn) -> PolicyFn:
  """An actor that learnt in a latent environment, as a policy of the house.

  Args:
    env: what it learnt in.
    act_fn: acts. Without a key of the caller's it gets the same one every time.

  Returns:
    A policy whose first argument nobody looks at.
  """
  units = env.model.levels[0].units

  def policy(
    params: Params,
    rng_key: jax.Array | None,
    latents: jax.Array,
    goal: jax.Array,
    steps: jax.Array,
  ) -> jax.Array:
    del params, steps
    key = jax.random.key(0) if rng_key is None else rng_key
    seen = jnp.concatenate(jnp.broadcast_arrays(latents, goal), axis=-1)
    rows = seen.reshape(-1, seen.shape[-1])
    raw = jax.vmap(act_fn, (0, None))(rows, key)
    blocks: jax.Array = units.normalize(jax.vmap(env.clip)(raw))
    return blocks.reshape(*seen.shape[:-1], blocks.shape[-1])

  return policy


def evaluate(
  model: world_model.WorldModel,
  policy_fn: PolicyFn,
  policy_params: Params,
  protocol: protocol_lib.Protocol | str,
  *,
  num_pairs: int | None = None,
  name: str = 'policy',
  **settings: Any,
) -> planning_benchmark.Result:
  """Plays a policy in the true world, by a protocol of the planners'.

  It looks at every block and does what is likeliest; nothing is searched.

  Args:
    model: encodes what is seen and what is wanted.
    policy_fn: who acts: a head's role, or an actor of a library (`as_policy`).
    policy_params: of it.
    protocol: what is measured, or its name, such as 'long'.
    num_pairs: how many of its pairs; its own number by default.
    name: what the record calls the policy.
    **settings: of `planning_benchmark.run`, such as `seed` or `stage`.

  Returns:
    The result; `record` has `success_rate`, `interval_95`, `ms_per_plan`.

  Raises:
    ValueError: no such protocol, too many pairs, a model of another world, or
      a policy that gives NaN.
  """
  rewards.check_function('policy_fn', policy_fn)
  seen = jnp.zeros((1, model.model.latent_dim))
  found = jax.eval_shape(
    policy_fn, policy_params, None, seen, seen, jnp.zeros(1)
  )
  shape = None if found is None else jnp.shape(found)
  if shape != (1, model.action_dim):
    raise ValueError(
      f'policy_fn must give a block [..., {model.action_dim}] for each latent, '
      f'[1, {model.action_dim}] of one, got {found}.'
    )
  if isinstance(protocol, str):
    protocol = protocol_lib.get(protocol)
  protocol = dataclasses.replace(protocol, horizon=1, receding_horizon=1)
  act, block = (policy_fn, policy_params), model.action_block
  proposals = planner_settings.Proposals(
    name,
    functools.partial(
      rolling.rolled, *act, block=block, steps=(protocol.budget,)
    ),
    functools.partial(rolling.followed, *act, block=block),
  )
  return planning_benchmark.run(
    model,
    protocol,
    pairs.load_pairs(protocol, num_pairs),
    settings=planner_settings.PlannerSettings(
      planner=planning.Policy(), proposals=proposals
    ),
    **settings,
  )
