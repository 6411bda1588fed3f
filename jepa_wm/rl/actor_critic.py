"""An actor and its critics, learnt in a model's imagination alone.

The actor follows the gradient of what the critics and the rewards say of the
states that the model predicts for its actions (stochastic value gradients,
arXiv 1510.09142, with the lambda-returns of Dreamer, arXiv 1912.01603). The
world is never asked. A `training.Run` trains it like any model:

  learner = ImaginedActorCritic(env, env_params, head)
  run = Run(learner, optax.adam(1e-3), numbers(256), num_steps=200)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import fields
from jepa_wm.data import windows
from jepa_wm.models.heads import actor_critic
from jepa_wm.models.heads import head as head_lib
from jepa_wm.rl import (
  environment_params,
  imagination,
  latent_environment,
  rewards,
)
from jepa_wm.types import Variables


@dataclasses.dataclass(frozen=True)
class Imagination:
  """How an actor learns from what a model predicts.

  Attributes:
    horizon: H, blocks of an imagined rollout.
    mix: lambda of the returns, see `imagination.lambda_returns`.
    target_rate: by how much the target of the critics moves to them after
      every update.

  Raises:
    ValueError: an empty horizon, one that nobody waits for, or a share outside
      0..1.
  """

  horizon: int = 8
  mix: float = 0.95
  target_rate: float = 0.02

  def __post_init__(self) -> None:
    most = {'horizon': 10_000}
    fields.check(self, shares=('mix', 'target_rate'), most=most)


@dataclasses.dataclass(frozen=True)
class ImaginedActorCritic:
  """Learns a `heads.ActorCritic` in a model; a `training.state.Learner`.

  All arrays that it reads and does not learn, those of the environment, are the
  collection 'frozen' of its variables: part of the state of a run and not of
  its program.

  Attributes:
    env: where it starts, what it is to reach, what a step is worth. The reward
      needs a gradient: `rewards.reached(softness=0.3)`.
    env_params: its arrays.
    head: what is learnt, built for the model's latents.
    settings: how it learns.
  """

  env: latent_environment.LatentEnvironment
  env_params: environment_params.EnvironmentParams
  head: actor_critic.ActorCritic
  settings: Imagination = dataclasses.field(default_factory=Imagination)

  @property
  def config(self) -> Any:
    """Of the head, which gives the run its name."""
    return self.head.config

  def init(self, rng_key: jax.Array) -> Variables:
    """See `training.state.Learner`."""
    found = self.head.init(rng_key)
    copied = lambda tree: jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
    return {
      **found,
      'target': copied(found['params']['values']),
      # A list without empty arrays: checkpoints know no more.
      'frozen': copied(
        [x for x in jax.tree.leaves(self.env_params) if jnp.size(x)]
      ),
    }

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head_lib.HeadLosses:
    """What the critics are off by, less what the actor is to expect.

    Args:
      variables: of the learner.
      batch: `number` `[B]`, of the rollouts, see `numbers`.
      rng_key: of where they start, what they are to reach, and the draws.

    Raises:
      ValueError: a reward of the wrong kind or shape.
    """
    params = variables['params']
    given = self._given(variables['frozen'])
    reset_key, act_key = jax.random.split(rng_key)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(reset_key, batch['number'])
    _, state = jax.vmap(self.env.reset, (0, None))(keys, given)
    imagined = imagination.imagine(
      self.env.model,
      given.model,
      self.head.act,
      {'params': params},
      act_key,
      state.latent,
      state.goal,
      horizon=self.settings.horizon,
    )
    before, after = imagined.latents[:-1], imagined.latents[1:]
    goals = jnp.broadcast_to(state.goal, after.shape)
    step = before, imagined.actions, after, goals
    earned = rewards.outcome(self.env.reward_fn, given.weights, *step)
    values = self.head.critic
    returns = imagination.lambda_returns(
      earned.reward,
      given.discount * (1.0 - earned.ends),
      values.lowest(variables['target'], after, goals),
      self.settings.mix,
    )
    # The actor's gradient passes the returns; the critics' does not.
    before, wanted = jax.lax.stop_gradient((before, returns))
    guesses = values.values(params['values'], before, goals)
    error = jnp.mean(jnp.square(guesses - wanted[None]))
    expected = jnp.mean(returns[0])
    metrics = {
      'return': expected,
      'value_error': error,
      'reached': jnp.mean(jnp.max(earned.ends, axis=0)),
    }
    return head_lib.HeadLosses(error - expected, metrics, {})

  def after_update(self, variables: Variables, step: jax.Array) -> Variables:
    """Moves the target towards the critics."""
    del step
    target = optax.incremental_update(
      variables['params']['values'],
      variables['target'],
      self.settings.target_rate,
    )
    return {**variables, 'target': target}

  def for_inference(self, variables: Variables) -> Variables:
    """See `training.state.Learner`."""
    return {'params': variables['params']}

  def _given(
    self, frozen: Sequence[jax.Array]
  ) -> environment_params.EnvironmentParams:
    """The arrays of the environment, from the collection 'frozen'."""
    rest = iter(frozen)
    return jax.tree.map(
      lambda x: next(rest) if jnp.size(x) else x, self.env_params
    )


def numbers(batch_size: int) -> Any:
  """Endless batches that number the rollouts of a step, for a `training.Run`.

  All that is random in a step comes from the key of the run, so there is
  nothing else in them.

  Args:
    batch_size: B, rollouts of a step.
  """
  batch = {'number': np.arange(batch_size, dtype=np.uint32)}
  return windows.numbered(lambda number: batch, 0)
