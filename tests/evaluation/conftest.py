"""A world model that is right: it reads the position and knows the walls."""

import dataclasses
import types
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import pytest

from jepa_wm import planning
from jepa_wm.envs import rooms, two_room, worlds
from jepa_wm.evaluation.diagnostics import rollout_error
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  programs,
  protocol,
)
from jepa_wm.evaluation.report import report
from jepa_wm.types import Root


@flax.struct.dataclass
class PositionState:
  latents: Any  # [..., 1, 2]


@dataclasses.dataclass(frozen=True)
class PerfectModel:
  """True dynamics of Two Room, on positions read off the picture."""

  params: dict = dataclasses.field(
    default_factory=lambda: {
      'params': {'gain': jnp.ones(3)},
      'batch_stats': {'mean': jnp.zeros(7)},
    }
  )
  image_size: int = 28
  action_block: int = 5
  action_dim: int = 10
  record: dict = dataclasses.field(default_factory=dict)

  @property
  def model(self):
    config = types.SimpleNamespace(name='perfect')
    return types.SimpleNamespace(acting=self, config=config)

  @property
  def observation_spec(self):
    shape = (self.image_size, self.image_size, 3)
    return {'pixels': jax.ShapeDtypeStruct(shape, jnp.uint8)}

  def encode(self, params, observation):
    """The agent is the only thing redder than it is green."""
    del params
    pixels = observation['pixels']
    size = self.image_size
    redness = pixels[..., 0].astype(jnp.float32) - pixels[..., 1]
    centres = (jnp.arange(size) + 0.5) * (rooms.WORLD_SIZE / size) - 0.5
    total = jnp.sum(redness, axis=(-2, -1))
    x = jnp.sum(redness, axis=-2) @ centres / total
    y = jnp.sum(redness, axis=-1) @ centres / total
    return jnp.stack([x, y], axis=-1)

  def start(self, params, observation):
    return PositionState(self.encode(params, observation))

  def root(self, params, observation, goal, actions=None):
    pixels = observation['pixels']
    if pixels.ndim == 5:
      assert actions.shape == (*pixels.shape[:1], pixels.shape[1] - 1, 10)
      observation = jax.tree.map(lambda x: x[:, -1], observation)
    seen = jax.tree.map(lambda x: jnp.expand_dims(x, 1), observation)
    return Root(self.start(params, seen), self.encode(params, goal))

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
    moved = jax.vmap(jax.vmap(block))(state.latents[..., 0, :], raw)
    return PositionState(jnp.expand_dims(moved, -2))

  def cost(self, params, state, action, goal):
    del params, action
    return jnp.sum((state.latents[..., -1, :] - goal) ** 2, axis=-1)

  def latent(self, state):
    return state.latents[..., -1, :]

  @property
  def agents(self):
    return planning.Agents.of_blocks(1, 5, 2)

  @property
  def expecting(self):
    def distance(seen, wanted):
      return jnp.sum((seen - wanted) ** 2, axis=-1)

    return planning.Expecting(self.latent, distance, 2)

  def raw_actions(self, actions):
    return (0.5 * actions).reshape(*actions.shape[:-1], 5, 2)

  def normalize_actions(self, actions):
    return 2.0 * actions.reshape(*actions.shape[:-2], 10)

  def action_bounds(self, low, high):
    return planning.ActionBounds(
      2.0 * jnp.tile(low, 5), 2.0 * jnp.tile(high, 5)
    )


SETTINGS = planner_settings.PlannerSettings(
  planning.CEM(num_samples=48, num_elites=8, num_iterations=5), cost='all'
)


MODEL = PerfectModel()
PROGRAMS = programs.Programs()
STAGE = worlds.get('two_room').stage(image_size=MODEL.image_size)


@pytest.fixture
def two_room_stage():
  """The stage that all of these tests share."""
  return STAGE


def run_short(num_pairs=12, **kwargs):
  """Plays on one stage, and compiles what is alike once."""
  short = protocol.get('short', num_pairs=num_pairs)
  arguments = {
    'model': MODEL,
    'protocol': short,
    'pairs': pairs.load_pairs(short),
    'settings': SETTINGS,
    'batch_size': 5,
    'num_floor_repeats': 2,
    'checkpoint': 'perfect',
    'stage': STAGE,
    'programs': PROGRAMS,
    **kwargs,
  }
  if arguments['model'].image_size != STAGE.image_size:
    arguments['stage'] = None
  return planning_benchmark.run(**arguments)


@pytest.fixture
def perfect_model():
  return PerfectModel()


@pytest.fixture(scope='session')
def short_result():
  """Twelve problems of the short protocol, planned with a perfect model."""
  return run_short()


@pytest.fixture(scope='session')
def drawn_run(short_result):
  """The same, drawn for a report."""
  drift = rollout_error.Drift([0, 5], [1.25, 2.5], [1.25, 7.75], 'px')
  findings = {'rollout_error': drift.finding()}
  return report.draw(short_result, findings=findings)


@pytest.fixture(scope='session')
def run_short_again():
  return run_short


@pytest.fixture(scope='session')
def short_settings():
  return SETTINGS
