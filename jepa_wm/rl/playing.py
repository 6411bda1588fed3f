"""A planner that plays episodes in a world, with a model that is learning."""

from typing import Any

import jax
import numpy as np

from jepa_wm import planning, world_model
from jepa_wm.envs import stage as stage_lib


class Actor:
  """A planner that plays episodes with whatever parameters a run has now.

  One program, compiled once: models that differ in their parameters alone
  share it.
  """

  def __init__(
    self,
    planner: planning.Planner[Any],
    *,
    horizon: int,
    num_episodes: int,
    num_steps: int,
    noise: float = 0.0,
  ):
    """Says who plays and how long.

    Args:
      planner: searches for actions.
      horizon: H, blocks to look ahead; one is played before the next plan.
      num_episodes: episodes of a round.
      num_steps: environment steps of an episode, whole blocks.
      noise: deviation of what is added to actions, as a share of half their
        range.
    """
    self.num_episodes = num_episodes
    self._planner, self._horizon = planner, horizon
    self.num_steps, self._noise = num_steps, noise
    self._compiled: planning.CompiledPlanner | None = None

  @property
  def num_programs(self) -> int:
    """Planning programs compiled so far."""
    return 0 if self._compiled is None else self._compiled.num_programs

  def play(
    self,
    model: world_model.WorldModel,
    stage: stage_lib.Stage,
    *,
    seed: int,
    first: int,
  ) -> stage_lib.Episodes:
    """Plays a round of episodes, each towards its own target.

    Args:
      model: plans; sees pixels alone.
      stage: of the world, with room for `num_episodes` rows.
      seed: of everything random.
      first: number of the first episode; what is random of an episode comes
        from the seed and its number.

    Returns:
      What was seen and done; without the first of the true states.

    Raises:
      ValueError: a model that sees more than pixels, or an episode that is not
        whole blocks.
    """
    check(model, self.num_steps)
    rows = np.arange(self.num_episodes)
    streams = stage.streams(stage_lib.Purpose.EPISODES, seed, first + rows)
    stage.reset(rows, streams)
    goals = {'pixels': stage.pictures(stage.draw_goals(rows, streams))}
    plan = self._plan_fn(model, stage)
    key = jax.random.fold_in(jax.random.key(seed), first)
    draws = np.random.default_rng((seed, first))
    low, high = (np.asarray(x) for x in (stage.action_low, stage.action_high))
    warm_start = plan.first(len(rows))
    seen = [stage.observe(rows)]
    played: list[np.ndarray] = []
    trails: list[stage_lib.Trail] = []
    for number in range(self.num_steps // model.action_block):
      planned = plan(
        jax.random.fold_in(key, number),
        {'pixels': seen[-1]['pixels']},
        goals,
        warm_start=warm_start,
        params=model.params,
      )
      if not np.all(np.isfinite(planned.cost)):
        raise ValueError(
          f'The model prices plans of block {number} with NaN or infinity; it '
          'has diverged, and what it would do is not worth playing.'
        )
      warm_start = plan.shift(planned, 1)
      block = np.asarray(model.raw_actions(planned.actions[:, 0]))
      for t in range(model.action_block):
        noise = self._noise * draws.normal(size=block[:, t].shape)
        action = np.clip(block[:, t] + noise * (high - low) / 2, low, high)
        action = action.astype(np.float32)
        trails.append(stage.play(rows, action[:, None]))
        seen.append(stage.observe(rows))
        played.append(action)
    join = lambda parts: np.stack([np.asarray(x) for x in parts], axis=1)
    rewards = [x.rewards[:, 0] for x in trails if x.rewards is not None]
    return stage_lib.Episodes(
      vectors=join([x.vectors[:, 0] for x in trails]),
      reached=join([x.reached[:, 0] for x in trails]),
      actions=join(played),
      rewards=join(rewards) if rewards else None,
      observations={'pixels': join([x['pixels'] for x in seen])},
      policies=None,
    )

  def _plan_fn(
    self, model: world_model.WorldModel, stage: stage_lib.Stage
  ) -> planning.CompiledPlanner:
    """The program, of the first model that it was asked for."""
    if self._compiled is None:
      bounds = model.action_bounds(
        np.asarray(stage.action_low), np.asarray(stage.action_high)
      )
      self._compiled = model.planner(
        self._planner, horizon=self._horizon, limits=planning.Limits((bounds,))
      )
    return self._compiled


def check(model: world_model.WorldModel, num_steps: int) -> None:
  """Refuses what cannot be played.

  Args:
    model: is to play; its parameters are not looked at.
    num_steps: environment steps of an episode.

  Raises:
    ValueError: a model that sees more than pixels, or an episode that is not
      whole blocks.
  """
  sees = set(model.observation_spec)
  if sees != {'pixels'}:
    raise ValueError(
      f'online: targets are pictures, and the model sees {sorted(sees)}; train '
      'one of pixels alone.'
    )
  if num_steps % model.action_block:
    raise ValueError(
      f'online: episode_length must be whole blocks of {model.action_block} '
      f'steps, got {num_steps}.'
    )
