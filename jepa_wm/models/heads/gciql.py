"""GCIQL: values of blocks and of goals, and a policy that they improve."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.models.heads import actor, critic, goal_sampling, head, valued
from jepa_wm.types import Params, Variables

ACTOR_LOSSES = ('ddpgbc', 'awr')
"""How an actor is improved.

  'ddpgbc': up the gradient of the critic by the block, and near what was
    played (DDPG+BC, as TD3+BC, arXiv 2106.06860);
  'awr': advantage-weighted regression (arXiv 1910.00177), as IQL has it.
"""


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class GciqlConfig(goal_sampling.GoalSampling):
  """The settings of `Gciql`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
    std: deviation of actions that are drawn, as a share of half their range; 0
      is learnt.
    num_proposals: candidates of a planner: the likeliest, the others drawn.
    num_critics: E, networks that value blocks, of which the lowest counts.
    expectile: of what the data's players did, 0.5 their mean.
    actor_loss: one of `ACTOR_LOSSES`.
    alpha: of 'awr', how much the policy prefers actions that gain value; of
      'ddpgbc', what staying near the data counts.
    target_rate: by how much a step moves the targets' critics.
  """

  name: ClassVar[str] = 'gciql'
  batches: ClassVar[str] = 'goals'
  columns: ClassVar[tuple[str, ...]] = ()
  choices: ClassVar[Mapping[str, Sequence[str]]] = {'actor_loss': ACTOR_LOSSES}

  width: int = 256
  depth: int = 3
  std: float = 0.3
  num_proposals: int = 8
  num_critics: int = 2
  expectile: float = 0.9
  actor_loss: str = 'ddpgbc'
  alpha: float = 0.3
  target_rate: float = 0.005

  def build(self, sizes: head.Sizes) -> 'Gciql':
    """See `head.HeadConfig`."""
    actor.check_acts(self.name, sizes)
    return Gciql(self, sizes)


@dataclasses.dataclass(frozen=True)
class Gciql(valued.Valued):
  """Goal-conditioned implicit Q-learning.

  The critic's target is the value of what a block led to, and the value an
  expectile of the critic at what was played, so that no block is valued that
  nobody played. As a planner's cost it is minus the value.

  Source: OGBench (arXiv 2410.20092), `agents/gciql.py`; after IQL (arXiv
    2110.06169).
  """

  @property
  def value(self) -> critic.Critic:
    """The functions of V, one network."""
    return critic.Critic(self.sizes, 1, self.config.width, self.config.depth)

  @property
  def critic(self) -> critic.Critic:
    """The functions of Q, an ensemble."""
    settings = self.config
    return critic.Critic(
      self.sizes,
      settings.num_critics,
      settings.width,
      settings.depth,
      of_actions=True,
    )

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    actor_key, value_key, critic_key = jax.random.split(rng_key, 3)
    critics = self.critic.init(critic_key)
    params = {
      'actor': self.actor.init(actor_key),
      'value': self.value.init(value_key),
      'critics': critics,
    }
    target = jax.tree.map(jnp.copy, critics)
    return {'params': params, 'batch_stats': {}, 'target': target}

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    params, settings = variables['params'], self.config
    # Of what is evaluated nothing follows.
    target = variables.get('target', params['critics'])
    before, after = jnp.moveaxis(batch['latents'], 1, 0)
    action = self.actor.in_box(batch['action'][:, 0])
    goal, reward, mask = (
      batch['value'][name] for name in ('goal', 'reward', 'mask')
    )
    quality = jax.lax.stop_gradient(
      self.critic.lowest(target, before, goal, action)
    )
    value = self.value.lowest(params['value'], before, goal)
    gain = quality - value
    value_loss = goal_sampling.expectile_loss(gain, gain, settings.expectile)
    later = self.value.lowest(params['value'], after, goal)
    returns = jax.lax.stop_gradient(reward + settings.discount * mask * later)
    qualities = self.critic.values(params['critics'], before, goal, action)
    error = jax.vmap(lambda quality: quality - returns)(qualities)
    critic_loss = jnp.mean(jnp.square(error))
    actor_loss, metrics = self._actor_loss(
      params, before, action, batch['actor']['goal']
    )
    return head.HeadLosses(
      value_loss + critic_loss + actor_loss,
      {
        **metrics,
        'value': jnp.mean(value),
        'value_loss': value_loss,
        'critic_loss': critic_loss,
        'actor_loss': actor_loss,
      },
      {},
    )

  def _actor_loss(
    self, params: Any, before: jax.Array, action: jax.Array, goal: jax.Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What the actor costs, through which no critic learns."""
    settings, frozen = self.config, jax.lax.stop_gradient(params)
    # Nor latents that are learnt: they must not please the critic.
    here, there = jax.lax.stop_gradient((before, goal))
    weights: Any = 1.0
    if settings.actor_loss == 'awr':
      quality = self.critic.lowest(frozen['critics'], here, there, action)
      value = self.value.lowest(frozen['value'], here, there)
      weights = goal_sampling.advantage_weights(quality - value, settings.alpha)
    found = self.actor.imitation(params['actor'], before, goal, action, weights)
    if settings.actor_loss == 'awr':
      return found.loss, found.metrics
    likeliest, _ = self.actor.distribution(params['actor'], before, goal)
    quality = self.critic.lowest(frozen['critics'], here, there, likeliest)
    # One size whatever the values are.
    size = jax.lax.stop_gradient(jnp.mean(jnp.abs(quality))) + 1e-6
    loss = settings.alpha * found.loss - jnp.mean(quality) / size
    return loss, found.metrics

  def after_update(self, variables: Variables, step: jax.Array) -> Variables:
    """The target follows the critics."""
    del step
    return self._followed(variables, 'critics')

  def cost(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """Minus the value `[...]` of latents for goals, `[..., D]`."""
    return -self.value.lowest(params['params']['value'], latents, goals)
