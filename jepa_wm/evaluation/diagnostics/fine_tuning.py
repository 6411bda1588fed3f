"""Trains an encoder along with its probe."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import models
from jepa_wm.evaluation.diagnostics import (
  probe_streams,
  probe_training,
  representations,
)
from jepa_wm.types import Observation, Variables

_BATCH_SIZE = 32  # Of what is only read.


@dataclasses.dataclass(frozen=True)
class Seen:
  """A split of clips and what is to be read off them.

  Attributes:
    observation: arrays `[N * num_clips, T, ...]`.
    targets: float32 `[N, S]`, or int32 `[N]`, labels from 0.
    num_clips: see `probe_training.Examples`.
  """

  observation: Mapping[str, np.ndarray]
  targets: np.ndarray
  num_clips: int = 1


def tune(
  probe: Any,
  model: models.Encodes,
  variables: Variables,
  splits: Mapping[str, Seen],
  *,
  target_names: Sequence[str] = (),
  training: probe_training.Training | None = None,
  progress_fn: Callable[[float], None] = lambda share: None,
) -> probe_training.Outcome:
  """Trains encoder and probe for every pair of the grid, one after the other.

  All as in `probe_training.train`, but that the parameters of the model learn
  with those of the probe, at one rate. Tokens stay standardised by what they
  were before. V-JEPA's fine-tuning (arXiv 2404.08471, Table 15) also gives
  lower layers lower rates, and augments.

  Args:
    probe: a module of `networks.probes`.
    model: encodes.
    variables: of it; not changed.
    splits: a key for each of `probe_training.SPLITS`.
    target_names: of the `S` states.
    training: how; the defaults if left out.
    progress_fn: told the share that is done, 0..1.

  Returns:
    The outcome; its params are `{'probe', 'model'}`.

  Raises:
    ValueError: as for `probe_training.train`.
  """
  training = training or probe_training.Training()
  tokens = representations.collect(
    representations.of_model(model, variables), splits['train'].observation
  )
  statistics = probe_streams.statistics_of(tokens)
  scale, targets = _scaled(splits)
  start = {
    'probe': probe.init(jax.random.key(training.seed), tokens[:1]),
    'model': variables['params'],
  }
  read_fn = functools.partial(_read, probe, model, variables, statistics)
  read = jax.jit(read_fn)
  found = []
  for number, (rate, decay) in enumerate(training.grid):
    params = _fit(
      read_fn,
      start,
      splits['train'].observation,
      targets['train'],
      training,
      (rate, decay),
      functools.partial(_tell, progress_fn, number, len(training.grid)),
    )
    outputs = _all(read, params, splits['validation'])
    found.append((_badness(outputs, targets['validation']), params))
  validation = [badness for badness, _ in found]
  best = int(np.argmin(np.where(np.isfinite(validation), validation, np.inf)))
  params = found[best][1]
  outputs = _all(read, params, splits['held_out'])
  rate, decay = training.grid[best]
  sign = 1.0 if target_names else -1.0
  return probe_training.Outcome(
    scores=probe_training.scored(
      outputs, targets['held_out'], scale, target_names
    ),
    chosen={'learning_rate': rate, 'weight_decay': decay},
    validation=tuple(sign * badness for badness in validation),
    params=params,
  )


def _tell(
  progress_fn: Callable[[float], None], done: int, count: int, share: float
) -> None:
  progress_fn((done + share) / count)


def _read(
  probe: Any,
  model: models.Encodes,
  variables: Variables,
  statistics: probe_training.Statistics,
  params: Any,
  seen: Observation,
) -> jax.Array:
  """Outputs `[B, features]` for clips."""
  has_tokens = model.token_grid is not None
  tokens = model.encode(
    {**variables, 'params': params['model']}, seen, tokens=has_tokens
  )
  tokens = tokens.reshape(len(tokens), -1, tokens.shape[-1])
  mean, deviation = statistics
  return probe.apply(params['probe'], (tokens - mean) / deviation)


def _fit(
  read_fn: Callable[[Any, Observation], jax.Array],
  params: Any,
  observation: Mapping[str, np.ndarray],
  targets: np.ndarray,
  training: probe_training.Training,
  pair: tuple[float, float],
  progress_fn: Callable[[float], None],
) -> Any:
  """Parameters after all updates with one rate and decay."""
  method = probe_training.optimizer(training, *pair)

  def loss_fn(params: Any, seen: Any, wanted: jax.Array) -> jax.Array:
    outputs = read_fn(params, seen)
    if jnp.issubdtype(wanted.dtype, jnp.integer):
      loss = optax.softmax_cross_entropy_with_integer_labels
      return jnp.mean(loss(outputs, wanted))
    return jnp.mean(jnp.square(outputs - wanted))

  @jax.jit
  def update(params: Any, state: Any, seen: Any, wanted: Any) -> Any:
    gradient = jax.grad(loss_fn)(params, seen, wanted)
    updates, state = method.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  state = jax.jit(method.init)(params)
  batch_size = min(training.batch_size, len(targets))
  for step in range(training.num_steps):
    rng = np.random.default_rng([training.seed, step])
    rows = rng.integers(len(targets), size=batch_size)
    seen = {name: array[rows] for name, array in observation.items()}
    params, state = update(params, state, seen, targets[rows])
    progress_fn((step + 1) / training.num_steps)
  return params


def _all(
  read: Callable[[Any, Observation], jax.Array], params: Any, split: Seen
) -> np.ndarray:
  """Outputs `[N, features]` of a whole split, clips averaged."""
  outputs = representations.collect(
    lambda seen: read(params, seen)[:, None],
    split.observation,
    batch_size=_BATCH_SIZE,
  )
  are_labels = np.issubdtype(split.targets.dtype, np.integer)
  return probe_training.averaged(
    np.asarray(outputs)[:, 0], split.num_clips, are_labels
  )


def _scaled(
  splits: Mapping[str, Seen],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Deviations `[S]` of states, and targets, states standardised."""
  targets = {name: split.targets for name, split in splits.items()}
  if np.issubdtype(targets['train'].dtype, np.integer):
    return np.ones(1), targets
  mean, scale = map(
    np.asarray, probe_streams.statistics_of(jnp.asarray(targets['train']))
  )
  return scale[0], {name: (x - mean) / scale for name, x in targets.items()}


def _badness(outputs: np.ndarray, targets: np.ndarray) -> float:
  """What is smallest for the best: an error, or minus an accuracy."""
  if np.issubdtype(targets.dtype, np.integer):
    return -float(np.mean(outputs.argmax(-1) == targets))
  return float(np.mean((outputs - targets) ** 2))
