"""How far predicted tokens are from those that a mask hid."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.objectives import prediction, terms


class Hidden(NamedTuple):
  """What a predictor made of one kind of mask.

  Attributes:
    predicted: `[B, ..., K, D]`, of the hidden tokens.
    wanted: the same shape, what they are.
    valid: bool `[B, ..., K]`, which are no padding; None for all.
    at_context: `[B, Kc, D]`, what it made of the context's own tokens.
    context: the same shape, what those are; None where nobody knows.
    context_valid: bool `[B, Kc]`, which are no padding; None for all.
    distance_to_mask: `[B, Kc]`, from each to the nearest hidden one, in tokens.
  """

  predicted: jax.Array
  wanted: jax.Array
  valid: jax.Array | None
  at_context: jax.Array
  context: jax.Array | None
  context_valid: jax.Array | None
  distance_to_mask: jax.Array


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class HiddenTokens:
  """The distance of hidden tokens to predictions, `prediction_loss`.

  The mean over the kinds of mask; `prediction_loss_mask_k` reports each of
  several. `target_std` and `predicted_std` fall to 0 when the encoder gives
  every token the same features.

  Source: I-JEPA (arXiv 2301.08243), equation 1; V-JEPA (arXiv 2404.08471),
  equation 1; V-JEPA 2.1 for the context.

  Attributes:
    weight: of the loss; the other terms' are relative to it.
    distance: one of `prediction.DISTANCES`.
    context_weight: of the distance at the context's own tokens, each divided by
      how far it is from the nearest hidden one, `context_loss`; 0 leaves it
      out.
  """

  name: ClassVar[str] = 'hidden_tokens'
  shapes_latents: ClassVar[bool] = False

  weight: float = 1.0
  distance: str = 'l1'
  context_weight: float = 0.0

  def __post_init__(self) -> None:
    fields.check(self, {'distance': tuple(prediction.DISTANCES)})

  def price(self, outcome: terms.Outcome, rng_key: jax.Array) -> terms.Priced:
    """See `terms.Term`; `outcome.extra` is a `Hidden` for each kind of mask."""
    del rng_key
    kinds: Sequence[Hidden] = outcome.extra
    losses = [
      _mean(self._distance(kind.predicted, kind.wanted), kind.valid)
      for kind in kinds
    ]
    values = {'prediction_loss': sum(losses[1:], losses[0]) / len(losses)}
    weights = {'prediction_loss': self.weight}
    if self.context_weight:
      losses_at_context = [self._at_context(kind) for kind in kinds]
      value = sum(losses_at_context[1:], losses_at_context[0])
      values['context_loss'] = value / len(losses_at_context)
      weights['context_loss'] = self.context_weight
    metrics = {
      'target_std': _deviation([kind.wanted for kind in kinds]),
      'predicted_std': _deviation([kind.predicted for kind in kinds]),
    }
    if len(losses) > 1:
      for number, loss in enumerate(losses):
        metrics[f'prediction_loss_mask_{number}'] = loss
    return terms.Priced(values, weights, metrics)

  def _at_context(self, kind: Hidden) -> jax.Array:
    """The loss at the context's own tokens, of one kind of mask."""
    if kind.context is None:
      raise ValueError(
        f'terms.hidden_tokens.context_weight={self.context_weight} needs a '
        "target that sees the context, too: set target_input='whole', or the "
        'weight to 0.'
      )
    distance = self._distance(kind.at_context, kind.context)
    return _mean(distance / kind.distance_to_mask, kind.context_valid)

  def _distance(self, predicted: jax.Array, wanted: jax.Array) -> jax.Array:
    """The distance of every token, features averaged: `[B, ..., K]`."""
    distance = prediction.DISTANCES[self.distance](predicted, wanted)
    # The cosine is one number a token already.
    return distance.mean(-1) if distance.ndim == wanted.ndim else distance


def _deviation(kinds: Sequence[jax.Array]) -> jax.Array:
  """Of the tokens `[B, ..., K, D]` of all kinds of mask, features averaged.

  Each kind is summed where it lies: side by side, tokens would travel between
  devices.
  """
  tokens = [x.reshape(-1, x.shape[-1]) for x in kinds]
  number = sum(len(x) for x in tokens)
  total = [jnp.sum(x, axis=0) for x in tokens]
  mean = sum(total[1:], total[0]) / number
  square = [jnp.sum(jnp.square(x - mean[None]), axis=0) for x in tokens]
  return jnp.mean(jnp.sqrt(sum(square[1:], square[0]) / number))


def _mean(distance: jax.Array, valid: jax.Array | None) -> jax.Array:
  """Mean over the tokens `[B, ...]` that are no padding."""
  if valid is None:
    return jnp.mean(distance)
  weights = valid.astype(jnp.float32)
  return jnp.sum(distance * weights) / jnp.sum(weights)
