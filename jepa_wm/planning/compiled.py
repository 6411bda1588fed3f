"""A planner as one compiled program, to be called in a loop of your own."""

from collections.abc import Callable
from typing import Any

import jax

from jepa_wm.planning import checks, keys
from jepa_wm.planning.plan_fn import Clock, PlanFn
from jepa_wm.planning.problem import Plan
from jepa_wm.types import Params, Root

EncodeFn = Callable[[Params, Any, Any, Any], Root]
"""`(params, observation, goal, actions) -> root`: encodes what is seen."""

_BEGINNING = Clock(0, 2**31 - 1)


class CompiledPlanner:
  """Encodes and plans as one program, which is compiled once.

  What is called again with the same shapes is not compiled again, whatever the
  key, the observation, the goal, the warm start and the parameters are.

    planner = model.planner(jepa_wm.CEM(num_elites=10), horizon=5)
    warm_start = None
    for rng_key in jax.random.split(jax.random.key(0), 20):
      plan = planner(rng_key, observation, goal, warm_start=warm_start)
      ...  # Play the first block of plan.actions.
      warm_start = planner.shift(plan, 1)
  """

  def __init__(self, plan_fn: PlanFn[Any], encode_fn: EncodeFn, params: Params):
    """Compiles nothing yet.

    Args:
      plan_fn: who plans, with the functions of a model.
      encode_fn: makes the root of what is seen.
      params: first argument of all functions, where a call brings no others.
    """
    self.plan_fn, self.params, self._encode_fn = plan_fn, params, encode_fn
    self._program: Any = jax.jit(self._plan)

  def __call__(
    self,
    rng_key: jax.Array,
    observation: Any,
    goal: Any = None,
    *,
    actions: jax.Array | None = None,
    warm_start: Any = None,
    params: Params | None = None,
  ) -> Plan:
    """Plans for B problems.

    Args:
      rng_key: one key, or `[B]` keys, one per problem; consumed.
      observation: what is seen, see `WorldModel.root`, as `goal` (an
        observation, its latent, or None) and `actions`.
      goal: what is wanted.
      actions: `[B, T - 1, A]`, blocks between T observations.
      warm_start: what the plan before left, see `shift`; nothing by default.
      params: in place of the planner's own, of the same shapes.

    Returns:
      A `Plan`; its actions `[B, H, A]` are normalised blocks.

    Raises:
      ValueError: parameters of another model, and what encoding and
        `driver.search` refuse.
    """
    if warm_start is None:
      # Of the shapes of a later one, so that there is one program.
      warm_start = self.first(checks.count(observation, 'observation'))
    if params is None:
      params = self.params
    else:
      checks.same_shapes('params', params, self.params)
    plan: Plan = self._program(
      params, rng_key, observation, goal, actions, warm_start
    )
    return plan

  @property
  def num_programs(self) -> int:
    """Programs compiled so far, one for all calls of the same shapes."""
    number: int = self._program._cache_size()
    return number

  def first(self, num_problems: int) -> Any:
    """Nothing planned yet, for B problems."""
    return self.plan_fn.first(num_problems)

  def shift(self, plan: Plan, num_played: int) -> Any:
    """What a plan leaves to the next when so many of its blocks are played.

    Raises:
      ValueError: none were played, or more than there are.
    """
    horizon = plan.actions.shape[1]
    if not 1 <= num_played <= horizon:
      raise ValueError(
        f'num_played must lie in 1..horizon = 1..{horizon}, got {num_played}.'
      )
    return self.plan_fn.shift(plan.left, plan.actions[:, :num_played])

  def _plan(
    self,
    params: Params,
    rng_key: jax.Array,
    observation: Any,
    goal: Any,
    actions: Any,
    warm_start: Any,
  ) -> Plan:
    root = self._encode_fn(params, observation, goal, actions)
    rng_keys = keys.problem_keys(rng_key, checks.count_problems(root))
    plan, left = self.plan_fn.plan(
      params, rng_keys, root, warm_start, _BEGINNING
    )
    return plan._replace(left=left)
