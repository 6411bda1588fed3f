"""GCIVL: values of goals by expectile, and a policy that prefers what gains."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.models.heads import actor, goal_sampling, head, valued
from jepa_wm.types import Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class GcivlConfig(goal_sampling.GoalSampling):
  """The settings of `Gcivl`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
    std: deviation of actions that are drawn, as a share of half their range; 0
      is learnt.
    num_proposals: candidates of a planner: the likeliest, the others drawn.
    num_values: E, the ensemble's networks.
    expectile: of what the data's players did, 0.5 their mean.
    alpha: how much the policy prefers actions that gain value.
    target_rate: by how much a step moves the targets' values.
  """

  name: ClassVar[str] = 'gcivl'
  batches: ClassVar[str] = 'goals'
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 3
  std: float = 0.3
  num_proposals: int = 8
  num_values: int = 2
  expectile: float = 0.9
  alpha: float = 3.0
  target_rate: float = 0.005

  def build(self, sizes: head.Sizes) -> 'Gcivl':
    """See `head.HeadConfig`."""
    actor.check_acts(self.name, sizes)
    return Gcivl(self, sizes)


@dataclasses.dataclass(frozen=True)
class Gcivl(valued.Ensemble):
  """Goal-conditioned implicit V-learning with advantage-weighted regression.

  A value is minus the blocks to the goal, discounted, of the better players in
  the data. As a planner's cost it is minus the lowest value of the ensemble.

  Source: OGBench (arXiv 2410.20092), `agents/gcivl.py`; after IQL (arXiv
    2110.06169) and HIQL (arXiv 2307.11949).
  """

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    actor_key, critic_key = jax.random.split(rng_key)
    values = self.critic.init(critic_key)
    return {
      'params': {'actor': self.actor.init(actor_key), 'values': values},
      'batch_stats': {},
      'target': jax.tree.map(jnp.copy, values),
    }

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    params, settings = variables['params'], self.config
    # Of what is evaluated nothing follows.
    target = variables.get('target', params['values'])
    before, after = jnp.moveaxis(batch['latents'], 1, 0)
    goal, reward, mask = (
      batch['value'][name] for name in ('goal', 'reward', 'mask')
    )
    there = self.critic.values(target, after, goal)
    now = self.critic.values(target, before, goal)
    returns = lambda value: jax.lax.stop_gradient(
      reward + settings.discount * mask * value
    )
    gain = returns(jnp.min(there, axis=0)) - jnp.mean(now, axis=0)
    values = self.critic.values(params['values'], before, goal)
    errors = jax.vmap(returns)(there) - values
    value_loss = len(values) * goal_sampling.expectile_loss(
      errors,
      jnp.broadcast_to(gain, errors.shape),
      settings.expectile,
    )
    imitation, advantage = self._imitation(params, batch)
    return head.HeadLosses(
      value_loss + imitation.loss,
      {
        **imitation.metrics,
        'value': jnp.mean(values),
        'value_loss': value_loss,
        'actor_loss': imitation.loss,
        'advantage': jnp.mean(advantage),
      },
      {},
    )

  def _imitation(
    self, params: Any, batch: Mapping[str, Any]
  ) -> tuple[head.HeadLosses, jax.Array]:
    """What the actor costs, and the advantages `[B]`."""
    before, after = jnp.moveaxis(batch['latents'], 1, 0)
    goal = batch['actor']['goal']
    mean = lambda latents: jnp.mean(
      self.critic.values(params['values'], latents, goal), axis=0
    )
    advantage = mean(after) - mean(before)
    weights = goal_sampling.advantage_weights(advantage, self.config.alpha)
    action = batch['action'][:, 0]
    found = self.actor.imitation(params['actor'], before, goal, action, weights)
    return found, advantage

  def after_update(self, variables: Variables, step: jax.Array) -> Variables:
    """The target follows the values."""
    del step
    return self._followed(variables, 'values')
