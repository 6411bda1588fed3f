"""Plans every combination that is asked for, and writes a report."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from jepa_wm import fields, files, processes
from jepa_wm.evaluation.planning import (
  agent_plans,
  flop_budget,
  guarding,
  planner_settings,
  protocol,
)
from jepa_wm.recipes import (
  planning_choices,
  planning_groups,
  planning_guards,
  planning_heads,
  planning_levels,
  planning_report,
  planning_runs,
  replanning,
  result_folders,
  tuning,
)

_DEFAULTS = planner_settings.PlannerSettings()
_MOST_SEEDS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planning:
  """What is planned, by whom, and where the files go.

  All combinations of `checkpoint`, `protocol`, `planner`, `shift` and seeds are
  compared on the same pairs. A name alone stands for a list of it.

  Attributes:
    checkpoint: folder of a training run or an export, or the name of a shipped
      checkpoint; or a list of such. Of planners that do what a policy says
      (policy, fast_slow) also the folder of a head or an agent that acts: the
      encoder that it names then plans.
    protocol: what is measured: short, long, ... (`protocol.PROTOCOLS`); or a
      list of such.
    environment: world to plan in; by default the one that a checkpoint was
      trained in.
    num_agents: who act at once, 1 to 8, in a world of several agents; by
      default as many as in `environment`, refused elsewhere.
    episodes: archive of recorded episodes to take starts and goals from, in
      place of the manifests: its held-out split or, for 'swm-v1', its training
      split.
    success: what counts; the protocol's rule by default. Both 'any time' and
      'at the end' are always recorded, the latter of where the episode ended.
    shift: factors of variation to draw anew for every pair, one at a time
      beside the world as it is, or 'all' of them.
    num_pairs: problems to plan; 50 by default.
    disturb: what happens in the middle of an episode, and nobody is told:
      'teleport' puts the agent elsewhere, in a world written in JAX.
    disturb_at: environment steps played before that, whole blocks; by default
      about half of the budget, in the middle of the blocks that are played
      without another plan.
    horizon: blocks in a plan; the protocol's by default.
    receding_horizon: blocks played before the next plan; the protocol's by
      default.
    replan_on_surprise: quantile of the surprise in undisturbed play, such as
      0.99: who sees after a block what is farther from what was predicted plans
      at once and from nothing, and does not play `receding_horizon` blocks
      first; never by default.
    planner: who searches for actions: cem, icem, mppi, ...
      (`planning.PLANNERS`); or a list of such.
    budget_flops: operations that a plan may cost (multiplications and additions
      of matrix products; `flops_per_plan` of a result): each planner gets as
      many candidates as that allows, or fewer iterations; by default its own
      numbers.
    tune_budget: whether to find the smallest number of candidates and
      iterations, half as many at a time from the planner's own, that solve as
      many development pairs but for `tune_margin`, and plan with those; the
      development pairs are none of the protocol's.
    tune_margin: share of the development pairs that may be lost; 0.02 by
      default.
    options: of the planners, by name; the default of each that is left out. Of
      several planners those take one that have it, or the one that is named, as
      in 'icem.num_kept'.
    cost: steps of a rollout whose distance to the goal counts: the 'last' one,
      'all', their mean, 'linear', later ones more, or 'soonest', the nearest.
    distance: of a latent from the goal's.
    cost_head: folder of a trained head that prices latents in place of a
      distance, such as temporal_distance or gcivl; of the same encoder as the
      checkpoint.
    proposals: folder of a trained head that acts, whose actions every search
      looks at first, and which the planners policy and fast_slow follow; of the
      same encoder as the checkpoint.
    upper: folder of a trained head that knows the way (waypoints, landmarks,
      drafter) and says what to reach first; the planners then plan towards
      that, and a short `horizon` will do. Of the same encoder as the
      checkpoint. Several make as many levels, the lowest first, each of which
      spans twice as many blocks as the one before it, or another multiple.
    upper_horizon: macro-actions that a level above looks ahead which searches
      such; 3 by default.
    subgoal_every: blocks for which a subgoal is kept; 1 by default, which
      chooses at every plan.
    guardrail: folder of a trained head that says what is forbidden (safety),
      which every level of a plan keeps to; pairs that start or end there are
      left out. Of the same encoder as the checkpoint.
    guardrail_delta: share of unsafe latents that may pass, 0.1 by default.
    guardrail_form: how it is kept: 'hard', which stands still where nothing is
      allowed, 'soft', 'lagrangian' or 'off', which reports alone; 'hard' by
      default, or a list of such.
    guardrail_penalty: what a unit of excess costs with 'soft' and 'lagrangian',
      100 by default.
    agents_plan: how planners plan for several agents: 'joint', for all at once,
      'coordinate', for one after the other with the others held at their last
      answer, or 'decentralised', each for itself by what it thinks of the
      others; 'joint' by default, or a list of such. The model must be one of
      several.
    agents_rounds: how often every agent searches, of 'coordinate'; 2 by
      default.
    agents_predict: what an agent of 'decentralised' thinks that the others do:
      what is left of their last plans, 'shifted' (the default), or 'still'.
    decoder: folder of a trained decoder, which draws for the report what the
      model imagines; of the same encoder as the checkpoint.
    history: frames that the model sees at most, the one now and those an action
      block apart before it; not more than it was trained with.
    memory: 'frames', the last ones, or 'state': the model's own, which absorbs
      every frame once, however long the episode is.
    seed: of the planner's and the random policy's draws.
    num_seeds: seeds to plan with, counted from `seed`.
    batch_size: problems planned at once; bounds the memory, changes no outcome.
      By default 4 for every core of a CPU, which fit into its caches, and all
      elsewhere.
    diagnostics: what the report says of every checkpoint besides its planning,
      in worlds written in JAX: rollout_error, straightness, surprise,
      collapse, probe, errors, plan_ranking, energy,
      consistency, counterfactual and others; or nothing.
    out: folder for the files.
  """

  checkpoint: tuple[str, ...] = ('two_room_small',)
  protocol: tuple[str, ...] = ('short',)
  environment: str | None = None
  num_agents: int | None = None
  episodes: str | None = None
  success: str | None = None
  shift: tuple[str, ...] = ()
  num_pairs: int | None = None
  disturb: str | None = None
  disturb_at: int | None = None
  horizon: int | None = None
  receding_horizon: int | None = None
  replan_on_surprise: float | None = None
  planner: tuple[str, ...] = (_DEFAULTS.name,)
  budget_flops: float | None = None
  tune_budget: bool = False
  tune_margin: float | None = None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  cost: str = _DEFAULTS.cost
  distance: str = _DEFAULTS.distance
  cost_head: str | None = None
  proposals: str | None = None
  upper: tuple[str, ...] = ()
  upper_horizon: int | None = None
  subgoal_every: int | None = None
  guardrail: str | None = None
  guardrail_delta: float | None = None
  guardrail_form: tuple[str, ...] = ()
  guardrail_penalty: float | None = None
  agents_plan: tuple[str, ...] = ()
  agents_rounds: int | None = None
  agents_predict: str | None = None
  decoder: str | None = None
  history: int = _DEFAULTS.history
  memory: str = _DEFAULTS.memory
  seed: int = 0
  num_seeds: int = 1
  batch_size: int | None = None
  diagnostics: tuple[str, ...] = ('rollout_error',)
  out: str = 'outputs/plan'

  def __post_init__(self) -> None:
    """Checks what nobody below would.

    Raises:
      ValueError: nothing to plan with, or a number out of its range.
    """
    lists = 'checkpoint', 'protocol', 'shift', 'planner', 'upper', 'diagnostics'
    for name in (*lists, 'guardrail_form', 'agents_plan'):
      value = getattr(self, name)
      if isinstance(value, str):
        object.__setattr__(self, name, (value,))
    for name in ('checkpoint', 'protocol', 'planner'):
      if not getattr(self, name):
        raise ValueError(f'{name} must name one at least.')
      planning_choices.check_once(name, getattr(self, name))
    chosen = {'num_samples', 'num_elites'} & {
      name.rpartition('.')[-1] for name in self.options
    }
    if self.budget_flops is not None and chosen:
      raise ValueError(
        f'{min(chosen)} would do nothing: budget_flops={self.budget_flops:g} '
        'says how many candidates there are; leave one of the two out.'
      )
    for name in ('upper_horizon', 'subgoal_every'):
      if not self.upper and (value := getattr(self, name)) is not None:
        raise ValueError(
          f'{name}={value} would do nothing without a level above; name one '
          "with upper, the folder of a trained head 'waypoints'."
        )
    if self.tune_margin is not None and not self.tune_budget:
      raise ValueError(
        f'tune_margin={self.tune_margin:g} would do nothing without '
        'tune_budget, which finds the smallest budget within it.'
      )
    if self.tune_budget and self.budget_flops is not None:
      raise ValueError(
        f'tune_budget and budget_flops={self.budget_flops:g} both say how many '
        'candidates there are; leave one of the two out.'
      )
    for name in ('guardrail_delta', 'guardrail_form', 'guardrail_penalty'):
      value = getattr(self, name)
      if self.guardrail is None and value not in (None, ()):
        raise ValueError(
          f'{name}={value} would do nothing without a guardrail; name one with '
          "guardrail, the folder of a trained head 'safety'."
        )
    counts = {'batch_size': 1, 'num_seeds': 1, 'seed': -(2**63)}
    fields.check_counts(self, counts)
    if self.num_seeds > _MOST_SEEDS:
      raise ValueError(
        f'num_seeds must be at most {_MOST_SEEDS}, got {self.num_seeds}.'
      )

  def planners(self) -> list[planner_settings.PlannerSettings]:
    """Who plans, whatever the checkpoint.

    Raises:
      ValueError: no such planner or option, or settings that make no sense.
    """
    return [
      planner_settings.PlannerSettings(
        planner=planner_settings.make_planner(name, options),
        cost=self.cost,
        distance=self.distance,
        history=self.history,
        memory=self.memory,
        agents=agents,
      )
      for agents in agent_plans.chosen(
        self.agents_plan, self.agents_rounds, self.agents_predict
      )
      for name, options in planning_choices.shared_out(
        self.planner, self.options
      ).items()
    ]

  def combinations(self) -> list[planning_runs.Combination]:
    """All that is asked for.

    Raises:
      OSError: no checkpoint.
      ValueError: a broken one, or fields that contradict each other.
    """
    planners = self.planners()
    found = []
    for checkpoint in self.checkpoint:
      encoder, acts = planning_heads.who_plans(
        checkpoint, self.proposals, planners
      )
      environment = planning_groups.named(
        encoder, self.environment, self.num_agents
      )
      given = self.by_heads(encoder, environment, acts)
      every = itertools.product(
        self.protocol, self.guardrail_form or ('hard',), planners
      )
      for name, form, settings in every:
        chosen = protocol.get(
          name,
          environment=environment,
          num_pairs=self.num_pairs,
          horizon=self.horizon,
          receding_horizon=self.receding_horizon,
          success=self.success,
          disturb=self.disturb,
          disturb_at=self.disturb_at,
        )
        guard = _guard(self, form, encoder, chosen)
        settings = dataclasses.replace(settings, **given, guard=guard)
        settings = replanning.uncalibrated(
          self.replan_on_surprise, settings, chosen
        )
        settings.dry_run(chosen.horizon)
        if self.budget_flops is not None:
          settings = flop_budget.within(
            self.budget_flops,
            settings,
            planning_groups.load(encoder, environment),
            chosen,
          )
        seeds = range(self.seed, self.seed + self.num_seeds)
        shifts = planning_choices.shifts(environment, self.shift)
        found += [
          planning_runs.Combination(
            checkpoint, chosen, settings, shift, seed, encoder
          )
          for shift, seed in itertools.product(shifts, seeds)
        ]
    return found

  def by_heads(
    self, encoder: str, environment: str | None, acts: str | None
  ) -> dict[str, Any]:
    """Fields of settings that heads give, whatever the planner.

    Args and errors are those of `planning_heads.proposals`, whose `path` is
    `acts`, None where nobody proposes.
    """
    given: dict[str, Any] = {}
    if acts is not None:
      given['proposals'] = planning_heads.proposals(acts, encoder, environment)
    if self.cost_head is not None:
      given['cost_head'] = planning_heads.cost_head(
        self.cost_head, encoder, environment
      )
    if self.upper:
      given['upper'] = planning_levels.upper(
        self.upper,
        encoder,
        environment,
        horizon=self.upper_horizon,
        every=self.subgoal_every,
      )
    return given


def _guard(
  planning: Planning, form: str, encoder: str, chosen: protocol.Protocol
) -> guarding.Guard | None:
  """What is forbidden, and how it is kept; None where nobody says."""
  if planning.guardrail is None:
    return None
  said = {
    'delta': planning.guardrail_delta,
    'penalty': planning.guardrail_penalty,
  }
  given: dict[str, Any] = {k: x for k, x in said.items() if x is not None}
  return planning_guards.guard(
    planning.guardrail, encoder, chosen, form=form, **given
  )


def plan(
  planning: Planning, *, command: str = '', show_progress: bool = True
) -> planning_runs.Outcome:
  """Plans what is not yet planned, prints a table and writes the report.

  Args:
    planning: what is asked for.
    command: how to do it again, for the report.
    show_progress: whether to draw a progress bar.

  Returns:
    The runs that were written, and what went wrong.

  Raises:
    OSError: no checkpoint, or a folder that cannot be written.
    ValueError: a broken checkpoint, or fields that contradict each other.
    Interrupted: Ctrl-C; what is finished is kept.
  """
  # All that can be wrong is found before anything is computed.
  given: dict[str, Any] = {
    'out': files.expand(planning.out),
    'command': command or f'recipes.plan({planning})',
    'episodes': planning.episodes,
    'batch_size': planning.batch_size,
    'decoder': planning.decoder,
    'show_progress': show_progress,
    'diagnostics': planning.diagnostics,
  }
  combinations = planning.combinations()
  if planning.tune_budget:
    processes.check_alone('tune_budget')
    return tuning.tune(combinations, planning.tune_margin, **given)
  plans = planning_runs.Plans(combinations=combinations, **given)
  with result_folders.hold(plans.out, result_folders.PLAN):
    return planning_report.run(plans)
