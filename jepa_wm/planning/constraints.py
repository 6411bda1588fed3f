"""Convex sets of action sequences, onto which planners project."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks

ROUNDS = 8
"""Rounds of alternating projections where several constraints meet."""

_TOLERANCE = 1e-3
"""How far from its set a projected sequence may lie and count as inside."""


@typing.runtime_checkable
class ActionConstraint(Protocol):
  """A convex set of action sequences; a pytree of its numbers."""

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves sequences `[..., H, A]` into the set."""
    ...

  def check(self, action_dim: int) -> None:
    """Raises ValueError where the set is empty or not of `action_dim`."""
    ...

  def following(self, previous: jax.Array) -> Self:
    """The set of what may come after the action `previous` `[B, A]`."""
    ...


@typing.dataclass_transform(frozen_default=True)
def pytree(*static: str) -> Callable[[type], type]:
  """A frozen dataclass whose fields but `static` are a pytree's leaves."""

  def decorate(cls: type) -> type:
    cls = dataclasses.dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    return jax.tree_util.register_dataclass(
      cls, [name for name in names if name not in static], list(static)
    )

  return decorate


@pytree()
class ActionBounds:
  """A box of allowed actions.

  Attributes:
    low: `[A]`, smallest allowed value of each action dimension.
    high: `[A]`, largest.
  """

  low: jax.Array | np.ndarray
  high: jax.Array | np.ndarray

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves actions `[..., A]` to the nearest allowed ones."""
    return jnp.clip(actions, row(self.low, actions), row(self.high, actions))

  def check(self, action_dim: int) -> None:
    """Makes sure that this is a box of `action_dim` dimensions.

    Raises:
      ValueError: a bound is not `[A]`, or `low` is not below `high`; values
        known only when the program runs (tracers) are not looked at.
    """
    for name, bound in (('low', self.low), ('high', self.high)):
      if np.shape(bound) != (action_dim,):
        raise ValueError(
          f'action_constraints: {name} of ActionBounds must have one value for'
          f' each of the {action_dim} action dimensions, got shape'
          f' {list(np.shape(bound))}.'
        )
    if not is_traced(self):
      below = np.asarray(self.low) < np.asarray(self.high)
      if not np.all(below):
        worst = int(np.argmin(below))
        raise ValueError(
          'action_constraints: low of ActionBounds must be below high, but in'
          f' dimension {worst} they are {self.low[worst]} and'
          f' {self.high[worst]}.'
        )

  def following(self, previous: jax.Array) -> 'ActionBounds':
    """Itself: a box does not look back."""
    del previous
    return self


@pytree('order')
class NormBall:
  """Actions no farther than `radius` from `center`, each step on its own.

  Attributes:
    radius: a number.
    center: a number or `[A]`.
    order: 2 for the Euclidean norm, `float('inf')` for the largest entry.
  """

  radius: jax.Array | float
  center: jax.Array | np.ndarray | float = 0.0
  order: float = 2

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves actions `[..., A]` to the nearest ones in the ball."""
    center = row(self.center, actions)
    if self.order != 2:
      return jnp.clip(actions, center - self.radius, center + self.radius)
    offset = actions - center
    square = jnp.sum(offset**2, axis=-1, keepdims=True)
    # Both branches of a `where` have a gradient: neither may divide by zero.
    outside = square > self.radius**2
    norm = jnp.sqrt(jnp.where(outside, square, 1.0))
    return jnp.where(outside, center + offset * (self.radius / norm), actions)

  def check(self, action_dim: int) -> None:
    """Makes sure that this is a ball of `action_dim` dimensions.

    Raises:
      ValueError: no radius, another norm, or a center of another size.
    """
    if self.order not in (2, float('inf')):
      raise ValueError(
        "action_constraints: order of NormBall must be 2 or float('inf'), got"
        f' {self.order!r}.'
      )
    _check_size('center of NormBall', self.center, action_dim)
    checks.finite(center=self.center)
    _check_positive('radius of NormBall', self.radius)

  def following(self, previous: jax.Array) -> 'NormBall':
    """Itself: a ball does not look back."""
    del previous
    return self


@pytree()
class RateLimit:
  """Actions that differ from the one before them by no more than `limit`.

  A step that is too large is shortened and keeps its direction, so what lies
  between two allowed actions of a convex set stays in that set.

  Attributes:
    limit: a number or `[A]`, largest change from one action to the next.
    previous: `[A]` or `[B, A]`, the action before the first; NaN, an
      infinity, or None, leaves the first one free.
  """

  limit: jax.Array | np.ndarray | float
  previous: jax.Array | np.ndarray | None = None

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves sequences `[B, ..., H, A]` to ones that change slowly."""
    steps = jnp.moveaxis(actions, -2, 0)
    limit = row(self.limit, steps[0])
    first = steps[0]
    if self.previous is not None:
      previous = jnp.asarray(self.previous, actions.dtype)
      between = (1,) * (first.ndim - previous.ndim)
      previous = previous.reshape(
        *previous.shape[:-1], *between, previous.shape[-1]
      )
      first = jnp.where(jnp.isfinite(previous), previous, first)

    def step(
      before: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
      change = action - before
      excess = jnp.max(jnp.abs(change) / limit, axis=-1, keepdims=True)
      action = before + change / jnp.maximum(excess, 1.0)
      return action, action

    _, steps = jax.lax.scan(step, first, steps)
    return jnp.moveaxis(steps, 0, -2)

  def check(self, action_dim: int) -> None:
    """Makes sure that the limit is one, for `action_dim` dimensions.

    Raises:
      ValueError: a limit that is not positive or of another size.
    """
    _check_size('limit of RateLimit', self.limit, action_dim)
    _check_positive('limit of RateLimit', self.limit)

  def following(self, previous: jax.Array) -> 'RateLimit':
    """The same limit after the action `previous` `[B, A]`."""
    return dataclasses.replace(self, previous=previous)


@pytree('to_raw', 'from_raw', 'raw_dim')
class RawUnits:
  """A constraint on raw environment actions, for a planner of action blocks.

  Attributes:
    constraint: on sequences of raw actions, `[..., H * block, raw_dim]`.
    to_raw: blocks `[..., A]` to raw actions `[..., block, raw_dim]`.
    from_raw: and back.
    raw_dim: size of a raw action.
  """

  constraint: Any
  to_raw: Callable[[jax.Array], jax.Array]
  from_raw: Callable[[jax.Array], jax.Array]
  raw_dim: int

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves blocks `[..., H, A]` to where their raw actions are allowed."""
    raw = self.to_raw(actions)
    flat = raw.reshape(*actions.shape[:-2], -1, self.raw_dim)
    return self.from_raw(self.constraint.project(flat).reshape(raw.shape))

  def check(self, action_dim: int) -> None:
    """Makes sure that the constraint fits raw actions.

    Raises:
      ValueError: it does not.
    """
    del action_dim
    self.constraint.check(self.raw_dim)

  def following(self, previous: jax.Array) -> 'RawUnits':
    """The set of blocks that may come after the block `previous` `[B, A]`."""
    last = self.to_raw(previous)[..., -1, :]
    return dataclasses.replace(self, constraint=self.constraint.following(last))


def as_tuple(
  action_constraints: ActionConstraint | Sequence[ActionConstraint],
  action_dim: int,
) -> tuple[ActionConstraint, ...]:
  """Makes sure that constraints are each well made and can hold together.

  Args:
    action_constraints: one or several.
    action_dim: A.

  Raises:
    ValueError: a constraint that is empty or of another size, something that
      is no constraint, or constraints that no action satisfies.
  """
  constraints = sequence(action_constraints)
  for constraint in constraints:
    if not isinstance(constraint, ActionConstraint):
      raise ValueError(
        'action_constraints must be an ActionBounds, NormBall, RateLimit or'
        f' RawUnits, or a sequence of them, got a {type(constraint).__name__}.'
      )
    constraint.check(action_dim)
  if len(constraints) > 1 and not is_traced(constraints):
    with jax.ensure_compile_time_eval():
      probe = project(constraints, jnp.zeros((1, 2, action_dim), jnp.float32))
      for constraint in constraints:
        moved = jnp.max(jnp.abs(constraint.project(probe) - probe))
        if moved > _TOLERANCE:
          raise ValueError(
            'action_constraints leave no action that satisfies all of them:'
            f' {type(constraint).__name__} is still {float(moved):.3g} away'
            ' where the others end; widen one of them.'
          )
  return constraints


def project(
  action_constraints: Sequence[ActionConstraint], actions: jax.Array
) -> jax.Array:
  """Moves sequences `[B, ..., H, A]` to where all constraints hold.

  Several are met by alternating projections (von Neumann, 1950), which come
  close to a common point; the last one given holds exactly.
  """
  for _ in range(ROUNDS if len(action_constraints) > 1 else 1):
    for constraint in action_constraints:
      actions = constraint.project(actions)
  return actions


def sequence(
  constraints: ActionConstraint | Sequence[ActionConstraint],
) -> tuple[ActionConstraint, ...]:
  """One constraint or several, as a tuple."""
  if isinstance(constraints, Sequence):
    return tuple(constraints)
  return (constraints,)


def row(value: Any, like: jax.Array, dtype: Any = None) -> jax.Array:
  """A number or `[A]`, shaped to meet `like` `[..., A]`."""
  array: jax.Array = jnp.asarray(value, dtype or like.dtype)
  return array.reshape((1,) * (like.ndim - 1) + (-1,))


def is_traced(tree: Any) -> bool:
  """Whether any leaf is known only when the program runs."""
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _check_size(name: str, value: Any, action_dim: int) -> None:
  if np.shape(value) not in ((), (action_dim,)):
    raise ValueError(
      f'action_constraints: {name} must be a number or have one for each of'
      f' the {action_dim} action dimensions, got shape {list(np.shape(value))}.'
    )


def _check_positive(name: str, value: Any) -> None:
  if not is_traced(value) and not np.all(np.asarray(value) > 0):
    raise ValueError(
      f'action_constraints: {name} must be positive, got {value}.'
    )
