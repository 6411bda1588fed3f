"""Coordinate search: agent by agent, the others held at their last answer."""

import dataclasses

import jax

from jepa_wm.planning import agent_search, checks
from jepa_wm.planning.agent_search import Found
from jepa_wm.planning.task import Start, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coordinate(agent_search.AgentSearch):
  """Plans for one agent after the other, in rounds.

  The first agent takes the others to do what is left of their last plans; who
  comes later knows what those before it have just planned. A plan costs
  `num_rounds * G` searches of the planner within, each of which is as easy as
  that for one agent, where a joint search has `G` times as many numbers to
  find. It ends where no agent alone can do better, which need not be the best
  that they could do together.

  Attributes:
    planner: see `agent_search.AgentSearch`, as `price`.
    num_rounds: how often every agent searches.

  Raises:
    ValueError: no round, and what `agent_search.AgentSearch` refuses.
  """

  num_rounds: int = 2

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.at_least(num_rounds=(self.num_rounds, 1))

  @property
  def rounds(self) -> int:
    """As many as there are."""
    return self.num_rounds

  def others(self, task: Task, start: Start, found: Found) -> jax.Array:
    """What they have planned last."""
    del task, start
    return found.actions
