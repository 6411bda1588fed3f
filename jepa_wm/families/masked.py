"""What I-JEPA and V-JEPA share: masks, EMA target, predictor of the hidden."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import jepa, units
from jepa_wm.families import masked_networks
from jepa_wm.networks import rotary
from jepa_wm.objectives import mask_buckets, masking, prediction
from jepa_wm.types import Params

Metrics = dict[str, jax.Array]

MASK_TOKENS = ('per_kind', 'shared')
"""Whether each kind of mask has a mask token of its own.

  'per_kind': the first for the first kind, and so on (V-JEPA 1);
  'shared': the first for all, as V-JEPA 2 trains on clips of one length.
"""


@dataclasses.dataclass(frozen=True)
class MaskedFamily(masked_networks.MaskedNetworks):
  """Predicts, in latent space, the tokens that a mask hides.

  The encoder sees the tokens of a context, its moving average all of them; the
  predictor is told where the hidden ones are, and its tokens are compared with
  those of the average, each normalised over its features (no affine, 1e-5).

  A family on top says what its masks are (`mask_specs`).

  Source: I-JEPA (arXiv 2301.08243), V-JEPA (arXiv 2404.08471), V-JEPA 2 (arXiv
  2506.09985) and their released code, where that differs from the papers.

  Attributes, beside those of `masked_networks.MaskedNetworks`:
    mask_token: one of `MASK_TOKENS`.
    prediction_distance: one of `prediction.DISTANCES`.
    context_weight: of the distance at the context's own tokens, each divided by
      how far it is from the nearest hidden one (V-JEPA 2.1; 0 leaves it out).
    target_momentum: of the moving average at the start.
    target_momentum_end: and after `target_momentum_steps` updates, between
      which it is linear. 1.25 times the steps of the run are published.
    target_momentum_steps: see there.
    truncate: how sets become of one length, one of `mask_buckets.TRUNCATIONS`.
    num_buckets: shapes that masks come in at most, each compiled when first
      met.
    min_context: fewest tokens of a context, for every kind of mask. Larger than
      published where a batch is larger than published: no sample is longer
      than the shortest of its batch.
  """

  name: ClassVar[str]

  mask_token: str = 'shared'
  prediction_distance: str = 'l1'
  context_weight: float = 0.0
  target_momentum: float = 0.99925
  target_momentum_end: float = 0.99925
  target_momentum_steps: int = 1
  truncate: str = 'raster'
  num_buckets: int = 8
  min_context: int = 1

  def __post_init__(self):
    """Checks every field, and that the masks leave a context.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    self.check(
      {
        'mask_token': MASK_TOKENS,
        'prediction_distance': tuple(prediction.DISTANCES),
        'truncate': mask_buckets.TRUNCATIONS,
      }
    )
    for name in ('target_momentum', 'target_momentum_end'):
      if getattr(self, name) > 1:
        raise ValueError(
          f'{name} must be at most 1, got {getattr(self, name)!r}.'
        )
    # A mask that can hide everything is refused here, before any training.
    _ = self.mask_specs

  @property
  def mask_specs(self) -> Sequence[masking.MaskSpec]:
    """The kinds of mask of a step."""
    raise NotImplementedError

  def buckets(self, batch_size: int) -> tuple[mask_buckets.Bucket, ...]:
    """The shapes that the masks of a batch come in, always the same ones."""
    return _plan(
      tuple(self.mask_specs), batch_size, self.truncate, self.num_buckets
    )

  def sample_masks(
    self, rng: np.random.Generator, batch_size: int
  ) -> tuple[mask_buckets.Masks, ...]:
    """Draws the masks of a batch on the host.

    Args:
      rng: consumed.
      batch_size: samples `B`.

    Returns:
      For every kind of mask its ids, in the shapes of one of `buckets`; what a
      batch holds as `masks`.
    """
    return mask_buckets.sample(
      self.mask_specs,
      rng,
      batch_size,
      buckets=self.buckets(batch_size),
      truncate=self.truncate,
    )

  def loss(
    self,
    variables: Params,
    target_variables: Params | None,
    batch: Mapping[str, Any],
    rng_key: jax.Array,
  ) -> tuple[jax.Array, tuple[Metrics, Params, jax.Array]]:
    """The training loss of a batch.

    Args:
      variables: `params` of encoder and predictor.
      target_variables: of the moving average.
      batch: `observation`, a mapping of `pixels` uint8
        `[B, T, height, width, 3]`, and `masks`, as `sample_masks` draws them.
      rng_key: key of the regulariser, consumed.

    Returns:
      The loss, the mean over the kinds of mask, and beside it the metrics
      (scalars), no batch statistics and the latents `[B, kinds, D]`, the
      context's tokens averaged.

    Raises:
      ValueError: the batch has other shapes or a wrong dtype, or no masks.
    """
    pixels = self._normalized(batch['observation']['pixels'])
    if 'masks' not in batch:
      raise ValueError(
        f'The batch has {sorted(batch)} and no masks; add what '
        'family.sample_masks draws (training.masks.MaskedBatches does).'
      )
    if target_variables is None:
      raise ValueError('No target_variables; pass what init_target returned.')
    params = variables['params']
    targets = self._targets(target_variables['params']['encoder'], pixels)
    losses, context_losses, latents, predictions, views = [], [], [], [], []
    for kind, masks in enumerate(batch['masks']):
      padded = self.truncate == 'none'
      context, _ = self.encoder().apply(
        {'params': params['encoder']},
        pixels,
        masks.context_ids,
        masks.context_valid if padded else None,
      )
      predicted, at_context = self._predict(
        params['predictor'],
        context,
        masks,
        kind if self.mask_token == 'per_kind' else 0,
      )
      view = mask_buckets.take(targets, masks.target_ids)
      distance = self._distance(predicted, view)
      losses.append(_mean(distance, masks.target_valid if padded else None))
      if self.context_weight:
        own = mask_buckets.take(targets, masks.context_ids)
        distance = self._distance(at_context, own)
        distance = distance / self._distance_to_mask(masks)
        context_losses.append(
          _mean(distance, masks.context_valid if padded else None)
        )
      latents.append(_pool(context, masks.context_valid if padded else None))
      size = predicted.shape[-1]
      predictions.append(predicted.reshape(-1, size))
      views.append(view.reshape(-1, size))
    latent = jnp.stack(latents, axis=1)
    loss = sum(losses[1:], losses[0]) / len(losses)
    predicted, view = jnp.concatenate(predictions), jnp.concatenate(views)
    metrics: Metrics = {
      'prediction_loss': loss,
      # Both fall to 0 when the encoder gives every token the same features.
      'target_std': jnp.mean(jnp.std(view, axis=0)),
      'predicted_std': jnp.mean(jnp.std(predicted, axis=0)),
    }
    if len(losses) > 1:
      for kind, value in enumerate(losses):
        metrics[f'prediction_loss_mask_{kind}'] = value
    terms = self.regularizer_terms(latent, predicted, view, rng_key)
    if context_losses:
      value = sum(context_losses[1:], context_losses[0]) / len(context_losses)
      terms.append(('context_loss', self.context_weight, value))
    for name, weight, value in terms:
      metrics[name] = value
      if weight:
        loss = loss + weight * value
    metrics['loss'] = loss
    return loss, (metrics, {}, latent)

  def evaluate(
    self, variables: Params, batch: Mapping[str, Any]
  ) -> tuple[Metrics, jax.Array]:
    """A look at held-out clips.

    Args:
      variables: as `inference_variables` gives them.
      batch: as for `loss`.

    Returns:
      The loss and what belongs to it, and the latents of `encode`, `[B, D]`
      or, of images, `[B, T, D]`.
    """
    target = {'params': {'encoder': variables['params']['target_encoder']}}
    # The same directions of a regulariser every time.
    _, (metrics, _, _) = self.loss(variables, target, batch, jax.random.key(0))
    return metrics, self.encode(variables, batch['observation']['pixels'])

  def init_target(self, variables: Params) -> Params | None:
    """The moving average at the start: a copy of the encoder."""
    return jepa.init_target('ema', variables)

  def update_target(
    self,
    target_variables: Params | None,
    variables: Params,
    step: jax.Array | int,
  ) -> Params | None:
    """The moving average after the update that gave `variables`.

    Args:
      target_variables: what `init_target` or the last update returned.
      variables: of the model, updated.
      step: updates before this one.
    """
    progress = jnp.minimum(step / self.target_momentum_steps, 1.0)
    momentum = self.target_momentum + progress * (
      self.target_momentum_end - self.target_momentum
    )
    return jepa.update_target(
      'ema', target_variables, variables, momentum=momentum
    )

  def _targets(self, encoder_params: Params, pixels: jax.Array) -> jax.Array:
    """What is to be predicted, of every token: `[B, P, num_levels * D]`."""
    tokens, outputs = self.encoder().apply({'params': encoder_params}, pixels)
    stride = self.encoder_depth // self.num_levels
    levels = [
      outputs[f'block_{stride * level - 1}']
      for level in range(1, self.num_levels)
    ]
    normalized = [_normalize(x) for x in (*levels, tokens)]
    return jax.lax.stop_gradient(jnp.concatenate(normalized, axis=-1))

  def _predict(
    self,
    predictor_params: Params,
    context: jax.Array,
    masks: mask_buckets.Masks,
    mask_index: int,
  ) -> tuple[jax.Array, jax.Array]:
    """Predictions at `target_ids` and at the context's own tokens."""
    context_ids = jnp.asarray(masks.context_ids)
    valid, target_ids = jnp.asarray(masks.context_valid), masks.target_ids
    if target_ids.ndim == 3:
      # Targets predicted each on its own: the context goes with every one.
      count = target_ids.shape[1]
      context, context_ids, valid = (
        jnp.broadcast_to(x[:, None], (len(x), count, *x.shape[1:]))
        for x in (context, context_ids, valid)
      )
    padded = self.truncate == 'none'
    predicted, outputs = self.predictor().apply(
      {'params': predictor_params},
      context,
      context_ids,
      target_ids,
      mask_index=mask_index,
      context_valid=valid if padded else None,
      target_valid=masks.target_valid if padded else None,
    )
    at_context = outputs['context']
    if target_ids.ndim == 3:
      at_context = at_context.mean(1)
    return predicted.astype(jnp.float32), at_context.astype(jnp.float32)

  def _distance(self, predicted: jax.Array, view: jax.Array) -> jax.Array:
    """The distance of every token, features averaged: `[B, ..., K]`."""
    distance = prediction.DISTANCES[self.prediction_distance](predicted, view)
    # The cosine is one number a token already.
    return distance.mean(-1) if distance.ndim == view.ndim else distance

  def _distance_to_mask(self, masks: mask_buckets.Masks) -> jax.Array:
    """How far each context token `[B, Kc]` is from the nearest hidden one."""
    ids = jnp.asarray(masks.target_ids).reshape(len(masks.target_ids), -1)
    valid = jnp.asarray(masks.target_valid).reshape(ids.shape)
    hidden, seen = (
      rotary.grid_positions(x, self.grid).astype(jnp.float32)
      for x in (ids, jnp.asarray(masks.context_ids))
    )
    # Squares expanded, so that no [B, Kc, Kt, 3] is ever made.
    squared = (
      jnp.sum(seen**2, -1)[:, :, None]
      + jnp.sum(hidden**2, -1)[:, None, :]
      - 2 * jnp.einsum('bkx,btx->bkt', seen, hidden)
    )
    nearest = jnp.where(valid[:, None, :], squared, jnp.inf).min(-1)
    return jnp.sqrt(jnp.maximum(nearest, 1.0))

  def _normalized(self, pixels: jax.Array) -> jax.Array:
    """Normalised pixels of a training batch."""
    self._check_pixels(pixels)
    if pixels.ndim != 5 or pixels.shape[1] != self.num_frames:
      raise ValueError(
        'pixels must be [B, T, height, width, 3] with T equal to '
        f'num_frames={self.num_frames}, got shape {pixels.shape}.'
      )
    return units.normalize_pixels(pixels)


@functools.lru_cache
def _plan(
  specs: tuple[Any, ...], batch_size: int, truncate: str, num_buckets: int
) -> tuple[mask_buckets.Bucket, ...]:
  """Buckets take seconds to plan: once is enough."""
  return mask_buckets.plan_buckets(
    specs, batch_size, truncate=truncate, num_buckets=num_buckets
  )


def _normalize(tokens: jax.Array) -> jax.Array:
  """LayerNorm over features without affine, in float32."""
  tokens = tokens.astype(jnp.float32)
  centred = tokens - jnp.mean(tokens, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + 1e-5)


def _mean(distance: jax.Array, valid: jax.Array | None) -> jax.Array:
  """Mean over the tokens `[B, ...]` that are no padding."""
  if valid is None:
    return jnp.mean(distance)
  weights = valid.astype(jnp.float32)
  return jnp.sum(distance * weights) / jnp.sum(weights)


def _pool(tokens: jax.Array, valid: jax.Array | None) -> jax.Array:
  """Mean `[B, D]` of the tokens that are no padding, float32."""
  tokens = tokens.astype(jnp.float32)
  if valid is None:
    return tokens.mean(1)
  weights = valid[..., None].astype(jnp.float32)
  return (tokens * weights).sum(1) / weights.sum(1)
