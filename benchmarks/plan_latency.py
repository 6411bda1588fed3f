"""Milliseconds per CEM plan with LeWM, beside stable-worldmodel.

  python -m benchmarks.plan_latency [--quick] [--peer] [--dtype=bfloat16]
    [--problems=1,8] [--memory] [--scaling]

Prints one JSON line a measurement. A plan is 30 iterations of 300 candidates
and 30 elites, 5 blocks of 10 numbers ahead, from one frame to one goal image,
with the published LeWM and every parameter drawn at random: one jitted program
from uint8 frames to actions, both in host memory, on all devices there are (of
a CPU: its cores). `value` is the time of a whole batch of problems, by default
1 and 8, on an accelerator 1 and 64: the median of three turns or, of several
problems beside the peer, one.

`--peer` plans with stable-worldmodel's LeWM and CEMSolver in turns with us, on
the CPU in float32: same weights, frames (its already normalised) and budget,
one problem after another, its default (batched it mixes up goals). Before
anything is timed, the same 32 candidates must cost the same, to 1e-4 in
float32, in our planner, in a plain rollout of `model.predict` and in the peer.

`--memory` adds temporary memory by horizon and with 10,000 candidates, and two
iterations of these; `--scaling` what twice the candidates cost. Lines whose
`config.load_average` exceeds what the benchmark itself causes, one per core,
come from a busy machine and are worthless.
"""

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import jepa_wm
from benchmarks import products, records
from jepa_wm import sharding, units
from jepa_wm.models import lewm

_QUICK = flags.DEFINE_bool('quick', False, 'A smaller budget, a smoke test.')
_PEER = flags.DEFINE_bool('peer', False, 'Also measure stable-worldmodel.')
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'Ours.')
_PROBLEMS = flags.DEFINE_list('problems', None, 'How many, for each batch.')
_MEMORY = flags.DEFINE_bool('memory', False, 'Also measure memory.')
_SCALING = flags.DEFINE_bool('scaling', False, 'Also double the candidates.')

Budget = dict[str, int]
Run = Callable[[], object]


def _draw_model(dtype: str) -> jepa_wm.WorldModel:
  """LeWM as published; none of its variables has the value it starts with."""
  model = lewm.LeWM(dtype=dtype).build()
  return records.draw_model(model)


def _draw_frames(num_problems: int) -> np.ndarray:
  """Frames and goals, uint8 `[2, B, 224, 224, 3]`."""
  shape = 2, num_problems, 224, 224, 3
  return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def _planner(model: jepa_wm.WorldModel, **budget: Any) -> Any:
  """From variables and frames to plans, jitted."""

  def plan(params, frames):
    return jepa_wm.cem_plan(
      params,
      jax.random.key(0),
      model.root(params, {'pixels': frames[:, 0]}, {'pixels': frames[:, 1]}),
      model.dynamics,
      model.cost,
      action_dim=model.action_dim,
      **budget,
    )

  return jax.jit(plan)


def _compile(model: Any, num_problems: int, budget: Budget) -> tuple[Run, Any]:
  """Something to call that plans for every problem, and its program."""
  mesh = sharding.planning_mesh(num_problems)
  params = sharding.replicate(model.params, mesh)
  frames = _draw_frames(num_problems)

  def lay(frames):
    # Problems lead, so that devices can share them.
    return sharding.shard_batch(np.swapaxes(frames, 0, 1), mesh)

  with jax.set_mesh(mesh):
    program = _planner(model, **budget).lower(params, lay(frames)).compile()
  return lambda: np.asarray(program(params, lay(frames)).actions), program


class _Peer:
  """stable-worldmodel's LeWM with our weights, and its solver."""

  def __init__(self, params: Any):
    import gymnasium

    from benchmarks import peer

    peer.torch.set_num_threads(os.cpu_count() or 1)
    self._torch, self._swm = peer.torch, peer.stable_worldmodel
    self._box, self._model = gymnasium.spaces.Box, peer.lewm(params)

  def infos(self, num_problems: int) -> dict[str, Any]:
    """What its solver wants to know."""
    pixels = units.normalize_pixels(_draw_frames(num_problems))
    pixels = np.moveaxis(np.asarray(pixels), -1, -3)[:, :, None]
    now, goal = self._torch.from_numpy(np.ascontiguousarray(pixels))
    return {'pixels': now, 'goal': goal, 'action': now.new_zeros(len(now), 1)}

  def costs(self, candidates: np.ndarray) -> np.ndarray:
    """What it thinks that `candidates` `[N, H, A]` cost, `[N]`."""
    expand = lambda x: x[:, None].expand(-1, len(candidates), *x.shape[1:])
    infos = {key: expand(x) for key, x in self.infos(1).items()}
    with self._torch.inference_mode():
      batch = self._torch.from_numpy(candidates)[None]
      return self._model.get_cost(infos, batch)[0].numpy()

  def plan(self, infos: dict[str, Any], budget: Budget) -> None:
    """Plans for every problem."""
    solver = self._swm.solver.CEMSolver(
      self._model,
      num_samples=budget['num_samples'],
      topk=budget['num_elites'],
      n_steps=budget['num_iterations'],
    )
    num_problems = len(infos['pixels'])
    solver.configure(
      action_space=self._box(-1, 1, (num_problems, 2)),
      n_envs=num_problems,
      config=self._swm.PlanConfig(budget['horizon'], 5, action_block=5),
    )
    with contextlib.redirect_stdout(None):  # It prints how long it took.
      solver.solve(infos)


def _check_costs(peer: _Peer | None) -> None:
  """Asserts that the same candidates cost the same in every way."""
  model, frames = _draw_model('float32'), _draw_frames(1)
  actions = np.random.default_rng(2).standard_normal((32, 5, 10), np.float32)
  # Without a deviation, all that a problem's search tries is its first mean.
  small = {'num_samples': 2, 'num_elites': 2, 'num_iterations': 1, 'horizon': 5}
  plan = _planner(model, init_mean=actions, init_std=0.0, **small)

  @jax.jit
  def plain(params, frames):
    latent, goal = model.encode(params, {'pixels': frames})
    latents = jnp.repeat(latent[None], len(actions), axis=0)
    for end in range(1, 6):
      window = np.s_[:, max(0, end - model.history) : end]
      after = model.model.predict(params, latents[window], actions[window])
      latents = jnp.concatenate([latents, after[:, -1:]], axis=1)
    return jnp.square(latents[:, -1] - goal).sum(axis=-1)

  with jax.default_matmul_precision('highest'):
    ours = plan(model.params, frames.repeat(32, 1).swapaxes(0, 1))
    ours = ours.diagnostics.best_cost[0]
    plainly = plain(model.params, frames)
  assert np.std(ours) > 0.01 * np.mean(ours), f'all candidates cost {ours}'
  np.testing.assert_allclose(ours, plainly, 1e-4, err_msg='plain rollout')
  if peer is not None:
    np.testing.assert_allclose(ours, peer.costs(actions), 1e-4, err_msg='peer')


def _tflop(config: Any, num_candidates: int, horizon: int) -> float:
  """Work of the products that a rollout cannot do without, in TFLOP."""
  predictor = config.predictor
  width, depth, history = predictor.width, predictor.depth, predictor.history
  inner = predictor.num_heads * predictor.head_dim
  attend, mlp = width * inner, 2 * width * predictor.mlp_dim
  action = config.action_block * config.action_dim
  condition = config.actions.smoothed_dim * (action + 4 * width) + 4 * width**2
  total = 0
  for step in range(1, horizon + 1):
    # While the window grows, one token is new; when it slides, all are. The
    # first of a window is one small matrix to the others, which have four maps
    # each; in the last block one token alone asks and answers.
    has_first = step == 1 or step > history
    others = 0 if step == 1 else 1 if step <= history else history - 1
    total += (depth - 1) * (4 * others * attend + (others + has_first) * mlp)
    total += 2 * (others + (step > 1)) * attend + mlp
    total += depth * has_first * width**2
    total += depth * 6 * width**2 + condition
    total += config.projector.hidden_dim * (width + config.latent_dim)
  return 2e-12 * total * num_candidates


def _milliseconds(*runs: Run, repeats: int | None = None) -> list[float]:
  """Median time of each, taken in turns: a slow minute is slow for all."""
  times: list[list[float]] = [[] for _ in runs]
  if repeats is None:
    repeats = 1 if _QUICK.value else 3 if _on_cpu() else 20
  for _ in range(repeats):
    for run, taken in zip(runs, times):
      start = time.perf_counter()
      run()
      taken.append(1e3 * (time.perf_counter() - start))
  return [statistics.median(taken) for taken in times]


def _on_cpu() -> bool:
  return jax.default_backend() == 'cpu'


def _print(
  name: str, value: float, unit: str, peer: float | None = None, **config: Any
) -> None:
  config |= {'dtype': _DTYPE.value, 'threads': os.cpu_count()}
  config['load_average'] = round(os.getloadavg()[0], 2)
  line = records.line(
    f'plan_latency/{name}',
    round(value, 2),
    unit,
    config,
    peer=peer and round(peer, 2),
    ratio=peer and round(peer / value, 2),
  )
  print(json.dumps(line), flush=True)


def _measure_extras(model: jepa_wm.WorldModel, budget: Budget) -> None:
  """Memory and scaling, where the flags ask for them."""
  if _MEMORY.value:
    many = {**budget, 'num_samples': 10_000, 'num_iterations': 2}
    for sizes in (*({**budget, 'horizon': h} for h in (5, 10, 20)), many):
      run, program = _compile(model, 1, sizes)
      name = f'{sizes["num_samples"]}_samples/{sizes["horizon"]}_steps'
      if memory := program.memory_analysis():  # Not every backend keeps it.
        mebibytes = memory.temp_size_in_bytes / 2**20
        _print(f'temporary_memory/{name}', mebibytes, 'MiB', **sizes)
    _print(name, *_milliseconds(run, repeats=1), 'ms', **many)
  if _SCALING.value:
    double = {**budget, 'num_samples': 2 * budget['num_samples']}
    runs = [_compile(model, 1, sizes)[0] for sizes in (budget, double)]
    for run in runs:
      run()
    once, twice = _milliseconds(*runs)
    _print('samples_doubled', twice / once, 'times as long', **double)


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  sharding.use_every_core()
  problems = _PROBLEMS.value or ['1', '8' if _on_cpu() else '64']
  if not all(x.isdecimal() and int(x) for x in problems):
    raise ValueError(f'--problems={problems} must list positive integers.')
  model, peer = _draw_model(_DTYPE.value), None
  if _PEER.value:
    try:
      peer = _Peer(model.params)
    except ImportError as error:
      raise ValueError(
        f'--peer: {error}; docs/benchmarks.md says how to install it.'
      ) from error
  _check_costs(peer)
  num_parameters = sum(x.size for x in jax.tree.leaves(model.params['params']))
  peak = products.gflops(_DTYPE.value)
  budget = {'num_samples': 300, 'num_elites': 30, 'num_iterations': 30}
  if _QUICK.value:
    budget = {'num_samples': 30, 'num_elites': 10, 'num_iterations': 2}
  budget['horizon'] = 5
  for number in map(int, problems):
    runs: list[Run] = [_compile(model, number, budget)[0]]
    runs[0]()
    if peer is not None:
      infos = peer.infos(number)
      peer.plan(infos, {**budget, 'num_iterations': 1})
      runs.append(lambda infos=infos: peer.plan(infos, budget))
    # Eight problems take the peer minutes.
    many = peer is not None and number > 1
    ours, *theirs = _milliseconds(*runs, repeats=1 if many else None)
    candidates = number * budget['num_samples'] * budget['num_iterations']
    tflop = _tflop(model.model.config, candidates, budget['horizon'])
    _print(
      f'{number}_problem{"s" * (number > 1)}',
      ours,
      'ms',
      *theirs,
      num_problems=number,
      compared_with=peer and 'stable-worldmodel CEMSolver, batch_size=1',
      num_devices=jax.device_count(),
      plans_per_second=round(1e3 * number / ours, 3),
      **budget,
      num_parameters=num_parameters,
      # 1 + 2 + 3 + 3 + 3 tokens through the predictor and its projector.
      plain_tflop=round(12 * 2 * 11.58e6 * candidates / 1e12, 3),
      tflop=round(tflop, 3),
      peak_gflops=round(peak),
      share_of_peak=round(1e6 * tflop / ours / peak, 3),
    )
  _measure_extras(model, budget)


if __name__ == '__main__':
  records.run(main)
