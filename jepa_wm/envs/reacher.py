"""Reacher: a two-link arm in the plane that is to match a joint configuration.

dm_control's model and dynamics, an action held for two of its control steps as
in stable-worldmodel. The target's ball is not drawn: a goal is a picture of the
arm.

Needs the extra `worlds`.

Source: dm_control suite, `reacher` (arXiv 1801.00690); the task `qpos_match` of
stable-worldmodel 0.1.1, which compares angles without winding them up.
"""

import functools
from typing import Any

import numpy as np

from jepa_wm.envs import host, mujoco, worlds

SUCCESS_ANGLE = 0.05
"""Radians within which both joints must come."""

STATE_NAMES = (
  'shoulder angle',
  'wrist angle',
  'shoulder velocity',
  'wrist velocity',
)

_ACTION_REPEAT = 2
_WRIST_LIMIT = np.deg2rad(160.0)
_DRAWN = 128
_LINK = 0.12
# What the camera, 0.74 m above the arm, sees in 45 degrees.
_PICTURE_WIDTH = 2.0 * 0.74 * np.tan(np.deg2rad(22.5))
_GAIN, _DAMPING = 2.0, 0.1


def make(image_size: int = 64) -> host.HostWorld:
  """The world; vectors are the two angles and their velocities, as is proprio.

  Args:
    image_size: height and width of the pictures.

  Raises:
    ValueError: see `mujoco.require`.
  """
  mujoco.require('mujoco', 'dm_control')
  return host.HostWorld(
    open=Reacher,
    image_size=image_size,
    action_low=np.full(2, -1.0),
    action_high=np.full(2, 1.0),
    vector_dim=4,
    proprio_dim=4,
    distance=distance,
    success=success,
    draw_target=draw_target,
    parameters={'action_repeat': _ACTION_REPEAT, 'shadows': False},
  )


class Reacher(mujoco.Row):
  """One row, a `host.HostEnv`; vectors are angles and velocities `[4]`."""

  def __init__(self) -> None:
    """Opens the model where this process has not done so yet."""
    super().__init__(_model())

  def reset(self, seed: int) -> None:
    """Draws the shoulder's angle from all, the wrist's from its range."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform([-np.pi, -_WRIST_LIMIT], [np.pi, _WRIST_LIMIT])
    self.place(np.concatenate([angles, np.zeros(2)]))

  def step(self, action: np.ndarray) -> None:
    """Applies torques `[2]` for 0.04 seconds."""
    self._data.ctrl[:] = np.clip(action, -1.0, 1.0)
    self._lib.mj_step(self._model, self._data, nstep=_ACTION_REPEAT)

  def render(self) -> np.ndarray:
    """Draws the arm from above, uint8 `[128, 128, 3]`."""
    self._lib.mj_kinematics(self._model, self._data)
    return _camera().render(self._data)

  def proprio(self) -> np.ndarray:
    """The same as `vector`."""
    return self.vector()


def distance(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
  """The larger of the two angles between `[..., 4]` and `[..., 4]`, radians.

  The shoulder turns without end, and a whole turn is no difference.
  """
  return np.max(np.abs(_angles(vectors, goals)), axis=-1)


def success(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
  """Whether both joints are less than 0.05 radians from the goal's."""
  return distance(vectors, goals) < SUCCESS_ANGLE


def draw_target(rng: np.random.Generator, vector: np.ndarray) -> np.ndarray:
  """A random configuration at rest, `[4]`."""
  del vector
  angles = rng.uniform([-np.pi, -_WRIST_LIMIT], [np.pi, _WRIST_LIMIT])
  return np.concatenate([angles, np.zeros(2)])


def place(vectors: np.ndarray) -> np.ndarray:
  """Where the finger is in the picture: `(x, y)` `[..., 2]`, 0..1."""
  shoulder = np.asarray(vectors)[..., 0]
  elbow = shoulder + np.asarray(vectors)[..., 1]
  x = _LINK * (np.cos(shoulder) + np.cos(elbow))
  y = _LINK * (np.sin(shoulder) + np.sin(elbow))
  return 0.5 + np.stack([x, -y], -1) / _PICTURE_WIDTH


def _head_for(
  action_noise: float,
  wanders: bool,
  rng: np.random.Generator,
  target: np.ndarray,
) -> host.Act:
  """Pulls both joints to the target's like springs with a damper each.

  Args:
    action_noise: standard deviation of noise on each torque, before clipping.
    wanders: whether to head for another random configuration once it is there.
    rng: of noise and targets.
    target: `[4]`.
  """

  def act(vector: np.ndarray, proprio: np.ndarray) -> np.ndarray:
    nonlocal target
    del proprio
    if wanders and success(vector, target):
      target = draw_target(rng, vector)
    # The wrist cannot pass its limits, so its way is never the short way round.
    error = np.array([_angles(target, vector)[0], target[1] - vector[1]])
    action = _GAIN * error - _DAMPING * vector[2:]
    return np.clip(action + action_noise * rng.normal(size=2), -1.0, 1.0)

  return act


def _angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Differences of the joints' angles, the short way round, `[..., 2]`."""
  turn = np.asarray(first)[..., :2] - np.asarray(second)[..., :2]
  return (turn + np.pi) % (2.0 * np.pi) - np.pi


@functools.cache
def _model() -> Any:
  """The compiled model of this process."""
  import mujoco as mujoco_lib
  from dm_control.suite import reacher as suite

  xml, assets = suite.get_model_and_assets()
  model = mujoco_lib.MjModel.from_xml_string(xml.decode(), _decoded(assets))
  model.mat_rgba[model.material('target').id, 3] = 0.0
  return model


@functools.cache
def _camera() -> mujoco.Camera:
  return mujoco.Camera(_model(), 'fixed', _DRAWN)


def _decoded(assets: dict[str, Any]) -> dict[str, bytes]:
  return {
    name: content.encode() if isinstance(content, str) else content
    for name, content in assets.items()
  }


worlds.register(
  'reacher',
  worlds.World(
    make=make,
    policies=host.heading(_head_for),
    place=place,
    state_names=STATE_NAMES,
    unit='rad',
    action_noise=0.5,
    on_host=True,
    recording={'policy': 'wanderer', 'ends_at_success': False},
  ),
)
