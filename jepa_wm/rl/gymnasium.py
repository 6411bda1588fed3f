"""Latent environments, and any other `episodic.Episodic`, as Gymnasium's."""

from jepa_wm.envs import episodic, to_gymnasium
from jepa_wm.types import Params


def as_gymnasium(
  env: episodic.Episodic, params: Params
) -> to_gymnasium.EpisodicEnv:
  """A `gymnasium.Env` of one world, for stable-baselines3 and the like.

  Args:
    env: a latent environment, or a true world (`envs.goal_world`).
    params: its arrays, an attribute that may be replaced.
  """
  return to_gymnasium.EpisodicEnv(env, params)


def as_vector(
  env: episodic.Episodic, params: Params, num_envs: int
) -> to_gymnasium.EpisodicVectorEnv:
  """A `gymnasium.vector.VectorEnv`: many worlds in one compiled program.

  Args:
    env: a latent environment, or a true world (`envs.goal_world`).
    params: its arrays, an attribute that may be replaced.
    num_envs: how many.

  Raises:
    ValueError: less than one.
  """
  return to_gymnasium.EpisodicVectorEnv(env, params, num_envs)
