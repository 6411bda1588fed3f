"""Seconds of a whole planning benchmark, beside stable-worldmodel.

  python -m benchmarks.evaluation_speed [--quick] [--peer] [--num_pairs=200]
    [--budget=100x10]

Plays the `short` protocol of Two Room (two open-loop plans of 25 steps a pair)
with a LeWM of the published form and a smaller size, every parameter drawn at
random, and CEM with as many candidates and iterations as `--budget` says.
`value` is all of it: compiling, planning, playing, and the floor and the
ceiling that the peer does not measure; `config` says what it is without these.

`--peer` then has stable-worldmodel do the same: its World of as many Two Rooms,
its dataset evaluation on the same starts and goals, its policy and its
CEMSolver (one problem after another, its default), the same weights and budget.
Its frames of starts and goals are given to it decoded. Before anything is timed
the same candidates must cost the same, to 1e-3, in both.

A line whose `config.load_average` exceeds what the benchmark itself causes, one
per core, comes from a busy machine and is worthless.
"""

import contextlib
import json
import os
import time
from typing import Any

import jax
import numpy as np
from absl import flags

import jepa_wm
from benchmarks import records
from jepa_wm import envs, models, planning, sharding
from jepa_wm.evaluation.planning import (
  pairs,
  planner_settings,
  planning_benchmark,
  protocol,
)

_QUICK = flags.DEFINE_bool('quick', False, 'Four pairs, a smoke test.')
_PEER = flags.DEFINE_bool('peer', False, 'Also measure stable-worldmodel.')
_NUM_PAIRS = flags.DEFINE_integer('num_pairs', None, '200, or 4 if quick.')
_BUDGET = flags.DEFINE_string('budget', None, 'Candidates and iterations.')

_IMAGE_SIZE = 64


def _draw_model() -> jepa_wm.WorldModel:
  """A small LeWM; none of its variables has the value it starts with."""
  model = models.from_config(
    {
      'name': 'lewm',
      'encoder': {'image_size': _IMAGE_SIZE, 'patch_size': 8},
      'projector': {'hidden_dim': 256},
      'predictor': {
        'depth': 2,
        'num_heads': 4,
        'head_dim': 32,
        'mlp_dim': 256,
      },
    }
  )
  return records.draw_model(model)


def _render(states: Any) -> np.ndarray:
  world = envs.TwoRoom(image_size=_IMAGE_SIZE)
  return np.asarray(jax.jit(jax.vmap(world.render))(states))


class _Episodes:
  """Starts and goals in the shape that the peer's evaluation reads."""

  column_names = ('pixels', 'proprio')

  def __init__(self, problems: pairs.Pairs, torch: Any):
    self._frames = [_render(x) for x in (problems.starts, problems.goals)]
    self._positions = [
      np.asarray(x.position) for x in (problems.starts, problems.goals)
    ]
    self._torch = torch

  def load_chunk(
    self, episodes: np.ndarray, starts: np.ndarray, ends: np.ndarray
  ) -> list[dict[str, Any]]:
    """The first and the last frame of each; what lies between is not read."""
    del starts, ends
    return [
      {
        'pixels': self._torch.from_numpy(
          np.stack([frames[i] for frames in self._frames])
        ).permute(0, 3, 1, 2),
        'proprio': np.stack([positions[i] for positions in self._positions]),
      }
      for i in episodes
    ]


class _Unscaled:
  """Actions as they are."""

  def transform(self, actions: np.ndarray) -> np.ndarray:
    return actions

  def inverse_transform(self, actions: np.ndarray) -> np.ndarray:
    return actions


class _Peer:
  """stable-worldmodel's World, policy and solver with our weights."""

  def __init__(self, model: jepa_wm.WorldModel):
    from benchmarks import peer

    peer.torch.set_num_threads(os.cpu_count() or 1)
    self._torch, self._swm = peer.torch, peer.stable_worldmodel
    self._model = peer.lewm(model.params, config=model.model.config)
    self._mean, self._std = (
      self._torch.tensor(x)[:, None, None]
      for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )

  def _normalize(self, image: Any) -> Any:
    image = self._torch.tensor(np.asarray(image), dtype=self._torch.float32)
    return (image / 255.0 - self._mean) / self._std

  def costs(
    self, frames: np.ndarray, goals: np.ndarray, candidates: np.ndarray
  ) -> np.ndarray:
    """What it thinks that `candidates` `[N, H, A]` cost, `[N]`."""
    infos = {
      key: self._normalize(np.moveaxis(x[0], -1, 0))[None, None, None].expand(
        1, len(candidates), -1, -1, -1, -1
      )
      for key, x in (('pixels', frames), ('goal', goals))
    }
    infos['action'] = self._torch.zeros(1, len(candidates), 1, 2)
    with self._torch.inference_mode():
      batch = self._torch.from_numpy(candidates)[None]
      return self._model.get_cost(infos, batch)[0].numpy()

  def evaluate(
    self,
    problems: pairs.Pairs,
    chosen: protocol.Protocol,
    budget: dict[str, int],
  ) -> int:
    """Plays all pairs; how many were solved."""
    swm, torch = self._swm, self._torch
    solver = swm.solver.CEMSolver(
      self._model,
      num_samples=budget['num_samples'],
      topk=budget['num_elites'],
      n_steps=budget['num_iterations'],
    )
    policy = swm.policy.WorldModelPolicy(
      solver=solver,
      config=swm.PlanConfig(
        chosen.horizon,
        chosen.receding_horizon,
        action_block=chosen.action_block,
      ),
      process={'action': _Unscaled()},
      transform={'pixels': self._normalize, 'goal': self._normalize},
    )
    number = len(problems)
    with contextlib.redirect_stdout(None):  # It prints how long it took.
      world = swm.World(
        'swm/TwoRoom-v1',
        number,
        image_shape=(_IMAGE_SIZE, _IMAGE_SIZE),
        max_episode_steps=2 * chosen.budget,
      )
      world.set_policy(policy)
      states = {'proprio': '_set_state', 'goal_proprio': '_set_goal_state'}
      found = world.evaluate(
        dataset=_Episodes(problems, torch),
        episodes_idx=list(range(number)),
        start_steps=[0] * number,
        goal_offset=chosen.goal_offset,
        eval_budget=chosen.budget,
        callables=[
          {
            'method': method,
            'args': {
              method.removeprefix('_set_'): {'value': key, 'in_dataset': True}
            },
          }
          for key, method in states.items()
        ],
      )
      world.close()
    return int(np.sum(found['episode_successes']))


def _check_costs(
  model: jepa_wm.WorldModel, peer: _Peer, problems: pairs.Pairs
) -> None:
  """Asserts that the same candidates cost the same in both."""
  frames, goals = _render(problems.starts), _render(problems.goals)
  actions = np.random.default_rng(2).standard_normal((16, 5, 10), np.float32)
  # Without a deviation, all that a problem's search tries is its first mean.
  many = [
    {'pixels': np.repeat(x[:1], len(actions), axis=0)} for x in (frames, goals)
  ]
  with jax.default_matmul_precision('highest'):
    plan = planning.cem_plan(
      model.params,
      jax.random.key(0),
      model.root(model.params, *many),
      model.dynamics,
      model.cost,
      action_dim=model.action_dim,
      horizon=5,
      num_samples=2,
      num_elites=2,
      num_iterations=1,
      init_mean=actions,
      init_std=0.0,
    )
  ours = np.asarray(plan.diagnostics.best_cost[0])
  assert np.std(ours) > 1e-3 * np.mean(ours), f'all candidates cost {ours}'
  np.testing.assert_allclose(
    ours, peer.costs(frames, goals, actions), 1e-3, err_msg='peer'
  )


def _read_budget() -> dict[str, int]:
  """What `--budget` says of the planner."""
  text = _BUDGET.value or ('16x2' if _QUICK.value else '100x10')
  samples, _, iterations = text.partition('x')
  if not (samples.isdecimal() and iterations.isdecimal()):
    raise ValueError(f'--budget={text} must be such as 100x10.')
  return {
    'num_samples': int(samples),
    'num_elites': max(2, int(samples) // 10),
    'num_iterations': int(iterations),
  }


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  sharding.use_every_core()
  budget = _read_budget()
  number = _NUM_PAIRS.value or (4 if _QUICK.value else 200)
  chosen = protocol.get('short', num_pairs=number)
  problems = pairs.load_pairs(chosen)
  model, peer = _draw_model(), None
  if _PEER.value:
    try:
      peer = _Peer(model)
    except ImportError as error:
      raise ValueError(
        f'--peer: {error}; docs/benchmarks.md says how to install it.'
      ) from error
    _check_costs(model, peer, problems)
  began = time.perf_counter()
  baseline = planning_benchmark.measure_baseline(chosen, problems)
  without = time.perf_counter()
  result = planning_benchmark.run(
    model,
    chosen,
    problems,
    # The peer clips no candidate.
    settings=planner_settings.PlannerSettings(
      planning.CEM(**budget), bounded=False
    ),
    baseline=baseline,
  )
  ended = time.perf_counter()
  seconds, theirs, solved = ended - began, None, None
  if peer is not None:
    start = time.perf_counter()
    solved = peer.evaluate(problems, chosen, budget)
    theirs = time.perf_counter() - start
  record = result.record
  line = records.line(
    f'evaluation_speed/two_room/short/{number}_pairs',
    round(seconds, 2),
    's',
    {
      **budget,
      'num_pairs': number,
      'image_size': _IMAGE_SIZE,
      'num_parameters': record['num_parameters'],
      'without_baselines_s': round(ended - without, 2),
      'ms_per_plan': round(record['ms_per_plan'], 2),
      'num_successes': record['num_successes'],
      'peer_successes': solved,
      'compared_with': peer
      and 'stable-worldmodel World.evaluate, CEMSolver, batch_size=1',
      'threads': os.cpu_count(),
    },
    peer=theirs and round(theirs, 2),
    ratio=theirs and round(theirs / seconds, 2),
  )
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
