"""How far a prediction is from its target; the caller averages.

Distances take two arrays of one shape, element by element where they say
nothing else, and answer in float32; other shapes are a ValueError, nothing is
broadcast. The gradient reaches both: a target that must not learn is stopped by
the caller (LeWM's learns).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.objectives import rolling, terms

# Shortest vector that has a direction (the epsilon of PyTorch's cosine).
_EPSILON = 1e-8


def squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Squared difference."""
  return jnp.square(_difference(prediction, target))


def absolute_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Absolute difference; where the two are equal the gradient is 0.

  Source: V-JEPA (arXiv 2404.08471), equation 1.
  """
  difference = _difference(prediction, target)
  # The slope of `jnp.abs` at 0 would be 1.
  return difference * jnp.sign(difference)


def smooth_absolute_error(
  prediction: jax.Array, target: jax.Array, *, beta: float = 1.0
) -> jax.Array:
  """Absolute difference with a rounded tip.

  `d^2 / (2 beta)` where `|d|` is below `beta`, which must be positive, and
  `|d| - beta / 2` beyond.

  Source: Fast R-CNN (arXiv 1504.08083), equation 3, for `beta` 1.
  """
  if not beta > 0:
    raise ValueError(f'beta must be positive, got {beta}.')
  distance = jnp.abs(_difference(prediction, target))
  below = jnp.minimum(distance, beta)
  return below * (distance - below / 2) / beta


def cosine_distance(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """One minus the cosine of the angle between two vectors.

  A vector shorter than 1e-8 has no direction: its cosine is 0, and it sends
  back no gradient.

  Args:
    prediction: `[..., D]`.
    target: `[..., D]`, the same shape.

  Returns:
    `[...]`, in 0..2: one number a vector.

  Raises:
    ValueError: the shapes differ, or are scalars.
  """
  _check_shapes(prediction, target)
  if not prediction.shape:
    raise ValueError('prediction and target must be [..., D], got scalars.')
  return 1 - jnp.sum(_direction(prediction) * _direction(target), axis=-1)


DISTANCES = {
  'squared': squared_error,
  'l1': absolute_error,
  'smooth_l1': smooth_absolute_error,
  'cosine': cosine_distance,
}
"""The distances by the names that configs have for them."""


@terms.PREDICTIONS.register
@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class NextLatent:
  """How far predicted latents are from those that came, `prediction_loss`.

  Every run of `history` consecutive latents with their actions is a window;
  each of its tokens predicts the next latent. A batch of `history + 1` frames
  is exactly one window; with `history` 1 every frame is a window of its own.
  With `steps` above 1 the predictions of a step are the inputs of the next one,
  see `rolling.rollout_windows`; `prediction_loss_step_k` reports each.

  Attributes:
    weight: of the loss; the other terms' are relative to it.
    distance: one of `DISTANCES`.
    steps: steps that are predicted, each from the last.
    decay: weight of a step relative to the one before.
    true_share: chance that an input of a later step is the encoded frame after
      all (scheduled sampling).
    slides: whether later steps have the past that a plan has, see
      `rolling.slide_windows`: for histories above 1, where a window's first
      token has none.
    gradient: share of the gradient that reaches the encoder, 0..1; with 0 the
      other terms alone shape the latents, and the predictor learns to predict
      what they make of them.
  """

  name: ClassVar[str] = 'prediction'
  shapes_latents: ClassVar[bool] = False

  weight: float = 1.0
  distance: str = 'squared'
  steps: int = 1
  decay: float = 1.0
  true_share: float = 0.0
  slides: bool = False
  gradient: float = 1.0

  def __post_init__(self) -> None:
    fields.check(
      self, {'distance': tuple(DISTANCES)}, shares=('true_share', 'gradient')
    )
    rolls = self.decay != 1.0 or self.true_share or self.slides
    if self.steps == 1 and rolls:
      raise ValueError(
        'decay, true_share and slides are of a rollout: with steps=1 they '
        f'would do nothing, got decay={self.decay}, true_share='
        f'{self.true_share} and slides={self.slides}.'
      )
    if self.slides and self.true_share:
      raise ValueError(
        'true_share would do nothing with slides, where the past is the true '
        f'one for as long as it can be, got {self.true_share}.'
      )

  @property
  def reaches_encoder(self) -> bool:
    """See `terms.Prediction`."""
    return self.gradient > 0

  def num_frames(self, history: int) -> int:
    """See `terms.Prediction`."""
    return history + self.steps

  def roll(self, batch: terms.Windows) -> list[tuple[jax.Array, jax.Array]]:
    """See `terms.Prediction`.

    For step `j` from 1 predictions and targets are
    `[B, T - h - j + 1, h, D]`, those of the newest tokens alone from step 2
    with `slides`.
    """
    latents = self._held(batch.latents)
    targets = latents if batch.targets is None else batch.targets
    if self.slides:
      rolled = rolling.slide_windows(
        batch.predict_fn,
        latents,
        batch.actions,
        history=batch.history,
        num_steps=self.steps,
      )
      view = lambda x, step: rolling.window_view(
        targets, step + batch.history - x.shape[2], (x.shape[1], x.shape[2])
      )
      return [(x, view(x, step)) for step, x in enumerate(rolled, 1)]
    rolled = rolling.rollout_windows(
      batch.predict_fn,
      latents,
      batch.actions,
      history=batch.history,
      num_steps=self.steps,
      true_share=self.true_share,
      rng_key=batch.rng_key,
    )
    return [
      (x, rolling.window_view(targets, step, (x.shape[1], x.shape[2])))
      for step, x in enumerate(rolled, 1)
    ]

  def price(self, outcome: terms.Outcome, rng_key: jax.Array) -> terms.Priced:
    """See `terms.Term`."""
    del rng_key
    distance = DISTANCES[self.distance]
    losses = [distance(*pair).mean() for pair in outcome.rolled]
    weights = [self.decay**step for step in range(self.steps)]
    loss = jnp.average(jnp.stack(losses), weights=jnp.asarray(weights))
    steps = {}
    if self.steps > 1:
      steps = {
        f'prediction_loss_step_{step}': x for step, x in enumerate(losses, 1)
      }
    return terms.one('prediction_loss', self.weight, loss, steps)

  def _held(self, latents: jax.Array) -> jax.Array:
    """The same `latents`, which let `gradient` of it through."""
    if self.gradient == 1.0:
      return latents
    stopped = jax.lax.stop_gradient(latents)
    return self.gradient * latents + (1.0 - self.gradient) * stopped


def _check_shapes(prediction: jax.Array, target: jax.Array) -> None:
  if prediction.shape != target.shape:
    raise ValueError(
      f'prediction has shape {prediction.shape} and target {target.shape}: '
      'give both the same shape.'
    )


def _difference(prediction: jax.Array, target: jax.Array) -> jax.Array:
  _check_shapes(prediction, target)
  return prediction.astype(jnp.float32) - target.astype(jnp.float32)


def _direction(vector: jax.Array) -> jax.Array:
  """`vector` `[..., D]` at length 1, or 0 where it has no direction."""
  vector = vector.astype(jnp.float32)
  squared_length = jnp.sum(jnp.square(vector), axis=-1, keepdims=True)
  points = squared_length > _EPSILON**2
  # The square root's slope is infinite at 0: it must not see one.
  length = jnp.sqrt(jnp.where(points, squared_length, 1.0))
  return jnp.where(points, vector / length, 0.0)
