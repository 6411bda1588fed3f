"""How many environment steps lie between two latents."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import mlp, quasimetrics
from jepa_wm.types import Params, Variables

FORMS = ('mlp', 'quasimetric')


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class TemporalDistanceConfig:
  """The settings of `TemporalDistance`.

  Attributes:
    form: 'mlp', which can say anything, or 'quasimetric', which keeps the
      triangle inequality and says 0 of a latent and itself.
    width: of the hidden layers.
    depth: hidden layers.
    both_ways: whether the later of two latents is as often the start as the
      goal; if not, it is the goal, and ways back are never learnt.
    max_steps: environment steps between two latents at most; 0 is as long as
      the episodes are.
    scale: environment steps that the network's 1 stands for.
    expectile: of the gaps seen: their mean at a half, and below it nearer to
      the least of them, which says more of ways where players wander.
  """

  name: ClassVar[str] = 'temporal_distance'
  batches: ClassVar[str] = 'gaps'
  columns: ClassVar[tuple[str, ...]] = ()

  form: str = 'mlp'
  width: int = 256
  depth: int = 2
  both_ways: bool = True
  max_steps: int = 0
  scale: float = 25.0
  expectile: float = 0.5

  def __post_init__(self) -> None:
    fields.check(self, {'form': FORMS}, may_be_zero=('max_steps',))
    if not self.scale:
      raise ValueError('scale must be above 0 environment steps, got 0.')
    if not 0.0 < self.expectile < 1.0:
      raise ValueError(
        f'expectile must be above 0 and below 1, got {self.expectile}.'
      )

  def build(self, sizes: head.Sizes) -> 'TemporalDistance':
    """See `head.HeadConfig`."""
    return TemporalDistance(self, sizes)


@dataclasses.dataclass(frozen=True)
class TemporalDistance(head.Plain):
  """Learns how many steps an episode took from one of its frames to another.

  That is a mean over who played, or an expectile: the steps of the data's
  players, not those of the shortest way. Every gap is as likely, so that far
  pairs count as near ones do. Of episodes that never lead from one place to
  another it knows nothing; a value that is learnt step by step (`gcivl`) does.

  Source: arXiv 2605.22164, the MLP with `[z, g, z - g, |z - g|]` and Softplus;
    for the quasimetric see `quasimetrics.residual_distance`;
    for the expectile IQL (arXiv 2110.06169), equation 5.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(cost=self.steps)

  @property
  def _network(self) -> Any:
    settings = self.config
    if settings.form == 'quasimetric':
      return quasimetrics.Quasimetric(
        width=settings.width, depth=settings.depth
      )
    return mlp.MLP(1, settings.width, settings.depth)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, *self._inputs(latent, latent))

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    here, there = jnp.moveaxis(batch['latents'], 1, 0)
    if self.config.both_ways:
      is_back = jax.random.bernoulli(rng_key, shape=(len(here), 1))
      here, there = (
        jnp.where(is_back, there, here),
        jnp.where(is_back, here, there),
      )
    guesses, steps = self.steps(variables, here, there), batch['steps']
    found = head.squared_error(
      guesses / self.config.scale, steps / self.config.scale
    )
    apart = guesses - steps
    tau = self.config.expectile
    share = jnp.where(apart < 0.0, tau, 1.0 - tau)
    return found._replace(
      loss=jnp.mean(2.0 * share * jnp.square(apart / self.config.scale)),
      metrics={**found.metrics, 'steps_off': jnp.mean(jnp.abs(apart))},
    )

  def steps(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """Environment steps `[...]` from latents to goals, `[..., D]` each."""
    said = head.applied(self._network, params, *self._inputs(latents, goals))
    if self.config.form == 'mlp':
      said = jax.nn.softplus(said[..., 0])
    return self.config.scale * said

  def _inputs(
    self, latents: jax.Array, goals: jax.Array
  ) -> tuple[jax.Array, ...]:
    """What the network reads of two latents."""
    if self.config.form == 'quasimetric':
      return latents, goals
    apart = latents - goals
    return latents, goals, apart, jnp.abs(apart)
