"""Several agents in one block of actions: whose is what, and who is held."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks, constraints
from jepa_wm.types import CostFn, LatentState, Params

AgentCostsFn = Callable[[Params, LatentState, jax.Array, Any], jax.Array]
"""`(params, state, action, goal) -> [B, N, G]`: what a step costs each agent.

Arguments are those of a `CostFn`.
"""

_COSTS = '(params, state, action, goal)'


class Agents(NamedTuple):
  """Who acts in a problem of several agents.

  Attributes:
    owners: `[A]`, the agent, 0 to G - 1, that each number of a block is of.
    costs_fn: what a step costs each; None where nobody can tell them apart.
  """

  owners: tuple[int, ...]
  costs_fn: AgentCostsFn | None = None

  @classmethod
  def of_blocks(
    cls,
    num_agents: int,
    block: int,
    action_dim: int,
    costs_fn: AgentCostsFn | None = None,
  ) -> 'Agents':
    """Those of blocks `[block, G, a]`, flattened: in every step one by one.

    Args:
      num_agents: G.
      block: environment steps that a block spans.
      action_dim: a, size of one agent's action in one of them.
      costs_fn: what a step costs each.
    """
    checks.at_least(
      num_agents=(num_agents, 1), block=(block, 1), action_dim=(action_dim, 1)
    )
    step = np.repeat(np.arange(num_agents), action_dim)
    return cls(tuple(np.tile(step, block).tolist()), costs_fn)

  @property
  def number(self) -> int:
    """G."""
    return max(self.owners) + 1

  def check(self, action_dim: int) -> None:
    """Makes sure that every number of a block is somebody's.

    Raises:
      ValueError: not one owner for each, or an agent that owns nothing.
    """
    if len(self.owners) != action_dim:
      raise ValueError(
        'owners of Agents must name an agent for each of the '
        f'{action_dim} numbers of a block, got {len(self.owners)} of them.'
      )
    found = sorted(set(self.owners))
    if found != list(range(len(found))):
      raise ValueError(
        'owners of Agents must count agents from 0 without a gap, got the '
        f'agents {found}.'
      )

  def own_cost(self, agent: jax.Array) -> CostFn:
    """What a step costs one agent.

    Args:
      agent: its number, `[]`; may be traced.

    Raises:
      ValueError: nobody can tell, or, when it prices, the answer is not
        `[B, N, G]`.
    """
    costs_fn, number = self.costs_fn, self.number
    if costs_fn is None:
      raise ValueError(
        "price='own' needs to know what a step costs each agent: give Agents a "
        "costs_fn, or let each look at the cost of all, price='all'."
      )

    def cost(
      params: Params, state: LatentState, action: jax.Array, goal: Any
    ) -> jax.Array:
      given = params, state, action, goal
      costs = checks.call('costs_fn of Agents', _COSTS, costs_fn, *given)
      wanted = *action.shape[:2], number
      if jnp.shape(costs) != wanted:
        raise ValueError(
          f'costs_fn of Agents must return [B, N, G] = {list(wanted)}, got '
          f'shape {list(jnp.shape(costs))}.'
        )
      own: jax.Array = jax.lax.dynamic_index_in_dim(
        costs, agent, axis=-1, keepdims=False
      )
      return own

    return cost


@constraints.pytree()
class Held:
  """Sequences in which some numbers are given, an action constraint.

  Attributes:
    others: what the sequences keep to besides.
    values: `[B, H, A]`, allowed by those.
    is_free: bool `[A]`, which numbers are not given.
  """

  others: constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  values: jax.Array
  is_free: jax.Array

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves the free numbers of `[B, ..., H, A]` to where all holds."""
    between = (1,) * (actions.ndim - self.values.ndim)
    shape = self.values.shape[0], *between, *self.values.shape[1:]
    values = self.values.reshape(shape).astype(actions.dtype)
    is_free = constraints.row(self.is_free, actions, bool)
    actions = jnp.where(is_free, actions, values)
    # Alternating as ever, since some couple the agents; what is held is exact.
    others = constraints.sequence(self.others)
    for _ in range(constraints.ROUNDS if others else 0):
      actions = constraints.project(others, actions)
      actions = jnp.where(is_free, actions, values)
    return actions

  def check(self, action_dim: int) -> None:
    """Makes sure that the values are of blocks of that size.

    Raises:
      ValueError: they are not.
    """
    if self.values.shape[-1:] != (action_dim,):
      raise ValueError(
        f'values of Held must be [B, H, {action_dim}], got '
        f'{list(self.values.shape)}.'
      )

  def following(self, previous: jax.Array) -> 'Held':
    """The same after the action `previous` `[B, A]`."""
    after = [
      one.following(previous) for one in constraints.sequence(self.others)
    ]
    return Held(tuple(after), self.values, self.is_free)
