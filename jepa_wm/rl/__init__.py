"""Agents that learn: a world model as the world that they learn in."""

from jepa_wm.rl.acting import as_policy, evaluate
from jepa_wm.rl.actor_critic import (
  Imagination,
  ImaginedActorCritic,
  numbers,
)
from jepa_wm.rl.agent import Acted, Agent, AgentState
from jepa_wm.rl.brax import as_brax
from jepa_wm.rl.environment_params import EnvironmentParams
from jepa_wm.rl.gymnax import as_gymnax
from jepa_wm.rl.imagination import Imagined, imagine, lambda_returns
from jepa_wm.rl.latent_environment import EnvironmentState, LatentEnvironment
from jepa_wm.rl.online import Act, Batches, Round
from jepa_wm.rl.playing import Actor
from jepa_wm.rl.reach import Reach
from jepa_wm.rl.rewards import Outcome, RewardFn, RewardParams
from jepa_wm.rl.starts import from_episodes, from_frames, from_world
from jepa_wm.rl.values import Valued, Values

__all__ = [
  'Act',
  'Acted',
  'Actor',
  'Agent',
  'AgentState',
  'Batches',
  'EnvironmentParams',
  'EnvironmentState',
  'Imagination',
  'Imagined',
  'ImaginedActorCritic',
  'LatentEnvironment',
  'Outcome',
  'Reach',
  'RewardFn',
  'RewardParams',
  'Round',
  'Valued',
  'Values',
  'as_brax',
  'as_gymnax',
  'as_policy',
  'evaluate',
  'from_episodes',
  'from_frames',
  'from_world',
  'imagine',
  'lambda_returns',
  'numbers',
]
