"""What a world of several agents is, and what such worlds share."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import palette
from jepa_wm.envs import environment


class MultiAgent(environment.Environment, Protocol):
  """A world in which `G` agents act at once, each in its own colour.

  Its `action_dim` is `G * a` and `step` takes the joint action, `[G, a]` or
  flattened agent by agent `[G * a]`. `vector` is agent by agent, then what they
  share. `success` is that of all. Agent i is drawn in row i of
  `palette.AGENT_COLORS`, and whoever reads pictures may count on it.

  Attributes:
    num_agents: how many act, `G`, 1 to 8; static.
  """

  @property
  def num_agents(self) -> int: ...

  def distances(self, state: Any, goal: Any) -> jax.Array:
    """How far each agent is from its part of `goal`, `[G]`."""
    ...

  def successes(self, state: Any, goal: Any) -> jax.Array:
    """Whether each agent counts as having reached `goal`, bool `[G]`."""
    ...

  def places(self, state: Any) -> jax.Array:
    """Where the agents are, `(x, y)` in the world's own unit, `[G, 2]`."""
    ...


class Pushes:
  """The joint actions of agents that are pushed along `(x, y)` each.

  Attributes:
    num_agents: `G`.
  """

  num_agents: int

  @property
  def action_dim(self) -> int:
    """Size of a joint action, `G * 2`: `(x, y)` of each."""
    return self.num_agents * 2

  @property
  def action_low(self) -> jax.Array:
    """Lower bounds of a joint action, `[G * 2]`."""
    return jnp.full([self.action_dim], -1.0)

  @property
  def action_high(self) -> jax.Array:
    """Upper bounds of a joint action, `[G * 2]`."""
    return jnp.full([self.action_dim], 1.0)


def check_num_agents(num_agents: int) -> None:
  """Asserts that a world can hold so many.

  Raises:
    ValueError: it is not an integer of 1 to 8.
  """
  if not (
    isinstance(num_agents, int) and 1 <= num_agents <= palette.MAX_AGENTS
  ):
    raise ValueError(
      f'num_agents must be an integer of 1 to {palette.MAX_AGENTS}, got '
      f'{num_agents!r}.'
    )


def joint_action(action: jax.typing.ArrayLike, num_agents: int) -> jax.Array:
  """The actions `(x, y)` of each agent, float32 `[G, 2]`.

  Args:
    action: `[G, 2]`, or the same flattened agent by agent, `[G * 2]`.
    num_agents: `G`.

  Raises:
    ValueError: it has another shape.
  """
  action = jnp.asarray(action, jnp.float32)
  if action.shape not in ((num_agents, 2), (num_agents * 2,)):
    raise ValueError(
      f'action must have shape ({num_agents}, 2), one (x, y) for each of the '
      f'{num_agents} agents, or the same flattened ({num_agents * 2},), got '
      f'{action.shape}.'
    )
  return action.reshape(num_agents, 2)


def state_names(num_agents: int) -> tuple[str, ...]:
  """What the numbers of places are called, agent by agent: x1, y1, x2, ...

  Args:
    num_agents: `G`.
  """
  return tuple(
    f'{axis}{agent}' for agent in range(1, num_agents + 1) for axis in 'xy'
  )


def checked_places(
  positions: jax.typing.ArrayLike, num_agents: int
) -> jax.Array:
  """The `positions` of a state as float32 `[G, 2]`.

  Raises:
    ValueError: they are those of another number of agents.
  """
  places = jnp.asarray(positions, jnp.float32)
  if places.shape != (num_agents, 2):
    raise ValueError(
      f'state.positions must have shape ({num_agents}, 2), (x, y) of each of '
      f'the {num_agents} agents, got {places.shape}; batches go through '
      'jax.vmap.'
    )
  return places
