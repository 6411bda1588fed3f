"""Every planner as a function: `cem_plan(params, rng_key, root, ...)`.

A face is `driver.search` with the problem taken apart into arguments. All
faces take the same ones, and the settings of their planner by name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm.planning import driver
from jepa_wm.planning.agents import Agents
from jepa_wm.planning.categorical_cem import CategoricalCEM
from jepa_wm.planning.cem import CEM
from jepa_wm.planning.constraints import ActionConstraint
from jepa_wm.planning.coordinate import Coordinate
from jepa_wm.planning.decentralised import Decentralised
from jepa_wm.planning.gradient import Gradient
from jepa_wm.planning.grasp import GRASP
from jepa_wm.planning.icem import ICEM
from jepa_wm.planning.limits import Guardrail, Limits
from jepa_wm.planning.mppi import MPPI
from jepa_wm.planning.predictive_sampling import PredictiveSampling
from jepa_wm.planning.problem import (
  NoiseFn,
  Plan,
  Problem,
  ProposalFn,
  WarmStart,
)
from jepa_wm.planning.random_shooting import RandomShooting
from jepa_wm.types import CostFn, DynamicsFn, Params, Root

PLANNERS: dict[str, type[Any]] = {
  'cem': CEM,
  'icem': ICEM,
  'mppi': MPPI,
  'gradient': Gradient,
  'grasp': GRASP,
  'predictive_sampling': PredictiveSampling,
  'random_shooting': RandomShooting,
  'categorical_cem': CategoricalCEM,
}
"""All planners by name, each a dataclass of its settings."""


def register(name: str) -> Callable[[type[Any]], type[Any]]:
  """Adds a planner to `PLANNERS`, for commands to find; a decorator.

  Raises:
    ValueError: there is one of that name.
  """

  def add(planner: type[Any]) -> type[Any]:
    if name in PLANNERS:
      raise ValueError(f'There is a planner named {name!r} already.')
    PLANNERS[name] = planner
    return planner

  return add


class Face:
  """A planner as a function."""

  def __init__(
    self, planner: Callable[..., driver.Planner[Any]], **words: Sequence[str]
  ):
    """Makes a planner a function.

    Args:
      planner: the dataclass of its settings.
      **words: arguments that stand for settings of other names.
    """
    self._planner, self._words = planner, words
    asked = Face.__call__.__doc__
    self.__doc__ = f'{asked}\n    Settings:\n{planner.__doc__}'

  def __call__(
    self,
    params: Params,
    rng_key: jax.Array,
    root: Root,
    dynamics_fn: DynamicsFn,
    cost_fn: CostFn,
    *,
    horizon: int,
    action_dim: int,
    init_mean: jax.Array | None = None,
    init_elites: jax.Array | None = None,
    proposal_fn: ProposalFn | None = None,
    noise_fn: NoiseFn | None = None,
    action_constraints: ActionConstraint | Sequence[ActionConstraint] = (),
    guardrails: Sequence[Guardrail] = (),
    allowed: jax.Array | np.ndarray | None = None,
    step_weights: np.ndarray | jax.Array | None = None,
    agents: Agents | None = None,
    **settings: Any,
  ) -> Plan:
    """Plans a batch of problems, see `driver.search`.

    It is compiled anew at every call, unless what calls it is.

    Args:
      params: first argument of all functions here.
      rng_key: one key, or `[B]` keys, one per problem; consumed.
      root: see `Problem`, as `dynamics_fn`, `cost_fn`, `horizon`,
        `action_dim`, `step_weights`, `proposal_fn`, `noise_fn` and `agents`.
      init_mean: `[B, H, A]`, see `WarmStart.mean`.
      init_elites: `[B, E, H, A]`, see `WarmStart.elites`.
      action_constraints: see `Limits.actions`.
      guardrails: see `Limits`, as `allowed`.
      **settings: those of the planner.
    """
    for word in self._words.keys() & settings.keys():
      value = settings.pop(word)
      settings |= dict.fromkeys(self._words[word], value)
    planner = self._planner(**settings)

    def plan(
      params: Params, rng_key: jax.Array, root: Root, warm_start: WarmStart
    ) -> Plan:
      problem = Problem(
        root=root,
        dynamics_fn=dynamics_fn,
        cost_fn=cost_fn,
        horizon=horizon,
        action_dim=action_dim,
        limits=Limits(action_constraints, guardrails, allowed),
        step_weights=step_weights,
        proposal_fn=proposal_fn,
        noise_fn=noise_fn,
        agents=agents,
      )
      return driver.search(
        planner, params, rng_key, problem, warm_start=warm_start
      )

    given = params, rng_key, root, WarmStart(init_mean, init_elites)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(given)):
      return plan(*given)
    # Whatever is compiled for this call goes with `plan`. Compiled step by
    # step, as JAX does by itself, it would stay for good.
    found: Plan = jax.jit(plan)(*given)
    return found


cem_plan = Face(CEM)
"""A `Face`, with the settings of `CEM`."""

icem_plan = Face(ICEM, momentum=('mean_momentum', 'std_momentum'))
"""A `Face`, with the settings of `ICEM`."""

mppi_plan = Face(MPPI)
"""A `Face`, with the settings of `MPPI`."""

gradient_plan = Face(Gradient, num_restarts=('num_samples',))
"""A `Face`, with the settings of `Gradient`."""

grasp_plan = Face(GRASP, num_restarts=('num_samples',))
"""A `Face`, with the settings of `GRASP`."""

predictive_sampling_plan = Face(PredictiveSampling)
"""A `Face`, with the settings of `PredictiveSampling`."""

random_shooting_plan = Face(RandomShooting)
"""A `Face`, with the settings of `RandomShooting`."""

categorical_cem_plan = Face(CategoricalCEM, momentum=('mean_momentum',))
"""A `Face`, with the settings of `CategoricalCEM`."""

coordinate_plan = Face(Coordinate)
"""A `Face`, with the settings of `Coordinate`; it needs `agents`."""

decentralised_plan = Face(Decentralised)
"""A `Face`, with the settings of `Decentralised`; it needs `agents`."""
