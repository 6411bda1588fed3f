"""Planners of several levels, from Python: heads above a world model."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from jepa_wm import exports, planning, world_model
from jepa_wm.evaluation.planning import levels

_World = TypeVar('_World', bound=world_model.WorldModel)


def with_level(model: _World, head: exports.TrainedHead) -> _World:
  """The model with a level above all that it has; see `WorldModel.levels`.

  Heads are saved apart from the model, by themselves.

  Args:
    model: whose latents the head reads.
    head: knows where macro-actions lead, such as 'waypoints'.

  Raises:
    ValueError: a head of another encoder or without the role, or a stride that
      is no multiple of that of the level below.
  """
  check_encoder(model, head)
  found = dataclasses.replace(model, above=(*model.above, head))
  _ = found.levels  # Says what does not fit.
  return found


def planner(
  model: world_model.WorldModel,
  low: planning.Planner[Any],
  *,
  horizon: int,
  above: Sequence[exports.TrainedHead] | None = None,
  upper_horizon: int | None = None,
  every: int = 1,
  price_fn: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
  limits: planning.Limits = planning.NO_LIMITS,
) -> planning.CompiledPlanner:
  """A planner under levels that say what to reach first, compiled once.

  Args:
    model: of the level that acts.
    low: searches its actions.
    horizon: H, blocks that it looks ahead; about as many as the lowest level
      above spans.
    above: heads with the role `level` or `subgoals`, the lowest first; the
      levels of the model by default.
    upper_horizon: macro-actions that levels look ahead which search such; 3 or
      as many as they have learnt by default.
    every: blocks for which a subgoal is kept.
    price_fn: `(latents [..., D], goal [..., D]) -> [...]` on all levels; the
      model's distance by default.
    limits: of the actions.

  Raises:
    ValueError: no head, one of another encoder or without either role, strides
      that are no multiples of each other, or a number out of its range.
  """
  heads = model.above if above is None else tuple(above)
  if not heads:
    raise ValueError(
      'above: expected a head that says what to reach first, got none; give '
      'one, or a model with levels (hierarchy.with_level).'
    )
  for head in heads:
    check_encoder(model, head)
  price = _distance(model) if price_fn is None else price_fn
  plan_fn: planning.PlanFn[Any] = model.planner(
    low,
    horizon=horizon,
    limits=limits,
    cost_fn=planning.reading(
      model.latent, lambda params, latents, action, goal: price(latents, goal)
    ),
  ).plan_fn
  for level in stacked(heads, horizon=upper_horizon, every=every):
    plan_fn = level.over(
      plan_fn,
      price_fn=price,
      read_fn=model.latent,
      latent_dim=model.model.latent_dim,
    )
  return planning.CompiledPlanner(plan_fn, model.root, model.params)


def stacked(
  heads: Sequence[exports.TrainedHead],
  *,
  names: Sequence[str] | None = None,
  horizon: int | None = None,
  every: int = 1,
) -> tuple[levels.Above, ...]:
  """What heads are above planners, the lowest first.

  Args:
    heads: with the role `level` or `subgoals`.
    names: of the heads, for messages; those of their kinds by default.
    horizon: macro-actions to look ahead, see `planner`, as `every`.
    every: blocks for which a subgoal is kept.

  Raises:
    ValueError: a head without either role, one that looks ahead farther than it
      has learnt, a horizon of levels that do not search, strides that do not
      grow by whole numbers from level to level, or a number below one.
  """
  names = [head.name for head in heads] if names is None else names
  if horizon is not None and all(x.head.roles.level is None for x in heads):
    kinds = ', '.join(repr(x.name) for x in heads)
    raise ValueError(
      f'upper_horizon={horizon} would do nothing: {kinds} searches no '
      'macro-actions; leave it out.'
    )
  found = [
    _above(name, head, horizon, every) for name, head in zip(names, heads)
  ]
  for low, high in itertools.pairwise(zip(names, found)):
    _check_strides(low, high)
  return tuple(found)


def check_encoder(
  model: world_model.WorldModel, head: exports.TrainedHead
) -> None:
  """Refuses a head that reads the latents of another encoder.

  Raises:
    ValueError: it does.
  """
  known, wanted = head.encoder_fingerprint, exports.encoder_fingerprint(model)
  if known != wanted:
    raise ValueError(
      f'The head {head.name!r} reads the latents of the encoder of '
      f'{head.encoder} ({known[:12]}), and the model has another '
      f'({wanted[:12]}); train a head on that.'
    )


def _above(
  name: str, found: exports.TrainedHead, horizon: int | None, every: int
) -> levels.Above:
  """What one head is above a planner."""
  level, subgoal_fn = found.head.roles.level, found.head.roles.subgoals
  known = f'{found.name} {found.digest[:16]}'
  if level is None and subgoal_fn is not None:
    stride = found.head.config.stride
    told = functools.partial(subgoal_fn, found.params)
    return levels.Pointing(known, told, stride, every)
  if level is None:
    raise ValueError(
      f'upper={name}: the head {found.name!r} is no level above; pass one that '
      "is, such as 'waypoints' or 'landmarks'."
    )
  most = found.head.config.num_waypoints
  if horizon is not None and horizon > most:
    raise ValueError(
      f'upper_horizon={horizon}: {name} has learnt {most} macro-actions in a '
      'row; look ahead less far, or train one with '
      f'--config.head.num_waypoints={horizon}.'
    )
  return levels.Upper(
    known,
    functools.partial(level.step, found.params),
    functools.partial(level.recorded, found.params),
    level.macro_dim,
    level.stride,
    min(levels.Upper.horizon, most) if horizon is None else horizon,
    every,
  )


def _check_strides(
  low: tuple[str, levels.Above], high: tuple[str, levels.Above]
) -> None:
  """Refuses a level that is no whole number of times as long as the one below.

  Raises:
    ValueError: it is not.
  """
  (below, one), (above, other) = low, high
  if other.stride <= one.stride or other.stride % one.stride:
    raise ValueError(
      f'upper={below},{above}: {above} spans {other.stride} blocks and {below} '
      f'{one.stride}; name the lowest first, and above it one that spans a '
      f'multiple, such as {2 * one.stride} (--config.head.stride='
      f'{2 * one.stride}).'
    )


def _distance(
  model: world_model.WorldModel,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The model's own."""
  acting = model.model.acting
  assert acting is not None  # It has planned.
  return acting.distance
