"""Policies that walk the T-maze, and its worlds by name.

`t_maze` draws a gap of 5 to 200 steps for each episode, `t_maze_100` has that
one and any other number its own; `t_maze_distractor` and `t_maze_distractor_20`
blink while one waits.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.envs import policies, t_maze, worlds


@flax.struct.dataclass
class TMazeExpert(policies.Forgetful):
  """Walks up the stem and into the arm where its target is.

  See `policies.Policy` for the protocol.

  Attributes:
    world: the `TMaze` it knows.
    action_noise: standard deviation of the noise added to each component of
      the action before clipping to [-1, 1].
  """

  world: t_maze.TMaze
  action_noise: jax.Array | float = 0.0

  def __call__(
    self, rng_key: jax.Array, state: t_maze.TMazeState, memory: tuple[()]
  ) -> tuple[jax.Array, tuple[()]]:
    """Action `[2]` for `state`, in [-1, 1], and the memory as it was."""
    return self.towards(rng_key, state, state.target[:2]), memory

  def towards(
    self, rng_key: jax.Array, state: t_maze.TMazeState, place: jax.Array
  ) -> jax.Array:
    """Action `[2]` on the way to a place `(x, y)` `[2]`."""
    is_below = state.position[1] < t_maze.ARM - 0.5
    leaves_stem = jnp.abs(place[0]) > 0.5
    corner = jnp.array([0.0, t_maze.ARM])
    heading = jnp.where(is_below & leaves_stem, corner, place) - state.position
    noise = self.action_noise * jax.random.normal(rng_key, (2,))
    return jnp.clip(heading / self.world.agent_speed + noise, -1.0, 1.0)


class Wandering(NamedTuple):
  """What `TMazeEither` has in mind.

  Attributes:
    place: where it is going once the gate is open, `(x, y)` `[2]`.
    push: what it does meanwhile, an action `[2]`.
    restlessness: how much of `action_noise` there is, 0..1.
  """

  place: jax.Array
  push: jax.Array
  restlessness: jax.Array


@flax.struct.dataclass
class TMazeEither:
  """Walks like the expert, into one of the arms, whatever the cue.

  Until the gate opens it pushes somewhere or rests, more or less steadily, and
  thinks better of it now and then: who plans waits in ways of its own, and a
  model must remember through them.

  Attributes:
    expert: how it walks.
    change: chance of another push, in each step.
  """

  expert: TMazeExpert
  change: jax.Array | float = 0.1

  def init(self, rng_key: jax.Array, state: t_maze.TMazeState) -> Wandering:
    """What it has in mind at first."""
    side_key, push_key = jax.random.split(rng_key)
    side = jnp.where(jax.random.bernoulli(side_key), 1.0, -1.0)
    place = jnp.stack([side, 1.0]) * jnp.abs(state.target[:2])
    return Wandering(place, *self._draw(push_key))

  def __call__(
    self, rng_key: jax.Array, state: t_maze.TMazeState, memory: Wandering
  ) -> tuple[jax.Array, Wandering]:
    """Action `[2]` for `state`, in [-1, 1], and what it then has in mind."""
    keys = jax.random.split(rng_key, 3)
    changes = jax.random.bernoulli(keys[0], self.change)
    fresh = Wandering(memory.place, *self._draw(keys[1]))
    memory = jax.tree.map(lambda x, y: jnp.where(changes, x, y), fresh, memory)
    noise = self.expert.action_noise * memory.restlessness
    expert = dataclasses.replace(self.expert, action_noise=noise)
    walk = expert.towards(keys[2], state, memory.place)
    shake = noise * jax.random.normal(keys[2], (2,))
    wait = jnp.clip(memory.push + shake, -1.0, 1.0)
    return jnp.where(state.clock < state.gap, wait, walk), memory

  def _draw(self, rng_key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Another push, none in a quarter of cases, and restlessness."""
    keys = jax.random.split(rng_key, 3)
    # Beyond the bounds, so that corners are as likely as the middle.
    push = jax.random.uniform(keys[0], (2,), minval=-1.5, maxval=1.5)
    rests = jax.random.bernoulli(keys[1], 0.25)
    push = jnp.where(rests, 0.0, jnp.clip(push, -1.0, 1.0))
    return push, jax.random.uniform(keys[2])


def world(
  gap: int | None = None,
  *,
  kind: Callable[..., Any] = t_maze.TMaze,
  kin: str = 't_maze',
  receding_horizon: int = 4,
) -> worlds.World:
  """A T-maze as commands know it.

  Problems are whole episodes: they start where the cue is in view and end in
  the right room.

  Args:
    gap: steps that the gate stays closed; drawn anew by each reset if left out.
    kind: makes it, see `t_maze.TMaze`.
    kin: world in which models for it are trained.
    receding_horizon: steps from plan to plan, unless somebody says.

  Raises:
    ValueError: a gap that is not 5 to 200.
  """
  low, high = t_maze.GAPS
  if gap is not None and not low <= gap <= high:
    raise ValueError(
      f'The gap of {kin} must be {low} to {high} steps, got {gap}; take '
      f'{kin}_{min(max(gap, low), high)}.'
    )
  gaps = t_maze.GAPS if gap is None else (gap, gap)
  make: Callable[..., Any] = functools.partial(
    kind, gap_low=gaps[0], gap_high=gaps[1]
  )
  whole = gaps[1] + t_maze.WALK
  return worlds.World(
    make=make,
    policies={
      'expert': TMazeExpert,
      'either': lambda env, noise: TMazeEither(TMazeExpert(env, noise)),
    },
    place=t_maze.place,
    state_names=t_maze.STATE_NAMES,
    unit='cells',
    body=('x', 'y'),
    kin=kin,
    action_noise=1.0,
    recording={
      # Noise may lead into the wrong arm.
      'action_noise': 0.0,
      'ends_at_success': False,
      'episode_steps': whole,
      'goal_offset': whole,
      'budget': whole,
      'action_block': 1,
      'horizon': 8,
      'receding_horizon': receding_horizon,
    },
  )


def register(name: str, **given: Any) -> None:
  """Registers a world and the family of its gaps; arguments as for `world`."""
  family = functools.partial(world, **given)
  worlds.register(name, family())
  worlds.register_family(name, family)


register('t_maze')
register(
  't_maze_distractor', kind=functools.partial(t_maze.TMaze, distractor=0.5)
)
