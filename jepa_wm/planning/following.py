"""What planners are alike in that do what somebody proposes."""

from jepa_wm.planning.traits import Traits


class Following(Traits):
  """The part of a planner that takes the first proposal for what to do."""

  @property
  def follows(self) -> bool:
    """It does what is proposed, where that will do."""
    return True

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
