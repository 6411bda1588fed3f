"""Our worlds as Gymnasium's: one at a time, or many in one program.

  to_gymnasium.register()
  env = gymnasium.make('jepa_wm/TwoRoom-v0', reward='dense')
  envs = gymnasium.make_vec('jepa_wm/TwoRoom-v0', num_envs=64)

Of any `episodic.Episodic`, the latent environments of `jepa_wm.rl` too. Nothing
is registered by an import.
"""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import episodic, goal_world, worlds
from jepa_wm.types import Params


class EpisodicEnv(gymnasium.Env[Any, np.ndarray]):
  """One world; what it gives are NumPy arrays and Python's numbers.

  `info['is_success']` says whether the goal is reached.
  """

  def __init__(
    self,
    env: episodic.Episodic,
    params: Params,
    *,
    render_fn: Any = None,
    render_mode: str | None = None,
  ) -> None:
    """Compiles nothing yet.

    Args:
      env: the world.
      params: its arrays.
      render_fn: `(state, params) -> uint8 [height, width, 3]`, of a world that
        can be looked at.
      render_mode: 'rgb_array', of such a world, or None.

    Raises:
      ValueError: a mode that there is not.
    """
    modes = [] if render_fn is None else ['rgb_array']
    if render_mode not in (None, *modes):
      raise ValueError(
        f'render_mode must be one of {", ".join(modes)} or None, got '
        f'{render_mode!r}.'
        if modes
        else 'render_mode must be None: latents have no picture, got '
        f'{render_mode!r}.'
      )
    self.metadata = {'render_modes': modes, 'render_fps': 10}
    self.render_mode = render_mode
    self.params = params
    self.observation_space = as_space(env.observation_space(params))
    self.action_space = as_space(env.action_space(params))
    self._state: Any = None
    self._has_ended = False
    self._reset, self._step = jax.jit(env.reset), jax.jit(env.step_env)
    self._render = None if render_fn is None else jax.jit(render_fn)

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[Any, dict[str, Any]]:
    """Begins an episode; `options` are not looked at."""
    super().reset(seed=seed, options=options)
    self._has_ended = False
    observation, self._state = self._reset(self._key(), self.params)
    return _arrays(observation), {}

  def step(
    self, action: np.ndarray
  ) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Plays an action.

    Raises:
      ValueError: an action of another shape, or with NaN in it, or no episode
        was begun, or it has ended.
    """
    if self._has_ended:
      raise ValueError('the episode has ended: call reset before step.')
    action = _checked(action, self.action_space, self._state)
    found = self._step(self._key(), self._state, action, self.params)
    self._state = found.state
    self._has_ended = bool(found.terminated | found.truncated)
    info = {name: np.asarray(x).item() for name, x in found.info.items()}
    return (
      _arrays(found.observation),
      float(found.reward),
      bool(found.terminated),
      bool(found.truncated),
      {**info, 'is_success': info['reached']},
    )

  def render(self) -> Any:
    """The picture, uint8 `[height, width, 3]`; None without a mode.

    Raises:
      ValueError: no episode was begun.
    """
    if self.render_mode is None or self._render is None:
      return None
    if self._state is None:
      raise ValueError('no episode has begun: call reset before render.')
    return np.array(self._render(self._state, self.params))

  def _key(self) -> jax.Array:
    return jax.random.key(int(self.np_random.integers(2**31)))


class EpisodicVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
  """Many worlds in one compiled program, which begin anew by themselves.

  Resets happen in the step that ends an episode (`AutoresetMode.SAME_STEP`):
  what was seen at the end is in `info['final_obs']`, where `info['_final_obs']`
  is true.
  """

  def __init__(
    self, env: episodic.Episodic, params: Params, num_envs: int
  ) -> None:
    """Compiles nothing yet.

    Args:
      env: the world.
      params: its arrays, one set for all.
      num_envs: how many.

    Raises:
      ValueError: less than one.
    """
    if num_envs != operator.index(num_envs) or num_envs < 1:
      raise ValueError(f'num_envs: expected at least 1, got {num_envs}.')
    self.num_envs, self.params = num_envs, params
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    self.metadata = {'autoreset_mode': mode, 'render_modes': []}
    self.render_mode = None
    batched = gymnasium.vector.utils.batch_space
    self.single_observation_space = as_space(env.observation_space(params))
    self.single_action_space = as_space(env.action_space(params))
    self.observation_space = batched(self.single_observation_space, num_envs)
    self.action_space = batched(self.single_action_space, num_envs)
    self._state: Any = None

    def begin(keys: jax.Array, params: Params) -> Any:
      now = jax.vmap(jax.random.split)(keys)
      return now[:, 0], jax.vmap(env.reset, (0, None))(now[:, 1], params)

    def play(
      keys: jax.Array, state: Any, actions: jax.Array, params: Params
    ) -> Any:
      now = jax.vmap(jax.random.split)(keys)
      step = jax.vmap(env.step, (0, 0, 0, None))
      return now[:, 0], step(now[:, 1], state, actions, params)

    self._begin, self._play = jax.jit(begin), jax.jit(play)

  def reset(
    self,
    *,
    seed: int | Sequence[int | None] | None = None,
    options: dict[str, Any] | None = None,
  ) -> tuple[Any, dict[str, Any]]:
    """Begins all episodes; world number i has the seed `seed + i`.

    Raises:
      ValueError: seeds of another number than there are worlds, or no seeds.
    """
    given = _seeds(seed, self.num_envs)
    first = given[0] if isinstance(seed, (int, np.integer)) else None
    super().reset(seed=first, options=options)
    seeds = [
      int(self.np_random.integers(2**31)) if x is None else x for x in given
    ]
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    self._keys, (seen, self._state) = self._begin(keys, self.params)
    return _arrays(seen), {}

  def step(
    self, actions: np.ndarray
  ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Plays actions `[num_envs, A]`.

    Raises:
      ValueError: actions of another shape, or with NaN in them, or no episode
        was begun.
    """
    actions = _checked(actions, self.action_space, self._state)
    self._keys, found = self._play(
      self._keys, self._state, actions, self.params
    )
    self._state = found.state
    terminated, truncated = map(np.array, (found.terminated, found.truncated))
    info = _arrays(found.info)
    final = info.pop('final_observation')
    info = {**info, 'is_success': info['reached'], 'final_obs': final}
    # Of Gymnasium's infos, a mask says which rows have an entry.
    every = np.ones(self.num_envs, bool)
    masks = {f'_{name}': every for name in info}
    info |= {**masks, '_final_obs': terminated | truncated}
    reward = np.array(found.reward, np.float64)
    return _arrays(found.observation), reward, terminated, truncated, info


def as_space(space: episodic.Space) -> gymnasium.Space[Any]:
  """A space of ours as Gymnasium's."""
  if isinstance(space, dict):
    return gymnasium.spaces.Dict({k: as_space(x) for k, x in space.items()})
  low, high = (
    np.broadcast_to(np.asarray(x, space.dtype), space.shape)
    for x in (space.low, space.high)
  )
  return gymnasium.spaces.Box(low, high, dtype=space.dtype)


def make_env(
  world: str,
  *,
  image_size: int = 64,
  reward: str = 'sparse',
  observation: str = 'pixels',
  max_steps: int = 150,
  render_mode: str | None = None,
) -> EpisodicEnv:
  """Opens a JAX world by name; see `goal_world.make`.

  Args:
    world: its name, see `worlds.WORLDS`.
    image_size: height and width of its pictures.
    reward: 'sparse' or 'dense'.
    observation: 'pixels' (a Dict of `pixels` and `goal`) or 'state'.
    max_steps: after which an episode is cut.
    render_mode: 'rgb_array' or None.

  Raises:
    ValueError: no such world, one that steps on the host, or no such setting.
  """
  env, params = _open(world, image_size, reward, observation, max_steps)

  def picture(state: goal_world.GoalWorldState, params: Params) -> jax.Array:
    drawn: jax.Array = params.world.render(state.world)
    return drawn

  return EpisodicEnv(env, params, render_fn=picture, render_mode=render_mode)


def make_vec(
  world: str,
  *,
  num_envs: int = 1,
  image_size: int = 64,
  reward: str = 'sparse',
  observation: str = 'pixels',
  max_steps: int = 150,
) -> EpisodicVectorEnv:
  """Opens many of a JAX world by name; arguments as for `make_env`.

  Args:
    world: its name.
    num_envs: how many.
    image_size: as there.
    reward: as there.
    observation: as there.
    max_steps: as there.

  Raises:
    ValueError: as there, or less than one world.
  """
  env, params = _open(world, image_size, reward, observation, max_steps)
  return EpisodicVectorEnv(env, params, num_envs)


def ids() -> dict[str, str]:
  """Gymnasium's ids of all JAX worlds, `{'jepa_wm/TwoRoom-v0': 'two_room'}`."""
  return {
    f'jepa_wm/{"".join(x.capitalize() for x in name.split("_"))}-v0': name
    for name, world in worlds.WORLDS.items()
    if not world.on_host
  }


def register() -> None:
  """Tells Gymnasium of all JAX worlds that it does not know yet."""
  for name, world in ids().items():
    if name not in gymnasium.registry:
      gymnasium.register(
        name,
        entry_point=f'{__name__}:make_env',
        vector_entry_point=f'{__name__}:make_vec',
        kwargs={'world': world},
      )


def _open(
  name: str, image_size: int, reward: str, observation: str, max_steps: int
) -> tuple[goal_world.GoalWorld, goal_world.GoalWorldParams]:
  world: Any = worlds.get_simulated(name).make()
  return goal_world.make(
    dataclasses.replace(world, image_size=image_size),
    reward=reward,
    observation=observation,
    max_steps=max_steps,
  )


def _seeds(seed: Any, num_envs: int) -> list[int | None]:
  """A seed of each world, None where it is to be drawn.

  Raises:
    ValueError: others than whole numbers of 31 bits, or another number.
  """
  if seed is None:
    return [None] * num_envs
  is_whole = isinstance(seed, (int, np.integer))
  given = [int(seed) + i for i in range(num_envs)] if is_whole else seed
  if isinstance(given, str) or np.ndim(given) != 1 or len(given) != num_envs:
    raise ValueError(
      f'seed: expected a whole number, or {num_envs} of them, one for each '
      f'world, got {seed!r:.60}.'
    )
  for number in given:
    if number is not None and not (
      isinstance(number, (int, np.integer)) and 0 <= number < 2**31
    ):
      raise ValueError(
        f'seed: expected whole numbers of at least 0 and below 2**31, got '
        f'{number!r:.60}.'
      )
  return [None if x is None else int(x) for x in given]


def _checked(
  action: Any, space: gymnasium.Space[Any], state: Any
) -> np.ndarray:
  """An action as the program takes it, in an episode that has begun."""
  if state is None:
    raise ValueError('no episode has begun: call reset before step.')
  try:
    action = np.asarray(action, np.float32)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'action: expected numbers {list(space.shape or ())}, got {action!r:.60}.'
    ) from error
  if action.shape != space.shape:
    raise ValueError(
      f'action: expected {list(space.shape or ())}, got {list(action.shape)}.'
    )
  if not np.all(np.isfinite(action)):
    raise ValueError(
      'action: expected finite numbers, got NaN or infinity in '
      f'{np.sum(~np.isfinite(action))} of {action.size}; the policy is broken.'
    )
  return action


def _arrays(tree: Any) -> Any:
  """Copies that whoever gets them may write into."""
  return jax.tree.map(np.array, tree)
