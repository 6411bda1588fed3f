"""LeWorldModel: next-latent prediction, kept informative by a regulariser."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax

from jepa_wm.families import latent_dynamics, regularizers
from jepa_wm.types import Params


@dataclasses.dataclass(frozen=True)
class LeWM(latent_dynamics.LatentDynamics):
  """LeWorldModel as plain fields; the defaults are the published model.

  The loss is `prediction + sigreg_weight * SIGReg(Z) +
  temporal_similarity_weight * mean (z_t - z_t+1)^2 +
  straightening_weight * straightening(Z)`, with `Z` the latents of all frames;
  the last two terms are ours (PLDM has the first of them) and off by default.
  Another `regularizer` puts its terms in the place of SIGReg's. The published
  recipe is a batch of `T = history + 1` frames, one window.

  Source: LeWorldModel, arXiv 2603.19312, and its released code (le-wm at
  c8a4417), which has 18.0 M parameters where the paper says 15 M.

  Attributes: those of `latent_dynamics.LatentDynamics`.
  """

  name: ClassVar[str] = 'lewm'

  def loss(
    self,
    variables: Params,
    target_variables: Params | None,
    batch: Mapping[str, jax.Array],
    rng_key: jax.Array,
  ) -> tuple[jax.Array, tuple[latent_dynamics.Metrics, Params, jax.Array]]:
    """The training loss of a batch, batch statistics and dropout on.

    Args:
      variables: of the model.
      target_variables: of the target encoder, None for 'shared'.
      batch: `pixels` uint8 `[B, T, height, width, 3]` and `actions`
        `[B, T - 1, action_block * action_dim]` in normalised units, with
        `T >= history + rollout_steps`.
      rng_key: key of dropout and of the regulariser, consumed.

    Returns:
      The loss, and beside it the metrics (scalars: every term before its
      weight), the new batch statistics and the latents `[B, T, D]`.

    Raises:
      ValueError: the batch has other shapes or a wrong dtype.
    """
    forward_key, regularizer_key = jax.random.split(rng_key)
    forward = self.forward(variables, target_variables, batch, forward_key)
    loss, metrics = self.prediction_loss(forward)
    terms = self.regularizer_terms(
      forward.latents, forward.rolled[0], forward.targets[0], regularizer_key
    )
    terms += self.path_terms(forward.latents)
    loss = regularizers.add_terms(loss, terms, metrics)
    return loss, (metrics, forward.batch_stats, forward.latents)
