"""The optimiser of the published recipes, made from plain fields."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jepa_wm import bounds, fields
from jepa_wm.types import Params

DECAYS = ('cosine', 'linear', 'constant')
"""How the learning rate goes from its peak to the final one, if it does."""

_MOST_STRETCH = 1000

WEIGHT_DECAY_SCHEDULES = ('constant', 'cosine')

DECAYED = ('all', 'matrices')
"""Which parameters shrink.

  'all': every one;
  'matrices': those with two dimensions or more that are no bias: kernels, and
    mask tokens too, as in the released code of I-JEPA and V-JEPA.
"""


@dataclasses.dataclass(frozen=True)
class AdamW:
  """AdamW with warm-up, decay of the learning rate and gradient clipping.

  The defaults are the published LeWM recipe (stable-worldmodel 0.1.1,
  `scripts/train/lewm.py`): the learning rate rises linearly from 0 over the
  first hundredth of all steps, then falls along a cosine to 0; weight decay
  falls on every parameter, biases and norms included.

  I-JEPA and V-JEPA (their released code; vjepa2 at c2963a4) start and end at
  rates above 0, count updates from 1, raise the weight decay along a cosine and
  may stop before their schedules do (`stretch`). Warm-up, a constant rate and a
  linear end (V-JEPA 2, 2-AC) is `decay='linear'` with a small `decay_fraction`.

  Attributes:
    num_steps: optimiser steps of the whole run.
    learning_rate: peak.
    weight_decay: decoupled, times the learning rate of the step.
    warmup_fraction: of `num_steps`, in `[0, 1)`.
    clip_norm: largest global norm of the gradient; longer ones are scaled. 0
      leaves every gradient as it is.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    epsilon: added to the root of the second moment.
    start_learning_rate: where the warm-up begins.
    final_learning_rate: where the decay ends.
    decay: its form, one of `DECAYS`.
    decay_fraction: last part of the schedules in which it happens, in
      `(0, 1]`; it never begins before the warm-up is over.
    stretch: length of the schedules in `num_steps`, warm-up apart; above 1 the
      run stops before they end.
    first_step: number of the first update, 0 or 1.
    weight_decay_schedule: one of `WEIGHT_DECAY_SCHEDULES`.
    final_weight_decay: where a scheduled one ends.
    decayed: what `weight_decay` falls on, one of `DECAYED`.

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
  start_learning_rate: float = 0.0
  final_learning_rate: float = 0.0
  decay: str = 'cosine'
  decay_fraction: float = 1.0
  stretch: float = 1.0
  first_step: int = 0
  weight_decay_schedule: str = 'constant'
  final_weight_decay: float = 0.4
  decayed: str = 'all'

  def __post_init__(self):
    if self.num_steps < 1:
      raise ValueError(
        f'num_steps must be at least 1, got {self.num_steps}: how many '
        'optimiser steps should the run take?'
      )
    bounds.check_whole('num_steps', self.num_steps, most=bounds.MOST_STEPS)
    if not 0 <= self.warmup_fraction < 1:
      raise ValueError(
        'warmup_fraction is a part of all steps, at least 0 and below 1, got '
        f'{self.warmup_fraction}.'
      )
    for name in ('learning_rate', 'epsilon'):
      if not 0 < getattr(self, name) <= bounds.MOST_NUMBER:
        raise ValueError(
          f'{name} must be positive and finite, got {getattr(self, name)}.'
        )
    for name in ('beta1', 'beta2'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f'{name} must be at least 0 and below 1, got {getattr(self, name)}.'
        )
    rates = ('start_learning_rate', 'final_learning_rate')
    for name in ('weight_decay', 'clip_norm', 'final_weight_decay', *rates):
      if not 0 <= getattr(self, name) <= bounds.MOST_NUMBER:
        raise ValueError(
          f'{name} must be finite and not negative, got {getattr(self, name)}.'
        )
    for name, choices in (
      ('decay', DECAYS),
      ('weight_decay_schedule', WEIGHT_DECAY_SCHEDULES),
      ('decayed', DECAYED),
      ('first_step', (0, 1)),
    ):
      fields.check_choice(name, getattr(self, name), choices)
    if not 0 < self.decay_fraction <= 1:
      raise ValueError(
        'decay_fraction is a part of the schedule, above 0 and at most 1, got '
        f"{self.decay_fraction}; without any decay take decay='constant'."
      )
    if not 1 <= self.stretch <= _MOST_STRETCH:
      raise ValueError(
        'stretch must be at least 1, or the schedules would end before the '
        f'run, and at most {_MOST_STRETCH}, got {self.stretch}.'
      )

  @property
  def warmup_steps(self) -> int:
    """Steps before the peak, rounded down."""
    return _whole_steps(self.warmup_fraction, self.num_steps)

  @property
  def schedule_steps(self) -> int:
    """Step at which the schedules reach their ends, rounded down."""
    return _whole_steps(self.stretch, self.num_steps)

  def schedule(self, step: jax.Array) -> jax.Array:
    """Learning rate of the update that follows `step` finished ones.

    Args:
      step: integer scalar, 0 for the first update.

    Returns:
      float32 scalar.
    """
    step = jnp.asarray(step, jnp.float32) + self.first_step
    rising = step / max(self.warmup_steps, 1)
    length = min(
      max(round(self.decay_fraction * self.schedule_steps), 1),
      self.schedule_steps - self.warmup_steps,
    )
    # Counted from the end: 1 - progress would lose the digits of a small rest,
    # as 1 + cos would beside the square of a sine.
    remaining = jnp.clip((self.schedule_steps - step) / length, 0.0, 1.0)
    if self.decay == 'cosine':
      remaining = jnp.square(jnp.sin(0.5 * jnp.pi * remaining))
    elif self.decay == 'constant':
      remaining = jnp.ones_like(remaining)
    start, final = self.start_learning_rate, self.final_learning_rate
    return jnp.where(
      step < self.warmup_steps,
      start + (self.learning_rate - start) * rising,
      final + (self.learning_rate - final) * remaining,
    )

  def scheduled_weight_decay(self, step: jax.Array) -> jax.Array:
    """Weight decay of the update that follows `step` finished ones.

    Args:
      step: integer scalar, 0 for the first update.

    Returns:
      float32 scalar.
    """
    if self.weight_decay_schedule == 'constant':
      return jnp.float32(self.weight_decay)
    step = jnp.asarray(step, jnp.float32) + self.first_step
    progress = jnp.clip(step / self.schedule_steps, 0.0, 1.0)
    # 1 - cos as a square: nothing of a small rise is rounded away.
    risen = jnp.square(jnp.sin(0.5 * jnp.pi * progress))
    return (
      self.weight_decay + (self.final_weight_decay - self.weight_decay) * risen
    )

  def metrics(self, step: jax.Array) -> dict[str, jax.Array]:
    """What changes by schedule, for the log.

    Args:
      step: finished updates.

    Returns:
      Scalars: `learning_rate` and, where it is scheduled, `weight_decay`.
    """
    values = {'learning_rate': self.schedule(step)}
    if self.weight_decay_schedule != 'constant':
      values['weight_decay'] = self.scheduled_weight_decay(step)
    return values

  def transformation(self) -> optax.GradientTransformation:
    """The optax transformation: clip, then AdamW at the scheduled rates."""
    clip = optax.identity()
    if self.clip_norm:
      clip = optax.clip_by_global_norm(self.clip_norm)
    if self.weight_decay_schedule == 'constant':
      shrink = optax.add_decayed_weights(self.weight_decay)
    else:
      shrink = _add_scheduled_decay(self.scheduled_weight_decay)
    if self.decayed == 'matrices':
      shrink = optax.masked(shrink, is_matrix)
    # Nested as optax.adamw is: that is how checkpoints hold the state.
    return optax.chain(
      clip,
      optax.chain(
        optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon),
        shrink,
        optax.scale_by_learning_rate(self.schedule),
      ),
    )


def to_config(**given: Any) -> dict[str, Any]:
  """The fields of an `AdamW` whose `num_steps` somebody else says.

  Args:
    given: those that are not at their defaults.

  Returns:
    All of them by name.

  Raises:
    ValueError: a field is out of range.
  """
  described = dataclasses.asdict(AdamW(num_steps=1, **given))
  del described['num_steps']
  return described


def is_matrix(params: Params) -> Any:
  """Which parameters `decayed='matrices'` shrinks, as a tree of bools.

  Args:
    params: arrays, or their shapes.
  """
  return jax.tree.map_with_path(
    lambda path, x: x.ndim > 1 and getattr(path[-1], 'key', '') != 'bias',
    params,
  )


def _whole_steps(fraction: float, num_steps: int) -> int:
  """`fraction * num_steps` rounded down, as if `fraction` were a decimal."""
  product = fraction * num_steps
  nearest = round(product)
  # Both roundings of a float: 0.29 * 100 is 28.999999999999996.
  if abs(product - nearest) <= 2.0**-51 * nearest:
    return nearest
  return math.floor(product)


def _add_scheduled_decay(
  schedule: Callable[[jax.Array], jax.Array],
) -> optax.GradientTransformation:
  """`optax.add_decayed_weights`, whose count stands still before 0.2.8."""

  def init_fn(params):
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update_fn(updates, state, params):
    rate = schedule(state.count)
    updates = jax.tree.map(lambda u, p: u + rate * p, updates, params)
    return updates, optax.ScaleByScheduleState(count=state.count + 1)

  return optax.GradientTransformation(init_fn, update_fn)
