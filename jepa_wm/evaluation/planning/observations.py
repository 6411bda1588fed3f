"""What a world model is shown of a world: pixels, and the body's own state."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm.envs import environment as environment_lib

Observation = dict[str, jax.Array]
"""`pixels` uint8 `[..., height, width, 3]`, and `proprio` `[..., S]` of a model
that sees it; the arguments of these names of a model's `encode`."""


def model_proprio_dim(model: Any) -> int:
  """Numbers of the body's own state that `model` sees, 0 where it says none."""
  return getattr(model, 'proprio_dim', 0)


def observe(
  model: Any,
  env: environment_lib.Environment,
  states: Any,
) -> Observation:
  """What `model` is shown of states.

  Proprio is in the world's own unit, as in the batches of training.

  Args:
    model: has an `image_size` and may have a `proprio_dim`.
    env: the world, rendered at the model's size.
    states: leaves `[B, ...]`.

  Returns:
    Leaves `[B, ...]`.
  """

  def look(world: Any, state: Any) -> Observation:
    picture = dataclasses.replace(world, image_size=model.image_size)
    seen = {'pixels': picture.render(state)}
    if model_proprio_dim(model):
      seen['proprio'] = world.proprio(state)
    return seen

  return environment_lib.in_worlds(look, env, None)(states)


def shapes(model: Any, *lead: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of what `model` is shown, `lead` axes first."""
  frame = (model.image_size, model.image_size, 3)
  seen = {'pixels': jax.ShapeDtypeStruct((*lead, *frame), jnp.uint8)}
  if size := model_proprio_dim(model):
    seen['proprio'] = jax.ShapeDtypeStruct((*lead, size), jnp.float32)
  return seen


def check_proprio(model: Any, environment: str, proprio_dim: int) -> None:
  """Makes sure that the world has the state that the model sees.

  Args:
    model: may have a `proprio_dim`.
    environment: what the world is called.
    proprio_dim: numbers of the body's own state that it has.

  Raises:
    ValueError: it has none, or one of another size.
  """
  wanted = model_proprio_dim(model)
  if wanted and proprio_dim != wanted:
    has = f'has {proprio_dim}' if proprio_dim else 'has none'
    raise ValueError(
      f'the model sees proprio, {wanted} numbers of the state beside the '
      f'pixels, and the world {environment!r} {has}; plan in the world '
      'that the model was trained in, or with a model that sees pixels alone.'
    )
