"""What a run logs of its model: the findings of diagnostics, held out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.types import Variables

Record = Mapping[str, Any]
EvaluateFn = Callable[[Any, Sequence[Record]], dict[str, float | str]]

EVALS = ('errors', 'collapse', 'probe')
"""Diagnostics of a run whose config does not say."""


def make_evaluator(
  model_fn: Callable[[Variables], diagnostic.Examined],
  diagnostics: Sequence[diagnostic.Diagnostic],
  episodes: diagnostic.Episodes,
) -> EvaluateFn:
  """What a run reports beside its loss.

  Args:
    model_fn: the model with variables of the moment.
    diagnostics: what is asked, on the same windows every time.
    episodes: these windows.

  Returns:
    Variables, and what the run has logged so far, to scalars named
    `group/scalar`; where there is a verdict, it and its sentence stand beside.
  """

  def evaluate_fn(
    variables: Variables, records: Sequence[Record]
  ) -> dict[str, float | str]:
    model = model_fn(variables)
    now = dataclasses.replace(episodes, records=records)
    line: dict[str, float | str] = {}
    for ask in diagnostics:
      found = ask(diagnostic.Question(model, now, jax.random.key(0)))
      line |= {f'{ask.group}/{k}': x for k, x in found.scalars.items()}
      if found.verdict:
        line[f'{ask.group}/verdict'] = found.verdict
        line[f'{ask.group}/sentence'] = found.sentence
    return line

  return evaluate_fn
