"""Several agents in one latent world: LeWM's loss on a token of each."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import bounds, fields
from jepa_wm.models import jepa, model, modules, settings, targets
from jepa_wm.networks import (
  action_encoders,
  agent_views,
  encoders,
  hubs,
  predictors,
  projectors,
  vit,
)
from jepa_wm.objectives import agent_sigreg, dynamics, prediction
from jepa_wm.objectives import terms as terms_lib
from jepa_wm.types import ActionSpec

_OF_ONE = ('inverse_dynamics', 'policy', 'reconstruction')
"""Terms whose heads read a whole latent, and so know the number of agents."""


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class MultiAgent(settings.ActingSettings):
  """The settings of a model of `num_agents`; LeWM's where nothing else is said.

  A picture is seen as each agent sees it (`agent_views`); a latent is a token
  of each agent, in order, and one of the scene. The predictor adds each agent's
  action to its token. The loss is LeWM's, SIGReg on the tokens of all agents
  together and on the scene's. Nothing learnt depends on the number of agents,
  so that what was trained with two can be used with four.

  Source: LeWorldModel, arXiv 2603.19312; agents as in gamma-World, arXiv
  2605.28816.

  Attributes:
    action_dim: raw action dimensions of one environment step, of all agents.
    num_agents: agents `G`.
    token_dim: size of a token.
    encoder: of a view.
    sees_others: whether an agent's view, and that of the scene, shows where the
      other agents are; without it they meet in the predictor alone.
    projector: makes tokens of the features of a view, and another like it of
      what the predictor gives.
    actions: encodes the action block of one agent.
    predictor: 'hubs', which knows agents.
  """

  name: ClassVar[str] = 'multi_agent'

  action_dim: int = 4
  action_block: int = 5
  num_agents: int = 2
  token_dim: int = 192
  encoder: encoders.Encoder = fields.one_of(encoders.ENCODERS, vit.ViTConfig())
  sees_others: bool = True
  projector: projectors.ProjectorConfig = fields.one_of(
    projectors.PROJECTORS, projectors.MLPConfig()
  )
  actions: action_encoders.ActionEncoderConfig = fields.one_of(
    action_encoders.ACTION_ENCODERS, action_encoders.BottleneckConfig()
  )
  predictor: predictors.PredictorConfig = fields.one_of(
    predictors.PREDICTORS, hubs.HubsConfig()
  )
  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS,
    (
      prediction.NextLatent(),
      agent_sigreg.AgentSIGReg(),
      dynamics.TemporalSimilarity(weight=0.0),
      dynamics.Straightening(weight=0.0),
    ),
  )
  target: targets.Target = fields.one_of(targets.TARGETS, targets.Shared())
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    for name in ('action_dim', 'num_agents'):
      bounds.check_whole(name, getattr(self, name), least=0)
    if self.num_agents and self.action_dim % self.num_agents:
      raise ValueError(
        f'action_dim={self.action_dim} is that of all agents together, which '
        f'num_agents={self.num_agents} must share evenly: set it to '
        'num_agents times the action of one.'
      )
    if self.predictor.name != hubs.HubsConfig.name:
      raise ValueError(
        f"predictor must be 'hubs', which has a token of each agent, got "
        f'{self.predictor.name!r}.'
      )
    for term in self.terms:
      if term.name in _OF_ONE:
        raise ValueError(
          f'The term {term.name} reads a latent as a whole, and that of '
          'multi_agent grows with its agents: leave it out.'
        )
    super().__post_init__()

  def with_agents(self, num_agents: int) -> 'MultiAgent':
    """See `settings.ActingSettings`."""
    each = self.action_dim // self.num_agents
    return dataclasses.replace(
      self, num_agents=num_agents, action_dim=num_agents * each
    )

  def build(self) -> 'Group':
    """Fills the five slots."""
    dtype = jnp.dtype(self.dtype)
    num_tokens = self.num_agents + 1
    encoder = agent_views.Views(self.encoder, self.num_agents, self.sees_others)
    tokenwise = lambda: agent_views.Shared(
      self.projector.build(self.token_dim, dtype), num_tokens
    )
    return Group(
      config=self,
      encoder=encoder,
      networks=modules.Networks(
        encoder=encoder.build(dtype),
        projector=tokenwise(),
        action_encoder=agent_views.AgentActions(
          self.actions.build(dtype), self.num_agents, self.action_block
        ),
        predictor=self.predictor.build((num_tokens, 1), dtype),
        prediction_projector=tokenwise(),
      ),
      latent_dim=num_tokens * self.token_dim,
      action_spec=ActionSpec(self.action_dim, self.action_block),
      terms=self.terms,
      target=self.target,
      token_grid=(num_tokens, 1),
      distance_fn=AgentsDistance(num_tokens),
      num_agents=self.num_agents,
    )


@dataclasses.dataclass(frozen=True)
class AgentsDistance:
  """The squared distance of agents' tokens; the scene's does not count.

  Attributes:
    num_tokens: tokens of a latent, that of the scene last.
  """

  num_tokens: int

  def __call__(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """Latents and goals `[..., P * F]`, broadcast, to `[...]`."""
    return self.of_each(latents, goal).sum(-1)

  def of_each(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """The same of each agent, `[..., P - 1]`."""
    squares = jnp.square(self._agents(latents) - self._agents(goal))
    return squares.sum(-1)

  def _agents(self, latents: jax.Array) -> jax.Array:
    tokens = latents.reshape(*latents.shape[:-1], self.num_tokens, -1)
    return tokens[..., :-1, :]


@dataclasses.dataclass(frozen=True)
class Group(jepa.Jepa):
  """A JEPA whose action is that of several agents.

  Attributes:
    num_agents: agents `G`, whose tokens are the first of a latent.
  """

  num_agents: int = 2

  def agent_costs(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """See `model.Advances`."""
    return AgentsDistance(self.num_tokens).of_each(latents, goal)
