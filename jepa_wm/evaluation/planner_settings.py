"""Which planner, and how it is set: what a result record says about it."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import files, planning
from jepa_wm.types import Params, Root

_PLAIN = (bool, int, float, str, type(None))
"""What a command line can give and a JSON record can keep."""


def planners() -> dict[str, Callable[..., planning.Plan]]:
  """All planners by name."""
  return {**planning.PLANNERS, **planning.DISCRETE_PLANNERS}


@dataclasses.dataclass(frozen=True)
class PlannerSettings:
  """A planner by name and its settings.

  Attributes:
    planner: a key of `planning.PLANNERS` or `planning.DISCRETE_PLANNERS`.
    options: keyword arguments of that planner by name, plain values only; its
      own defaults stand for the others.
    cost: which steps of a rollout count, a key of `planning.STEP_WEIGHTS`.
    distance: of a latent from the goal's, a key of `planning.DISTANCES`.
    bounded: whether candidates are clipped to the world's action bounds.
    warm_start: whether a plan starts from what is left of the one before it.
    history: observations that the model sees at most, one action block apart.

  Raises:
    ValueError: no such planner, option, cost or distance, or an option of the
      wrong type.
  """

  planner: str = 'cem'
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  cost: str = 'last'
  distance: str = 'squared'
  bounded: bool = True
  warm_start: bool = True
  history: int = 1

  def __post_init__(self) -> None:
    for field, names in (
      ('planner', planners()),
      ('cost', planning.STEP_WEIGHTS),
      ('distance', planning.DISTANCES),
    ):
      if getattr(self, field) not in names:
        raise ValueError(
          f'{field} must be one of {", ".join(names)}, got'
          f' {getattr(self, field)!r}.'
        )
    if self.history < 1:
      raise ValueError(f'history must be at least 1, got {self.history}.')
    object.__setattr__(self, 'options', dict(self.options))
    known = _options(self.planner_fn)
    for name, value in self.options.items():
      if name not in known:
        raise ValueError(
          f'planner {self.planner!r} has no option {name!r}.'
          f'{files.nearest(name, known)} It has {", ".join(sorted(known))}.'
        )
      kinds, _ = known[name]
      # A whole number may stand for any number, but True is none.
      if type(value) not in (*kinds, *([int] if float in kinds else [])):
        wanted = ' or '.join(
          'None' if kind is type(None) else kind.__name__ for kind in kinds
        )
        raise ValueError(
          f'option {name!r} of planner {self.planner!r} must be {wanted}, got'
          f' {value!r}.'
        )

  @property
  def planner_fn(self) -> Callable[..., planning.Plan]:
    """The planner itself."""
    return planners()[self.planner]

  @property
  def is_discrete(self) -> bool:
    """Whether it plans one-hot rows."""
    return self.planner in planning.DISCRETE_PLANNERS

  def dry_run(self, horizon: int) -> planning.Plan:
    """Plans a problem of one dimension without computing anything.

    Args:
      horizon: H, blocks in a plan.

    Returns:
      Shapes and dtypes of what the planner answers, for B = A = 1.

    Raises:
      ValueError: what the planner says about numbers that make no sense.
    """

    def dynamics(
      params: Params, rng_key: jax.Array, action: jax.Array, state: jax.Array
    ) -> jax.Array:
      del params, rng_key
      return state + action

    def plan(rng_key: jax.Array, origin: jax.Array) -> planning.Plan:
      return self.planner_fn(
        {},
        rng_key,
        Root(origin, origin),
        dynamics,
        planning.squared_distance,
        horizon=horizon,
        action_dim=1,
        **self.options,
      )

    return jax.eval_shape(plan, jax.random.key(0), jnp.zeros((1, 1)))

  def to_dict(self) -> dict[str, Any]:
    """All of it, the planner's defaults too, for a result record."""
    fields = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in ('planner', 'options')
    }
    defaults = {
      name: default for name, (_, default) in _options(self.planner_fn).items()
    }
    return {'name': self.planner, **defaults, **self.options, **fields}


def _options(planner: Callable[..., Any]) -> dict[str, tuple[list[type], Any]]:
  """Plain types and default of each argument that a command line can give."""
  hints = typing.get_type_hints(planner)
  options = {}
  for name, parameter in inspect.signature(planner).parameters.items():
    hint = hints.get(name)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if union else (hint,)
    kinds = [kind for kind in members if kind in _PLAIN]
    required = parameter.default is inspect.Parameter.empty
    if set(kinds) - {type(None)} and not required:
      options[name] = (kinds, parameter.default)
  return options
