"""What a planning number means: the protocol that it was measured under."""

import dataclasses
import math
from typing import Any

from jepa_wm import fields
from jepa_wm.envs import worlds

SUCCESS_RULES = ('any time', 'after any step', 'at the end')
"""When the world is asked whether a problem is solved."""

_COUNTS = (
  *('goal_offset', 'budget', 'num_pairs'),
  *('action_block', 'horizon', 'receding_horizon'),
)
ORIGINS = ('held-out', 'training', 'reset')
"""What starts and goals are taken from."""

DISTURBANCES = ('teleport',)
"""What may happen in the middle of an episode."""


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Which problems, how much time, how often to plan, what counts.

  A problem is a start and a goal that lie `goal_offset` environment steps apart
  on one recorded episode (see `pairs`), the goal given as a picture. The agent
  plans `horizon` blocks of `action_block` steps ahead from the picture of where
  it is, plays the first `receding_horizon` blocks, and plans again until
  `budget` steps are spent. `success` says what counts. What else is reported
  of an episode, its last state above all, is of where it ended: with the budget
  or, unless success counts 'at the end', with the plan that led to the goal.

  Attributes:
    name: what the protocol is called.
    version: counted up where a protocol of this name changes its meaning.
    environment: name of the world, a key of `worlds.WORLDS`.
    goal_offset: environment steps between start and goal on the episode.
    budget: environment steps that may be played.
    num_pairs: how many problems of the manifest are used, from its start.
    action_block: environment steps that one planned action spans.
    horizon: blocks in a plan.
    receding_horizon: blocks played before the next plan.
    success: when the world is asked: 'any time' within the budget; 'after any
      step', which a start that lies in its goal may still miss; or 'at the
      end' of the budget, all of which is then played.
    policy: who played the episodes.
    action_noise: standard deviation of the noise on that policy's actions.
    episode_steps: length at which an episode is cut.
    ends_at_success: whether an episode also ends where its player arrives.
    origin: 'held-out': no training run ever sees these episodes; 'training':
      they are what the model has learnt from; 'reset': there are none, start
      and goal are two resets of the world.
    drop_solved: whether pairs that are solved at the start are left out.
    pair_seed: seed of the episodes and of the starts drawn on them.
    disturb: what happens in the middle of an episode, and nobody is told:
      'teleport' puts the agent (`worlds.World.body`) elsewhere, the same place
      for a pair whoever plans; None for nothing.
    disturb_at: environment steps played before that, whole blocks; by default
      about half of the budget, in the middle of the blocks that are played
      without another plan (`disturbed_at`).
    detour: least ratio of the way from start to goal to the straight line
      between them, past what is in the way; 0 takes all pairs.

  Raises:
    ValueError: numbers that contradict each other, or a disturbance of a world
      on the host.
  """

  name: str
  version: int = 1
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
  disturb: str | None = None
  disturb_at: int | None = None
  detour: float = 0.0

  def __post_init__(self) -> None:
    fields.check_counts(self, dict.fromkeys(_COUNTS, 1))
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
    if self.origin != 'reset' and self.goal_offset > self.episode_steps:
      raise ValueError(
        f'goal_offset must fit into an episode of {self.episode_steps} steps, '
        f'got {self.goal_offset}.'
      )
    if not 0.0 <= self.detour < math.inf:
      raise ValueError(
        f'detour must be finite and at least 0, got {self.detour}.'
      )
    if self.detour and self.origin != 'reset':
      raise ValueError(
        f'detour chooses among resets, got {self.detour:g} with pairs of '
        f'origin {self.origin!r}; leave it 0.'
      )
    for field, known in (('success', SUCCESS_RULES), ('origin', ORIGINS)):
      fields.check_choice(field, getattr(self, field), known)
    self._check_disturbance()

  @property
  def num_plans(self) -> int:
    """Plans per problem until the budget is spent."""
    return -(-self.budget // (self.receding_horizon * self.action_block))

  @property
  def disturbed_at(self) -> int | None:
    """Environment steps played before the disturbance, None without one."""
    if self.disturb is None or self.disturb_at is not None:
      return self.disturb_at
    middle = self.num_plans // 2 * self.receding_horizon
    return self.action_block * (middle + self.receding_horizon // 2)

  def _check_disturbance(self) -> None:
    """Refuses one that cannot be, or a moment without one."""
    if self.disturb is None:
      if self.disturb_at is not None:
        raise ValueError(
          f'disturb_at={self.disturb_at} would do nothing: nothing happens '
          'then; say what with disturb=teleport.'
        )
      return
    fields.check_choice('disturb', self.disturb, DISTURBANCES)
    if worlds.get(self.environment).on_host:
      raise ValueError(
        f'disturb={self.disturb} takes a world written in JAX, and '
        f'{self.environment!r} is stepped on the host and does not say where '
        'else its agent may be; leave it out.'
      )
    at, block = self.disturbed_at, self.action_block
    if at is None or not 0 < at < self.budget or at % block:
      raise ValueError(
        f'disturb_at must be whole blocks of {block} environment steps, '
        f'above 0 and below the budget of {self.budget}, got {at}.'
      )

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

SWM_V1 = Protocol(
  name='swm-v1',
  success='after any step',
  origin='training',
  drop_solved=False,
  pair_seed=42,
)
"""stable-worldmodel's rule, kept to compare with what is published.

Pairs from the training set, drawn as it draws them, solved starts counted in.
A number under this protocol says little by itself: look at its random floor.

Source: stable-worldmodel 0.1.1, scripts/plan/eval_wm.py and its configs.
"""

RANDOM_PAIRS = Protocol(
  name='random-pairs',
  budget=100,
  receding_horizon=1,
  origin='reset',
  pair_seed=7,
)
"""Start and goal are two resets: no episode leads from one to the other.

Nothing says that a goal can be reached in time; the expert's ceiling does.
"""


DETOUR = Protocol(
  name='detour',
  budget=100,
  receding_horizon=1,
  origin='reset',
  detour=2.0,
  pair_seed=8,
)
"""Two resets whose way is at least twice the straight line between them.

The goal looks near, and whoever goes straight for it ends at a wall: the far
door of Two Room, the arms of a U maze.
"""


def _horizon(steps: int) -> Protocol:
  """Goals `steps` ahead, twice the time, recorded as for `LONG`."""
  return Protocol(
    name=f'h{steps}',
    goal_offset=steps,
    budget=2 * steps,
    receding_horizon=1,
    episode_steps=steps,
    ends_at_success=False,
    pair_seed=1000 + steps,
  )


HORIZONS = tuple(_horizon(steps) for steps in (25, 50, 75, 100, 150))
"""One question at five distances, replanning after every block."""

PROTOCOLS = {
  protocol.name: protocol
  for protocol in (SHORT, LONG, SWM_V1, RANDOM_PAIRS, DETOUR, *HORIZONS)
}
"""The named protocols."""


def get(name: str, **changes: Any) -> Protocol:
  """Looks up a named protocol and changes some of its fields.

  Args:
    name: a key of `PROTOCOLS`, or 'h' and any number of steps.
    **changes: fields to replace; None leaves a field as it is. With another
      `environment` comes how episodes are recorded in it.

  Raises:
    ValueError: no such protocol or world, or changes that contradict each
      other.
  """
  found = PROTOCOLS.get(name)
  if found is None and name[:1] == 'h' and name[1:].isdecimal():
    found = _horizon(int(name[1:]))
  if found is None:
    fields.check_choice('protocol', name, sorted(PROTOCOLS))
    found = PROTOCOLS[name]
  changes = {k: v for k, v in changes.items() if v is not None}
  if 'environment' in changes:
    world = worlds.get(changes['environment'])
    there = {'action_noise': world.action_noise, **world.recording}
    changes = {**there, **changes}
  return dataclasses.replace(found, **changes)
