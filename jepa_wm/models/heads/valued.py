"""What heads do alike that act and know what goals are worth."""

import abc
import dataclasses

import jax

from jepa_wm.models.heads import actor, critic, goal_sampling, head
from jepa_wm.types import Params, Variables


@dataclasses.dataclass(frozen=True)
class Valued(actor.Acts, abc.ABC):
  """An actor, and a price of latents: it proposes, acts and says a cost."""

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(
      proposal=self.proposal_fn, policy=self.act, cost=self.cost
    )

  @abc.abstractmethod
  def cost(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """What latents cost for goals, `[..., D]` to `[...]`."""

  def _followed(self, variables: Variables, name: str) -> Variables:
    """The variables, whose target follows the parameters of that name."""
    target = goal_sampling.followed(
      variables['target'],
      variables['params'][name],
      self.config.target_rate,
    )
    return {**variables, 'target': target}


@dataclasses.dataclass(frozen=True)
class Ensemble(Valued):
  """As a planner's cost it is minus the lowest value of an ensemble.

  Its parameters are `variables['params']['values']`; of the settings it needs
  `num_values` besides those of the actor.
  """

  @property
  def critic(self) -> critic.Critic:
    """The functions of the ensemble."""
    settings = self.config
    return critic.Critic(
      self.sizes, settings.num_values, settings.width, settings.depth
    )

  def cost(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """Minus the lowest value `[...]` of latents for goals, `[..., D]`."""
    return -self.critic.lowest(params['params']['values'], latents, goals)
