"""The optimiser of the published recipes, made from plain fields."""

import dataclasses

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class AdamW:
  """AdamW with warm-up, cosine decay and gradient clipping.

  The defaults are the published LeWM recipe (stable-worldmodel 0.1.1,
  `scripts/train/lewm.py`): the learning rate rises linearly from 0 over the
  first hundredth of all steps, then falls along a cosine to 0; weight decay
  falls on every parameter, biases and norms included.

  Attributes:
    num_steps: optimiser steps of the whole run; the schedule ends there.
    learning_rate: peak.
    weight_decay: decoupled, times the learning rate of the step.
    warmup_fraction: of `num_steps`, in `[0, 1)`.
    clip_norm: largest global norm of the gradient; longer ones are scaled.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    epsilon: added to the root of the second moment.

  Raises:
    ValueError: a field is out of range.
  """

  num_steps: int
  learning_rate: float = 5e-5
  weight_decay: float = 1e-3
  warmup_fraction: float = 0.01
  clip_norm: float = 1.0
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8

  def __post_init__(self):
    """Checks the ranges."""
    if self.num_steps < 1:
      raise ValueError(
        f'num_steps must be at least 1, got {self.num_steps}: how many '
        'optimiser steps should the run take?'
      )
    if not 0 <= self.warmup_fraction < 1:
      raise ValueError(
        'warmup_fraction is a part of all steps, at least 0 and below 1, got '
        f'{self.warmup_fraction}.'
      )
    for name in ('learning_rate', 'clip_norm', 'epsilon'):
      if not getattr(self, name) > 0:
        raise ValueError(f'{name} must be positive, got {getattr(self, name)}.')
    for name in ('beta1', 'beta2'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f'{name} must be at least 0 and below 1, got {getattr(self, name)}.'
        )
    if not self.weight_decay >= 0:
      raise ValueError(
        f'weight_decay must not be negative, got {self.weight_decay}.'
      )

  @property
  def warmup_steps(self) -> int:
    """Steps before the peak, rounded down."""
    return int(self.warmup_fraction * self.num_steps)

  def schedule(self, step: jax.Array) -> jax.Array:
    """Learning rate of the update that follows `step` finished ones.

    Args:
      step: integer scalar, 0 for the first update.

    Returns:
      float32 scalar.
    """
    step = jnp.asarray(step, jnp.float32)
    rising = step / max(self.warmup_steps, 1)
    progress = (step - self.warmup_steps) / (self.num_steps - self.warmup_steps)
    falling = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(progress, 0.0, 1.0)))
    factor = jnp.where(step < self.warmup_steps, rising, falling)
    return self.learning_rate * factor

  def transformation(self) -> optax.GradientTransformation:
    """The optax transformation: clip, then AdamW at the scheduled rate."""
    return optax.chain(
      optax.clip_by_global_norm(self.clip_norm),
      optax.adamw(
        self.schedule,
        b1=self.beta1,
        b2=self.beta2,
        eps=self.epsilon,
        weight_decay=self.weight_decay,
      ),
    )
