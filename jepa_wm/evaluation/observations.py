"""What a world model is shown of a world: pixels, and the body's own state."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm.envs import environment as environment_lib
from jepa_wm.envs import host

Observation = dict[str, jax.Array]
"""`pixels` uint8 `[..., height, width, 3]`, and `proprio` `[..., S]` of a model
that sees it; the arguments of these names of a model's `encode`."""


def proprio_dim(model: Any) -> int:
  """Numbers of the body's own state that `model` sees, 0 where it says none."""
  return getattr(model, 'proprio_dim', 0)


def observe(
  model: Any,
  env: environment_lib.Environment,
  states: Any,
  *,
  own_worlds: Any = None,
) -> Observation:
  """What `model` is shown of states.

  Proprio is in the world's own unit, as in the batches of training.

  Args:
    model: has an `image_size` and may have a `proprio_dim`.
    env: the world, rendered at the model's size.
    states: leaves `[B, ...]`.
    own_worlds: the world of each state, leaves `[B, ...]`; None for `env`.

  Returns:
    Leaves `[B, ...]`.
  """

  def look(world: Any, state: Any) -> Observation:
    picture = dataclasses.replace(world, image_size=model.image_size)
    seen = {'pixels': picture.render(state)}
    if proprio_dim(model):
      seen['proprio'] = world.proprio(state)
    return seen

  return in_worlds(look, env, own_worlds)(states)


def in_worlds(
  function: Callable[..., Any],
  env: environment_lib.Environment,
  own_worlds: Any,
) -> Callable[..., Any]:
  """Maps `function(world, *args)` over a batch.

  Args:
    function: of one world and one row of everything else.
    env: the world of all rows, where they share one. What is known of it (a
      target that is not drawn) then saves work.
    own_worlds: else the world of each row, leaves `[B, ...]`.

  Returns:
    `(*args) -> results`, leaves `[B, ...]`.
  """
  if own_worlds is None:
    return jax.vmap(functools.partial(function, env))
  return functools.partial(jax.vmap(function), own_worlds)


def shapes(model: Any, *lead: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of what `model` is shown, `lead` axes first."""
  frame = (model.image_size, model.image_size, 3)
  seen = {'pixels': jax.ShapeDtypeStruct((*lead, *frame), jnp.uint8)}
  if size := proprio_dim(model):
    seen['proprio'] = jax.ShapeDtypeStruct((*lead, size), jnp.float32)
  return seen


def check_proprio(model: Any, env: environment_lib.Environment) -> None:
  """Makes sure that the world has the state that the model sees.

  Raises:
    ValueError: it has none, or one of another size.
  """
  wanted = proprio_dim(model)
  if not wanted:
    return

  def look(rng_key: jax.Array) -> jax.Array:
    return env.proprio(env.reset(rng_key))

  shape = (0,)
  if isinstance(env, host.HostWorld):
    shape = (env.proprio_dim,)
  elif hasattr(env, 'proprio'):
    shape = jax.eval_shape(look, jax.random.key(0)).shape
  if shape != (wanted,):
    has = f'has {shape[0]}' if shape[0] else 'has none'
    raise ValueError(
      f'the model sees proprio, {wanted} numbers of the state beside the '
      f'pixels, and the world {type(env).__name__} {has}; plan in the world '
      'that the model was trained in, or with a model that sees pixels alone.'
    )
