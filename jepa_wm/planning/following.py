"""What planners are alike in that do what somebody proposes."""

from typing import Self

from jepa_wm.planning.agents import Agents


class Following:
  """The part of a planner that takes the first proposal for what to do."""

  @property
  def discrete(self) -> bool:
    """Actions are numbers, not choices."""
    return False

  @property
  def follows(self) -> bool:
    """It does what is proposed, where that will do."""
    return True

  @property
  def expects(self) -> bool:
    """What was predicted does not matter to it."""
    return False

  @property
  def keeps(self) -> tuple[str, ...]:
    """It may stop, no more."""
    return ('off', 'hard')

  @property
  def num_kept(self) -> int:
    """The first that is given is a proposal, so no elites are."""
    return 0

  @property
  def patience(self) -> None:
    """There is nothing to wait for: a search, if any, is short."""
    return None

  def among(self, agents: Agents | None) -> Self:
    """Itself: it plans for all at once."""
    del agents
    return self
