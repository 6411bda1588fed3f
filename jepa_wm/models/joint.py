"""A head and the model whose latents it reads, learnt as one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm.models import heads, jepa, targets
from jepa_wm.models.heads import head as head_lib
from jepa_wm.types import Variables

Batch = Mapping[str, Any]
"""As a head's own of 'goals' or 'pairs' (`heads.head.BATCHES`), with pixels
where that has latents; 'pairs' also has `after`, the frame a block on."""


@dataclasses.dataclass(frozen=True)
class Joint:
  """A model that learns by its own terms and by what a head asks of latents.

  Frames before and after a block are a window of the model; goals are encoded
  beside. Gradients of the head reach the encoder through all of them, those of
  what the head holds as a target do not. There is one encoder: values, their
  target and the actor read the same latents, as in DrQ-v2 (arXiv 2107.09645).

  Its collections hold one entry for the `model` and one for the `head`.

  Attributes:
    model: learns to predict beside; with the gradient of its prediction at 0
      and no other term the head alone shapes the latents.
    head: one that acts.

  Raises:
    ValueError: a model that sees other than pixels, has a frozen encoder or
      learns of longer windows, or a head that does not act.
  """

  model: jepa.Jepa
  head: heads.Learner

  def __post_init__(self) -> None:
    model, name = self.model, self.head.config.name
    if self.head.config.batches not in ('goals', 'pairs'):
      raise ValueError(
        f'config.head.name: {name!r} learns on the latents of a trained '
        'encoder alone; on pixels learn policy, inverse_dynamics, gcivl and '
        'gciql.'
      )
    if model.is_frozen or set(model.observation_spec) != {'pixels'}:
      raise ValueError(
        f'config.model: {name!r} on pixels trains an encoder of pixels alone, '
        f'and this one is of {", ".join(model.observation_spec)} with the '
        f'target {model.target.name!r}; change it, or learn the head on the '
        'latents of --config.frozen_encoder.'
      )
    if model.num_frames != 2:
      raise ValueError(
        f'config.model: {name!r} on pixels learns of single blocks, and this '
        f'model of windows of {model.num_frames} frames; set '
        'predictor.history=1 and terms.prediction.steps=1.'
      )

  @property
  def config(self) -> Any:
    """Of the head, which names the run."""
    return self.head.config

  def init(self, rng_key: jax.Array) -> Variables:
    """Fresh variables of both; consumes the key."""
    model_key, head_key = jax.random.split(rng_key)
    return _joined(self.model.init(model_key), self.head.init(head_key))

  def losses(
    self, variables: Variables, batch: Batch, rng_key: jax.Array
  ) -> head_lib.HeadLosses:
    """The losses of both, added up; metrics of the model as `model/...`."""
    ours = part(variables, 'model')
    model_key, head_key = jax.random.split(rng_key)
    window = {
      'observation': {'pixels': _window(batch)},
      'action': batch['action'],
    }
    found = self.model.losses(ours, window, model_key)
    # By the statistics of the goals, which leave no trace.
    goals, _ = self.model.networks.apply(
      targets.merged(ours),
      self.model.encoder.inputs({'pixels': _goals(batch)}),
      train=True,
      method='encode',
      mutable=['batch_stats'],
    )
    priced = self.head.losses(
      part(variables, 'head'), _read(batch, found.latents, goals), head_key
    )
    metrics = {f'model/{name}': x for name, x in found.metrics.items()}
    return head_lib.HeadLosses(
      found.loss + priced.loss,
      {**metrics, **priced.metrics},
      {'model': found.batch_stats, 'head': priced.batch_stats},
    )

  def evaluate(
    self, variables: Variables, batch: Batch
  ) -> dict[str, jax.Array]:
    """What a held-out batch costs the head, in eval mode: scalars by name."""
    encode: Callable[[jax.Array], jax.Array] = lambda pixels: self.model.encode(
      part(variables, 'model'), {'pixels': pixels}
    )
    read = _read(batch, encode(_window(batch)), encode(_goals(batch)))
    own = part(variables, 'head')
    found = self.head.losses(own, read, jax.random.key(0))
    return {'loss': found.loss, **found.metrics}

  def after_update(self, variables: Variables, step: jax.Array) -> Variables:
    """The targets of both follow."""
    return _joined(
      self.model.after_update(part(variables, 'model'), step),
      self.head.after_update(part(variables, 'head'), step),
    )

  def for_inference(self, variables: Variables) -> Variables:
    """What is saved of both, see `part`."""
    return _joined(
      self.model.for_inference(part(variables, 'model')),
      self.head.for_inference(part(variables, 'head')),
    )


def part(variables: Variables, name: str) -> Variables:
  """The variables of the 'model' or of the 'head' alone."""
  return {
    collection: parts[name]
    for collection, parts in variables.items()
    if name in parts
  }


def _joined(model: Variables, head: Variables) -> Variables:
  both = {'model': model, 'head': head}
  return {
    collection: {
      name: held[collection]
      for name, held in both.items()
      if collection in held
    }
    for collection in {**model, **head}
  }


def _window(batch: Batch) -> jax.Array:
  """Frames before and after a block, `[B, 2, height, width, 3]`."""
  if 'after' not in batch:
    frames: jax.Array = batch['latents']
    return frames
  return jnp.stack([batch['latents'][:, 0], batch['after']], axis=1)


def _goals(batch: Batch) -> jax.Array:
  """Frames of goals, `[B, G, height, width, 3]`."""
  if 'after' in batch:
    frames: jax.Array = batch['latents'][:, 1:]
    return frames
  return jnp.stack([batch[who]['goal'] for who in ('value', 'actor')], axis=1)


def _read(batch: Batch, window: jax.Array, goals: jax.Array) -> dict[str, Any]:
  """The batch with latents `[B, 2, D]` and `[B, G, D]` for pixels."""
  if 'after' in batch:
    latents = jnp.concatenate([window[:, :1], goals], axis=1)
    return {**batch, 'latents': latents}
  named = {
    who: {**batch[who], 'goal': goals[:, number]}
    for number, who in enumerate(('value', 'actor'))
  }
  return {**batch, **named, 'latents': window}
