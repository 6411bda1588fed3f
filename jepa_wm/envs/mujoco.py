"""Pictures of MuJoCo worlds without a screen."""

import ctypes
import os
import sys
from typing import Any

import numpy as np

_LIBRARIES = {'egl': 'libEGL.so.1', 'osmesa': 'libOSMesa.so.8'}
"""What draws without a screen, the better one first."""


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
    'apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri (or libosmesa6).'
  )


class Camera:
  """A picture of one model, made for all its rows of a process.

  Without shadows and reflections: drawn in software they take most of the time.
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

    model.vis.quality.shadowsize = 0
    self._renderer = mujoco.Renderer(model, size, size)
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
