"""InfoNCE over time: of all frames, tell which is next to this one."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.objectives import terms


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class InfoNCE(terms.Shaping):
  """Tells a frame's neighbours from other sequences' frames, `info_nce`."""

  name: ClassVar[str] = 'info_nce'

  weight: float = 1.0

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`; there must be two sequences."""
    del rng_key
    return info_nce(outcome.latents)


def info_nce(latents: jax.Array) -> jax.Array:
  """Cross entropy of telling a frame's neighbour from other sequences' frames.

  A frame `a`, its neighbour `p` in the same sequence, and all frames `n` of all
  other sequences give

      -log( e^s(a,p) / (e^s(a,p) + sum_n e^s(a,n)) ),  s(x, y) = -|x - y|^2 / 2

  averaged over all frames and over their neighbours before and after. Collapsed
  latents cost `log(1 + T (B - 1))`. What tells one sequence from another and
  changes slowly is learnt first, and frames of the same sequence do not push
  each other apart. The scale of the latents is free: their squared distances
  are in nats.

  Statistics are those of the whole batch, also where it is sharded, and in
  float32 whatever the input.

  Args:
    latents: `[B, T, D]`, two sequences and two frames at least.

  Returns:
    A scalar, float32.

  Raises:
    ValueError: another rank, or fewer than two sequences or frames.

  Source: contrastive predictive coding (arXiv 1807.03748, equation 4) with the
    negatives and the squared distance of time-contrastive networks
    (arXiv 1704.06888), in both directions.
  """
  if latents.ndim != 3 or min(latents.shape[:2]) < 2:
    raise ValueError(
      'latents must be [B, T, D] with at least two sequences B and two frames '
      f'T, got shape {latents.shape}.'
    )
  num_sequences, num_frames, size = latents.shape
  latents = latents.astype(jnp.float32)
  frames = latents.reshape(-1, size)
  # |x - y|^2 as |x|^2 - 2 x.y + |y|^2 of centred latents: one product, and no
  # [B T, B T, D] in memory.
  frames = frames - frames.mean(0, keepdims=True)
  squares = jnp.sum(jnp.square(frames), axis=-1)
  products = jnp.matmul(frames, frames.T, precision=jax.lax.Precision.HIGHEST)
  scores = products - (squares[:, None] + squares[None]) / 2.0
  sequence = jnp.arange(num_sequences * num_frames) // num_frames
  own = sequence[:, None] == sequence[None]
  others = jnp.where(own, -jnp.inf, scores)
  against = jax.nn.logsumexp(others, axis=-1).reshape(num_sequences, -1)
  steps = jnp.square(latents[:, 1:] - latents[:, :-1]).sum(-1) / 2.0
  losses = [
    steps + jnp.logaddexp(-steps, against[:, now])
    for now in (slice(None, -1), slice(1, None))
  ]
  return jnp.stack(losses).mean()
