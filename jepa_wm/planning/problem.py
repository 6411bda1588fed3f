"""A batch of planning problems: what is asked, and what is answered.

What every planner of this room is given and gives back, so that one can be
exchanged for another.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning.agents import Agents
from jepa_wm.planning.limits import NO_LIMITS, Limits
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

ProposalFn = Callable[[Params, jax.Array, Root], jax.Array]
"""`(params, rng_keys [B], root) -> actions [B, F, H, A]`: first candidates."""

NoiseFn = Callable[[jax.Array, jax.Array], jax.Array]
"""`(rng_keys [B], iteration) -> noise [B, N, H, A]` of unit scale."""


@dataclasses.dataclass(frozen=True)
class Problem:
  """B planning problems, their model, and what a plan of it may do.

  Attributes:
    root: starts and goals, leaves `[B, ...]`; the goal may be None.
    dynamics_fn: one latent step of `[B, N]` candidates; planners that follow
      gradients differentiate it by action and state.
    cost_fn: the price of a step, `[B, N]`, or what `moments` makes of such.
    horizon: H, steps to look ahead.
    action_dim: A, size of an action block, or the number of actions to choose
      from.
    limits: what actions and latents must keep to.
    step_weights: `[H]`, what each step's cost counts; the last step
      alone by default (`costs.step_weights`).
    proposal_fn: gives candidates of the first iteration, from a policy or an
      inverse-dynamics head; they come after the mean.
    noise_fn: draws an iteration's noise in place of the planner: `[B, N, H,
      A]` of unit scale from the problems' keys `[B]` for that iteration.
    surprise: `[B]`, how far what is seen is from what was predicted for it; 0
      where nothing was. For planners that ask (`driver.Planner.expects`).
    agents: who of several acts, for planners that plan agent by agent
      (`agent_search.AgentSearch`); all others plan for all at once.
  """

  root: Root
  dynamics_fn: DynamicsFn
  cost_fn: CostFn
  horizon: int
  action_dim: int
  limits: Limits = NO_LIMITS
  step_weights: np.ndarray | jax.Array | None = None
  proposal_fn: ProposalFn | None = None
  noise_fn: NoiseFn | None = None
  surprise: jax.Array | None = None
  agents: Agents | None = None


class WarmStart(NamedTuple):
  """Where a search starts: what the plan before left, or the caller knows.

  Attributes:
    mean: `[B, H, A]`, centre of the first candidates; zero by default.
    elites: `[B, E, H, A]`, candidates of the first iteration; one that holds
      a NaN or an infinity is none. Planners leave `num_kept` of them.
    previous: `[B, A]`, the block that was played last, which a rate limit
      starts from; infinite, or NaN, before the first.
    expected: `[B, H, D]`, latents that were predicted for what is seen now and
      after further blocks, infinite where there are none; None from planners
      that do not ask.
  """

  mean: jax.Array | None = None
  elites: jax.Array | None = None
  previous: jax.Array | None = None
  expected: jax.Array | None = None

  def shifted(self, num_played: int) -> 'WarmStart':
    """Drops blocks that have been played and pads the end with zeros."""

    def shift(actions: jax.Array | None) -> jax.Array | None:
      if actions is None:
        return None
      padding = ((0, 0),) * (actions.ndim - 2) + ((0, num_played), (0, 0))
      return jnp.pad(actions[..., num_played:, :], padding)

    return self._replace(mean=shift(self.mean), elites=shift(self.elites))


class Diagnostics(NamedTuple):
  """How a search went, one row per iteration.

  Costs are what candidates are ranked by (with the penalties of guardrails),
  over the candidates of that iteration whose cost is finite; they are infinite
  where there is none.

  Attributes:
    best_cost: `[I, B]`, the cheapest candidate.
    mean_cost: `[I, B]`, mean over all candidates.
    elite_cost: `[I, B]`, mean over the candidates that were learnt from.
    spread: `[I, B]`, standard deviation that the candidates were drawn with,
      mean over `[H, A]`.
    num_nonfinite: `[I, B]` int32, candidates whose cost was NaN or infinite.
    grad_norm: `[I, B]`, mean norm of the gradient by a candidate's actions;
      None from planners that follow none.
  """

  best_cost: jax.Array
  mean_cost: jax.Array
  elite_cost: jax.Array
  spread: jax.Array
  num_nonfinite: jax.Array
  grad_norm: jax.Array | None = None


class Subgoal(NamedTuple):
  """What a level above wants to be reached first.

  Attributes:
    goal: leaves `[B, ...]`, like the goal of a root.
    cost: `[B]`, what the level above predicts that its plan costs; 0 of one
      that does not search.
    violation: `[B]`, by how much that plan passes a guardrail of its level.
    above: what the next level up wants, which this one is on the way to; None
      at the top.
  """

  goal: Any
  cost: jax.Array
  violation: jax.Array
  above: 'Subgoal | None' = None


class Noticed(NamedTuple):
  """What was noticed before a plan, by whoever keeps plans in force.

  Attributes:
    is_new: `[B]` bool, whether the plan is a new one.
    surprise: `[B]`, how far what is seen is from what the plan before predicted
      for it; 0 where nothing was.
    is_surprised: `[B]` bool, whether that was too far.
    num_since: `[B]` int32, blocks played since the plan before was made.
  """

  is_new: jax.Array
  surprise: jax.Array
  is_surprised: jax.Array
  num_since: jax.Array


class Plan(NamedTuple):
  """What a planner answers.

  Attributes:
    actions: `[B, H, A]`, the plan.
    cost: `[B]`, what the model predicts that `actions` cost, without
      penalties. NaN or infinite says that the model could not price the plan:
      do not act on it.
    violation: `[B]`, by how much `actions` pass a guardrail at worst, 0 where
      all are kept.
    mean: `[B, H, A]`, mean of the final search distribution: where the next
      search should start.
    std: `[B, H, A]`, its standard deviation.
    elites: `[B, E, H, A]`, further sequences that the next search should look
      at, best first; E is the planner's `num_kept`.
    diagnostics: how the search went.
    searched: `[B]` bool, whether there was a search at all; None from planners
      that always search.
    left: what it leaves to the next, of compiled planners; None else.
    subgoal: what the level above wanted to be reached first, which the plan is
      for; None of one level.
    expected: `[B, H, D]`, latents that the model predicts after each block;
      None where nobody asks, see `plan_fn.Expecting`.
    noticed: what was noticed before it; None where every plan is a new one.
    excess: `[B, H, G]`, by how much each step passes each guardrail, negative
      where there is room; None without guardrails.
    stopped: `[B]` bool, whether nothing that was looked at was allowed
      (`limits.Guardrail.form` 'hard'); None without such guardrails.
  """

  actions: jax.Array
  cost: jax.Array
  violation: jax.Array
  mean: jax.Array
  std: jax.Array
  elites: jax.Array
  diagnostics: Diagnostics
  searched: jax.Array | None = None
  left: Any = None
  subgoal: Subgoal | None = None
  expected: jax.Array | None = None
  noticed: Noticed | None = None
  excess: jax.Array | None = None
  stopped: jax.Array | None = None
