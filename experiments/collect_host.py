"""Plays policies in worlds outside JAX, for `experiments.collect`."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from jepa_wm.data import columns
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.envs import host, host_play, host_pool, worlds

# Rows at once: enough for every core, few enough to hold their frames.
_ROWS = 16

_STREAM = 1


def played_episodes(
  recipe: Any, *, num_workers: int | None = None
) -> Iterator[episodes_lib.Episode]:
  """Plays episodes until there are enough, in batches that change none.

  Episode number i depends on the recipe's seed and on i alone. One whose world
  breaks is left out, and the reason is printed.

  Args:
    recipe: a `collect.Recipe` of a host world.
    num_workers: of the pool; one per core by default.

  Raises:
    ValueError: the world does not start, no longer works, or almost no episode
      is as long as `min_episode_length`.
  """
  world: host.HostWorld = worlds.get(recipe.environment).make(
    image_size=recipe.image_size
  )
  names = list(recipe.policy_odds)
  odds = np.asarray(list(recipe.policy_odds.values()), float)
  makers = [
    worlds.get(recipe.environment).policy(name, world, recipe.action_noise)
    for name in names
  ]
  num_kept = num_failed = 0
  rows = np.arange(min(_ROWS, recipe.num_episodes))
  with host_pool.Pool(world, len(rows), num_workers=num_workers) as pool:
    for first in itertools.count(step=len(rows)):
      rngs = [
        host_play.stream(_STREAM, recipe.seed, first + row) for row in rows
      ]
      pool.reset(rows, [int(rng.integers(2**31)) for rng in rngs], look=True)
      starts = pool.vectors(rows)
      choices = [rng.choice(len(names), p=odds / odds.sum()) for rng in rngs]
      targets = np.stack(
        [world.draw_target(rng, start) for rng, start in zip(rngs, starts)]
      )
      played = host_play.play(
        pool,
        rows,
        [makers[c](rng, t) for c, rng, t in zip(choices, rngs, targets)],
        num_steps=recipe.episode_length,
        look=True,
        done_fn=_arrival(world, targets) if recipe.stop_at_success else None,
      )
      for row in rows:
        length = int(played.length[row])
        if row in played.failures:
          num_failed += 1
          print(f'episode {first + row} broke: {played.failures[row]}')
          continue
        if length <= recipe.min_episode_length:
          continue
        yield episodes_lib.Episode(
          columns=columns.known(
            {
              'observation/pixels': _frames(played)[row, :length],
              'observation/proprio': played.proprio[row, :length],
              'action': played.actions[row, : length - 1],
              'state': played.vectors[row, :length],
            }
          ),
          provenance={
            'index': int(first + row),
            'policy': names[choices[row]],
          },
          is_terminal=bool(played.is_done[row]),
        )
        num_kept += 1
        if num_kept == recipe.num_episodes:
          return
      num_played = first + len(rows)
      if num_failed > max(10, num_played // 2):
        raise ValueError(
          f'{num_failed} of {num_played} episodes broke, the last one because '
          f'{list(pool.failures.values())[-1:] or "of an earlier failure"}.'
        )
      if num_kept * 100 < num_played - 1000:
        raise ValueError(
          f'Only {num_kept} of {num_played} episodes reach '
          f'min_episode_length={recipe.min_episode_length} steps; lower it or '
          'leave stop_at_success off.'
        )


def parameters(world: host.HostWorld) -> dict[str, Any]:
  """What an archive says about the world, JSON-able."""
  return {'image_size': world.image_size, **world.parameters}


def _arrival(world: host.HostWorld, targets: np.ndarray) -> Any:
  """Whether rows have reached their targets; asked about some rows of all."""

  def is_done(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return world.success(vectors, targets[rows])

  return is_done


def _frames(played: host_play.Played) -> np.ndarray:
  assert played.pixels is not None
  return played.pixels
