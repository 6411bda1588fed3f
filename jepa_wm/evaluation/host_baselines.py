"""Random floor and expert ceiling, and episodes, in worlds outside JAX."""

from typing import Any

import numpy as np

from jepa_wm.envs import host, host_play, host_pool, worlds
from jepa_wm.evaluation import protocol as protocol_lib

_TRIES, _EPISODES = 2, 3


def success_rate(
  protocol: protocol_lib.Protocol,
  pairs: Any,
  world: host.HostWorld,
  policy: str,
  seed: int,
  num_repeats: int,
) -> float:
  """Plays a policy from every start, `num_repeats` times.

  Args:
    protocol: budget and success rule.
    pairs: a `pairs.Pairs` of vectors `[P, V]`.
    world: the world.
    policy: name of one of its policies, without noise.
    seed: of its draws.
    num_repeats: tries per pair.

  Returns:
    Share of tries that succeeded, 0..1; one whose world broke has not.
  """
  make = worlds.get(protocol.environment).policy(policy, world)
  tries = [(p, r) for p in range(len(pairs)) for r in range(num_repeats)]
  starts, goals = np.asarray(pairs.starts), np.asarray(pairs.goals)
  num_successes = 0
  with host_pool.borrow(world) as pool:
    rows = np.arange(pool.num_rows)
    for first in range(0, len(tries), len(rows)):
      share = tries[first : first + len(rows)]
      mine = rows[: len(share)]
      problems = np.asarray([problem for problem, _ in share])
      pool.place(mine, starts[problems])
      rngs = [
        host_play.stream(_TRIES, seed, int(pairs.ids[problem]), repeat)
        for problem, repeat in share
      ]
      acts = [
        make(rng, goals[problem]) for rng, (problem, _) in zip(rngs, share)
      ]
      played = host_play.play(pool, mine, acts, num_steps=protocol.budget)
      solved = world.success(played.vectors, goals[problems][:, None])
      counts = {
        'any time': np.any(solved, axis=1),
        'after any step': np.any(solved[:, 1:], axis=1),
        'at the end': solved[:, -1],
      }[protocol.success]
      failed = [row in played.failures for row in range(len(share))]
      num_successes += int(np.sum(counts & ~np.asarray(failed)))
  return num_successes / len(tries)


def play_episodes(
  protocol: protocol_lib.Protocol, episodes: np.ndarray
) -> dict[str, np.ndarray]:
  """Plays episodes `[E]` and draws a pair on each, as `pairs.generate` asks.

  Args:
    protocol: who plays, how long, and how far apart start and goal are.
    episodes: numbers `[E]`; each episode depends on its own alone.

  Returns:
    `start_vector` and `goal_vector` `[E, V]`, `length`, `start` and `solved`
    `[E]`. An episode that broke has length -1. Where the origin is 'reset',
    start and goal are a reset and a target.
  """
  entry = worlds.get(protocol.environment)
  world: Any = entry.make()
  make = entry.policy(protocol.policy, world, protocol.action_noise)
  found: list[tuple[np.ndarray, np.ndarray, int, int, bool]] = []
  with host_pool.borrow(world) as pool:
    rows = np.arange(pool.num_rows)
    for first in range(0, len(episodes), len(rows)):
      share = episodes[first : first + len(rows)]
      mine = rows[: len(share)]
      rngs = [
        host_play.stream(_EPISODES, protocol.pair_seed, int(episode))
        for episode in share
      ]
      pool.reset(mine, [int(rng.integers(2**31)) for rng in rngs])
      starts = pool.vectors(mine)
      targets = [world.draw_target(r, v) for r, v in zip(rngs, starts)]
      if protocol.origin == 'reset':
        for row, ends in enumerate(zip(starts, targets)):
          length = -1 if row in pool.failures else 0
          found.append((*ends, length, 0, bool(world.success(*ends))))
        continue
      acts = [make(rng, target) for rng, target in zip(rngs, targets)]
      played = host_play.play(
        pool, mine, acts, num_steps=protocol.episode_steps
      )
      for i, (rng, target) in enumerate(zip(rngs, targets)):
        length = int(played.length[i]) - 1
        way = played.vectors[i, : length + 1]
        arrived = world.success(way[1:], target)
        if protocol.ends_at_success and np.any(arrived):
          length = int(np.argmax(arrived)) + 1
        start = int(rng.integers(max(length - protocol.goal_offset, 0) + 1))
        ends = way[start], way[min(start + protocol.goal_offset, length)]
        if i in played.failures:
          length = -1
        found.append((*ends, length, start, bool(world.success(*ends))))
  names = ('start_vector', 'goal_vector', 'length', 'start', 'solved')
  return {
    name: np.asarray(values, np.float32 if name.endswith('vector') else int)
    for name, values in zip(names, zip(*found))
  }
