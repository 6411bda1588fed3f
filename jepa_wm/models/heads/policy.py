"""A policy that imitates: what was done on the way to where an episode led."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax

from jepa_wm import fields
from jepa_wm.models.heads import actor, head
from jepa_wm.types import Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class PolicyConfig:
  """The settings of `Policy`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
    std: deviation of actions that are drawn, as a share of half their range;
      the error is then the squared one. 0 learns it, by likelihood.
    num_proposals: candidates of a planner: the likeliest, the others drawn.
    max_steps: environment steps from a frame to its goal at most.
  """

  name: ClassVar[str] = 'policy'
  batches: ClassVar[str] = 'pairs'
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 3
  std: float = 0.3
  num_proposals: int = 8
  max_steps: int = 100

  def __post_init__(self) -> None:
    fields.check(self)

  def build(self, sizes: head.Sizes) -> 'Policy':
    """See `head.HeadConfig`."""
    actor.check_acts(self.name, sizes)
    return Policy(self, sizes)


@dataclasses.dataclass(frozen=True)
class Policy(actor.Acts):
  """Learns the block that was played on the way to a later frame.

  Goal-conditioned behavioural cloning (GCBC): the goal of a frame is one that
  its episode came to, whenever. What an actor learns elsewhere, in imagination
  say, is saved as this head too.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(proposal=self.proposal_fn, policy=self.act)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    params = {'actor': self.actor.init(rng_key)}
    return {'params': params, 'batch_stats': {}}

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    latents, action = batch['latents'], batch['action'][:, 0]
    return self.actor.imitation(
      variables['params']['actor'], latents[:, 0], latents[:, 1], action
    )
