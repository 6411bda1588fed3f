"""What a planning number means: the protocol that it was measured under."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Which problems, how much time, how often to plan, what counts.

  A problem is a start and a goal that lie `goal_offset` environment steps apart
  on one recorded episode (see `pairs`), the goal given as a picture. The agent
  plans `horizon` blocks of `action_block` steps ahead from the picture of where
  it is, plays the first `receding_horizon` blocks, and plans again until
  `budget` steps are spent. It has succeeded if the world says so after any of
  those steps, and stays where it is from then on.

  Attributes:
    name: what the protocol is called.
    environment: name of the world, a key of `pairs.WORLDS`.
    goal_offset: environment steps between start and goal on the episode.
    budget: environment steps that may be played.
    num_pairs: how many problems of the manifest are used, from its start.
    action_block: environment steps that one planned action spans.
    horizon: blocks in a plan.
    receding_horizon: blocks played before the next plan.
    success: when the world's success rule is asked, 'any time' within budget.
    policy: who played the episodes.
    action_noise: standard deviation of the noise on that policy's actions.
    episode_steps: length at which an episode is cut.
    ends_at_success: whether an episode also ends where its player arrives.
    origin: 'held-out': no training run ever sees these episodes.
    drop_solved: whether pairs that are solved at the start are left out.
    pair_seed: seed of the episodes and of the starts drawn on them.

  Raises:
    ValueError: numbers that contradict each other.
  """

  name: str
  environment: str = 'two_room'
  goal_offset: int = 25
  budget: int = 50
  num_pairs: int = 50
  action_block: int = 5
  horizon: int = 5
  receding_horizon: int = 5
  success: str = 'any time'
  policy: str = 'expert'
  action_noise: float = 2.0
  episode_steps: int = 100
  ends_at_success: bool = True
  origin: str = 'held-out'
  drop_solved: bool = True
  pair_seed: int = 0

  def __post_init__(self) -> None:
    for field in (
      'goal_offset',
      'budget',
      'num_pairs',
      'action_block',
      'horizon',
      'receding_horizon',
    ):
      if getattr(self, field) < 1:
        raise ValueError(
          f'{field} must be at least 1, got {getattr(self, field)}.'
        )
    if self.horizon * self.action_block > self.budget:
      raise ValueError(
        f'horizon must fit into the budget of {self.budget} environment steps, '
        f'got {self.horizon} blocks of {self.action_block} = '
        f'{self.horizon * self.action_block} steps; plan at most '
        f'{self.budget // self.action_block} blocks.'
      )
    if self.receding_horizon > self.horizon:
      raise ValueError(
        'receding_horizon must not exceed horizon, got '
        f'{self.receding_horizon} of {self.horizon} blocks: a plan cannot be '
        'played beyond its end.'
      )
    if self.goal_offset > self.episode_steps:
      raise ValueError(
        f'goal_offset must fit into an episode of {self.episode_steps} steps, '
        f'got {self.goal_offset}.'
      )
    for field, known in (('success', 'any time'), ('origin', 'held-out')):
      if getattr(self, field) != known:
        raise ValueError(
          f'{field} must be {known!r}, the only kind there is, got '
          f'{getattr(self, field)!r}.'
        )

  @property
  def num_plans(self) -> int:
    """Plans per problem until the budget is spent."""
    return -(-self.budget // (self.receding_horizon * self.action_block))

  def to_dict(self) -> dict[str, Any]:
    """All fields, as they go into a result record."""
    return dataclasses.asdict(self)


SHORT = Protocol(name='short', pair_seed=25)
"""LeWM's evaluation: 25 steps ahead, two open-loop plans of 25 steps.

Episodes as the peers collect them: an expert with noise 2.0, cut where it
arrives or after 100 steps; those that arrive before 25 steps are left out.
"""

LONG = Protocol(
  name='long',
  goal_offset=100,
  budget=150,
  horizon=5,
  receding_horizon=1,
  ends_at_success=False,
  pair_seed=100,
)
"""Four times as far, with three halves of the time that the recording took.

The same player, but no episode is cut at success, because few would be long
enough: where the player arrives early it plays on, hovering about its target.
An episode is 100 steps, its start the first frame, its goal the last. (Longer
recordings make it easier: with 200 steps and a start anywhere, more of it is
hovering, and the random floor rises from 0.09 to 0.23.)
"""

PROTOCOLS = {protocol.name: protocol for protocol in (SHORT, LONG)}
"""The named protocols."""


def get(name: str, **changes: Any) -> Protocol:
  """Looks up a named protocol and changes some of its fields.

  Args:
    name: a key of `PROTOCOLS`.
    **changes: fields to replace; None leaves a field as it is.

  Raises:
    ValueError: no such protocol, or changes that contradict each other.
  """
  if name not in PROTOCOLS:
    raise ValueError(
      f'protocol must be one of {", ".join(sorted(PROTOCOLS))}, got {name!r}.'
    )
  changes = {k: v for k, v in changes.items() if v is not None}
  return dataclasses.replace(PROTOCOLS[name], **changes)
