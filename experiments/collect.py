"""Plays a policy in a world and writes what happened.

  python -m experiments.collect --environment=two_room --out=data/two_room

writes an archive of episodes (`jepa_wm/data/episodes.py`) and, from the frames
still in memory, the cache that training reads (`jepa_wm/data/cache.py`). The
default is the peers' recipe for Two Room: the expert with action noise 2.0, at
most 100 steps, over when the target is reached.
"""

import dataclasses
import os
import pathlib
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tqdm
from absl import app, flags, logging

from experiments import command_line
from jepa_wm import provenance
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import cache_writer as cache_writer_lib
from jepa_wm.data import columns
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds

# Frames in memory at once, twice: a batch is played while another is written.
_BATCH_BYTES = 2**27

_ENVIRONMENT = flags.DEFINE_enum(
  'environment', 'two_room', sorted(worlds.WORLDS), 'World to play in.'
)
_OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory to create for the episodes; data/ENVIRONMENT by default.',
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replaces episodes that are there already.'
)
_NUM_EPISODES = flags.DEFINE_integer(
  'num_episodes', 2000, 'Episodes to write.', lower_bound=1
)
_EPISODE_LENGTH = flags.DEFINE_integer(
  'episode_length', 100, 'Steps of an episode at most.', lower_bound=1
)
_MIN_EPISODE_LENGTH = flags.DEFINE_integer(
  'min_episode_length',
  25,
  'Steps below which an episode is not kept but replaced by another one; a '
  'training window of 4 frames 5 steps apart needs 15.',
  lower_bound=0,
)
_STOP_AT_SUCCESS = flags.DEFINE_bool(
  'stop_at_success', True, 'Ends an episode where the target is reached.'
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size', 64, 'Height and width of the frames.', lower_bound=1
)
_POLICY = flags.DEFINE_string(
  'policy',
  'expert',
  "Who plays: a policy of the world ('expert', 'random', 'smooth', ...) or "
  "'mixture'.",
)
_MIXTURE = flags.DEFINE_list(
  'mixture',
  ['expert=1', 'smooth=1'],
  'Odds of the policies that --policy=mixture draws from for each episode.',
)
_ACTION_NOISE = flags.DEFINE_float(
  'action_noise',
  None,
  "Standard deviation of the noise on the expert's actions, which are clipped "
  "to their bounds afterwards; the world's own by default (2.0 in Two Room).",
  lower_bound=0.0,
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of everything random.', lower_bound=0)
_HELD_OUT_FRACTION = flags.DEFINE_float(
  'held_out_fraction',
  0.1,
  'Share of the episodes that is never trained on.',
  lower_bound=0.0,
  upper_bound=0.99,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """What is played, and so what the episodes are a function of.

  Attributes:
    environment: name of the world.
    num_episodes: episodes to keep.
    episode_length: steps of an episode at most.
    min_episode_length: steps below which an episode is replaced by another.
    stop_at_success: whether an episode ends where the target is reached.
    image_size: height and width of the frames.
    policy_odds: name of a policy to its relative odds, drawn per episode.
    action_noise: standard deviation of the noise on the expert's actions; the
      world's own where it is None.
    seed: of everything random.
  """

  environment: str = 'two_room'
  num_episodes: int = 2000
  episode_length: int = 100
  min_episode_length: int = 25
  stop_at_success: bool = True
  image_size: int = 64
  policy_odds: Mapping[str, float] = dataclasses.field(
    default_factory=lambda: {'expert': 1.0}
  )
  action_noise: float | None = None
  seed: int = 0

  def __post_init__(self) -> None:
    """Checks what the flags' own bounds do not.

    Raises:
      ValueError: an unknown world or policy, odds that are not positive, or a
        shortest episode longer than the longest.
    """
    known = worlds.get(self.environment).policies
    for name, odds in self.policy_odds.items():
      if name not in known or not odds > 0:
        raise ValueError(
          f'policy must be one of {", ".join(sorted(known))}, or a mixture of '
          f'them with positive odds, got {name}={odds:g}.'
        )
    if self.action_noise is None:
      noise = worlds.get(self.environment).action_noise
      object.__setattr__(self, 'action_noise', noise)
    if not self.policy_odds:
      raise ValueError('A mixture needs at least one policy.')
    if self.min_episode_length > self.episode_length:
      raise ValueError(
        f'min_episode_length is {self.min_episode_length}, more than '
        f'episode_length, {self.episode_length}.'
      )

  def stage(self) -> stage_lib.Stage:
    """A stage of the world to play in; use it as a context."""
    return worlds.get(self.environment).stage(image_size=self.image_size)

  def role(self) -> stage_lib.Role:
    """One of the recipe's policies, drawn for each episode."""
    noise: Any = self.action_noise
    return stage_lib.Role(
      tuple(self.policy_odds), noise, tuple(self.policy_odds.values())
    )

  def provenance(self) -> dict[str, Any]:
    """Where the episodes come from, JSON-able."""
    return {
      'environment': self.environment,
      'environment_parameters': self.stage().parameters,
      'recipe': dataclasses.asdict(self),
      'commit': provenance.commit(),
    }


def played_episodes(
  recipe: Recipe, *, stage: stage_lib.Stage | None = None
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
  recipe: Recipe, stage: stage_lib.Stage
) -> Iterator[episodes_lib.Episode]:
  episode_bytes = (recipe.episode_length + 1) * recipe.image_size**2 * 3
  batch_size = min(64, recipe.num_episodes, stage.num_rows)
  batch_size = max(1, min(batch_size, _BATCH_BYTES // episode_bytes))
  num_kept = num_played = num_failed = 0
  batch, reasons = _play_batch(recipe, stage, 0, batch_size)
  while True:
    # On a device the next batch is played while this one is written.
    following = None
    if num_kept + batch_size < recipe.num_episodes:
      following = _play_batch(
        recipe, stage, num_played + batch_size, batch_size
      )
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
    batch, reasons = following or _play_batch(
      recipe, stage, num_played, batch_size
    )


def _play_batch(
  recipe: Recipe, stage: stage_lib.Stage, first: int, count: int
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
  recipe: Recipe, batch: Any, row: int, index: int
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
      'policy': list(recipe.policy_odds)[batch.policies[row]],
    },
    is_terminal=is_terminal,
  )


def collect(
  recipe: Recipe,
  out: str | os.PathLike[str],
  *,
  held_out_fraction: float = 0.1,
  overwrite: bool = False,
  progress: bool = True,
) -> dict[str, int]:
  """Plays a recipe and writes archive and cache.

  Args:
    recipe: what to play.
    out: directory to create.
    held_out_fraction: share of the episodes in the split `held_out`.
    overwrite: replaces the directory where there is one.
    progress: draws a progress bar.

  Returns:
    Number of episodes per split.

  Raises:
    FileExistsError: there is something at `out` and `overwrite` is False.
    OSError: the disk is full, too small or cannot be written to.
    ValueError: see `played_episodes` and `episodes.write_episodes`.
  """
  out = pathlib.Path(out)
  if out.exists() and not overwrite:
    raise FileExistsError(
      f'{out} is there already; add --overwrite to replace it.'
    )
  num_frames = recipe.num_episodes * (recipe.episode_length + 1)
  cache_lib.check_space(out, num_frames * 3 * recipe.image_size**2)
  with (
    cache_writer_lib.CacheWriter(out) as cache_writer,
    tqdm.tqdm(
      desc=out.name,
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

    counts = episodes_lib.write_episodes(
      out,
      cached_as_well(),
      provenance=recipe.provenance(),
      held_out_fraction=held_out_fraction,
      overwrite=overwrite,
    )
    cache_writer.commit()
  return counts


def _parse_odds(items: list[str]) -> dict[str, float]:
  """Reads 'expert=1', 'smooth=2.5'.

  Raises:
    ValueError: an item of another form.
  """
  odds = {}
  for item in items:
    name, _, number = item.partition('=')
    try:
      odds[name.strip()] = float(number)
    except ValueError:
      raise ValueError(
        f'--mixture is a list like expert=1,smooth=2, got {item!r} in it.'
      ) from None
  return odds


def main(argv: list[str]) -> None:
  """Reads the flags, collects, and ends in one sentence whatever happens."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  logging.set_verbosity(logging.WARNING)
  # SIGTERM then cleans up as Ctrl-C does.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  out = pathlib.Path(_OUT.value or f'data/{_ENVIRONMENT.value}')
  try:
    mixture = _parse_odds(_MIXTURE.value)
    counts = collect(
      Recipe(
        environment=_ENVIRONMENT.value,
        num_episodes=_NUM_EPISODES.value,
        episode_length=_EPISODE_LENGTH.value,
        min_episode_length=_MIN_EPISODE_LENGTH.value,
        stop_at_success=_STOP_AT_SUCCESS.value,
        image_size=_IMAGE_SIZE.value,
        policy_odds=(
          mixture if _POLICY.value == 'mixture' else {_POLICY.value: 1.0}
        ),
        action_noise=_ACTION_NOISE.value,
        seed=_SEED.value,
      ),
      out,
      held_out_fraction=_HELD_OUT_FRACTION.value,
      overwrite=_OVERWRITE.value,
    )
  except KeyboardInterrupt:
    sys.exit(f'Interrupted; nothing was written to {out}.')
  except OSError as error:
    sys.exit(
      f'Cannot write to {out}: {error.strerror}.' if error.errno else str(error)
    )
  except ValueError as error:
    sys.exit(str(error))
  print(f'{out}: ' + ', '.join(f'{n} {s}' for s, n in counts.items()))


if __name__ == '__main__':
  app.run(
    main,
    flags_parser=lambda argv: app.parse_flags_with_usage(
      command_line.at_home(argv)
    ),
  )
