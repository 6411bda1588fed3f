"""JAX worlds on stage: every method is one jitted program over rows."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import environment, policies, row_keys, row_programs
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import teleport as teleport_lib

RewardFn = Callable[[Any, Any, jax.Array, Any], jax.Array]
"""`(world, state, action [A], next state) -> reward`, a scalar."""


class DeviceStage:
  """A `stage.Stage` of JAX worlds, which never fail.

  Attributes:
    env: the world of rows without their own.
  """

  is_discrete = False
  num_rows = 2**20

  def __init__(
    self,
    env: environment.Environment,
    policy_fn: Callable[..., policies.Policy],
    *,
    reward_fn: RewardFn | None = None,
    teleport: teleport_lib.Teleport | None = None,
  ) -> None:
    """Computes nothing yet.

    Args:
      env: the world.
      policy_fn: `(name, world, action_noise) -> policy`, as
        `worlds.World.policy`.
      reward_fn: the world's reward, None where it gives none.
      teleport: moves its body; None where nobody says what that is.
    """
    self.env, self.image_size = env, env.image_size
    self.failures: dict[int, str] = {}
    self._policy_fn, self._reward_fn = policy_fn, reward_fn
    self._teleport = teleport
    self._rows = stage_lib.Problems(None, None)
    self._programs = row_programs.RowPrograms(
      env, policy_fn, reward_fn, teleport
    )

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    """Holds nothing that must be given back."""

  @property
  def compile_seconds(self) -> float:
    """See `stage.Stage`."""
    return self._programs.compile_seconds

  @property
  def action_dim(self) -> int:
    """Size `A` of a raw action."""
    return self.env.action_dim

  @property
  def action_low(self) -> jax.Array:
    """Lower bounds of a raw action, `[A]`."""
    return self.env.action_low

  @property
  def action_high(self) -> jax.Array:
    """Upper bounds of a raw action, `[A]`."""
    return self.env.action_high

  @property
  def proprio_dim(self) -> int:
    """Size `S` of what the body feels."""
    return environment.proprio_dim(self.env)

  @property
  def parameters(self) -> dict[str, Any]:
    """The world's factors of variation, JSON-able."""
    world: Any = self.env
    return {
      field.name: np.asarray(getattr(world, field.name)).tolist()
      for field in dataclasses.fields(world)
    }

  def streams(
    self, purpose: stage_lib.Purpose, seed: int, *numbers: np.ndarray
  ) -> row_keys.Keys:
    """Keys of rows; see `stage.Stage.streams`."""
    return row_keys.draw(purpose, seed, *numbers)

  def reset(self, rows: np.ndarray, streams: row_keys.Keys) -> None:
    """Begins an episode in each of `rows`; its target is its goal."""

    def begin(world: Any, key: jax.Array) -> Any:
      state = world.reset(key)
      return state, world.from_vector(state.target)

    states, goals = self._programs.each('reset', begin, None, streams.reset)
    self._put(rows, stage_lib.Problems(states, goals))

  def place(
    self, rows: np.ndarray, problems: stage_lib.Problems, *, aim: bool = False
  ) -> None:
    """Moves `rows`; see `stage.Stage.place`."""

    def head_for(world: Any, state: Any, goal: Any) -> Any:
      return dataclasses.replace(state, target=world.vector(goal))

    if aim:
      states, goals, worlds = problems
      states = self._programs.each('aim', head_for, worlds, states, goals)
      problems = problems._replace(states=states)
    self._put(rows, problems)

  def survey(
    self, states: Any, goals: Any, worlds: Any = None
  ) -> stage_lib.Survey:
    """Says how states lie to goals."""
    found = self._programs.each('survey', _survey, worlds, states, goals)
    return stage_lib.Survey(*map(np.asarray, found))

  def observe(self, rows: np.ndarray) -> dict[str, Any]:
    """Renders `rows`, and reads what the bodies feel."""

    def look(world: Any, state: Any, goal: Any) -> dict[str, jax.Array]:
      del goal
      return self._look(world, state)

    return self._of_rows('observe', look, rows)

  def play(self, rows: np.ndarray, actions: np.ndarray) -> stage_lib.Trail:
    """Plays raw actions `[n, k, A]`."""
    held = self._take(rows)
    states, trail = self._played(held, actions)
    self._put(rows, held._replace(states=states))
    return trail

  def teleport(self, rows: np.ndarray, streams: row_keys.Keys) -> np.ndarray:
    """Moves the bodies of `rows`, whose targets stay; see `stage.Stage`."""
    teleport = self._teleport
    if teleport is None:
      raise ValueError(
        f'Nobody says what the body of {type(self.env).__name__} is; open its '
        'stage by worlds.World.stage.'
      )

    def move(world: Any, state: Any, goal: Any, key: jax.Array) -> Any:
      moved = teleport(world, state, key, goal)
      return dataclasses.replace(moved, target=state.target)

    held = self._take(rows)
    states = self._of_rows('teleport', move, rows, streams.reset)
    self._put(rows, held._replace(states=states))
    return self.vectors(states, held.worlds)

  def preview(self, rows: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Follows raw actions `[n, m, k, A]` to `[n, m * k + 1, V]`, plays none."""
    # By the program that plays a block, which saves compiling another.
    held = self._take(rows)
    path = [self.vectors(held.states, held.worlds)[:, None]]
    for actions in np.moveaxis(np.asarray(blocks), 1, 0):
      states, trail = self._played(held, actions)
      held = held._replace(states=states)
      path.append(trail.vectors)
    return np.concatenate(path, axis=1)

  def _played(
    self, held: stage_lib.Problems, actions: np.ndarray
  ) -> tuple[Any, stage_lib.Trail]:
    """States after actions `[n, k, A]`, and the way there."""

    def play(world: Any, state: Any, goal: Any, actions: jax.Array) -> Any:
      def step(state: Any, action: jax.Array) -> Any:
        after = world.step(state, action)
        reward = self._reward(world, state, action, after)
        return after, (*_survey(world, after, goal), reward)

      return jax.lax.scan(step, state, actions)

    states, trail = self._programs.each(
      'play', play, held.worlds, held.states, held.goals, actions
    )
    return states, stage_lib.Trail(*jax.tree.map(np.asarray, trail))

  def perform(
    self,
    rows: np.ndarray,
    role: stage_lib.Role,
    streams: row_keys.Keys,
    *,
    num_steps: int,
    look: bool = False,
    stop: bool = False,
  ) -> stage_lib.Episodes:
    """Lets a policy act; see `stage.Stage.perform`.

    The leaves are device arrays that may still be computed.
    """
    del stop  # All rows of a program end together.

    def act(world: Any, state: Any, goal: Any, keys: row_keys.Keys) -> Any:
      policy = self._policy(role, world)
      first = policy.init(keys.memory, state)

      def step(carry: Any, t: jax.Array) -> Any:
        state, memory = carry
        action_key = jax.random.fold_in(keys.action, t)
        action, memory = policy(action_key, state, memory)
        after = world.step(state, action)
        reward = self._reward(world, state, action, after)
        return (after, memory), (after, action, reward)

      _, (states, actions, rewards) = jax.lax.scan(
        step, (state, first), jnp.arange(num_steps)
      )
      states = jax.tree.map(
        lambda one, more: jnp.concatenate([one[None], more]), state, states
      )
      return stage_lib.Episodes(
        vectors=jax.vmap(world.vector)(states),
        reached=jax.vmap(lambda state: world.success(state, goal))(states),
        actions=actions,
        rewards=rewards,
        observations=(
          jax.vmap(lambda state: self._look(world, state))(states)
          if look
          else None
        ),
        policies=jnp.int32(0) if role.odds is None else first[0],
      )

    program = 'perform', role, num_steps, look
    return self._of_rows(program, act, rows, streams)

  def draw_goals(self, rows: np.ndarray, streams: row_keys.Keys) -> np.ndarray:
    """Vectors `[n, V]` that the targets become when nobody acts."""
    del streams  # A state has drawn its target already.
    still = jnp.clip(0.0, self.env.action_low, self.env.action_high)

    # A target may lie where nothing can be, as in the wall of Two Room.
    def settle(world: Any, state: Any, goal: Any) -> jax.Array:
      del state
      return world.vector(world.step(goal, still))

    return np.asarray(self._of_rows('settle', settle, rows))

  def draw_integers(
    self, streams: row_keys.Keys, highs: np.ndarray
  ) -> np.ndarray:
    """Uniform integers `[n]` in `[0, highs)`."""

    def draw(world: Any, key: jax.Array, high: jax.Array) -> jax.Array:
      del world
      return jax.random.randint(key, (), 0, high)

    highs = np.asarray(highs, np.int32)
    return np.asarray(
      self._programs.each('draw', draw, None, streams.extra, highs)
    )

  def states(self, vectors: np.ndarray) -> Any:
    """The states that vectors `[n, V]` describe."""

    def describe(world: Any, vector: jax.Array) -> Any:
      return world.from_vector(vector)

    vectors = np.asarray(vectors, np.float32)
    found = self._programs.each('states', describe, None, vectors)
    return jax.tree.map(np.asarray, found)

  def vectors(self, states: Any, worlds: Any = None) -> np.ndarray:
    """The vectors `[n, V]` of states."""

    def read(world: Any, state: Any) -> jax.Array:
      return world.vector(state)

    return np.asarray(self._programs.each('vectors', read, worlds, states))

  def are_solved(self, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Whether vectors lie in goals, bool `[n]`."""

    def judge(world: Any, start: jax.Array, goal: jax.Array) -> jax.Array:
      return world.success(world.from_vector(start), world.from_vector(goal))

    pair = (np.asarray(x, np.float32) for x in (starts, goals))
    return np.asarray(self._programs.each('solved', judge, None, *pair))

  def pictures(self, vectors: np.ndarray, worlds: Any = None) -> np.ndarray:
    """What states `[n, V]` look like."""

    def render(world: Any, vector: jax.Array) -> jax.Array:
      world = dataclasses.replace(world, image_size=self.image_size)
      return world.render(world.from_vector(vector))

    return np.asarray(self._programs.each('pictures', render, worlds, vectors))

  def scenes(self, vectors: np.ndarray) -> np.ndarray:
    """Pictures of 15 fresh states; `vectors` are not needed."""
    del vectors

    def draw(world: Any, key: jax.Array) -> jax.Array:
      return world.render(world.reset(key))

    keys = jax.random.split(jax.random.key(0), 15)
    return np.asarray(self._programs.each('scenes', draw, None, keys))

  def _look(self, world: Any, state: Any) -> dict[str, jax.Array]:
    world = dataclasses.replace(world, image_size=self.image_size)
    return {'pixels': world.render(state), 'proprio': world.proprio(state)}

  def _reward(self, *args: Any) -> jax.Array | None:
    return None if self._reward_fn is None else self._reward_fn(*args)

  def _policy(self, role: stage_lib.Role, world: Any) -> Any:
    """The policy of a role in `world`."""
    found = tuple(
      self._policy_fn(name, world, role.action_noise) for name in role.policies
    )
    if role.odds is None:
      return found[0]
    return policies.MixturePolicy(found, jnp.asarray(role.odds))

  def _take(self, rows: np.ndarray) -> stage_lib.Problems:
    return jax.tree.map(lambda leaf: leaf[rows], self._rows)

  def _put(self, rows: np.ndarray, new: stage_lib.Problems) -> None:
    """Writes rows; those before stay if their worlds are of the same kind."""
    new = jax.tree.map(np.asarray, new)
    kinds: list[Any] = [jax.tree.structure(tree) for tree in (self._rows, new)]
    held = [self._rows] if kinds[0] == kinds[1] else []

    def spread(part: np.ndarray, *before: np.ndarray) -> np.ndarray:
      size = max(int(np.max(rows)) + 1, *map(len, before), 0)
      whole = np.zeros((size, *part.shape[1:]), part.dtype)
      for old in before:
        whole[: len(old)] = old
      whole[rows] = part
      return whole

    self._rows = jax.tree.map(spread, new, *held)

  def _of_rows(
    self,
    name: Hashable,
    function: Callable[..., Any],
    rows: np.ndarray,
    *args: Any,
  ) -> Any:
    """`function(world, state, goal, *args)` of every row."""
    held = self._take(rows)
    return self._programs.each(
      name, function, held.worlds, held.states, held.goals, *args
    )


def _survey(world: Any, state: Any, goal: Any) -> tuple[jax.Array, ...]:
  """The state's vector, its distance from the goal, whether it counts."""
  return (
    world.vector(state),
    world.distance(state, goal),
    world.success(state, goal),
  )
