"""Where a body ends up that is moved by nobody's action."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_NUM_PLACES = 16


@dataclasses.dataclass(frozen=True)
class Teleport:
  """Puts the body of a world elsewhere, and leaves the rest as it is.

  The places are those of fresh episodes; the first one is taken that the world
  allows and that is not the goal. Where there is none of 16, all stays.

  Attributes:
    is_body: which of the `V` numbers of a vector are the body's.
    asks: whether the world has an `allows` (`variation.VariedWorld`).
  """

  is_body: tuple[bool, ...]
  asks: bool

  def __call__(
    self, env: Any, state: Any, rng_key: jax.Array, goal: Any = None
  ) -> Any:
    """The state that one state becomes.

    What a vector does not tell is at rest, the target is the state's own
    vector, see `Environment.from_vector`.

    Args:
      env: the world, in JAX.
      state: of it.
      rng_key: consumed.
      goal: a state that the body is not put into; None for no such.
    """
    fresh = jax.vmap(env.reset)(jax.random.split(rng_key, _NUM_PLACES))
    places, vector = jax.vmap(env.vector)(fresh), env.vector(state)
    body = np.asarray(self.is_body)
    vectors = jnp.where(body[None], places, vector[None])
    states = jax.vmap(env.from_vector)(vectors)
    will_do = jnp.ones(_NUM_PLACES, bool)
    if self.asks:
      will_do &= jax.vmap(env.allows)(states)
    if goal is not None:
      will_do &= ~jax.vmap(lambda x: env.success(x, goal))(states)
    chosen = jnp.argmax(will_do)
    return jax.tree.map(
      lambda new, old: jnp.where(will_do[chosen], new[chosen], old),
      states,
      env.from_vector(vector),
    )
