"""Tokens of contexts and targets: normalised, averaged, measured apart."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.networks import layers, positions, rotary, video_vit
from jepa_wm.objectives import hidden_tokens, mask_buckets, terms
from jepa_wm.types import Variables


class Seen(NamedTuple):
  """What networks made of clips by one kind of mask.

  Attributes:
    predicted: see `hidden_tokens.Hidden`, as `wanted`, `at_context`, `context`.
    latent: `[B, D]`, the context's tokens averaged.
  """

  predicted: jax.Array
  wanted: jax.Array
  at_context: jax.Array
  context: jax.Array | None
  latent: jax.Array


def check(
  variables: Variables, batch: Mapping[str, Any], *, has_target: bool
) -> None:
  """Refuses a batch without masks, and variables without a target.

  Raises:
    ValueError: there are none.
  """
  if 'masks' not in batch:
    raise ValueError(
      f'The batch has {sorted(batch)} and no masks; add what draw gives.'
    )
  if has_target and 'target' not in variables:
    raise ValueError(
      f'The variables hold {sorted(variables)} and no target; pass what init '
      'returned.'
    )


def valid(masks: mask_buckets.Masks, is_padded: bool) -> tuple[Any, Any]:
  """Which tokens of context and targets are no padding; None for all."""
  if not is_padded:
    return None, None
  return masks.context_valid, masks.target_valid


def outcome(
  seen: Sequence[Seen],
  masks: Sequence[mask_buckets.Masks],
  grid: positions.Grid,
  is_padded: bool,
) -> tuple[jax.Array, terms.Outcome]:
  """What terms price, and the latents `[B, kinds, D]`.

  Args:
    seen: by each kind of mask.
    masks: of each.
    grid: that their ids are of.
    is_padded: whether some of them are padding.
  """
  hidden = []
  for of_kind, found in zip(masks, seen):
    context_valid, target_valid = valid(of_kind, is_padded)
    hidden.append(
      hidden_tokens.Hidden(
        found.predicted,
        found.wanted,
        target_valid,
        found.at_context,
        found.context,
        context_valid,
        distance_to_mask(of_kind, grid),
      )
    )
  latents = jnp.stack([found.latent for found in seen], axis=1)
  return latents, terms.Outcome(latents, [side_by_side(hidden)], extra=hidden)


def normalize(tokens: jax.Array) -> jax.Array:
  """LayerNorm of tokens `[..., D]` over features without affine, float32."""
  tokens = tokens.astype(jnp.float32)
  centred = tokens - jnp.mean(tokens, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + 1e-5)


def last_norm(
  params: Any, tokens: jax.Array, encoder: video_vit.VideoViT
) -> jax.Array:
  """The last LayerNorm of an encoder, of tokens of another depth."""
  norm = layers.layer_norm(encoder.epsilon, **encoder.dtypes)
  normed: Any = norm.apply({'params': params['norm']}, tokens)
  return normed


def side_by_side(
  hidden: Sequence[hidden_tokens.Hidden],
) -> tuple[jax.Array, jax.Array]:
  """Predictions of all kinds of mask and what they should be, `[tokens, D]`."""
  size = hidden[0].predicted.shape[-1]
  predicted, wanted = (
    jnp.concatenate([getattr(x, name).reshape(-1, size) for x in hidden])
    for name in ('predicted', 'wanted')
  )
  return predicted, wanted


def distance_to_mask(
  masks: mask_buckets.Masks, grid: positions.Grid
) -> jax.Array:
  """How far each context token `[B, Kc]` is from the nearest hidden one."""
  ids = jnp.asarray(masks.target_ids).reshape(len(masks.target_ids), -1)
  valid = jnp.asarray(masks.target_valid).reshape(ids.shape)
  hidden, seen = (
    rotary.grid_positions(x, grid).astype(jnp.float32)
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


def pool(tokens: jax.Array, valid: jax.Array | None) -> jax.Array:
  """Mean `[B, D]` of the tokens that are no padding, float32."""
  tokens = tokens.astype(jnp.float32)
  if valid is None:
    return tokens.mean(1)
  weights = valid[..., None].astype(jnp.float32)
  return (tokens * weights).sum(1) / weights.sum(1)
