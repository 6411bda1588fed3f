"""What a world model is shown of a world: what its spec asks for."""

import dataclasses
from typing import Any, Protocol

import jax

from jepa_wm.envs import environment as environment_lib
from jepa_wm.types import Observation, ObservationSpec


class Observing(Protocol):
  """A model that says what it observes; `jepa_wm.WorldModel` is one."""

  @property
  def image_size(self) -> int:
    """Height and width of the frames."""
    ...

  @property
  def observation_spec(self) -> ObservationSpec:
    """Arrays `pixels` and, of a model that sees it, `proprio` `[S]`."""
    ...


def observe(
  model: Observing,
  env: environment_lib.Environment,
  states: Any,
  own_worlds: Any = None,
) -> Observation:
  """What `model` is shown of states.

  Proprio is in the world's own unit, as in the batches of training.

  Args:
    model: says what it observes.
    env: the world, rendered at the model's size.
    states: leaves `[B, ...]`.
    own_worlds: in place of `env`, the world of each state, leaves `[B, ...]`.

  Returns:
    Leaves `[B, ...]`.
  """

  def look(world: Any, state: Any) -> Observation:
    seen = {}
    if 'pixels' in model.observation_spec:
      picture = dataclasses.replace(world, image_size=model.image_size)
      seen['pixels'] = picture.render(state)
    if 'proprio' in model.observation_spec:
      seen['proprio'] = world.proprio(state)
    return seen

  return environment_lib.in_worlds(look, env, own_worlds)(states)


def shapes(model: Observing, *lead: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of what `model` is shown, `lead` axes first."""
  return {
    name: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype)
    for name, x in model.observation_spec.items()
  }


def check_proprio(model: Observing, environment: str, proprio_dim: int) -> None:
  """Makes sure that the world has the state that the model sees.

  Args:
    model: says what it observes.
    environment: what the world is called.
    proprio_dim: numbers of the body's own state that it has.

  Raises:
    ValueError: it has none, or one of another size.
  """
  spec = model.observation_spec
  wanted = spec['proprio'].shape[0] if 'proprio' in spec else 0
  if wanted and proprio_dim != wanted:
    has = f'has {proprio_dim}' if proprio_dim else 'has none'
    raise ValueError(
      f'the model sees proprio, {wanted} numbers of the state beside the '
      f'pixels, and the world {environment!r} {has}; plan in the world '
      'that the model was trained in, or with a model that sees pixels alone.'
    )
