"""One factor of variation at a time: what a model was not trained on.

A world that can be shifted draws all of its factors by `sample_variation` and
names them in groups; `vary` takes one group of such a draw.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp

from jepa_wm import fields as fields_lib

_NUM_DRAWS = 64

Groups = Mapping[str, tuple[str, ...]]
"""Fields of a world that are varied together, by what they are called."""


class VariedWorld(Protocol):
  """A JAX world, leaves of which are its factors of variation.

  Its entry in `worlds.WORLDS` names the same `variation_groups`.
  """

  variation_groups: ClassVar[Groups]

  @property
  def image_size(self) -> int: ...

  @classmethod
  def sample_variation(cls, rng_key: jax.Array, *, image_size: int) -> Self:
    """Draws a world with every factor random; consumes the key."""
    ...

  def is_passable(self) -> jax.Array:
    """Whether all that can be reached by default can be in this world."""
    ...

  def allows(self, state: Any) -> jax.Array:
    """Whether `state` is one that can come about, not inside a wall, say."""
    ...


VariedT = TypeVar('VariedT', bound=VariedWorld)


def vary(world: VariedT, group: str, rng_key: jax.Array) -> VariedT:
  """Draws the factors of one group at random and leaves the others.

  Drawn again until the world `is_passable`. A batch of different worlds is a
  `jax.vmap` over keys.

  Args:
    world: what is varied.
    group: one of its `variation_groups`.
    rng_key: consumed.

  Raises:
    ValueError: no such group in this world.
  """
  what = f'A shift of {type(world).__name__}'
  fields_lib.check_choice(what, group, world.variation_groups)
  fields = world.variation_groups[group]

  def draw(key: jax.Array) -> dict[str, jax.Array]:
    drawn = world.sample_variation(key, image_size=world.image_size)
    return {field: jnp.asarray(getattr(drawn, field)) for field in fields}

  def changed(changes: dict[str, jax.Array]) -> VariedT:
    return dataclasses.replace(world, **changes)  # type: ignore[type-var]

  # The first of many, without a loop; all miss about never.
  draws = jax.vmap(draw)(jax.random.split(rng_key, _NUM_DRAWS))
  passable = jax.vmap(lambda changes: changed(changes).is_passable())(draws)
  first = jnp.argmax(passable)
  return changed(jax.tree.map(lambda leaf: leaf[first], draws))
