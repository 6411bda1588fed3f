"""Actions to pixels: worlds, and ways to act in them without a model."""

from jepa_wm.envs.environment import Environment
from jepa_wm.envs.policies import (
  MixturePolicy,
  Policy,
  SmoothRandomPolicy,
  UniformPolicy,
)
from jepa_wm.envs.two_room import TwoRoom, TwoRoomExpert, TwoRoomState
from jepa_wm.envs.worlds import WORLDS, World, register

__all__ = [
  'WORLDS',
  'Environment',
  'MixturePolicy',
  'Policy',
  'SmoothRandomPolicy',
  'TwoRoom',
  'TwoRoomExpert',
  'TwoRoomState',
  'UniformPolicy',
  'World',
  'register',
]
