"""Decentralised planning: each for itself, by what it thinks of the others."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import agent_search
from jepa_wm.planning.agent_search import Found
from jepa_wm.planning.task import Start, Task

PREDICTIONS = ('shifted', 'still')
"""What an agent may think that the others do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decentralised(agent_search.AgentSearch):
  """Every agent plans for itself, and none is told what the others plan now.

  A plan costs G searches of the planner within, which could run on as many
  machines at once.

  Attributes:
    planner: see `agent_search.AgentSearch`.
    price: each agent its own cost by default.
    predict: what an agent thinks that the others do: 'shifted', what is left
      of their last plans (the mean of the warm start, zeros before the first
      and after the last block of it), or 'still', `Limits.stop` at every step.

  Raises:
    ValueError: no such prediction, what `agent_search.AgentSearch` refuses,
      and, when it is asked for a plan, nobody who says what standing still is.
  """

  price: str = 'own'
  predict: str = 'shifted'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.predict not in PREDICTIONS:
      raise ValueError(
        f'predict must be one of {", ".join(PREDICTIONS)}, got '
        f'{self.predict!r}.'
      )

  @property
  def rounds(self) -> int:
    """One: nothing is exchanged."""
    return 1

  def others(self, task: Task, start: Start, found: Found) -> jax.Array:
    """What is predicted, whoever has planned since."""
    del found
    if self.predict == 'shifted':
      return start.mean
    stop = task.problem.limits.stop
    if stop is None:
      raise ValueError(
        "predict='still' needs to know which block stands still: give Limits "
        "its stop, or take predict='shifted'."
      )
    still = jnp.asarray(stop, jnp.float32).reshape(1, 1, -1)
    return jnp.broadcast_to(still, task.shape)
