"""Plays a policy in a world and writes what happened.

An archive of episodes (`jepa_wm/data/episodes.py`) and, from the frames still
in memory, the cache that training reads (`jepa_wm/data/cache.py`). The default
is the peers' recipe for Two Room: the expert with action noise 2.0, at most
100 steps, over when the target is reached.
"""

import collections
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tqdm
from jax.experimental import multihost_utils

from jepa_wm import fields, files, processes, provenance, sharding
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import cache_writer as cache_writer_lib
from jepa_wm.data import columns, parts, resizing
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds
from jepa_wm.recipes import making

# Frames in memory at once, twice: a batch is played while another is written.
_BATCH_BYTES = 2**27

KIND = 'collect'
"""What a making of this kind leaves beside what is made."""

_MOST_ODDS = 1e9
_MOST_NOISE = 1e6
_MIXTURE = {'expert': 1.0, 'smooth': 1.0}

_LEAST = {
  'num_episodes': 1,
  'episode_length': 1,
  'min_episode_length': 0,
  'image_size': 1,
  'seed': 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collecting:
  """What is played, and so what the episodes are a function of.

  Attributes:
    environment: world to play in: two_room, push_t, point_maze, reacher, ...
      (docs/worlds.md).
    num_agents: who act at once, 1 to 8, in a world of several agents; 2 by
      default there, refused elsewhere.
    num_episodes: episodes to write.
    episode_length: steps of an episode at most.
    min_episode_length: steps below which an episode is not kept but replaced by
      another one; a training window of 4 frames 5 steps apart needs 15.
    stop_at_success: ends an episode where the target is reached.
    image_size: height and width of the frames.
    policy: who plays: a policy of the world (expert, random, smooth, ...), or
      'mixture', one of several, drawn for each episode.
    mixture: odds of the policies that policy 'mixture' draws from, relative to
      each other.
    action_noise: standard deviation of the noise on the expert's actions, which
      are clipped to their bounds afterwards; the world's own by default (2.0 in
      Two Room).
    seed: of everything random.
  """

  environment: str = 'two_room'
  num_agents: int | None = None
  num_episodes: int = 2000
  episode_length: int = 100
  min_episode_length: int = 25
  stop_at_success: bool = True
  image_size: int = 64
  policy: str = 'expert'
  mixture: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: dict(_MIXTURE)
  )
  action_noise: float | None = None
  seed: int = 0

  def __post_init__(self) -> None:
    """Checks all fields.

    Raises:
      ValueError: a number out of its range, an unknown world or policy, a
        number of agents where one acts, odds that are not positive, or a
        shortest episode longer than the longest.
    """
    fields.check_counts(self, _LEAST, {'image_size': resizing.MOST_PIXELS})
    world = worlds.with_num_agents(self.environment, self.num_agents)
    object.__setattr__(self, 'environment', world)
    noise = self.action_noise
    if noise is not None and not 0 <= noise <= _MOST_NOISE:
      raise ValueError(
        f'action_noise must be at least 0 and at most {_MOST_NOISE:g}, got '
        f'{noise}.'
      )
    known = sorted(worlds.get(self.environment).policies)
    fields.check_choice('policy', self.policy, [*known, 'mixture'])
    if self.policy != 'mixture' and self.mixture != _MIXTURE:
      raise ValueError(
        f'mixture means nothing for policy {self.policy!r}; leave it out, or '
        "choose policy 'mixture'."
      )
    for name, odds in self.odds.items():
      fields.check_choice('mixture', name, known)
      if not 0 < odds <= _MOST_ODDS:
        raise ValueError(
          f'mixture must have positive, finite odds, got {name}={odds:g}.'
        )
    usual = worlds.get(self.environment).action_noise
    if noise not in (None, usual) and set(self.odds) == {'random'}:
      raise ValueError(
        f'action_noise={noise} would do nothing: random actions have none of '
        'it; leave it out, or choose another policy.'
      )
    if noise is None:
      object.__setattr__(self, 'action_noise', usual)
    if not self.odds:
      raise ValueError('mixture must name at least one policy.')
    if self.min_episode_length > self.episode_length:
      raise ValueError(
        f'min_episode_length is {self.min_episode_length}, more than '
        f'episode_length, {self.episode_length}.'
      )

  @property
  def odds(self) -> Mapping[str, float]:
    """Relative odds of the policies that play."""
    return self.mixture if self.policy == 'mixture' else {self.policy: 1.0}

  def stage(self) -> stage_lib.Stage:
    """A stage of the world to play in; use it as a context."""
    return worlds.get(self.environment).stage(image_size=self.image_size)

  def role(self) -> stage_lib.Role:
    """One of the recipe's policies, drawn for each episode."""
    noise: Any = self.action_noise
    return stage_lib.Role(tuple(self.odds), noise, tuple(self.odds.values()))

  def provenance(self) -> dict[str, Any]:
    """Where the episodes come from, JSON-able."""
    return {
      'environment': self.environment,
      'environment_parameters': self.stage().parameters,
      'recipe': dataclasses.asdict(self),
      'commit': provenance.commit(),
    }


def played_episodes(
  recipe: Collecting, *, stage: stage_lib.Stage | None = None
) -> Iterator[episodes_lib.Episode]:
  """Plays episodes until there are enough, in batches that change none.

  Episode number i depends on the recipe's seed and on i alone. One whose world
  breaks is left out, and the reason is printed.

  Args:
    recipe: what to play.
    stage: of the recipe's world and image size; one of its own if left out.

  Raises:
    ValueError: the world does not start, no longer works, or almost no episode
      is as long as `min_episode_length`.
  """
  with worlds.on_stage(
    stage, recipe.environment, image_size=recipe.image_size
  ) as opened:
    yield from _play(recipe, opened)


def _play(
  recipe: Collecting, stage: stage_lib.Stage
) -> Iterator[episodes_lib.Episode]:
  episode_bytes = (recipe.episode_length + 1) * recipe.image_size**2 * 3
  batch_size = min(64, recipe.num_episodes, stage.num_rows)
  batch_size = max(1, min(batch_size, _BATCH_BYTES // episode_bytes))
  num_kept = num_played = num_failed = 0
  play = _play_batch if sharding.is_alone() else _Rounds().play
  batch, reasons = play(recipe, stage, 0, batch_size)
  while True:
    # On a device the next batch is played while this one is written.
    following = None
    if num_kept + batch_size < recipe.num_episodes:
      following = play(recipe, stage, num_played + batch_size, batch_size)
    batch = jax.device_get(batch)
    for row in range(batch_size):
      index = num_played + row
      if row in reasons:
        num_failed += 1
        print(f'episode {index} broke: {reasons[row]}')
        continue
      episode = _episode(recipe, batch, row, index)
      if len(episode.columns['action']) < recipe.min_episode_length:
        continue
      yield episode
      num_kept += 1
      if num_kept == recipe.num_episodes:
        return
    num_played += batch_size
    if num_failed > max(10, num_played // 2):
      raise ValueError(
        f'{num_failed} of {num_played} episodes broke, the last one because '
        f'{list(reasons.values())[-1:] or "of an earlier failure"}.'
      )
    if num_kept * 100 < num_played - 1000:
      raise ValueError(
        f'Only {num_kept} of {num_played} episodes reach '
        f'min_episode_length={recipe.min_episode_length} steps; lower it or '
        'leave stop_at_success off.'
      )
    batch, reasons = following or play(recipe, stage, num_played, batch_size)


class _Rounds:
  """Batches of episodes, of which each process plays every n-th."""

  def __init__(self) -> None:
    self._ready: collections.deque[tuple[Any, dict[int, str]]] = (
      collections.deque()
    )

  def play(
    self, recipe: Collecting, stage: stage_lib.Stage, first: int, count: int
  ) -> tuple[stage_lib.Episodes, dict[int, str]]:
    """As `_play_batch`, of batches that follow one another, in all of them."""
    if not self._ready:
      own = first + jax.process_index() * count
      batch, reasons = _play_batch(recipe, stage, own, count)
      every = multihost_utils.process_allgather(jax.device_get(batch))
      told = processes.gather({str(row): why for row, why in reasons.items()})
      for i, said in enumerate(told):
        part = jax.tree.map(lambda x, i=i: x[i], every)
        self._ready.append((part, {int(row): x for row, x in said.items()}))
    return self._ready.popleft()


def _play_batch(
  recipe: Collecting, stage: stage_lib.Stage, first: int, count: int
) -> tuple[stage_lib.Episodes, dict[int, str]]:
  """Episodes `first`, `first + 1`, ..., and which rows broke for what."""
  rows = np.arange(count)
  streams = stage.streams(stage_lib.Purpose.EPISODES, recipe.seed, first + rows)
  stage.reset(rows, streams)
  played = stage.perform(
    rows,
    recipe.role(),
    streams,
    num_steps=recipe.episode_length,
    look=True,
    stop=recipe.stop_at_success,
  )
  return played, dict(stage.failures)


def _episode(
  recipe: Collecting, batch: Any, row: int, index: int
) -> episodes_lib.Episode:
  """What happened in a row, up to where the target was reached."""
  is_terminal = recipe.stop_at_success and bool(np.any(batch.reached[row]))
  length = recipe.episode_length + 1
  if is_terminal:
    length = int(np.argmax(batch.reached[row])) + 1
  known = {
    'observation/pixels': batch.observations['pixels'][row, :length],
    'observation/proprio': batch.observations['proprio'][row, :length],
    'action': batch.actions[row, : length - 1],
    'state': batch.vectors[row, :length],
  }
  if batch.rewards is not None:
    known['reward'] = batch.rewards[row, : length - 1]
  return episodes_lib.Episode(
    columns=columns.known(known),
    provenance={
      'index': index,
      'policy': list(recipe.odds)[batch.policies[row]],
    },
    is_terminal=is_terminal,
  )


def collect(
  recipe: Collecting,
  out: str | os.PathLike[str],
  *,
  held_out_fraction: float = 0.1,
  overwrite: bool = False,
  progress: bool = True,
  check_fn: Callable[[], None] = lambda: None,
) -> dict[str, int]:
  """Plays a recipe and writes archive and cache.

  Args:
    recipe: what to play.
    out: directory to create.
    held_out_fraction: share of the episodes in the split `held_out`.
    overwrite: replaces the directory where there is one.
    progress: draws a progress bar.
    check_fn: called after every episode, and before what was collected takes
      its place; what it raises ends it all, and nothing is written.

  Returns:
    Number of episodes per split.

  Several processes play, each other batches, and the first one writes what one
  would have written.

  Raises:
    FileExistsError: there is something at `out` and `overwrite` is False.
    HeldError: another process collects to `out`.
    OSError: the disk is full, too small or cannot be written to.
    ValueError: see `played_episodes` and `episodes.write_episodes`.
  """
  out = files.real(out)
  parts.check_split(recipe.num_episodes, held_out_fraction)
  plan = {**dataclasses.asdict(recipe), 'held_out_fraction': held_out_fraction}
  made = making.Making(out, KIND, lambda: plan, overwrite)
  processes.by_first(lambda: _check_place(recipe, made))
  with made.alone():
    counts: dict[str, int] | None = processes.from_first(made.taken_up)
    if counts is not None:
      return counts
    if processes.is_first():
      return _write(recipe, made, held_out_fraction, progress, check_fn)
    for _ in played_episodes(recipe):
      check_fn()
  return {}


def _write(
  recipe: Collecting,
  made: making.Making,
  held_out_fraction: float,
  progress: bool,
  check_fn: Callable[[], None],
) -> dict[str, int]:
  """Plays, and writes as it goes; see `collect`."""
  made.clear()
  try:
    counts = _write_archive(recipe, made, held_out_fraction, progress, check_fn)
    made.place(counts)
  except BaseException:
    # Not to hide what went wrong: the disk may be gone.
    with contextlib.suppress(OSError):
      made.clear()
    raise
  return counts


def _write_archive(
  recipe: Collecting,
  made: making.Making,
  held_out_fraction: float,
  progress: bool,
  check_fn: Callable[[], None],
) -> dict[str, int]:
  with (
    cache_writer_lib.CacheWriter(made.archive) as cache_writer,
    tqdm.tqdm(
      desc=made.out.name,
      total=recipe.num_episodes,
      unit=' episodes',
      disable=not progress,
    ) as bar,
  ):

    def cached_as_well() -> Iterator[episodes_lib.Episode]:
      for index, episode in enumerate(played_episodes(recipe)):
        split = episodes_lib.split_name(
          index, held_out_fraction=held_out_fraction
        )
        cache_writer.add(episode, split=split)
        yield episode
        bar.update()
        check_fn()

    counts = episodes_lib.write_episodes(
      made.archive,
      cached_as_well(),
      provenance=recipe.provenance(),
      held_out_fraction=held_out_fraction,
    )
    cache_writer.commit()
  return counts


def _check_place(recipe: Collecting, made: making.Making) -> None:
  """Refuses a folder that is there, or a disk that is too small."""
  made.check_place()
  num_frames = recipe.num_episodes * (recipe.episode_length + 1)
  cache_lib.check_space(made.out, num_frames * 3 * recipe.image_size**2)
