"""Latent environments of a world, of recorded episodes, and of frames."""

import functools
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields, world_model
from jepa_wm.data import table as table_lib
from jepa_wm.data import windows
from jepa_wm.envs import environment
from jepa_wm.evaluation.planning import observations
from jepa_wm.rl import environment_params, rewards
from jepa_wm.rl import reach as reach_lib
from jepa_wm.rl.latent_environment import LatentEnvironment
from jepa_wm.types import Params

GOALS = ('future', 'dataset', 'resets')
"""What is a goal: a later frame of the start's episode, any frame, or a first
frame of an episode."""

_BATCH = 256
_MOST = 2**24  # Frames; their pictures are never in memory together.

Made = tuple[LatentEnvironment, environment_params.EnvironmentParams]


class Settings(TypedDict, total=False):
  """What may be said of any latent environment.

  Attributes:
    reward_fn: what a step is worth; by default one at the goal and zero
      elsewhere, shaped by the distance (`rewards.shaped`).
    reward: pytree of what the reward reads besides.
    measure: how far latents are from a goal, in which success counts; by
      default the model's own distance.
    reach: the radius of success in that, of one's own (a number) or fitted
      (`reach`).
    discount: what a block later counts.
    max_steps: blocks after which an episode is cut.
  """

  reward_fn: rewards.RewardFn
  reward: Params
  measure: rewards.Measure
  reach: reach_lib.Reach | float
  discount: float
  max_steps: int


def from_world(
  model: world_model.WorldModel,
  world: environment.Environment,
  *,
  num: int = 2048,
  rng_key: jax.Array,
  **settings: Unpack[Settings],
) -> Made:
  """Starts and goals are resets of a JAX world, drawn and encoded.

  Args:
    model: the model.
    world: rendered at the model's size.
    num: states to draw; each is a start and a goal.
    rng_key: of the draw, consumed.
    **settings: see `Settings`; without a reach it is fitted with the true
      states (`reach.from_truth`), the only use of them.

  Returns:
    The environment and its params.

  Raises:
    ValueError: what the model, the world or the reach refuse.
  """
  _check_number('num', num, _MOST)
  _check_settings(settings)
  environment.check_simulated(world)
  observations.check_proprio(
    model, type(world).__name__, environment.proprio_dim(world)
  )

  @jax.jit
  def draw(params: Params, keys: jax.Array) -> Any:
    states = jax.vmap(world.reset)(keys)
    return states, model.encode(
      params, observations.observe(model, world, states)
    )

  keys = jax.random.split(rng_key, num)
  # The last batch is filled up: one shape, one compilation.
  size = min(num, _BATCH)
  rows = np.minimum(np.arange(-(-num // size) * size), num - 1)
  parts = [draw(model.params, keys[x]) for x in rows.reshape(-1, size)]
  states, latents = jax.tree.map(lambda *x: jnp.concatenate(x)[:num], *parts)
  fit = functools.partial(
    reach_lib.from_truth,
    world,
    latents,
    states,
    measure=_measure(model, settings),
  )
  bounds = tuple(map(np.asarray, (world.action_low, world.action_high)))
  return _made(model, bounds, fit, settings, starts=latents, goals=latents)


def from_episodes(
  model: world_model.WorldModel,
  episodes: table_lib.Table,
  *,
  low: Any,
  high: Any,
  goals: str = 'future',
  history: int = 1,
  num: int = 4096,
  reach_steps: int = 10,
  seed: int = 0,
  **settings: Unpack[Settings],
) -> Made:
  """Starts and goals are frames of recorded episodes.

  Args:
    model: the model.
    episodes: `data.cache.open_cache` of an archive, or any other table with
      the columns that the model observes.
    low: lower bounds of a raw action, a number or `[raw]`.
    high: upper bounds.
    goals: one of `GOALS`.
    history: frames `L` that a start has, a block apart, with the actions
      between them.
    num: frames to encode at least, in whole episodes drawn at random; all
      where there are fewer.
    reach_steps: see there.
    seed: of the draw.
    **settings: see `Settings`; without a reach it is the median distance of
      frames `reach_steps` apart (`reach.from_time`): no true state is asked.

  Returns:
    The environment and its params.

  Raises:
    ValueError: no such goals, a column that is missing, episodes too short for
      a start, or what the model refuses.
  """
  fields.check_choice('goals', goals, GOALS)
  _check_number('num', num)
  _check_number('history', history)
  _check_settings(settings)
  drawn = np.random.default_rng(seed).permutation(len(episodes.lengths))
  count = np.searchsorted(np.cumsum(episodes.lengths[drawn]), num) + 1
  drawn = np.sort(drawn[:count])
  lengths = np.asarray(episodes.lengths)[drawn]
  frames = np.concatenate(
    [np.arange(n) + o for o, n in zip(episodes.offsets[drawn], lengths)]
  )
  latents = _encoded(model, episodes, frames)
  # From here on frames are counted within those that were drawn.
  ends = np.cumsum(lengths)
  offsets = ends - lengths
  of = np.repeat(np.arange(len(lengths)), lengths)
  block = model.action_block
  number = np.arange(len(frames))
  is_start = number - offsets[of] >= (history - 1) * block
  if goals == 'future':
    is_start &= number + block < ends[of]
  starts = number[is_start]
  if not len(starts):
    raise ValueError(
      f'No episode at {episodes.where} is long enough: a start takes '
      f'{(history - 1) * block + 1} frames, and a goal in its future another '
      f'{block}; the longest has {max(lengths)}.'
    )
  past = np.arange(1 - history, 1) * block
  window = starts[:, None] + past
  played = window[:, :-1, None] + np.arange(block)
  raw = np.asarray(episodes.columns['action'])[frames[played]]
  if goals == 'resets':
    wanted, ranges = latents[offsets], None
  elif goals == 'dataset':
    wanted, ranges = latents, None
  else:
    wanted = latents
    ranges = np.stack([starts + block, ends[of[starts]]], axis=-1)
  fit = functools.partial(
    reach_lib.from_time,
    latents,
    offsets,
    lengths,
    num_steps=reach_steps,
    measure=_measure(model, settings),
  )
  return _made(
    model,
    (low, high),
    fit,
    settings,
    starts=latents[window],
    goals=wanted,
    start_actions=model.normalize_actions(raw),
    goal_ranges=ranges,
  )


def from_frames(
  model: world_model.WorldModel,
  starts: Mapping[str, Any],
  goals: Mapping[str, Any] | None = None,
  *,
  low: Any,
  high: Any,
  **settings: Unpack[Settings],
) -> Made:
  """Starts and goals are frames in hand.

  Args:
    model: the model.
    starts: arrays `[M, *shape]` as `model.observation_spec` has them.
    goals: `[G, *shape]`; the starts if left out.
    low: lower bounds of a raw action, a number or `[raw]`.
    high: upper bounds.
    **settings: see `Settings`; the reach must be given.

  Returns:
    The environment and its params.

  Raises:
    ValueError: no reach, or what the model refuses.
  """
  _check_settings(settings)

  def encoded(given: Mapping[str, Any]) -> np.ndarray:
    frames = {k: np.asarray(given[k]) for k in given}
    # Says what does not fit.
    found = jax.eval_shape(model.encode, model.params, frames).shape
    if len(found) != 2 or not found[0]:
      raise ValueError(
        'starts and goals: expected arrays [M, *shape] of at least one frame, '
        f'as model.observation_spec has them, got {list(found[:-1])} of them.'
      )
    num: int = found[0]
    look = lambda rows: {k: x[rows] for k, x in frames.items()}
    return _in_batches(model, look, num)

  first = encoded(starts)
  wanted = first if goals is None else encoded(goals)

  def fit() -> reach_lib.Reach:
    raise ValueError(
      'reach: frames alone do not say what counts as reached; give a number, '
      'or reach.from_truth or reach.from_time of such frames.'
    )

  return _made(model, (low, high), fit, settings, starts=first, goals=wanted)


def _made(
  model: world_model.WorldModel,
  bounds: Any,
  fit: Any,
  settings: Settings,
  **arrays: Any,
) -> Made:
  """The environment of these arrays, its reach fitted where none is given."""
  model.action_bounds(*bounds)  # Says what does not fit.
  raw = (model.levels[0].model.action_spec.dim,)
  if any(np.shape(x) not in ((), raw) for x in bounds):
    raise ValueError(
      f'low and high: expected numbers or {list(raw)}, the same for every '
      f'action of a block, got {[list(np.shape(x)) for x in bounds]}.'
    )
  given = dict(settings)
  reach: Any = given.pop('reach', None)
  reward_fn: Any = given.pop('reward_fn', None)
  given.pop('measure', None)
  measure = _measure(model, settings)
  if reach is None:
    reach = fit()
  elif not isinstance(reach, reach_lib.Reach):
    reach = reach_lib.given(reach, measure)
  if reward_fn is None:
    arrival = rewards.reached(distance_fn=measure.distance_fn)
    reward_fn = rewards.shaped(arrival)
  low, high = (tuple(np.broadcast_to(x, raw).tolist()) for x in bounds)
  env = LatentEnvironment(
    model, reward_fn, low, high, reach, measure.distance_fn
  )
  more: Any = {**arrays, **given, 'distance': measure.params}
  return env, environment_params.make(model, reach=reach.value, **more)


def _measure(
  model: world_model.WorldModel, settings: Settings
) -> rewards.Measure:
  """That of the settings, else the model's own."""
  own = model.levels[0].model.distance
  default = rewards.Measure(lambda params, *latents: own(*latents))
  return settings.get('measure', default)


def _encoded(
  model: world_model.WorldModel, episodes: table_lib.Table, frames: np.ndarray
) -> np.ndarray:
  """Latents of frames of a table, `[n, D]`."""
  names = {name: f'observation/{name}' for name in model.observation_spec}
  for name in names.values():
    if name not in episodes.columns:
      raise ValueError(
        f'The episodes at {episodes.where} have no column {name!r}, which the '
        f'model observes; they have {", ".join(sorted(episodes.columns))}.'
      )

  def look(rows: np.ndarray) -> dict[str, Any]:
    some = frames[rows]
    return {k: episodes.columns[name][some] for k, name in names.items()}

  return _in_batches(model, look, len(frames))


def _in_batches(
  model: world_model.WorldModel, look: Any, num: int
) -> np.ndarray:
  """Latents of `look(rows)` for `num` rows, `[num, D]`."""
  encode = jax.jit(model.encode)
  size = min(num, _BATCH)
  rows = np.minimum(np.arange(-(-num // size) * size), num - 1)
  parts = [encode(model.params, look(x)) for x in rows.reshape(-1, size)]
  return np.concatenate(parts)[:num]


def _check_number(name: str, number: int, most: int | None = None) -> None:
  if not windows.is_whole(number):
    raise ValueError(f'{name}: expected a whole number, got {number!r:.60}.')
  if number < 1:
    raise ValueError(f'{name}: expected at least 1, got {number}.')
  if most is not None and number > most:
    raise ValueError(f'{name}: expected at most {most}, got {number}.')


def _check_settings(settings: Settings) -> None:
  """Refuses settings before anything is drawn or encoded."""
  fields.check_names('settings', settings, tuple(Settings.__annotations__))
  given: dict[str, Any] = {
    name: settings[name]
    for name in ('reach', 'discount', 'max_steps')
    if name in settings
  }
  reach = given.pop('reach', None)
  if isinstance(reach, reach_lib.Reach):
    reach = reach.value
  if reach is not None:
    given['reach'] = reach
  environment_params.check_numbers(**given)
