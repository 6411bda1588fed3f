"""The stages of a list of runs, opened when they are asked for."""

import contextlib
from typing import Any

from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds


class Stages:
  """Opens stages, the last of which stays open for those who ask again."""

  def __init__(self) -> None:
    self._opened = contextlib.ExitStack()
    self._key: tuple[str, int] | None = None
    self._stage: Any = None

  def __enter__(self) -> 'Stages':
    return self

  def __exit__(self, *error: Any) -> None:
    self._opened.close()

  def get(self, environment: str, image_size: int) -> stage_lib.Stage:
    """The stage of a world, with pictures of a size."""
    if self._key != (environment, image_size):
      self._opened.close()
      world = worlds.get(environment)
      self._stage = self._opened.enter_context(
        world.stage(image_size=image_size)
      )
      self._key = environment, image_size
    return self._stage
