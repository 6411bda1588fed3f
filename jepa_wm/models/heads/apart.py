"""Whether two agents are too near, read off their own tokens, and a bound."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import bounds, fields
from jepa_wm.models.heads import head, safety
from jepa_wm.networks import mlp
from jepa_wm.types import Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class ApartConfig:
  """The settings of `Apart`.

  Attributes:
    zone: what is forbidden, `apart:20`, in the unit of the world's places.
    num_agents: agents `G` of the latents, whose tokens come first, and then
      that of the scene.
    width: of the hidden layers.
    depth: hidden layers; 0 is a linear map.
    num_blocks: see `safety.SafetyConfig`, as `num_checks` and `num_scores`.
    num_checks: places in a block that are looked at.
    num_scores: prices of unsafe latents that are kept for bounds.
  """

  name: ClassVar[str] = 'apart'
  batches: ClassVar[str] = 'frames'
  columns: ClassVar[tuple[str, ...]] = ('margin', 'state')

  zone: str = 'apart:20'
  num_agents: int = 2
  width: int = 128
  depth: int = 2
  num_blocks: int = 10
  num_checks: int = 2
  num_scores: int = 1000

  def __post_init__(self) -> None:
    fields.check(self, {'zone': (self.zone,)}, may_be_zero=('depth',))
    if self.num_agents < 2:
      raise ValueError(
        f'num_agents must be at least 2 to keep apart, got {self.num_agents}.'
      )
    is_text = isinstance(self.zone, str)
    if not is_text or not 0 < self.distance <= bounds.MOST_NUMBER:
      raise ValueError(
        f'zone must be apart:DISTANCE with a number above 0, got {self.zone!r};'
        ' other zones are for the head safety.'
      )

  @property
  def distance(self) -> float:
    """How near two may come; 0 of what is no such zone."""
    kind, _, text = self.zone.partition(':')
    try:
      return float(text) if kind == 'apart' else 0.0
    except ValueError:
      return 0.0

  def build(self, sizes: head.Sizes) -> 'Apart':
    """See `head.HeadConfig`."""
    if sizes.latent_dim % (self.num_agents + 1):
      raise ValueError(
        f'The head apart reads a token of each of {self.num_agents} agents and '
        f'one of the scene, which a latent of {sizes.latent_dim} numbers has '
        'not; set num_agents to that of the model, which must be one of '
        'several, such as multi_agent.'
      )
    if len(sizes.state_mean) < 2 * self.num_agents:
      raise ValueError(
        f'The head apart learns from the true places of {self.num_agents} '
        f'agents, and a state of the data has {len(sizes.state_mean)} numbers.'
      )
    return Apart(self, sizes)


@dataclasses.dataclass(frozen=True)
class Apart(safety.Safety):
  """Prices latents: above 0 where two agents are nearer than they may be.

  One network reads every agent's place off its own token, so that it serves any
  number of agents. The price is what is missing to the distance, as a share
  of it, of the nearest two. Bounds are found as of `safety.Safety`: they make
  up for what the reading gets wrong.
  """

  @property
  def _token_dim(self) -> int:
    return self.sizes.latent_dim // (self.config.num_agents + 1)

  @property
  def _network(self) -> mlp.MLP:
    return mlp.MLP(2, self.config.width, self.config.depth)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`; nothing is calibrated."""
    found = head.fresh(self._network, rng_key, jnp.zeros((1, self._token_dim)))
    return {**found, 'batch_stats': self.uncalibrated()}

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`; the places are the first numbers of `state`."""
    del rng_key
    number = self.config.num_agents
    state = batch['state'][..., : 2 * number]
    truth = state.reshape(*state.shape[:-1], number, 2)
    middle, size = self._unit(truth)
    guesses = self._in_units(variables, batch['latents'])
    found = head.squared_error(guesses, (truth - middle) / size)
    return found._replace(batch_stats=variables['batch_stats'])

  def places(self, params: Params, latents: jax.Array) -> jax.Array:
    """Where latents `[..., D]` say that the agents are, `[..., G, 2]`.

    In the unit of the world; `D` says how many agents there are.
    """
    found = self._in_units(params, latents)
    middle, size = self._unit(found)
    return found * size + middle

  def price(self, params: Params, latents: jax.Array) -> jax.Array:
    """How near the nearest two are in latents `[..., D]`, `[...]`.

    1 where they are in one place, and 0 where they are as far as they must be.
    """
    places = self.places(params, latents)
    first, second = np.triu_indices(places.shape[-2], 1)
    ways = places[..., first, :] - places[..., second, :]
    # The root has no gradient at 0.
    far = jnp.sqrt(jnp.sum(jnp.square(ways), axis=-1) + 1e-6)
    return 1.0 - jnp.min(far, axis=-1) / self.config.distance

  def _in_units(self, params: Params, latents: jax.Array) -> jax.Array:
    shape = *latents.shape[:-1], -1, self._token_dim
    tokens = latents.reshape(shape)[..., :-1, :]
    return head.applied(self._network, params, tokens)

  def _unit(self, like: jax.Array) -> tuple[jax.Array, float]:
    """The middle and the size of what agents walk on, for `like` `[..., 2]`."""
    number = 2 * self.config.num_agents
    means = np.reshape(self.sizes.state_mean[:number], (-1, 2))
    size = float(np.mean(self.sizes.state_std[:number]))
    middle = jnp.asarray(means.mean(axis=0), jnp.float32)
    return middle.reshape((1,) * (like.ndim - 1) + (2,)), size
