"""Trains probes on frozen tokens: a grid at once, chosen on validation."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jepa_wm import bounds, fields
from jepa_wm.evaluation.diagnostics import probe_scores, probe_streams

SPLITS = ('train', 'validation', 'held_out')
"""Fitted on, chosen on, reported on."""

Statistics = tuple[jax.Array, jax.Array]
"""Mean and deviation of every feature of the training split's tokens."""

_NUM_CHUNKS = 20  # Of the training, between two reports of progress.


@dataclasses.dataclass(frozen=True)
class Examples:
  """Frozen tokens, and what is to be read off them.

  Attributes:
    tokens: float32 `[N * num_clips, P, D]`; mapped from disk, they are read a
      part at a time.
    targets: float32 `[N, S]`, or int32 `[N]`, labels from 0.
    num_clips: clips of each example, one after another, of which predictions
      are averaged: probabilities of labels, values of states.
  """

  tokens: probe_streams.Tokens
  targets: jax.Array
  num_clips: int = 1

  def __post_init__(self) -> None:
    """Checks that rows and ranks fit.

    Raises:
      ValueError: they do not, there are none, or something is not finite.
    """
    tokens, targets = self.tokens, self.targets
    labels = jnp.issubdtype(targets.dtype, jnp.integer)
    if (
      tokens.ndim != 3
      or targets.ndim != (1 if labels else 2)
      or len(tokens) != len(targets) * self.num_clips
      or not tokens.size
    ):
      raise ValueError(
        'tokens must be [N * num_clips, P, D] and targets float [N, S] or '
        'integer [N], got '
        f'{tokens.dtype} {tokens.shape} and {targets.dtype} {targets.shape}.'
      )
    for name, array in (('tokens', tokens), ('targets', targets)):
      if not probe_streams.are_finite(array):
        raise ValueError(
          f'{name} must be finite; a NaN or an infinity in them is of the '
          'model or the data, which no probe can read.'
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """How probes are trained.

  AdamW without warm-up, the learning rate along half a cosine to zero, one
  probe for every pair of a learning rate and a weight decay, all of them from
  the same start on the same batches.

  Source: V-JEPA 2, arXiv 2506.09985, appendix D (5 x 4 = 20 probes at once).

  Attributes:
    learning_rates: the grid's first side.
    weight_decays: its second.
    num_steps: updates.
    batch_size: examples of an update, drawn with replacement.
    seed: of the probes' start and the batches.
  """

  learning_rates: tuple[float, ...] = (5e-3, 2e-3, 5e-4)
  weight_decays: tuple[float, ...] = (0.01, 0.4)
  num_steps: int = 600
  batch_size: int = 64
  seed: int = 0

  def __post_init__(self) -> None:
    most = {'num_steps': bounds.MOST, 'batch_size': bounds.MOST}
    least = {'num_steps': 1, 'batch_size': 1, 'seed': 0}
    fields.check_counts(self, least, most)
    for name, low in (('learning_rates', 1e-12), ('weight_decays', 0)):
      values = getattr(self, name)
      if not values or not all(low <= v <= bounds.MOST for v in values):
        word = 'positive' if low else 'not negative'
        raise ValueError(
          f'{name} must be numbers, {word} and finite, got {values}.'
        )

  @property
  def grid(self) -> tuple[tuple[float, float], ...]:
    """Every learning rate with every weight decay."""
    return tuple(
      (rate, decay)
      for rate in self.learning_rates
      for decay in self.weight_decays
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How well the chosen probe reads the held-out split.

  Attributes:
    scores: for labels `{'accuracy', 'interval_95', 'num_examples'}`; for
      states, under the name of each target, `{'mse', 'r', 'r2'}`: squared units
      of the target, Pearson's correlation, coefficient of determination.
    chosen: `{'learning_rate', 'weight_decay'}`, best on the validation split.
    validation: what it was chosen by, for every pair of the grid: accuracy, or
      the mean squared error in units of the targets' deviations.
    params: of the chosen probe, which reads standardised tokens.
  """

  scores: dict[str, Any]
  chosen: dict[str, float]
  validation: tuple[float, ...]
  params: Any


def train(
  probe: Any,
  splits: Mapping[str, Examples],
  *,
  target_names: Sequence[str] = (),
  training: Training | None = None,
  progress_fn: Callable[[float], None] = lambda share: None,
) -> Outcome:
  """Trains the grid, chooses on validation, reports on the held-out split.

  Tokens are standardised, feature by feature, and states likewise, by what the
  training split says, so that a learning rate means the same for every
  representation.

  Args:
    probe: a module of `networks.probes`, `features` outputs: one for each
      state, or one for each class.
    splits: a key for each of `SPLITS`.
    target_names: of the `S` states.
    training: how; the defaults if left out.
    progress_fn: told the share that is done, 0..1.

  Returns:
    The outcome.

  Raises:
    ValueError: a split is missing, splits that differ in kind, labels that the
      probe has no output for, or names that do not fit.
  """
  training = training or Training()
  _check(probe, splits, target_names)
  fitted = splits['train']
  labels = _are_labels(fitted)
  statistics = probe_streams.statistics_of(fitted.tokens)
  tokens = {k: v.tokens for k, v in splits.items()}
  targets = {k: v.targets for k, v in splits.items()}
  scale = jnp.ones((1, 1))
  if not labels:
    mean, scale = probe_streams.statistics_of(fitted.targets)
    targets = {k: (v - mean) / scale for k, v in targets.items()}
  params = _fit(
    probe, statistics, tokens['train'], targets['train'], training, progress_fn
  )
  validation = _predict(probe, params, statistics, tokens['validation'])
  if labels:
    criterion = np.mean(
      validation.argmax(-1) == np.asarray(targets['validation']), axis=1
    )
    best = int(np.argmax(criterion))
  else:
    error = validation - np.asarray(targets['validation'])
    criterion = np.mean(error**2, axis=(1, 2))
    # A probe that diverged is never the best.
    best = int(np.argmin(np.where(np.isfinite(criterion), criterion, np.inf)))
  params = jax.tree.map(lambda leaf: leaf[best : best + 1], params)
  predicted = averaged(
    _predict(probe, params, statistics, tokens['held_out'])[0],
    splits['held_out'].num_clips,
    labels,
  )
  truth = np.asarray(targets['held_out'])
  rate, decay = training.grid[best]
  return Outcome(
    scores=scored(predicted, truth, np.asarray(scale)[0], target_names),
    chosen={'learning_rate': rate, 'weight_decay': decay},
    validation=tuple(float(value) for value in criterion),
    params=jax.tree.map(lambda leaf: leaf[0], params),
  )


def _fit(
  probe: Any,
  statistics: Statistics,
  tokens: probe_streams.Tokens,
  targets: jax.Array,
  training: Training,
  progress_fn: Callable[[float], None],
) -> Any:
  """Parameters of all probes of the grid, leaves `[G, ...]`."""
  init_key, batch_key = jax.random.split(jax.random.key(training.seed))
  carry = _start(probe, training, init_key, jnp.asarray(tokens[:1]))
  batch_size = min(training.batch_size, len(tokens))
  chunks = probe_streams.parts(
    tokens,
    targets,
    batch_key,
    num_steps=training.num_steps,
    batch_size=batch_size,
    num_chunks=_NUM_CHUNKS,
  )
  for first, end, held, wanted in chunks:
    carry = _advance(
      probe,
      training,
      carry,
      statistics,
      held,
      wanted,
      batch_key,
      first,
      end,
      batch_size=batch_size,
      drawn=isinstance(tokens, np.memmap),
    )
    jax.block_until_ready(carry)
    progress_fn(end / training.num_steps)
  return carry[0]


# Not inside of `train`: probes of one shape share what is compiled.
@jax.jit(static_argnames=('probe', 'training'))
def _start(
  probe: Any, training: Training, rng_key: jax.Array, sample: jax.Array
) -> Any:
  """Parameters and optimiser states before the first step."""
  params = probe.init(rng_key, sample)
  return jax.vmap(
    lambda rate, decay: (params, optimizer(training, rate, decay).init(params))
  )(*_sides(training))


@jax.jit(static_argnames=('probe', 'training', 'batch_size', 'drawn'))
def _advance(
  probe: Any,
  training: Training,
  carry: Any,
  statistics: Statistics,
  tokens: jax.Array,
  targets: jax.Array,
  batch_key: jax.Array,
  first: jax.Array,
  end: jax.Array,
  *,
  batch_size: int,
  drawn: bool,
) -> Any:
  """`carry` after the steps from `first` until before `end`.

  Tokens that are `drawn` are the batches of these steps, one after another.
  """

  def loss_fn(params: Any, inputs: jax.Array, wanted: jax.Array) -> jax.Array:
    outputs = _read(probe, params, statistics, inputs)
    if jnp.issubdtype(wanted.dtype, jnp.integer):
      loss = optax.softmax_cross_entropy_with_integer_labels
      return jnp.mean(loss(outputs, wanted))
    return jnp.mean(jnp.square(outputs - wanted))

  def step(index: jax.Array, carry: Any) -> Any:
    if drawn:
      rows = (index - first) * batch_size + jnp.arange(batch_size)
    else:
      rows = probe_streams.rows_of(batch_key, index, batch_size, len(tokens))
    inputs, wanted = tokens[rows], targets[rows]

    def update(rate: Any, decay: Any, params: Any, state: Any) -> Any:
      gradient = jax.grad(loss_fn)(params, inputs, wanted)
      method = optimizer(training, rate, decay)
      updates, state = method.update(gradient, state, params)
      return optax.apply_updates(params, updates), state

    return jax.vmap(update)(*_sides(training), *carry)

  return jax.lax.fori_loop(first, end, step, carry)


def _sides(training: Training) -> tuple[jax.Array, jax.Array]:
  """Learning rate and weight decay `[G]` of every probe of the grid."""
  rates, decays = zip(*training.grid)
  return jnp.asarray(rates), jnp.asarray(decays)


def optimizer(training: Training, rate: Any, decay: Any) -> Any:
  """The optimiser of one pair of the grid."""
  schedule = optax.cosine_decay_schedule(1.0, training.num_steps)
  return optax.adamw(lambda count: rate * schedule(count), weight_decay=decay)


def _read(
  probe: Any, params: Any, statistics: Statistics, tokens: jax.Array
) -> jax.Array:
  """Outputs `[B, features]` for raw `tokens`."""
  # Standardised batch by batch: a second copy of all tokens may not fit.
  mean, std = statistics
  return probe.apply(params, (tokens - mean) / std)


@jax.jit(static_argnames='probe')
def _read_all(
  probe: Any, params: Any, statistics: Statistics, tokens: jax.Array
) -> jax.Array:
  """Outputs `[G, B, features]` of every probe of the grid."""
  return jax.vmap(lambda one: _read(probe, one, statistics, tokens))(params)


def _predict(
  probe: Any, params: Any, statistics: Statistics, tokens: probe_streams.Tokens
) -> np.ndarray:
  """Outputs `[G, N, features]`."""
  batch = 256  # All at once would hold every probe's every token.
  return np.concatenate(
    [
      np.asarray(_read_all(probe, params, statistics, tokens[i : i + batch]))
      for i in range(0, len(tokens), batch)
    ],
    axis=1,
  )


def scored(
  predicted: np.ndarray,
  truth: np.ndarray,
  scale: np.ndarray,
  target_names: Sequence[str],
) -> dict[str, Any]:
  """Scores of outputs: of labels where no states have names."""
  if target_names:
    return probe_scores.state_scores(predicted, truth, scale, target_names)
  return probe_scores.label_scores(predicted.argmax(-1), truth)


def averaged(outputs: np.ndarray, num_clips: int, labels: bool) -> np.ndarray:
  """Outputs `[N, features]` of examples, of those of their clips."""
  if num_clips == 1:
    return outputs
  if labels:
    outputs = np.asarray(jax.nn.softmax(outputs, axis=-1))
  return outputs.reshape(-1, num_clips, outputs.shape[-1]).mean(1)


def _are_labels(examples: Examples) -> bool:
  return bool(jnp.issubdtype(examples.targets.dtype, jnp.integer))


def _check(
  probe: Any, splits: Mapping[str, Examples], target_names: Sequence[str]
) -> None:
  if missing := [name for name in SPLITS if name not in splits]:
    raise ValueError(f'splits lack {missing}; a probe needs {SPLITS}.')
  first = splits['train']
  labels = _are_labels(first)
  for name in SPLITS:
    examples = splits[name]
    same = (
      examples.tokens.shape[1:] == first.tokens.shape[1:]
      and examples.targets.shape[1:] == first.targets.shape[1:]
      and _are_labels(examples) == labels
    )
    if not same:
      raise ValueError(
        f'The examples of {name!r} differ from those of the training split: '
        f'tokens {examples.tokens.shape} and {first.tokens.shape}, targets '
        f'{examples.targets.shape} and {first.targets.shape}.'
      )
    if labels:
      low, high = int(examples.targets.min()), int(examples.targets.max())
      if low < 0 or high >= probe.features:
        raise ValueError(
          f'Labels of {name!r} go from {low} to {high}; a probe of '
          f'{probe.features} outputs knows 0 to {probe.features - 1}.'
        )
  if not labels:
    num_targets = first.targets.shape[1]
    if not num_targets == probe.features == len(target_names):
      raise ValueError(
        f'{num_targets} targets need as many outputs and names, got '
        f'{probe.features} outputs and the names {list(target_names)}.'
      )
