"""A walker on a line with three actions, and a model that is right about it."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import host
from jepa_wm.types import Root


class LineEnv:
  def reset(self, seed):
    self._place = float(np.random.default_rng(seed).integers(10))

  def place(self, vector):
    self._place = float(vector[0])

  def step(self, action):
    assert np.sort(action).tolist() == [0, 0, 1]
    self._place += [-1, 0, 1][int(np.argmax(action))]

  def render(self):
    return np.full((4, 4, 3), 10 * self._place, np.uint8)

  def vector(self):
    return np.array([self._place])

  def proprio(self):
    return np.zeros(0)

  def close(self):
    pass


def make(image_size=4):
  return host.HostWorld(
    open=LineEnv,
    image_size=image_size,
    action_low=np.zeros(3),
    action_high=np.ones(3),
    vector_dim=1,
    proprio_dim=0,
    distance=host.euclidean,
    success=lambda vectors, goals: host.euclidean(vectors, goals) < 0.5,
    draw_target=lambda rng, vector: rng.integers(10, size=1).astype(float),
    is_discrete=True,
  )


def expert(world, action_noise):
  def begin(rng, target):
    return lambda vector, proprio: np.eye(3)[
      1 + int(np.sign(target - vector)[0])
    ]

  return begin


@flax.struct.dataclass
class LineState:
  latents: object


@dataclasses.dataclass(frozen=True)
class LineModel:
  params: dict = dataclasses.field(default_factory=dict)
  image_size: int = 4
  action_block: int = 1
  action_dim: int = 3
  record: dict = dataclasses.field(default_factory=dict)

  @property
  def observation_spec(self):
    shape = (self.image_size, self.image_size, 3)
    return {'pixels': jax.ShapeDtypeStruct(shape, jnp.uint8)}

  def root(self, params, observation, goal, actions=None):
    pixels, wanted = observation['pixels'], goal['pixels']
    read = lambda x: jnp.mean(x, axis=(-3, -2, -1))[..., None] / 10.0
    return Root(LineState(jnp.expand_dims(read(pixels), 1)), read(wanted))

  def dynamics(self, params, rng_key, action, state):
    moved = action[..., 2] - action[..., 0]
    return LineState(state.latents + moved[..., None, None])

  def cost(self, params, state, action, goal):
    return jnp.sum((state.latents[..., -1, :] - goal) ** 2, axis=-1)

  def latent(self, state):
    return state.latents[..., -1, :]

  def raw_actions(self, actions):
    return jnp.expand_dims(actions, -2)
