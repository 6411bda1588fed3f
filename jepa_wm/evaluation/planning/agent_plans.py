"""How a planner plans for several agents, as a command line says it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jepa_wm import fields, planning

SCHEMES = ('joint', 'coordinate', 'decentralised')
"""Ways to plan for several agents by one planner."""


@dataclasses.dataclass(frozen=True)
class AgentsPlan:
  """One agent at a time, by whatever planner.

  Attributes:
    scheme: 'coordinate', see `planning.Coordinate`, or 'decentralised', see
      `planning.Decentralised`; 'joint' is no such plan.
    rounds: how often every agent searches, of 'coordinate'; 2 if left out.
    predict: what an agent thinks that the others do, of 'decentralised'; what
      is left of their last plans if left out.

  Raises:
    ValueError: no such scheme, or a number or a word that means nothing to it.
  """

  scheme: str = 'coordinate'
  rounds: int | None = None
  predict: str | None = None

  def __post_init__(self) -> None:
    fields.check_choice('agents_plan', self.scheme, SCHEMES[1:])
    _check_taken((self.scheme,), self.rounds, self.predict)

  def around(self, planner: planning.Planner[Any]) -> planning.Planner[Any]:
    """Plans for one agent at a time by `planner`.

    Raises:
      ValueError: a planner that cannot, see `planning.Coordinate`.
    """
    given: dict[str, Any] = {'num_rounds': self.rounds, 'predict': self.predict}
    given = {name: x for name, x in given.items() if x is not None}
    if self.scheme == 'coordinate':
      return planning.Coordinate(planner=planner, **given)
    return planning.Decentralised(planner=planner, **given)

  @property
  def prices_each(self) -> bool:
    """Whether an agent looks at what a step costs it alone."""
    return self.scheme == 'decentralised'

  def to_dict(self) -> dict[str, Any]:
    """What a result record says of it."""
    made: Any = self.around(planning.CEM())
    if self.scheme == 'coordinate':
      return {'scheme': self.scheme, 'rounds': made.num_rounds}
    return {'scheme': self.scheme, 'predict': made.predict}


def chosen(
  schemes: Sequence[str], rounds: int | None = None, predict: str | None = None
) -> list[AgentsPlan | None]:
  """Plans by their schemes, each with what it takes; None of 'joint'.

  Args:
    schemes: of `SCHEMES`; 'joint' where there are none.
    rounds: see `AgentsPlan`, as `predict`.
    predict: given, as that is, to those that take it.

  Raises:
    ValueError: no such scheme, or a number or a word that no scheme takes.
  """
  for scheme in schemes:
    fields.check_choice('agents_plan', scheme, SCHEMES)
  _check_taken(schemes, rounds, predict)
  made = {
    'joint': None,
    'coordinate': AgentsPlan('coordinate', rounds=rounds),
    'decentralised': AgentsPlan('decentralised', predict=predict),
  }
  return [made[scheme] for scheme in schemes or ('joint',)]


def _check_taken(
  schemes: Sequence[str], rounds: int | None, predict: str | None
) -> None:
  """Refuses what none of the schemes takes, and what makes no sense."""
  for name, value, owner in (
    ('agents_rounds', rounds, 'coordinate'),
    ('agents_predict', predict, 'decentralised'),
  ):
    if value is not None and owner not in schemes:
      raise ValueError(
        f'{name}={value} would do nothing with agents_plan='
        f'{",".join(schemes) or "joint"}; leave it out, or choose '
        f'agents_plan={owner}.'
      )
  if rounds is not None and rounds < 1:
    raise ValueError(f'agents_rounds must be at least 1, got {rounds}.')
  if predict is not None:
    fields.check_choice('agents_predict', predict, planning.PREDICTIONS)
