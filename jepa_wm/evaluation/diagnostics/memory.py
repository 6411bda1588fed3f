"""What a model remembers of an episode: read off its state by linear probes."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding, Table
from jepa_wm.evaluation.statistics import intervals
from jepa_wm.types import Variables
from jepa_wm.units import ActionStatistics

_MOST_VALUES = 8
_RIDGES = 10.0 ** np.arange(-5, 3)

SOURCES = ('latent', 'state', 'prediction')
"""What is read off, of the last frame of a window: the latent of that frame
alone; all that the model carries when it has seen it; and what it expected to
see there.

Source: LeWorldModel-Memory reads off the same three.
"""


class Reading(NamedTuple):
  """How well a factor is read off something, on episodes held out.

  Attributes:
    factor: that is read: what an episode keeps, by name.
    source: one of `SOURCES`.
    accuracy: share of episodes, 0..1.
    interval: of that, 95 %.
    chance: accuracy of who always says what is most frequent in training.
    num_episodes: held out.
  """

  factor: str
  source: str
  accuracy: float
  interval: tuple[float, float]
  chance: float
  num_episodes: int


@functools.partial(jax.jit, static_argnames='model')
def follow(
  model: models.Advances,
  variables: Variables,
  units: ActionStatistics,
  batch: diagnostic.Batch,
) -> dict[str, jax.Array]:
  """Absorbs windows of any length, frame by frame.

  Args:
    model: whose state it is.
    variables: of it.
    units: of the actions.
    batch: `observation` `[B, T, ...]` and raw `action` blocks `[B, T - 1, A]`,
      T at least two.

  Returns:
    `SOURCES` at the last frame, `[B, M]` each.
  """
  in_time = lambda x: jnp.moveaxis(jnp.asarray(x), 1, 0)
  frames = {
    name: in_time(batch['observation'][name]) for name in model.observation_spec
  }
  actions = in_time(units.normalize(batch['action']))
  latents = model.encode(variables, jax.tree.map(lambda x: x[0], frames))
  none = jnp.zeros((len(latents), 0, actions.shape[-1]), actions.dtype)
  state = model.start(variables, latents[:, None], none)

  def step(carry: Any, token: Any) -> Any:
    frame, action = token
    state, _ = carry
    latent = model.encode(variables, frame)
    expected = model.read(model.advance(variables, state, action))
    return (model.absorb(variables, state, action, latent), expected), None

  later = jax.tree.map(lambda x: x[1:], frames)
  carry = state, latents
  (state, expected), _ = jax.lax.scan(step, carry, (later, actions))
  numbers = [
    x.reshape(len(latents), -1).astype(jnp.float32)
    for x in jax.tree.leaves(state)
    if jnp.issubdtype(x.dtype, jnp.floating)
  ]
  return {
    'latent': model.read(state),
    'state': jnp.concatenate(numbers, axis=-1),
    'prediction': expected,
  }


def readings(
  model: diagnostic.Examined,
  train: Iterable[diagnostic.Batch],
  held_out: Iterable[diagnostic.Batch],
  names: Iterable[str] = (),
) -> list[Reading]:
  """What can be read off at the last frames of windows of one length.

  Factors are what an episode keeps from its first frame to its last, and takes
  2 to 8 values: numbers of the state, and the label. One batch is held at a
  time.

  Args:
    model: that follows them.
    train: windows that probes are fitted to, raw, with `state` or `label`.
    held_out: windows that they are scored on.
    names: of the numbers of the state.

  Raises:
    ValueError: the model has no dynamics, or windows have one frame.
  """
  fitted, scored = (_followed(model, x, names) for x in (train, held_out))
  found = []
  for factor, values in fitted.factors.items():
    kinds, classes = np.unique(values, return_inverse=True)
    truth = scored.factors.get(factor)
    if truth is None or not 2 <= len(kinds) <= _MOST_VALUES:
      continue
    usual = kinds[np.bincount(classes).argmax()]
    for source in SOURCES:
      guess = kinds[
        classify(fitted.sources[source], classes, scored.sources[source])
      ]
      right, number = int(np.sum(guess == truth)), len(truth)
      found.append(
        Reading(
          factor,
          source,
          right / number,
          intervals.wilson_interval(right, number),
          float(np.mean(truth == usual)),
          number,
        )
      )
  return found


def classify(
  inputs: np.ndarray, classes: np.ndarray, others: np.ndarray
) -> np.ndarray:
  """Classes of other rows by ridge regression to one-hot targets.

  Inputs are taken as they are or z-scored, and with a penalty: whatever has the
  least squared error of leaving one row out. Solved over rows, of which there
  are fewer than numbers.

  Args:
    inputs: `[N, M]`.
    classes: `[N]`, 0..K - 1.
    others: `[L, M]`.

  Returns:
    `[L]`.
  """
  inputs, others = (np.asarray(x, np.float64) for x in (inputs, others))
  mean, deviation = inputs.mean(0), inputs.std(0)
  # What does not vary but by rounding says nothing.
  kept = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-3)
  if not kept.any():
    return np.full(len(others), np.bincount(classes).argmax())
  rows, new = ((x - mean)[:, kept] for x in (inputs, others))
  targets = np.eye(classes.max() + 1)[classes]
  usual = targets.mean(0)
  found: list[tuple[float, np.ndarray]] = []
  for unit in (np.sqrt(np.mean(rows**2)), deviation[kept]):
    scaled = rows / unit / np.sqrt(kept.sum())
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    values = np.maximum(values, 0.0)
    turned = vectors.T @ (targets - usual)
    for ridge in _RIDGES:
      shrunk = values / (values + ridge)
      errors = targets - usual - vectors @ (shrunk[:, None] * turned)
      # Each row's own weight in what is said of it; the mean's is 1 / N.
      own = 1.0 / len(rows) + np.sum(vectors**2 * shrunk, axis=1)
      left_out = errors / np.maximum(1.0 - own, 1e-9)[:, None]
      weights = vectors @ (turned / (values + ridge)[:, None])
      read = (new / unit / np.sqrt(kept.sum())) @ (scaled.T @ weights)
      found.append((float(np.mean(left_out**2)), read + usual))
  _, read = min(found, key=lambda x: x[0])
  return np.argmax(read, axis=1)


class _Followed(NamedTuple):
  sources: dict[str, np.ndarray]
  factors: dict[str, np.ndarray]


def _followed(
  model: diagnostic.Examined,
  batches: Iterable[diagnostic.Batch],
  names: Iterable[str],
) -> _Followed:
  """What a model carries at the end of windows, and what these keep."""
  acting = model.model.acting
  if acting is None or model.units is None:
    raise ValueError(
      f'memory takes a model with dynamics, and {model.model.config.name} has '
      'none.'
    )
  sources, factors = [], []
  for batch in batches:
    if np.ndim(batch['action']) != 3 or not np.shape(batch['action'])[1]:
      raise ValueError('memory takes windows of two frames or more, got one.')
    given = {name: batch[name] for name in ('observation', 'action')}
    found = follow(acting, model.params, model.units, given)
    sources.append(jax.device_get(found))
    factors.append(_kept(batch, list(names)))
  together = lambda parts: jax.tree.map(lambda *x: np.concatenate(x), *parts)
  shared = set.intersection(*(set(x) for x in factors))
  factors = [{name: x[name] for name in sorted(shared)} for x in factors]
  return _Followed(together(sources), together(factors))


def _kept(batch: diagnostic.Batch, names: list[str]) -> dict[str, np.ndarray]:
  """What every episode of a batch keeps, `[B]` by name."""
  found = {}
  states = np.asarray(batch.get('state', np.zeros((1, 1, 0))))
  if len(names) != states.shape[-1]:
    names = [f's{index}' for index in range(states.shape[-1])]
  for index, name in enumerate(names):
    numbers = states[..., index]
    if np.all(numbers == numbers[:, :1]):
      found[name] = numbers[:, 0]
  if 'label' in batch:
    found['label'] = np.asarray(batch['label'])
  return found


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Memory:
  """What an episode keeps and does not show, read off at its end."""

  name = group = 'memory'

  def __call__(self, question: diagnostic.Question) -> Finding:
    title = 'What is remembered at the end of an episode'
    world = question.episodes.world
    windows_fn = question.episodes.windows_fn
    found = readings(
      question.model,
      windows_fn('train'),
      windows_fn('held_out'),
      () if world is None else world.state_names,
    )
    if not found:
      return Finding(
        title,
        sentence='No number of the state and no label stays the same in every '
        'episode and takes two to eight values over them, so there is nothing '
        'to remember.',
      )
    scalars = {}
    for one in found:
      scalars[f'{one.factor}_{one.source}'] = one.accuracy
      scalars[f'{one.factor}_chance'] = one.chance
    latent, state = found[0], found[1]
    return Finding(
      title,
      scalars=scalars,
      table=Table(
        ['factor', 'read off', 'accuracy', 'at least', 'at most', 'chance'],
        [
          [x.factor, x.source, x.accuracy, *x.interval, x.chance] for x in found
        ],
      ),
      verdict=(
        'in view'
        if latent.interval[0] > latent.chance
        else 'remembered'
        if state.interval[0] > state.chance
        else 'forgotten'
      ),
      sentence='Linear probes of what every episode keeps, off the latent of '
      'the last frame alone, off all that the model carries by then, and off '
      f'what it expected to see there; {latent.num_episodes} episodes that '
      f'were not fitted, 95 % intervals. The verdict is of {latent.factor}.',
    )
