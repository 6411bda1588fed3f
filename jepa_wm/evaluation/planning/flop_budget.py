"""A planner of as many candidates as a number of operations allows."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  planner_settings,
  planning_model,
  programs,
)
from jepa_wm.evaluation.planning import protocol as protocol_lib

CountFn = Callable[[Any], float]
"""What a plan of a planner costs, see `flops.count`."""


def fit(
  planner: Any, budget: float, count_fn: CountFn
) -> planning.Planner[Any]:
  """The planner with as many candidates as a plan may cost.

  Iterations stay as many, and elites the same share of the candidates. Where
  that leaves fewer than two elites, there are two, and fewer iterations.

  Args:
    planner: a `planning.Planner` with its own numbers.
    budget: operations of a plan at most.
    count_fn: counts those of a planner.

  Returns:
    The planner; its plan costs `budget` or less, by less than one more
    candidate (or iteration) would cost.

  Raises:
    ValueError: no budget above 0, a planner of other settings than these, or
      one whose least plan costs more.
  """
  if not 0.0 < budget < math.inf:
    raise ValueError(f'budget_flops must be above 0 and finite, got {budget}.')
  check_has_numbers('budget_flops', planner)
  number, iterations = planner.num_samples, planner.num_iterations
  least = least_samples(planner)
  with_samples = functools.partial(resized, planner)

  def most(count_at: Callable[[int], float], first: int, second: int) -> int:
    """Largest number that the budget allows, of a cost that is a line."""
    low, high = count_at(first), count_at(second)
    slope = (high - low) / (second - first)
    found = math.floor(first + (budget - low) / slope) if slope else first
    # A planner may keep some of its candidates, or drop some as it goes on.
    while found > 0 and count_at(found) > budget:
      found -= 1
    return found

  samples = most(
    lambda n: count_fn(with_samples(max(n, least), iterations)),
    max(number, least),
    2 * max(number, least),
  )
  if samples >= least:
    return with_samples(samples, iterations)
  rounds = most(lambda n: count_fn(with_samples(least, max(n, 1))), 1, 2)
  if rounds < 1:
    cost = count_fn(with_samples(least, 1))
    raise ValueError(
      f'budget_flops={budget:.3g} is less than the {cost:.3g} operations that '
      f'one iteration of {least} candidates costs with this model; give more, '
      'or take a smaller model.'
    )
  return with_samples(least, rounds)


def check_has_numbers(name: str, planner: Any) -> None:
  """Refuses a planner that is not as large as its candidates and iterations.

  Args:
    name: of what is asked for, for the message.
    planner: who plans.

  Raises:
    ValueError: it has not both.
  """
  known = {field.name for field in dataclasses.fields(planner)}
  if not {'num_samples', 'num_iterations'} <= known:
    raise ValueError(
      f'{name} is for planners with num_samples and num_iterations, and '
      f'{type(planner).__name__} has not both.'
    )


def least_samples(planner: Any) -> int:
  """Candidates that leave two elites of a planner, and one that is new."""
  known = {field.name for field in dataclasses.fields(planner)}
  share = _share(planner)
  # Those that learn from all must have two as well.
  least = math.ceil(2 / share) if share else 1 + ('num_elites' in known)
  return max(least, planner.num_kept + 1)


def resized(planner: Any, samples: int, rounds: int) -> Any:
  """The planner with so many candidates, the same share elites, and rounds."""
  changes: dict[str, int] = {'num_samples': samples, 'num_iterations': rounds}
  if share := _share(planner):
    changes['num_elites'] = max(round(share * samples), 2, planner.num_kept)
  return dataclasses.replace(planner, **changes)


def _share(planner: Any) -> float:
  """Elites of a candidate, 0 where nobody says how many there are."""
  known = {field.name for field in dataclasses.fields(planner)}
  # Of MPPI all are learnt from where nobody says how many.
  elites = planner.num_elites if 'num_elites' in known else None
  return 0.0 if elites is None else elites / planner.num_samples


def within(
  budget: float,
  settings: planner_settings.PlannerSettings,
  model: planning_model.PlanningModel,
  protocol: protocol_lib.Protocol,
) -> planner_settings.PlannerSettings:
  """Settings of a planner whose plans cost no more operations than a budget.

  Args:
    budget: of a plan.
    settings: with the planner's own numbers.
    model: what plans.
    protocol: how far.

  Raises:
    ValueError: see `fit`.
  """
  reach = np.ones(model.action_dim // model.action_block, np.float32)

  def count_fn(planner: Any) -> float:
    return programs.BatchPlanner(
      model,
      protocol,
      dataclasses.replace(settings, planner=planner),
      bounds=(-reach, reach),
      seed=0,
      batch_size=1,
      programs=programs.Programs(),
    ).count()

  planner = fit(settings.planner, budget, count_fn)
  return dataclasses.replace(settings, planner=planner)
