"""What agents learn in a model's imagination: an actor and its values."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax

from jepa_wm import fields
from jepa_wm.models.heads import actor, head, valued
from jepa_wm.types import Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class ActorCriticConfig:
  """The settings of `ActorCritic`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
    std: deviation of actions that are drawn, as a share of half their range; 0
      is learnt.
    num_values: E, the ensemble's networks.
    num_proposals: candidates of a planner: the likeliest, the others drawn.
  """

  name: ClassVar[str] = 'actor_critic'
  batches: ClassVar[str] = 'imagination'
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 3
  std: float = 0.3
  num_values: int = 2
  num_proposals: int = 8

  def __post_init__(self) -> None:
    fields.check(self)

  def build(self, sizes: head.Sizes) -> 'ActorCritic':
    """See `head.HeadConfig`."""
    actor.check_acts(self.name, sizes)
    return ActorCritic(self, sizes)


@dataclasses.dataclass(frozen=True)
class ActorCritic(valued.Ensemble):
  """An actor, and an ensemble of what its latents are worth.

  `variables['params']` are those of `actor` under 'actor' and of `critic` under
  'values'. As a planner's cost it is minus the lowest value.
  """

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    actor_key, critic_key = jax.random.split(rng_key)
    params = {
      'actor': self.actor.init(actor_key),
      'values': self.critic.init(critic_key),
    }
    return {'params': params, 'batch_stats': {}}

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """Not of batches.

    Raises:
      ValueError: always.
    """
    del variables, batch, rng_key
    raise ValueError(
      'actor_critic is trained by experiments.train_agent, in the imagination '
      'of a model and not on batches; of those gcivl and gciql learn.'
    )
