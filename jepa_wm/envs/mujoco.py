"""Rows of MuJoCo worlds, and their pictures without a screen."""

import atexit
import ctypes
import importlib.util
import os
import sys
from typing import Any

import numpy as np

_LIBRARIES = {'egl': 'libEGL.so.1', 'osmesa': 'libOSMesa.so.8'}
"""What draws without a screen, the better one first."""

_PACKAGES = 'Debian: libegl1 libegl-mesa0 libgl1-mesa-dri for EGL, libosmesa6'


def require(*packages: str) -> None:
  """Makes sure that a world's packages are installed and can draw.

  Args:
    *packages: their import names.

  Raises:
    ValueError: one is missing, or see `choose_gl`.
  """
  missing = [name for name in packages if not importlib.util.find_spec(name)]
  if missing:
    raise ValueError(
      f'This world needs {" and ".join(missing)}; install the extra that has '
      "them: pip install 'jepa-wm[worlds]'."
    )
  choose_gl()


def choose_gl() -> None:
  """Sets `MUJOCO_GL` where nobody has: EGL if there is one, else OSMesa.

  To be called before MuJoCo is imported for the first time.

  Raises:
    ValueError: Linux with neither.
  """
  if os.environ.get('MUJOCO_GL') or sys.platform != 'linux':
    return
  for name, library in _LIBRARIES.items():
    try:
      ctypes.CDLL(library)
    except OSError:
      continue
    os.environ['MUJOCO_GL'] = name
    return
  raise ValueError(
    'MuJoCo needs EGL or OSMesa to draw without a screen, and neither is here; '
    f'install one ({_PACKAGES}).'
  )


class Row:
  """One row of a world, for a `host.HostEnv` to inherit.

  It holds nothing but its `mujoco.MjData`: the rows of a process share a model.
  """

  def __init__(self, model: Any) -> None:
    """Makes data of a `mujoco.MjModel`."""
    import mujoco

    self._lib, self._model = mujoco, model
    self._data = mujoco.MjData(model)

  def place(self, vector: np.ndarray) -> None:
    """Sets positions and velocities; the rest is at rest."""
    self._lib.mj_resetData(self._model, self._data)
    position, velocity = np.split(np.asarray(vector), [self._model.nq])
    self._data.qpos[:], self._data.qvel[:] = position, velocity
    self._lib.mj_forward(self._model, self._data)

  def vector(self) -> np.ndarray:
    """Positions and velocities, metres, radians and seconds."""
    return np.concatenate([self._data.qpos, self._data.qvel])

  def close(self) -> None:
    """Holds nothing of its own."""


class Camera:
  """A picture of one model, made for all its rows of a process.

  Without shadows, reflections and multisampling, which take most of the time
  where pictures are drawn in software; draw larger than needed and average.
  """

  def __init__(self, model: Any, camera: str, size: int, option: Any = None):
    """Opens a context.

    Args:
      model: a `mujoco.MjModel`.
      camera: its name in the model.
      size: height and width.
      option: a `mujoco.MjvOption`, what is shown.
    """
    import mujoco

    frame = model.vis.global_
    frame.offwidth, frame.offheight = (
      max(size, frame.offwidth),
      max(size, frame.offheight),
    )
    model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
    try:
      self._renderer = mujoco.Renderer(model, size, size)
    except Exception as error:
      raise RuntimeError(
        f'MuJoCo cannot draw here ({error}); it draws with '
        f'{os.environ.get("MUJOCO_GL") or "a window"}, which is settled when '
        'it is first imported: set MUJOCO_GL to egl or osmesa before that, and '
        f'install what it needs ({_PACKAGES}).'
      ) from error
    # Left to the interpreter's end it would be closed after its own library.
    atexit.register(self._renderer.close)
    flags = mujoco.mjtRndFlag
    for flag in (flags.mjRND_SHADOW, flags.mjRND_REFLECTION):
      self._renderer.scene.flags[flag] = False
    self._camera, self._option = camera, option

  def render(self, data: Any) -> np.ndarray:
    """Draws `mujoco.MjData`, uint8 `[size, size, 3]`."""
    self._renderer.update_scene(
      data, camera=self._camera, scene_option=self._option
    )
    return self._renderer.render()
