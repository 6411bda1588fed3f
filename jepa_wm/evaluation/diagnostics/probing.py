"""Linear probes: what of the true state can be read off a latent."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding, Table


@flax.struct.dataclass
class LinearProbe:
  """An affine read-out of the true state.

  Attributes:
    weights: `[D, S]`.
    bias: `[S]`.
  """

  weights: jax.Array
  bias: jax.Array

  def __call__(self, latents: jax.Array) -> jax.Array:
    """Reads `[..., S]`, in the targets' units, off latents `[..., D]`."""
    bias = jnp.reshape(self.bias, (1,) * (latents.ndim - 1) + (-1,))
    return latents.astype(jnp.float32) @ self.weights + bias


def fit(
  latents: jax.Array, targets: jax.Array, *, ridge: float = 1e-4
) -> LinearProbe:
  """Ridge regression in closed form.

  Args:
    latents: `[M, D]`, one row per frame.
    targets: `[M, S]`, the true state of those frames.
    ridge: penalty as a fraction of the latents' mean variance, so that it
      means the same for latents of any scale; the bias is not penalised.

  Returns:
    The probe.

  Raises:
    ValueError: rows do not match, or a negative `ridge`.
  """
  _check(latents, targets)
  if ridge < 0:
    raise ValueError(f'ridge must not be negative, got {ridge}.')
  return _fit(latents, targets, ridge)


@jax.jit
def _fit(latents: jax.Array, targets: jax.Array, ridge: float) -> LinearProbe:
  inputs = latents.astype(jnp.float32)
  outputs = targets.astype(jnp.float32)
  input_mean = jnp.mean(inputs, axis=0, keepdims=True)
  output_mean = jnp.mean(outputs, axis=0, keepdims=True)
  inputs = inputs - input_mean
  outputs = outputs - output_mean
  covariance = inputs.T @ inputs / inputs.shape[0]
  scale = jnp.trace(covariance) / covariance.shape[0]
  # The tiny constant keeps a collapsed latent space solvable: weights of zero.
  penalty = (ridge * scale + 1e-12) * jnp.eye(covariance.shape[0])
  weights = jax.scipy.linalg.solve(
    covariance + penalty, inputs.T @ outputs / inputs.shape[0], assume_a='pos'
  )
  return LinearProbe(
    weights=weights, bias=(output_mean - input_mean @ weights)[0]
  )


@jax.jit
def score(
  probe: LinearProbe, latents: jax.Array, targets: jax.Array
) -> dict[str, jax.Array]:
  """How well `probe` reads `targets` off `latents` it has not seen.

  Args:
    probe: the fitted probe.
    latents: `[M, D]`.
    targets: `[M, S]`.

  Returns:
    Scalars, means over the `S` targets: `probe_r2` (coefficient of
    determination: 1 is perfect, 0 is no better than the mean), `probe_mse`
    (squared units of the targets) and `probe_r` (Pearson correlation).

  Raises:
    ValueError: rows do not match.
  """
  _check(latents, targets)
  predicted = probe(latents)
  targets = targets.astype(jnp.float32)
  error = jnp.mean((predicted - targets) ** 2, axis=0)
  target_std = jnp.std(targets, axis=0)
  predicted_std = jnp.std(predicted, axis=0)
  covariance = jnp.mean(
    (predicted - jnp.mean(predicted, axis=0, keepdims=True))
    * (targets - jnp.mean(targets, axis=0, keepdims=True)),
    axis=0,
  )
  tiny = jnp.finfo(jnp.float32).tiny
  return {
    'probe_r2': jnp.mean(1.0 - error / jnp.maximum(target_std**2, tiny)),
    'probe_mse': jnp.mean(error),
    'probe_r': jnp.mean(
      covariance / jnp.maximum(target_std * predicted_std, tiny)
    ),
  }


def squared_z(
  predicted: np.ndarray, targets: np.ndarray, fitted: np.ndarray
) -> np.ndarray:
  """Squared errors of z-scored targets, the unit of the papers' tables.

  Args:
    predicted: `[M, S]`, in the targets' units.
    targets: `[M, S]`.
    fitted: `[N, S]`, targets that the probe was fitted to, whose deviations
      are the unit.

  Returns:
    `[M, S]`; NaN for a target that did not vary.
  """
  unit = np.asarray(fitted, np.float64).std(axis=0)
  unit = np.where(unit > 0, unit, np.nan)
  errors = np.asarray(predicted, np.float64) - np.asarray(targets)
  return np.square(errors / unit)


def evaluate(
  latents: jax.Array,
  targets: jax.Array,
  *,
  ridge: float = 1e-4,
  held_out_fraction: float = 0.25,
) -> dict[str, jax.Array]:
  """Fits a probe on the first rows and scores it on the last ones.

  Args:
    latents: `[M, D]`. Rows of one episode next to each other, so that the cut
      leaves no episode on both sides (but the one it may go through).
    targets: `[M, S]`.
    ridge: see `fit`.
    held_out_fraction: share of the rows, from the end, that are scored.

  Returns:
    The scalars of `score` on the held-out rows.

  Raises:
    ValueError: rows do not match, or too few for both sides of the split.
  """
  _check(latents, targets)
  num_held_out = round(held_out_fraction * latents.shape[0])
  num_fitted = latents.shape[0] - num_held_out
  if num_held_out < 2 or num_fitted < 2:
    raise ValueError(
      f'a probe needs two rows on either side of the split, got {num_fitted} '
      f'and {num_held_out} of {latents.shape[0]}; give more latents or another '
      'held_out_fraction.'
    )
  probe = fit(latents[:num_fitted], targets[:num_fitted], ridge=ridge)
  return score(probe, latents[num_fitted:], targets[num_fitted:])


def _check(latents: jax.Array, targets: jax.Array) -> None:
  shapes = f'{tuple(latents.shape)} and {tuple(targets.shape)}'
  if latents.ndim != 2 or targets.ndim != 2:
    raise ValueError(
      f'latents must be [M, D] and targets [M, S], got shapes {shapes}; '
      'flatten batch and time first.'
    )
  if latents.shape[0] != targets.shape[0] or latents.shape[0] < 2:
    raise ValueError(
      'latents and targets must have the same number of rows, two or more, got '
      f'shapes {shapes}.'
    )


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Probe:
  """Linear probes of state and label, fitted on the windows of training."""

  name = group = 'probe'

  def __call__(self, question: diagnostic.Question) -> Finding:
    title = 'What a linear probe reads off the latents'
    held_out = question.look()
    if held_out.state is None and held_out.label is None:
      return Finding(title, sentence='The episodes hold no state and no label.')
    train = question.look('train')
    scores: dict[str, Any] = {}
    table = None
    if held_out.state is not None and train.state is not None:
      fitted, truth = (diagnostic.rows(x.state) for x in (train, held_out))
      probe = fit(train.rows, fitted)
      scores |= score(probe, held_out.rows, truth)
      read = np.asarray(probe(held_out.rows))
      errors = squared_z(read, truth, fitted)
      if np.isfinite(errors).any():
        each = np.nanmean(errors, axis=1)
        scores |= {'probe_z_mse': each.mean(), 'probe_z_spread': each.std()}
      world = question.episodes.world
      table = _by_number(
        errors,
        read,
        np.asarray(truth),
        () if world is None else world.state_names,
      )
    if held_out.label is not None and train.label is not None:
      one_hot: Any = np.eye(train.label.max() + 1)[train.label]
      guess = fit(train.rows, one_hot)(held_out.rows).argmax(-1)
      scores['label_accuracy'] = np.mean(guess == held_out.label)
    return Finding(
      title,
      scalars={name: float(value) for name, value in scores.items()},
      table=table,
      sentence='Fitted on other episodes than it is scored on; means over the '
      'numbers of the state. z MSE is of targets in deviations from their '
      'mean, as papers have it, with its deviation over samples as the spread.',
    )


def _by_number(
  errors: np.ndarray,
  predicted: np.ndarray,
  truth: np.ndarray,
  names: Sequence[str],
) -> Table | None:
  """A row for every number of the state that varies."""
  size = truth.shape[1]
  known = names if len(names) == size else [f's{i}' for i in range(size)]
  rows: list[list[str | float]] = []
  for index, name in enumerate(known):
    error, read, true = errors[:, index], predicted[:, index], truth[:, index]
    spread = float(read.std() * true.std())
    if np.isfinite(error).all() and spread > 0:
      together = np.mean((read - read.mean()) * (true - true.mean()))
      r = float(together) / spread
      rows.append([name, float(error.mean()), float(error.std()), r])
  heading = ['number', 'z MSE', 'spread over samples', 'r']
  return Table(heading, rows) if rows else None
