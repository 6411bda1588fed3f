"""Plays episodes and cuts starts and goals out of them, the same every time.

It made the manifests that ship, and makes those that are not there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from jepa_wm import provenance
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import manifests
from jepa_wm.evaluation.planning import protocol as protocol_lib

MANIFEST_PAIRS = 200
"""Pairs in each generated manifest."""

_BATCH = 64


class _Drawn(NamedTuple):
  """A pair on each of `n` episodes.

  Attributes:
    starts: vectors `[n, V]`.
    goals: vectors `[n, V]`.
    number: int `[n]`, steps of the episode before the start.
    length: int `[n]`, steps of the episode, -1 of one that broke.
  """

  starts: np.ndarray
  goals: np.ndarray
  number: np.ndarray
  length: np.ndarray


def generate(
  protocol: protocol_lib.Protocol,
  num_pairs: int = MANIFEST_PAIRS,
  *,
  stage: stage_lib.Stage | None = None,
) -> dict[str, Any]:
  """Plays episodes and cuts one pair out of each, the same ones every time.

  An episode depends on `protocol.pair_seed` and its number alone, by random
  numbers of their own (`stage.Purpose.PAIRS`): no seed of
  `experiments.collect` leads to one of these episodes. The world is reset, the
  policy plays to the end of the episode, and of the frames that have a frame
  `goal_offset` steps after them one is drawn uniformly. Episodes without such a
  frame are left out, and so are pairs solved at the start (`drop_solved`).
  Where the origin is 'reset', start and goal are a reset's state and its
  target, moved to where the world lets it stand; those whose way is no such
  `detour` are left out.

  Args:
    protocol: what to generate for.
    num_pairs: how many.
    stage: of the protocol's world; one of its own if left out.

  Returns:
    The manifest, hash included, ready for JSON. `start_state` and `goal_state`
    are the world's vectors.

  Raises:
    ValueError: almost no pair is such a detour, or nobody can say how long
      ways are in this world.
  """
  found: list[dict[str, Any]] = []
  make, offset = _play, protocol.goal_offset
  if protocol.origin == 'reset':
    make, offset = _reset, 0
  num_played = num_short = num_solved = num_direct = 0
  are_direct = _directness(protocol)
  bar = tqdm.tqdm(
    total=num_pairs,
    desc=f'pairs ({protocol.environment}, {protocol.name})',
    unit='pair',
    delay=3.0,
  )
  with worlds.on_stage(stage, protocol.environment) as opened, bar:
    while len(found) < num_pairs:
      episodes = num_played + np.arange(min(_BATCH, opened.num_rows))
      played = make(opened, protocol, episodes)
      solved = opened.are_solved(played.starts, played.goals)
      direct = are_direct(played.starts, played.goals)
      for i, episode in enumerate(episodes):
        num_played += 1
        if played.length[i] < offset:
          num_short += 1
          continue
        num_solved += bool(solved[i])
        if protocol.drop_solved and solved[i]:
          continue
        if direct[i]:
          num_direct += 1
          continue
        found.append(
          {
            'episode': int(episode),
            'start': int(played.number[i]),
            'start_state': manifests.decimals(played.starts[i]),
            'goal_state': manifests.decimals(played.goals[i]),
          }
        )
        if len(found) == num_pairs:
          break
      bar.update(len(found) - bar.n)
      if (len(found) + 1) * 100 < num_direct:
        raise ValueError(
          f'Only {len(found)} of {num_played} pairs of {protocol.environment!r}'
          f' have a way {protocol.detour:g} times as long as the straight line;'
          ' there is little in the way there, so choose a smaller detour.'
        )
  return manifests.sign(
    {
      'about': (
        'Pairs of the planning benchmark, made by '
        'jepa_wm.evaluation.pairs.generate; see its docstring for what was '
        'done.'
      ),
      'recipe': manifests.recipe(protocol),
      'made_with': provenance.versions_of('jax'),
      'episodes_played': num_played,
      'episodes_too_short': num_short,
      'pairs_solved_at_start': num_solved,
      'pairs': found,
    }
  )


def _directness(
  protocol: protocol_lib.Protocol,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Says of starts and goals `[n, V]` whether the way is too direct, `[n]`.

  Raises:
    ValueError: nobody can say how long ways are in this world.
  """
  if not protocol.detour:
    return lambda starts, goals: np.zeros(len(starts), bool)
  world = worlds.get(protocol.environment)
  path_length = world.path_length
  if path_length is None:
    known = [name for name, x in worlds.WORLDS.items() if x.path_length]
    raise ValueError(
      f'protocol {protocol.name!r} asks how long ways are, which nobody knows '
      f'in {protocol.environment!r}; take another protocol, or one of '
      f'{", ".join(known)}.'
    )
  env = world.make()

  @jax.jit
  @jax.vmap
  def is_direct(start: jax.Array, goal: jax.Array) -> jax.Array:
    here, there = env.from_vector(start), env.from_vector(goal)
    straight = env.distance(here, there)
    return path_length(env, here, there) < protocol.detour * straight

  return lambda starts, goals: np.asarray(
    is_direct(*(np.asarray(x, np.float32) for x in (starts, goals)))
  )


def _play(
  stage: stage_lib.Stage, protocol: protocol_lib.Protocol, episodes: np.ndarray
) -> _Drawn:
  """Plays episodes `[n]` and draws a pair on each."""
  rows, offset = np.arange(len(episodes)), protocol.goal_offset
  streams = stage.streams(stage_lib.Purpose.PAIRS, protocol.pair_seed, episodes)
  stage.reset(rows, streams)
  role = stage_lib.Role((protocol.policy,), protocol.action_noise)
  num_steps = protocol.episode_steps
  played = stage.perform(rows, role, streams, num_steps=num_steps)
  vectors, arrived = (
    np.asarray(played.vectors),
    np.asarray(played.reached)[:, 1:],
  )
  length = np.full(len(rows), num_steps)
  if protocol.ends_at_success:
    ends = np.any(arrived, axis=1)
    length[ends] = np.argmax(arrived, axis=1)[ends] + 1
  highs = np.maximum(length - offset + 1, 1)
  number = stage.draw_integers(streams, highs)
  last = np.minimum(number + offset, num_steps)
  length[list(stage.failures)] = -1
  return _Drawn(vectors[rows, number], vectors[rows, last], number, length)


def _reset(
  stage: stage_lib.Stage, protocol: protocol_lib.Protocol, episodes: np.ndarray
) -> _Drawn:
  """Resets, and goals that their targets become when nobody acts."""
  rows = np.arange(len(episodes))
  streams = stage.streams(
    stage_lib.Purpose.RESETS, protocol.pair_seed, episodes
  )
  stage.reset(rows, streams)
  starts = stage.preview(rows, np.zeros((len(rows), 0, 1, stage.action_dim)))[
    :, 0
  ]
  length = np.zeros(len(rows), int)
  length[list(stage.failures)] = -1
  goals = stage.draw_goals(rows, streams)
  return _Drawn(starts, goals, np.zeros_like(length), length)
