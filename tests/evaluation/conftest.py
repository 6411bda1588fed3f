"""A world model that is right: it reads the position and knows the walls."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jepa_wm.envs import two_room
from jepa_wm.types import Root


@dataclasses.dataclass(frozen=True)
class PerfectModel:
  """True dynamics of Two Room on states `[..., 2]` read off the picture."""

  params: dict = dataclasses.field(
    default_factory=lambda: {
      'params': {'gain': jnp.ones(3)},
      'batch_stats': {'mean': jnp.zeros(7)},
    }
  )
  image_size: int = 56
  action_block: int = 5
  action_dim: int = 10

  def _read(self, pixels):
    """The agent is the only thing redder than it is green."""
    size = self.image_size
    redness = pixels[..., 0].astype(jnp.float32) - pixels[..., 1]
    centres = (jnp.arange(size) + 0.5) * (two_room.WORLD_SIZE / size) - 0.5
    total = jnp.sum(redness, axis=(-2, -1))
    x = jnp.sum(redness, axis=-2) @ centres / total
    y = jnp.sum(redness, axis=-1) @ centres / total
    return jnp.stack([x, y], axis=-1)

  def root(self, params, pixels, goal_pixels):
    del params
    return Root(self._read(pixels), self._read(goal_pixels))

  def dynamics(self, params, rng_key, action, state):
    del rng_key
    world = two_room.TwoRoom()

    def block(position, actions):
      start = two_room.TwoRoomState(position, position)
      after, _ = jax.lax.scan(
        lambda s, a: (world.step(s, a), None), start, actions
      )
      return after.position

    raw = self.raw_actions(action) * params['params']['gain'][0]
    return jax.vmap(jax.vmap(block))(state, raw)

  def cost(self, params, state, action, goal):
    del params, action
    return jnp.sum((state - goal) ** 2, axis=-1)

  def raw_actions(self, actions):
    return (0.5 * actions).reshape(*actions.shape[:-1], 5, 2)

  def action_bounds(self, low, high):
    return 2.0 * jnp.tile(low, 5), 2.0 * jnp.tile(high, 5)


@pytest.fixture
def perfect_model():
  return PerfectModel()
