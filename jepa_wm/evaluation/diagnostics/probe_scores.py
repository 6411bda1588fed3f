"""How well a probe reads labels and states."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jepa_wm.evaluation.statistics import intervals


def label_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
  """Accuracy of predicted classes `[N]`, its 95 % interval (Wilson), and
  which examples are wrong, so that probes can be compared on the same ones.
  """
  right = int(np.sum(predicted == truth))
  return {
    'accuracy': right / len(truth),
    'interval_95': list(intervals.wilson_interval(right, len(truth))),
    'num_examples': len(truth),
    'wrong': np.flatnonzero(predicted != truth).tolist(),
  }


def state_scores(
  predicted: np.ndarray,
  truth: np.ndarray,
  scale: np.ndarray,
  names: Sequence[str],
) -> dict[str, Any]:
  """Scores of every target, from standardised values `[N, S]`.

  Args:
    predicted: `[N, S]`, of examples that were not trained on.
    truth: `[N, S]`.
    scale: `[S]`, deviation of a target in its own units.
    names: of the targets.

  Returns:
    Under its name the mean squared error in its units, the correlation and the
    share of variance explained of every target.
  """
  scores = {}
  for index, name in enumerate(names):
    read, true = predicted[:, index], truth[:, index]
    mse = np.mean((read - true) ** 2)
    spread = read.std() * true.std()
    r = np.mean((read - read.mean()) * (true - true.mean()))
    scores[name] = {
      'mse': float(mse * scale[index] ** 2),
      'r': float(r / spread) if spread > 0 else 0.0,
      'r2': float(1 - mse / true.var()) if true.var() > 0 else 0.0,
    }
  return scores
