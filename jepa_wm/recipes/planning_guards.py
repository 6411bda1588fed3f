"""Heads that say above and below what a plan must not pass."""

import functools
from collections.abc import Mapping
from typing import Any

from jepa_wm.envs import zones
from jepa_wm.evaluation.diagnostics.finding import Finding, Table
from jepa_wm.evaluation.planning import guarding, protocol
from jepa_wm.recipes import planning_heads


def guard(
  path: str,
  checkpoint: str,
  chosen: protocol.Protocol,
  *,
  delta: float = 0.1,
  form: str = 'hard',
  penalty: float | None = None,
) -> guarding.Guard:
  """A head that says what is forbidden, for the planners of a checkpoint.

  Args:
    path: of the head, as for `TrainedHead.load`.
    checkpoint: as for `WorldModel.from_checkpoint`.
    chosen: says where, and how many blocks are played before the next plan.
    delta: share of unsafe latents that may pass, by its calibration.
    form: how it is kept, one of `guarding.FORMS`.
    penalty: what a unit of excess costs; 100 if left out.

  Raises:
    OSError: no head or no checkpoint.
    ValueError: a broken one, or a head of another encoder or another world, or
      without the role; a delta that is no share or that its calibration cannot
      tell; no such form; or a penalty where nothing has a price.
  """
  environment = chosen.environment
  found = planning_heads.fitting('guardrail', path, checkpoint, environment)
  role = found.head.roles.guardrail
  if role is None:
    raise ValueError(
      f'--guardrail={path}: the head {found.name!r} forbids nothing; pass one '
      "that does, such as 'safety'."
    )
  guarding.check(delta, form, 0.0 if penalty is None else penalty)
  if penalty is not None and form not in ('soft', 'lagrangian'):
    raise ValueError(
      f'guardrail_penalty={penalty:g} would do nothing: a guardrail of the '
      f'form {form} has no price; leave it out, or choose soft or lagrangian.'
    )
  settings, bounds = found.head.config, role.bounds(found.params, delta)
  return guarding.Guard(
    f'{found.name} {found.digest[:16]}',
    functools.partial(role.price, found.params),
    zones.parse(settings.zone, environment),
    tuple(bounds[: chosen.receding_horizon + 1].tolist()),
    settings.num_checks,
    delta,
    form,
    **({} if penalty is None else {'penalty': penalty}),
  )


def finding(record: Mapping[str, Any]) -> dict[str, Finding]:
  """For the page: what came of a guardrail, if there was any.

  Args:
    record: of a result.
  """
  came, said = (
    where.get('guardrail') for where in (record, record.get('planner', {}))
  )
  if came is None or said is None:
    return {}
  number = record['num_pairs']
  numbers = 'num_entered', 'share_of_steps', 'share_stopped'
  columns = 'predicted', 'realised', 'realised_where_allowed'
  sentence = (
    f'Forbidden: {said["zone"]}, kept {said["form"]} at delta '
    f'{said["delta"]:g}. {came["num_entered"]} of {number} episodes enter it, '
    f'with {came["share_of_steps"]:.2%} of all steps inside.'
  )
  if said['form'] == 'hard':
    sentence += (
      f' In {came["share_stopped"]:.1%} of plans, of '
      f'{came["num_that_stopped"]} episodes, nothing was allowed, and it stood '
      'still.'
    )
  return {
    'guardrail': Finding(
      'What was forbidden, and what was entered',
      scalars={name: float(came[name]) for name in numbers},
      table=Table(
        ('level', *(name.replace('_', ' ') for name in columns)),
        [
          [
            level['level'],
            *(
              '' if level.get(name) is None else f'{level[name]:.2%}'
              for name in columns
            ),
          ]
          for level in came['levels']
        ],
      ),
      sentence=f'{sentence} Shares are of plans: whether the blocks '
      'that were played were predicted to pass the bound, whether the zone was '
      'entered in the world, and how often so where they were predicted not '
      f'to. {came["num_left_out"]} pairs that start or end inside are left '
      'out.',
    )
  }
