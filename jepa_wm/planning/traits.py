"""What a planner answers when asked what it is like, unless it differs."""

from typing import Self

from jepa_wm.planning.agents import Agents


class Traits:
  """The answers of most planners; see `driver.Planner` for the questions."""

  @property
  def discrete(self) -> bool:
    """Actions are numbers, not choices."""
    return False

  @property
  def follows(self) -> bool:
    """Proposals are candidates among others."""
    return False

  @property
  def expects(self) -> bool:
    """What was predicted does not matter to it."""
    return False

  @property
  def searches(self) -> bool:
    """It does."""
    return True

  def among(self, agents: Agents | None) -> Self:
    """Itself: it plans for all at once."""
    del agents
    return self
