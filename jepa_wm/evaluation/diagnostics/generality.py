"""How often plans reach their goals where the world looks or acts otherwise."""

import dataclasses
import math

from jepa_wm import planning
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding, Table
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  programs,
  protocol,
  shifts,
)
from jepa_wm.evaluation.statistics import intervals

_UNKNOWN = planning_benchmark.Baseline(math.nan, math.nan)


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Generality:
  """Success with one group of factors of the world drawn anew at a time.

  A glance at what `experiments.plan --shift=all` measures in full: few pairs,
  and a small search.

  Attributes:
    num_pairs: of the protocol 'short', the same for every group.
    groups: of the world's `variation_groups`; all where empty.
    num_samples: candidates of an iteration of the search.
    num_elites: of these are learnt from.
    num_iterations: of the search.
  """

  name = group = 'generality'
  num_pairs: int = 12
  groups: tuple[str, ...] = ()
  num_samples: int = 100
  num_elites: int = 15
  num_iterations: int = 10

  def __call__(self, question: diagnostic.Question) -> Finding:
    question.acting(self.name)
    world, model = question.world(self.name), question.model
    groups = self.groups or tuple(world.variation_groups)
    if not groups:
      raise ValueError('generality varies the world, and this one has nothing.')
    short = protocol.get(
      'short',
      environment=next(k for k, x in worlds.WORLDS.items() if x is world),
      num_pairs=self.num_pairs,
      action_block=model.action_block,
      horizon=question.episodes.horizon,
      receding_horizon=question.episodes.horizon,
    )
    settings = planner_settings.PlannerSettings(
      planning.CEM(
        num_samples=self.num_samples,
        num_elites=self.num_elites,
        num_iterations=self.num_iterations,
      )
    )
    plain = pairs.load_pairs(short)
    env = world.make(image_size=model.image_size)
    compiled = programs.Programs()
    rows: list[tuple[str, int, int]] = []
    for group in (None, *groups):
      problems = plain if group is None else shifts.apply(plain, env, group)
      record = planning_benchmark.run(
        model,
        short,
        problems,
        settings=settings,
        shift=group,
        baseline=_UNKNOWN,
        programs=compiled,
      ).record
      rows.append(
        (group or 'none', record['num_successes'], record['num_pairs'])
      )
    right = sum(row[1] for row in rows[1:])
    tried = sum(row[2] for row in rows[1:])
    low, high = intervals.wilson_interval(right, tried)
    return Finding(
      title='Whether plans arrive in worlds that differ',
      scalars={
        'plain': rows[0][1] / rows[0][2],
        'shifted': right / tried,
        **{f'shift_{name}': n / of for name, n, of in rows[1:]},
      },
      table=Table(
        ['varied', 'success', 'reached', 'pairs'],
        [[name, n / of, n, of] for name, n, of in rows],
      ),
      sentence=f'Share of the pairs of protocol short that are reached, as the '
      'world is and with one group of its factors drawn anew for every pair; '
      f'95 % interval over all groups {low:.0%} to {high:.0%}. A glance with '
      f'{self.num_samples} candidates and {self.num_iterations} iterations: '
      'experiments.plan with shift=all measures it.',
    )
