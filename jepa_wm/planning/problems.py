"""A batch of planning problems: its doors, its keys, and its answer.

What every planner of this room is given and gives back, so that one can be
exchanged for another.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.types import Root


class Diagnostics(NamedTuple):
  """How a search went, one row per iteration.

  Costs are what candidates are ranked by (with the penalties of guardrails),
  over the candidates of that iteration whose cost is finite; they are infinite
  where there is none.

  Attributes:
    best_cost: `[I, B]`, the cheapest candidate.
    mean_cost: `[I, B]`, mean over all candidates.
    elite_cost: `[I, B]`, mean over the candidates that were learnt from.
    spread: `[I, B]`, standard deviation that the candidates were drawn with,
      mean over `[H, A]`.
    num_nonfinite: `[I, B]` int32, candidates whose cost was NaN or infinite.
    grad_norm: `[I, B]`, mean norm of the gradient by a candidate's actions;
      None from planners that follow none.
  """

  best_cost: jax.Array
  mean_cost: jax.Array
  elite_cost: jax.Array
  spread: jax.Array
  num_nonfinite: jax.Array
  grad_norm: jax.Array | None = None


class Plan(NamedTuple):
  """What a planner answers.

  Attributes:
    actions: `[B, H, A]`, the plan.
    cost: `[B]`, what the model predicts that `actions` cost, without
      penalties. NaN or infinite says that the model could not price the plan:
      do not act on it.
    violation: `[B]`, by how much `actions` pass a guardrail at worst, 0 where
      all are kept.
    mean: `[B, H, A]`, mean of the final search distribution: where the next
      search should start.
    std: `[B, H, A]`, its standard deviation.
    elites: `[B, E, H, A]`, further sequences that the next search should look
      at; E is 0 for planners that keep none.
    diagnostics: how the search went.
  """

  actions: jax.Array
  cost: jax.Array
  violation: jax.Array
  mean: jax.Array
  std: jax.Array
  elites: jax.Array
  diagnostics: Diagnostics


def count(tree: Any, name: str) -> int:
  """Reads B, the leading size that all leaves of a pytree agree on.

  Args:
    tree: leaves `[B, ...]`.
    name: what the message calls it.

  Raises:
    ValueError: no leaves, a leaf without axes, or leaves that disagree.
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
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


def check_at_least(**limits: tuple[int, int]) -> None:
  """Makes sure that numbers are not too small.

  Args:
    **limits: `name=(value, least)`.

  Raises:
    ValueError: a value is smaller than its least.
  """
  for name, (value, least) in limits.items():
    if value < least:
      raise ValueError(f'{name} must be at least {least}, got {value}.')


def check_not_negative(**values: Any) -> None:
  """Makes sure that numbers or arrays are none below zero and none NaN.

  Args:
    **values: `name=value`; one known only when the program runs (a tracer) is
      not looked at.

  Raises:
    ValueError: a value is negative somewhere.
  """
  for name, value in values.items():
    traced = isinstance(value, jax.core.Tracer)
    if not traced and not np.all(np.asarray(value) >= 0.0):
      raise ValueError(f'{name} must not be negative, got {value}.')


def check_root(root: Root) -> int:
  """Makes sure that starts and goals pair up, and counts them.

  Args:
    root: `state` and `goal` leaves `[B, ...]`.

  Returns:
    B.

  Raises:
    ValueError: leaves disagree about B.
  """
  num_states = count(root.state, 'root.state')
  num_goals = count(root.goal, 'root.goal')
  if num_states != num_goals:
    raise ValueError(
      'root.state and root.goal must hold equally many problems, got'
      f' {num_states} and {num_goals}.'
    )
  return num_states


def problem_keys(rng_key: jax.Array, num_problems: int) -> jax.Array:
  """Gives every problem a key of its own.

  Keys of the 'rbg' kinds draw together under `vmap`: with them, and not with
  the default ones, a problem's draws do depend on its batch.

  Args:
    rng_key: one key, of which problem i gets `fold_in(rng_key, i)`, or
      `[B]` keys, which are the problems' own.
    num_problems: B.

  Returns:
    `[B]` keys.

  Raises:
    ValueError: not made by `jax.random.key`, or not one and not B of them.
  """
  dtype = getattr(rng_key, 'dtype', type(rng_key))
  if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      'rng_key must be made by jax.random.key (or split from one), got'
      f' {dtype}: wrap an old one with jax.random.wrap_key_data.'
    )
  if rng_key.shape == ():
    return jax.vmap(jax.random.fold_in, (None, 0))(
      rng_key, jnp.arange(num_problems)
    )
  if rng_key.shape != (num_problems,):
    raise ValueError(
      f'rng_key must be one key or one for each of the {num_problems}'
      f' problems, got shape {list(rng_key.shape)}.'
    )
  return rng_key


def fold_keys(rng_keys: jax.Array, number: jax.Array | int) -> jax.Array:
  """Folds one number into the key of every problem, `[B]`."""
  return jax.vmap(jax.random.fold_in, (0, None))(rng_keys, number)
