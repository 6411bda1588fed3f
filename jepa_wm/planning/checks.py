"""The doors of this room: sizes and numbers that make sense."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.types import Root

_MOST = 10_000_000
"""Of candidates, iterations or steps."""

_LARGEST = 3e38


def call(
  name: str, signature: str, function: Callable[..., Any], *args: Any
) -> Any:
  """`function(*args)`, where one of other arguments is told what is expected.

  Args:
    name: what the message calls the function.
    signature: the arguments by name.
    function: of a caller.
    *args: given to it.

  Raises:
    ValueError: it cannot be called so.
  """
  try:
    return function(*args)
  except TypeError as error:
    trace = error.__traceback__
    # What the function's own code raises has a frame of it below this one.
    if trace is None or trace.tb_next is not None:
      raise
    raise ValueError(
      f'{name} must be a function of {signature}: {error}.'
    ) from error


def count(tree: Any, name: str) -> int:
  """Reads B, the leading size that all leaves of a pytree agree on.

  Args:
    tree: leaves `[B, ...]`.
    name: what the message calls it.

  Raises:
    ValueError: no leaves, a leaf without axes, or leaves that disagree.
  """
  try:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
  except ValueError as error:
    raise ValueError(
      f'{name} must have names that are texts, got {sorted(map(repr, tree))}.'
    ) from error
  if not leaves:
    raise ValueError(f'{name} must hold at least one array, got none.')
  sizes = {
    name + jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves
  }
  first, shape = next(iter(sizes.items()))
  for where, other in sizes.items():
    if not other or other[0] != shape[0]:
      raise ValueError(
        f'every leaf of {name} must start with the number of problems B, but'
        f' {first} has shape {list(shape)} and {where} has {list(other)}.'
      )
  return shape[0]


def same_shapes(name: str, tree: Any, known: Any) -> None:
  """Makes sure that a pytree has the arrays that another one has.

  What it has besides is its owner's, such as the parameters of a cost.

  Args:
    name: what the message calls it.
    tree: what came.
    known: what it stands in for.

  Raises:
    ValueError: an array is missing or of another shape.
  """
  # Quick where all is well: loops come here at every step.
  ours, theirs = map(jax.tree.leaves, (tree, known))
  kinds: list[Any] = [jax.tree.structure(x) for x in (tree, known)]
  shapes = [[jnp.shape(x) for x in leaves] for leaves in (ours, theirs)]
  if kinds[0] == kinds[1] and shapes[0] == shapes[1]:
    return
  came, wanted = (
    {
      jax.tree_util.keystr(path): list(jnp.shape(leaf))
      for path, leaf in jax.tree_util.tree_leaves_with_path(x)
    }
    for x in (tree, known)
  )
  for where, shape in wanted.items():
    if came.get(where) != shape:
      raise ValueError(
        f'{name} must be those of the same kind of model, with {shape} at '
        f'{where}, got {came.get(where, "nothing")} there.'
      )


def at_least(**limits: tuple[int, int]) -> None:
  """Makes sure that counts are whole numbers, and not too small.

  Args:
    **limits: `name=(value, least)`.

  Raises:
    ValueError: a value is none, smaller than its least, or more than any
      memory holds.
  """
  for name, (value, least) in limits.items():
    is_whole = isinstance(value, (int, np.integer))
    if not is_whole or isinstance(value, bool):
      raise ValueError(f'{name} must be a whole number, got {value!r}.')
    if value < least:
      raise ValueError(f'{name} must be at least {least}, got {value}.')
    if value > _MOST:
      raise ValueError(f'{name} must be at most {_MOST}, got {value}.')


def tenth(num_samples: int, num_kept: int) -> int:
  """Elites where nobody says how many, as 30 of 300."""
  return max(num_samples // 10, num_kept, 2)


def elites(num_elites: int, num_samples: int, num_kept: int) -> None:
  """Makes sure that a planner that learns from elites has some.

  Raises:
    ValueError: fewer than two or more than samples, or more kept than there
      are.
  """
  at_least(num_elites=(num_elites, 2))
  if num_elites > num_samples:
    raise ValueError(
      f'num_elites must not exceed num_samples, got {num_elites} of'
      f' {num_samples}.'
    )
  if num_kept > min(num_elites, num_samples - 1):
    raise ValueError(
      'num_kept must not exceed num_elites and num_samples - 1, got'
      f' {num_kept} of {num_elites} and {num_samples - 1}; where you have not'
      ' set num_kept, that is its default.'
    )


def kept(num_kept: int, patience: int | None, *, num_samples: int) -> None:
  """Makes sure that elites leave room for the mean, and patience some time.

  Raises:
    ValueError: they do not.
  """
  at_least(num_kept=(num_kept, 0))
  if patience is not None:
    at_least(patience=(patience, 1))
  if num_kept >= num_samples:
    raise ValueError(
      f'num_kept must be below num_samples, got {num_kept} of {num_samples}.'
    )


def momentum(*shares: float) -> None:
  """Makes sure that each is a share of what was.

  Raises:
    ValueError: one outside 0..1.
  """
  for share in shares:
    if not 0.0 <= share < 1.0:
      raise ValueError(
        'momentum must be at least 0 and below 1 (the share that is kept of'
        f' the old value), got {share}.'
      )


def not_negative(**values: Any) -> None:
  """Makes sure that numbers or arrays are finite and none below zero.

  Args:
    **values: `name=value`; one known only when the program runs (a tracer) is
      not looked at.

  Raises:
    ValueError: a value is no number, not finite or negative somewhere.
  """
  finite(**values)
  for name, value in values.items():
    traced = isinstance(value, jax.core.Tracer)
    if not traced and not np.all(np.asarray(value) >= 0.0):
      raise ValueError(f'{name} must not be negative, got {value}.')


def finite(**values: Any) -> None:
  """Makes sure that numbers or arrays are finite, otherwise as `not_negative`.

  Raises:
    ValueError: a value is no number, or not finite somewhere.
  """
  for name, value in values.items():
    if isinstance(value, jax.core.Tracer):
      continue
    array = np.asarray(value)
    is_real = jnp.issubdtype(array.dtype, np.floating) or (
      jnp.issubdtype(array.dtype, np.integer)
    )
    # Of float32, in which everything is computed.
    if not is_real or not np.all(np.abs(array) <= _LARGEST):
      raise ValueError(f'{name} must be a finite number, got {value!r}.')


def count_problems(root: Root) -> int:
  """Makes sure that starts and goals pair up, and counts them.

  Args:
    root: `state` and `goal` leaves `[B, ...]`.

  Returns:
    B; the goal may be without leaves (None).

  Raises:
    ValueError: leaves disagree about B.
  """
  try:
    state, goal = root.state, root.goal
  except AttributeError as error:
    raise ValueError(
      f'root must be a Root of state and goal, got a {type(root).__name__}.'
    ) from error
  num_states = count(state, 'root.state')
  if not jax.tree.leaves(goal):
    return num_states
  num_goals = count(goal, 'root.goal')
  if num_states != num_goals:
    raise ValueError(
      'root.state and root.goal must hold equally many problems, got'
      f' {num_states} and {num_goals}.'
    )
  return num_states
