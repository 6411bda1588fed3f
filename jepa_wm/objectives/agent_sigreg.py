"""SIGReg of latents that are tokens of agents, and one of their scene."""

import dataclasses
from typing import ClassVar

import jax

from jepa_wm.objectives import sigreg, terms


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class AgentSIGReg(sigreg.SIGReg):
  """Tests agents' tokens together, and the scene's apart, for Gaussians.

  The tokens of all agents of a frame's batch are one sample, `agent_sigreg`:
  they are to be alike, whoever it is. That of the scene is another,
  `scene_sigreg`.

  Source: SIGReg of LeWM, arXiv 2603.19312; the pooling is ours.

  Attributes:
    weight: of the agents'; the other fields are those of `sigreg.SIGReg`.
    scene_weight: of the scene's.
  """

  name: ClassVar[str] = 'agent_sigreg'

  scene_weight: float = 0.09

  @property
  def shapes_latents(self) -> bool:
    """See `terms.Term`."""
    return self.weight > 0 or self.scene_weight > 0

  def price(self, outcome: terms.Outcome, rng_key: jax.Array) -> terms.Priced:
    """See `terms.Term`.

    Raises:
      ValueError: the latents are no tokens of agents and a scene.
    """
    if outcome.num_tokens < 2:
      raise ValueError(
        'The term agent_sigreg needs a latent that is a token of each agent '
        'and one of the scene (the model multi_agent); take sigreg.'
      )
    latents = outcome.latents.swapaxes(0, 1)
    time, batch, _ = latents.shape
    tokens = latents.reshape(time, batch, outcome.num_tokens, -1)
    agents = tokens[:, :, :-1].reshape(time, -1, tokens.shape[-1])
    values = {
      'agent_sigreg': self._of(agents, rng_key),
      'scene_sigreg': self._of(tokens[:, :, -1], rng_key),
    }
    weights = {'agent_sigreg': self.weight, 'scene_sigreg': self.scene_weight}
    return terms.Priced(values, weights, {})
