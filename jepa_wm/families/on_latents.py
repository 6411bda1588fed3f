"""Latent dynamics over an encoder that stays as it is."""

import dataclasses
from collections.abc import Mapping

import jax

from jepa_wm.families import latent_dynamics, latent_networks
from jepa_wm.types import Params


@dataclasses.dataclass(frozen=True)
class OnLatents:
  """What trains in place of a family whose latents are given.

  Encoder and projector are the collection 'frozen' of its variables, which no
  optimiser sees; everything else is learnt by the prediction loss, from batches
  that hold latents in place of pixels. A latent is computed once for a whole
  run, so that a step costs what the predictor costs.

  Attributes:
    inference_family: the family, which evaluations and exports take.
  """

  inference_family: latent_dynamics.LatentDynamics

  @property
  def name(self) -> str:
    """The family's."""
    return self.inference_family.name

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables `{'params', 'batch_stats', 'frozen'}`; consumes the key.

    Those in 'frozen' are `{'params', 'batch_stats'}` of what encodes.
    """
    return split(self.inference_family.init(rng_key))

  def loss(
    self,
    variables: Params,
    target_variables: None,
    batch: Mapping[str, jax.Array],
    rng_key: jax.Array,
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], Params, jax.Array]]:
    """As `LatentDynamics.loss` of `latents` `[B, T, D]` and `action`."""
    del target_variables
    batch = {name: batch[name] for name in ('latents', 'action')}
    loss, (metrics, statistics, latents) = self.inference_family.loss(
      merge(variables), None, batch, rng_key
    )
    learnt = split({'batch_stats': statistics})['batch_stats']
    return loss, (metrics, learnt, latents)

  def init_target(self, variables: Params) -> None:
    """There is no target encoder: the frozen one gives the targets."""
    del variables

  def update_target(
    self, target_variables: None, variables: Params, step: jax.Array | int
  ) -> None:
    """See `init_target`."""
    del target_variables, variables, step

  def inference_variables(
    self, variables: Params, target_variables: None
  ) -> Params:
    """Those of the family, as if it had been trained as a whole."""
    del target_variables
    return merge(variables)


def split(variables: Params) -> Params:
  """Moves what encodes from every collection into 'frozen'."""
  names = latent_networks.ENCODING_MODULES
  learnt, frozen = (
    {
      collection: {
        name: module
        for name, module in modules.items()
        if (name in names) == encodes
      }
      for collection, modules in variables.items()
    }
    for encodes in (False, True)
  )
  return {**learnt, 'frozen': frozen}


def merge(variables: Params) -> Params:
  """Undoes `split`."""
  return {
    collection: {**modules, **variables['frozen'][collection]}
    for collection, modules in variables.items()
    if collection != 'frozen'
  }
