"""Whether the same actions succeed on the same pairs in the peer's world.

  python -m benchmarks.peer_successes [--quick] [--actions=planned,random]
    [--checkpoint=two_room_small] [--budget=300x30]
  python -m benchmarks.peer_successes --world=push_t --episodes=data/push_t
    --actions=recorded,disturbed,random

Takes the pairs of a protocol (`swm-v1` unless told otherwise), the same actions
for each, and plays them twice: in our world, by our rule, and in
stable-worldmodel's own environment, which says itself whether it is over
(`terminated`). `value` and `peer` are the pairs that succeed after any step;
`config.disagree` has the ids of those that only one of the two solves,
`config.steps_differ` of those that both solve, but up to
`config.most_steps_apart` steps apart, and `config.rule` of those where our rule
and theirs differ about a state of theirs: the rest is physics. It needs
stable-worldmodel and is no measure of speed.

Actions are 'planned' (closed loop in the peer's environment, from its pictures:
the checkpoint's own plans), 'recorded' (what was done from start to goal in the
archive), 'disturbed' (the same with noise, so that some miss) or 'random'. For
planned ones a further line tells of the loop closed in our world instead, from
our pictures, pair by pair beside theirs.
"""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import tqdm
from absl import flags

import jepa_wm
from benchmarks import records
from jepa_wm import planning, sharding
from jepa_wm.data import episodes
from jepa_wm.envs import host, host_stage, worlds
from jepa_wm.evaluation.planning import (
  pair_cutting,
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)

_QUICK = flags.DEFINE_bool('quick', False, 'CEM with 16 candidates, twice.')
_WORLD = flags.DEFINE_enum(
  'world', 'two_room', ['two_room', 'push_t'], 'Where.'
)
_PROTOCOL = flags.DEFINE_string('protocol', 'swm-v1', 'Whose pairs.')
_ACTIONS = flags.DEFINE_list(
  'actions',
  ['planned', 'random'],
  "Some of 'planned', 'recorded', 'disturbed' and 'random'.",
)
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint', 'two_room_small', "Who plans; only for 'planned'."
)
_EPISODES = flags.DEFINE_string(
  'episodes', None, 'Archive the pairs are cut out of, where none ship.'
)
_BUDGET = flags.DEFINE_string('budget', '300x30', 'Candidates and iterations.')
_NOISE = flags.DEFINE_float(
  'noise', 0.1, "Standard deviation of it on 'disturbed' actions."
)
_SEED = flags.DEFINE_integer('seed', 0, "Of the planner's and random draws.")


class _NotingStage(host_stage.HostStage):
  """Keeps what it plays: `actions` `[64, budget, A]`, zero where it stopped."""

  def __init__(self, world: host.HostWorld, budget: int) -> None:
    super().__init__(world, worlds.get(f'swm_{_WORLD.value}').policy)
    shape = self.num_rows, budget, world.action_dim
    self.actions = np.zeros(shape, np.float32)
    self._played = np.zeros(self.num_rows, int)

  def play(self, rows, actions):
    for row, share in zip(rows, actions):
      first = self._played[row]
      self.actions[row, first : first + len(share)] = share
      self._played[row] += len(share)
    return super().play(rows, actions)


def _ours(
  starts: np.ndarray, goals: np.ndarray, actions: np.ndarray
) -> np.ndarray:
  """Whether our world is in its goal after each step, `[P, T]`."""
  env = worlds.get(_WORLD.value).make()

  @jax.jit
  @jax.vmap
  def play(start, goal, actions):
    goal = env.from_vector(goal)

    def step(state, action):
      state = env.step(state, action)
      return state, env.success(state, goal)

    return jax.lax.scan(step, env.from_vector(start), actions)[1]

  return np.asarray(play(starts, goals, actions))


def _theirs(
  world: host.HostWorld,
  starts: np.ndarray,
  goals: np.ndarray,
  actions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """What theirs says after each step, and our rule of its states, `[P, T]`."""
  env: Any = world.open()
  terminated = np.zeros(actions.shape[:2], bool)
  states = np.zeros((*actions.shape[:2], world.vector_dim))
  for i, (start, goal) in enumerate(zip(tqdm.tqdm(starts), goals)):
    env.reset(0)
    env.place(start)
    env.env._set_goal_state(goal)
    for t, action in enumerate(actions[i]):
      terminated[i, t] = env.env.step(action)[2]
      states[i, t] = env.vector()
  env.close()
  return terminated, world.success(states, goals[:, None])


def _plan(
  world: host.HostWorld, chosen: protocol.Protocol, theirs: pairs.Pairs
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Plans in both worlds.

  Returns:
    The actions played in the peer's, and after how many steps pairs succeeded
    in the peer's and in ours, 0 for never.
  """
  samples, iterations = (int(x) for x in _BUDGET.value.split('x'))
  if _QUICK.value:
    samples, iterations = 16, 2
  settings = planner_settings.PlannerSettings(
    planning.CEM(
      num_samples=samples,
      num_elites=max(2, samples // 10),
      num_iterations=iterations,
    )
  )
  model = jepa_wm.WorldModel.from_checkpoint(_CHECKPOINT.value)
  batch_size = 4 * jax.device_count()
  world = dataclasses.replace(world, image_size=model.image_size)
  common: dict[str, Any] = {
    'settings': settings,
    'seed': _SEED.value,
    'batch_size': batch_size,
    'baseline': planning_benchmark.Baseline(0.0, 1.0),
  }
  with _NotingStage(world, chosen.budget) as stage:
    there = planning_benchmark.run(model, chosen, theirs, stage=stage, **common)
  mine = protocol.get(_PROTOCOL.value, environment=_WORLD.value)
  here = planning_benchmark.run(model, mine, pairs.load_pairs(mine), **common)
  steps_there, steps_here = (
    np.asarray([e.first_success_step or 0 for e in result.episodes])
    for result in (there, here)
  )
  return stage.actions[: len(theirs)], steps_there, steps_here


def _recorded(
  chosen: protocol.Protocol,
) -> tuple[pairs.Pairs, np.ndarray]:
  """Pairs of the archive, and what was done in each, `[P, goal_offset, A]`."""
  original = protocol.get(chosen.name, environment=_WORLD.value)
  path = _EPISODES.value
  cut = pair_cutting.describe_archive(original, path, chosen.num_pairs)
  source = episodes.open_episodes(path, split=cut['episodes']['split'])
  ids, starts, goals, actions = zip(
    *(
      (
        pair.get('row', pair['episode']),
        pair['start_state'],
        pair['goal_state'],
        source[pair['episode']].actions[pair['start'] :][: chosen.goal_offset],
      )
      for pair in cut['pairs']
    )
  )
  vectors = np.float32(starts), np.float32(goals)
  return pairs.Pairs(np.asarray(ids), *vectors), np.stack(actions)


def _first(solved: np.ndarray) -> np.ndarray:
  """After how many steps `[P, T]` first holds, `[P]`, 0 for never."""
  return np.where(np.any(solved, axis=1), 1 + np.argmax(solved, axis=1), 0)


def _print(
  what: str, ids: np.ndarray, ours: np.ndarray, theirs: np.ndarray, **config
) -> None:
  """A line; `ours` and `theirs` are numbers of steps `[P]`, 0 for never."""
  disagree = (ours > 0) != (theirs > 0)
  differ = (ours != theirs) & ~disagree
  line = records.line(
    f'peer_successes/{_WORLD.value}/{_PROTOCOL.value}/{what}',
    int(np.sum(ours > 0)),
    f'of {len(ids)} pairs',
    {
      'disagree': ids[disagree].tolist(),
      'steps_differ': ids[differ].tolist(),
      'most_steps_apart': int(np.max(np.abs(ours - theirs)[differ], initial=0)),
      **config,
      'seed': _SEED.value,
    },
    peer=int(np.sum(theirs > 0)),
  )
  print(json.dumps(line), flush=True)


def main(argv: list[str]) -> None:
  """Plays and prints."""
  del argv
  sharding.use_every_core()
  name = f'swm_{_WORLD.value}'
  chosen = protocol.get(_PROTOCOL.value, environment=name)
  try:
    world = worlds.get(name).make()
  except ValueError as error:
    raise ValueError(str(error)) from error
  recorded = None
  if _EPISODES.value:
    if 'planned' in _ACTIONS.value:
      raise ValueError('--actions=planned needs pairs that ship.')
    found, recorded = _recorded(chosen)
  else:
    found = pairs.load_pairs(chosen)
  starts, goals = np.asarray(found.starts), np.asarray(found.goals)
  for kind in _ACTIONS.value:
    config: dict[str, Any] = {}
    rng = np.random.default_rng(_SEED.value)
    if kind == 'planned':
      actions, closed_theirs, closed_ours = _plan(world, chosen, found)
      config = {'budget': _BUDGET.value, 'checkpoint': _CHECKPOINT.value}
      _print('closed_loop', found.ids, closed_ours, closed_theirs, **config)
    elif kind in ('recorded', 'disturbed'):
      if recorded is None:
        raise ValueError(f'--actions={kind} needs --episodes.')
      actions = recorded
      if kind == 'disturbed':
        config = {'noise': _NOISE.value}
        noise = _NOISE.value * rng.normal(size=recorded.shape)
        actions = np.clip(recorded + noise, -1.0, 1.0).astype(np.float32)
    elif kind == 'random':
      shape = len(found), chosen.budget, world.action_dim
      actions = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    else:
      raise ValueError(f'--actions: there are no {kind!r} ones.')
    ours = _ours(starts, goals, actions)
    terminated, judged = _theirs(world, starts, goals, actions)
    differ = np.any(terminated != judged, axis=1)
    _print(
      kind,
      found.ids,
      _first(ours),
      _first(terminated),
      rule=found.ids[differ].tolist(),
      **config,
    )


if __name__ == '__main__':
  records.run(main)
