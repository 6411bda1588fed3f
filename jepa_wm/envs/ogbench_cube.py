"""OGBench's Cube: an arm is to bring one cube to where it lies on a picture.

OGBench's `visual-cube-single-v0`: a UR5e whose tool moves by actions of five
numbers (three of translation, yaw, gripper), drawn half transparent. The target
is not drawn: a goal is a picture.

Needs the extra `worlds`.

Source: OGBench, arXiv 2410.20092; its success rule, and its scripted oracle
for demonstrations.
"""

import functools
from typing import Any

import numpy as np

from jepa_wm.envs import host, mujoco, worlds

SUCCESS_DISTANCE = 0.04
"""Metres within which the cube's centre must come, however it is turned."""

_CUBE = slice(14, 17)
_QUATERNION = slice(17, 21)
_NUM_POSITIONS, _NUM_VELOCITIES = 21, 20
_DRAWN = 128
# Where the tool and the cube may be drawn to, metres: OGBench's own bounds.
_TOOL_LOW, _TOOL_HIGH = (0.25, -0.35, 0.20), (0.6, 0.35, 0.35)
_CUBE_LOW, _CUBE_HIGH = (0.3, -0.3), (0.55, 0.3)
_CUBE_HEIGHT = 0.02
# Of noise on an action's parts, relative to each other, as OGBench has it.
_NOISE_SCALES = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
# The camera `front_pixels`: where it is, and its right, up and back, the first
# two in picture widths at a distance of one metre (its field of view is 45
# degrees).
_EYE = np.array([1.053, -0.014, 0.639])
_WIDE = 0.5 / np.tan(np.deg2rad(22.5))
_LENS = np.array(
  [
    [0.0, -0.62810427, 0.77812918],
    [1.0, 0.0, 0.0],
    [0.0, 0.77812918, 0.62810427],
  ]
) * [_WIDE, _WIDE, 1.0]

STATE_NAMES = (
  *(f'joint {i}' for i in range(6)),
  *(f'gripper {i}' for i in range(8)),
  *(f'cube {axis}' for axis in ('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')),
  *(f'joint velocity {i}' for i in range(6)),
  *(f'gripper velocity {i}' for i in range(8)),
  *(f'cube velocity {axis}' for axis in ('x', 'y', 'z', 'rx', 'ry', 'rz')),
)


def make(image_size: int = 64) -> host.HostWorld:
  """The world; vectors are MuJoCo's positions and velocities.

  Proprio is what OGBench calls so: joints and their velocities, the tool's
  place and yaw, the gripper's opening, its velocity, and its contact.

  Args:
    image_size: height and width of the pictures.

  Raises:
    ValueError: see `mujoco.require`.
  """
  mujoco.require('mujoco', 'ogbench', 'gymnasium')
  return host.HostWorld(
    open=Cube,
    image_size=image_size,
    action_low=np.full(5, -1.0),
    action_high=np.full(5, 1.0),
    vector_dim=_NUM_POSITIONS + _NUM_VELOCITIES,
    proprio_dim=19,
    distance=distance,
    success=success,
    draw_target=draw_target,
    parameters={'id': 'visual-cube-single-v0', 'shadows': False},
  )


class Cube(mujoco.Row):
  """One row, a `host.HostEnv`; vectors are `[41]`.

  The environment takes a second and 350 MB to build, so those of a process
  share one: a row is no more than its `mujoco.MjData`, handed to it in turn.
  """

  def __init__(self) -> None:
    """Opens the environment where this process has not done so yet."""
    self._env = _environment()
    super().__init__(self._env.model)

  def reset(self, seed: int) -> None:
    """Draws tool, cube and yaws anew."""
    self._mine().reset(seed=seed)

  def place(self, vector: np.ndarray) -> None:
    """Sets positions and velocities `[41]`; the rest is at rest."""
    self._mine()
    super().place(vector)

  def step(self, action: np.ndarray) -> None:
    """Moves the tool for 0.05 seconds by an action `[5]`."""
    self._mine().step(np.clip(action, -1.0, 1.0))

  def render(self) -> np.ndarray:
    """Draws the table from the front, uint8 `[128, 128, 3]`."""
    return _camera().render(self._data)

  def proprio(self) -> np.ndarray:
    """What the arm feels, `[19]`."""
    info = self._mine().compute_ob_info()
    parts = [info[name] for name in info if name.startswith('proprio/')]
    return np.concatenate(parts)

  def _mine(self) -> Any:
    self._env._data = self._data
    return self._env


def distance(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
  """Metres between the centres of the cubes of `[..., 41]` and `[..., 41]`."""
  return host.euclidean(
    np.asarray(vectors)[..., _CUBE], np.asarray(goals)[..., _CUBE]
  )


def success(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
  """Whether the cube is at most 4 cm from the goal's."""
  return distance(vectors, goals) <= SUCCESS_DISTANCE


def draw_target(rng: np.random.Generator, vector: np.ndarray) -> np.ndarray:
  """The state with its cube somewhere else on the table, `[41]`."""
  target = np.array(vector)
  yaw = rng.uniform(0.0, 2.0 * np.pi)
  target[_CUBE] = *rng.uniform(_CUBE_LOW, _CUBE_HIGH), _CUBE_HEIGHT
  target[_QUATERNION] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
  return target


def place(vectors: np.ndarray) -> np.ndarray:
  """Where the cube is in the picture: `(x, y)` `[..., 2]`, 0..1."""
  seen = (np.asarray(vectors)[..., _CUBE] - _EYE) @ _LENS
  return 0.5 + np.stack([seen[..., 0], -seen[..., 1]], -1) / -seen[..., 2:]


def _bring(
  action_noise: float,
  wanders: bool,
  rng: np.random.Generator,
  target: np.ndarray,
) -> host.Act:
  """OGBench's oracle: above the cube, down, grasp, up, across, down, let go.

  Args:
    action_noise: standard deviation of noise on an action's translation; three
      times that on its yaw, ten times on the gripper.
    wanders: whether to bring the cube elsewhere once it has been let go of.
    rng: of noise, paths and targets.
    target: `[41]`.
  """
  from ogbench.manipspace.oracles.markov import cube_markov

  def begin() -> Any:
    # Its own `reset` would ask NumPy's global generator.
    oracle = cube_markov.CubeMarkovOracle(env=None)
    oracle._final_pos = rng.uniform(_TOOL_LOW, _TOOL_HIGH)
    oracle._final_yaw = rng.uniform(-np.pi, np.pi)
    oracle._step = 0
    return oracle

  oracle = begin()

  def act(vector: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    nonlocal oracle, target
    if wanders and oracle.done:
      oracle, target = begin(), draw_target(rng, vector)
    info = {
      'proprio/effector_pos': proprio[12:15],
      'proprio/effector_yaw': proprio[15:16],
      'proprio/gripper_opening': proprio[16:17],
      'proprio/gripper_contact': proprio[18:19],
      'privileged/target_block': 0,
      'privileged/block_0_pos': vector[_CUBE],
      'privileged/block_0_yaw': _yaw(vector),
      'privileged/target_block_pos': target[_CUBE],
      'privileged/target_block_yaw': _yaw(target),
    }
    noise = action_noise * _NOISE_SCALES * rng.normal(size=5)
    return np.clip(oracle.select_action(None, info) + noise, -1.0, 1.0)

  return act


def _yaw(vector: np.ndarray) -> np.ndarray:
  """The cube's turn about the vertical, `[1]`, radians."""
  w, x, y, z = vector[_QUATERNION]
  return np.array([np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))])


@functools.cache
def _environment() -> Any:
  """OGBench's environment, one a process, whose own pictures are not made."""
  import ogbench.manipspace  # noqa: F401 (registers the ids)

  from jepa_wm.envs import gymnasium

  env = gymnasium.open_unwrapped(
    'visual-cube-single-v0', mode='data_collection', terminate_at_goal=False
  )
  env.reset(seed=0)
  # From here on it observes numbers; pictures are ours to ask for.
  env._ob_type = 'states'
  env._renderer.close()
  env._renderer = None
  return env


@functools.cache
def _camera() -> mujoco.Camera:
  env = _environment()
  return mujoco.Camera(
    env.model, 'front_pixels', _DRAWN, option=env._scene_option
  )


worlds.register(
  'cube',
  worlds.World(
    make=make,
    policies=host.heading(_bring),
    place=place,
    state_names=STATE_NAMES,
    unit='m',
    body=('cube x', 'cube y', 'cube z'),
    action_noise=0.1,
    on_host=True,
    recording={'policy': 'wanderer', 'ends_at_success': False},
  ),
)
