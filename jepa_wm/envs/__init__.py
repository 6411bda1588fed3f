"""Actions to pixels: worlds, and ways to act in them without a model."""

import importlib
import pkgutil

from jepa_wm.envs.environment import Environment, VectorState
from jepa_wm.envs.maze import Maze
from jepa_wm.envs.multi_agent import MultiAgent
from jepa_wm.envs.policies import (
  MixturePolicy,
  Policy,
  ReactivePolicy,
  SmoothRandomPolicy,
  UniformPolicy,
)
from jepa_wm.envs.push_t import PushT, PushTState
from jepa_wm.envs.push_t_agents import PushTAgents, PushTAgentsState
from jepa_wm.envs.push_t_agents_expert import PushTAgentsExpert
from jepa_wm.envs.push_t_expert import PushTExpert, PushTWeak
from jepa_wm.envs.t_maze import TMaze, TMazeState
from jepa_wm.envs.t_maze_expert import TMazeEither, TMazeExpert
from jepa_wm.envs.two_room import TwoRoom, TwoRoomState
from jepa_wm.envs.two_room_agents import TwoRoomAgents, TwoRoomAgentsState
from jepa_wm.envs.two_room_agents_expert import TwoRoomAgentsExpert
from jepa_wm.envs.two_room_expert import TwoRoomExpert
from jepa_wm.envs.worlds import WORLDS, World, register

# They need a package of an extra, and register no world.
_OF_GYMNASIUM = {'gymnasium', 'to_gymnasium'}

# The files that register worlds, and then any other that does.
for _name in (
  'two_room',
  'push_t_expert',
  'maze_expert',
  't_maze_expert',
  'reacher',
  'ogbench_cube',
  'stable_worldmodel',
  *sorted({m.name for m in pkgutil.iter_modules(__path__)} - _OF_GYMNASIUM),
):
  importlib.import_module(f'{__name__}.{_name}')

__all__ = [
  'WORLDS',
  'Environment',
  'Maze',
  'MixturePolicy',
  'MultiAgent',
  'Policy',
  'PushT',
  'PushTAgents',
  'PushTAgentsExpert',
  'PushTAgentsState',
  'PushTExpert',
  'PushTState',
  'PushTWeak',
  'ReactivePolicy',
  'SmoothRandomPolicy',
  'TMaze',
  'TMazeEither',
  'TMazeExpert',
  'TMazeState',
  'TwoRoom',
  'TwoRoomAgents',
  'TwoRoomAgentsExpert',
  'TwoRoomAgentsState',
  'TwoRoomExpert',
  'TwoRoomState',
  'UniformPolicy',
  'VectorState',
  'World',
  'register',
]
