"""What a record says of a closed loop besides its score, where there is any."""

from collections.abc import Sequence
from typing import Any

from jepa_wm.evaluation.planning import (
  closed_loop,
  disturbance,
  guarding,
  replanning,
)


def describe(
  loop: closed_loop.ClosedLoop,
  successes: Sequence[bool],
  first_steps: Sequence[int | None],
  recoveries: tuple[float | None, float | None],
) -> dict[str, Any]:
  """Who acted, what was disturbed, and which plans were given up early.

  Args:
    loop: that has run.
    successes: of all problems, by the protocol's rule.
    first_steps: steps until their goals were reached for the first time.
    recoveries: shares of those disturbed that random actions and the expert
      solve.

  Returns:
    'acted', 'disturbance', 'replanning' and 'guardrail', each where there is
    such a thing.
  """
  said: dict[str, Any] = {}
  if acted := loop.who_acted():
    said['acted'] = acted
  moved, protocol = disturbance.together(loop.moved), loop.protocol
  if protocol.disturb is not None:
    said['disturbance'] = {
      **disturbance.describe(protocol, moved, successes, first_steps),
      'random_recovery': recoveries[0],
      'expert_recovery': recoveries[1],
    }
  if loop.settings.replanning is not None:
    said['replanning'] = {
      'num_plans': loop.num_plans,
      **replanning.describe(
        loop.looks,
        protocol.receding_horizon,
        protocol.disturbed_at,
        None if moved is None else moved.indices,
      ),
    }
  return said | guarding.describe(loop.watch, loop.pairs)
