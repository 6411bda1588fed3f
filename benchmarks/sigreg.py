"""Milliseconds and memory of SIGReg, beside the direct formula in PyTorch.

  python -m benchmarks.sigreg [--quick] [--peer] [--dtype=bfloat16]

Prints one JSON line a measurement, on latents `[4, 128, 192]` with 1024
projections; every call draws its directions, as in training. The statistic is
computed in float32, whatever the dtype of the latents is. `--peer` times, in
the same process, the formula written out in PyTorch: every cosine and sine of
every knot. The two must agree on the same directions before either is timed.
Lines whose `config.load_average` exceeds what the benchmark itself causes, one
per core, come from a busy machine and are worthless.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import records
from jepa_wm.objectives import sigreg

_QUICK = flags.DEFINE_bool('quick', False, 'Fewer calls, for a smoke test.')
_PEER = flags.DEFINE_bool(
  'peer', False, 'Also time PyTorch, which must be installed.'
)

_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of our latents.'
)

_SHAPE = (4, 128, 192)  # frames, batch, latent size of LeWM
_NUM_PROJECTIONS = 1024
_NUM_KNOTS = 17
_PEER_NAME = 'direct formula in PyTorch'

Runs = dict[str, Callable[[], object]]


def _milliseconds(runs: Runs, rounds: int) -> dict[str, list[float]]:
  """Times of every run, taken in turns: a slow minute is slow for all."""
  times: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(rounds):
    for name, run in runs.items():
      run()  # the one before it left its own data in the cache
      for _ in range(3):
        start = time.perf_counter()
        run()
        times[name].append(1e3 * (time.perf_counter() - start))
  return times


def _program(num_knots: int, *, backward: bool) -> jax.stages.Compiled:
  """Ours, compiled for latents `[4, 128, 192]` and a key."""

  def mean(latents, rng_key):
    return sigreg.sigreg(
      latents,
      rng_key,
      num_projections=_NUM_PROJECTIONS,
      num_knots=num_knots,
    ).mean()

  function = jax.value_and_grad(mean) if backward else mean
  latents = jax.ShapeDtypeStruct(_SHAPE, _DTYPE.value)
  return jax.jit(function).lower(latents, jax.random.key(0)).compile()


def our_runs(latents: np.ndarray) -> Runs:
  """A call, and a call with the gradient by the latents."""
  on_device = jnp.asarray(latents, _DTYPE.value)
  rng_key = jax.random.key(0)

  def run(program):
    return lambda: jax.block_until_ready(program(on_device, rng_key))

  return {
    'forward': run(_program(_NUM_KNOTS, backward=False)),
    'forward_backward': run(_program(_NUM_KNOTS, backward=True)),
  }


def peer_runs(latents: np.ndarray) -> dict[int, Runs]:
  """The same in PyTorch, by number of threads: one, and one per core.

  Raises:
    ImportError: PyTorch is not installed.
    AssertionError: it finds another value than ours.
  """
  import torch

  batch = torch.from_numpy(latents).requires_grad_()
  t = torch.linspace(0, 3, _NUM_KNOTS)
  phi = torch.exp(-(t**2) / 2)
  weights = torch.full_like(t, 2 * t[1].item())
  weights[[0, -1]] /= 2
  weights *= phi

  def statistic(directions):
    phases = (batch @ directions).unsqueeze(-1) * t
    gap = phases.cos().mean(1) - phi
    sine = phases.sin().mean(1)
    return (batch.shape[1] * (gap**2 + sine**2) @ weights).mean()

  def draw():
    directions = torch.randn(batch.shape[-1], _NUM_PROJECTIONS)
    return directions / directions.norm(dim=0)

  def forward():
    with torch.no_grad():
      statistic(draw())

  def forward_backward():
    batch.grad = None
    statistic(draw()).backward()

  directions = draw()
  ours = sigreg.sigreg_statistic(jnp.asarray(latents), directions.numpy())
  np.testing.assert_allclose(
    ours.mean(), statistic(directions).item(), rtol=1e-4
  )

  def run(num_threads, function):
    def call():
      torch.set_num_threads(num_threads)
      function()

    return call

  return {
    num_threads: {
      'forward': run(num_threads, forward),
      'forward_backward': run(num_threads, forward_backward),
    }
    for num_threads in {1, os.cpu_count() or 1}
  }


def _line(
  name: str,
  value: float,
  unit: str,
  peer: float | None = None,
  **config: object,
) -> str:
  return json.dumps(
    records.line(
      f'sigreg/{name}',
      round(value, 2),
      unit,
      {
        'latents': _SHAPE,
        'num_projections': _NUM_PROJECTIONS,
        'dtype': _DTYPE.value,
        **config,
      },
      peer=None if peer is None else round(peer, 2),
      ratio=None if peer is None else round(peer / value, 1),
    )
  )


def main(argv: Sequence[str]) -> None:
  """Measures and prints."""
  del argv
  rounds = 2 if _QUICK.value else 15
  latents = np.random.default_rng(0).normal(size=_SHAPE).astype(np.float32)
  runs = our_runs(latents)
  peers: dict[int, Runs] = {}
  if _PEER.value:
    try:
      peers = peer_runs(latents)
    except ImportError as error:
      raise ValueError(
        f'--peer needs PyTorch ({error}): pip install torch, or leave it out.'
      ) from error
  for name, run in runs.items():
    theirs = {f'threads={n}': peer[name] for n, peer in peers.items()}
    times = _milliseconds({'ours': run, **theirs}, rounds)
    ours = times.pop('ours')
    medians = {peer: statistics.median(times[peer]) for peer in times}
    best = min(medians, key=medians.__getitem__, default=None)
    compared = {'compared_with': f'{_PEER_NAME}, {best}'} if best else {}
    line = _line(
      name,
      statistics.median(ours),
      'ms',
      medians[best] if best else None,
      num_knots=_NUM_KNOTS,
      fastest=round(min(ours), 2),
      slowest=round(max(ours), 2),
      **compared,
    )
    print(line, flush=True)
  for num_knots in (_NUM_KNOTS, 65):
    memory = _program(num_knots, backward=True).memory_analysis()
    if memory is None:  # not every backend keeps account
      continue
    line = _line(
      f'peak_temporary_memory/{num_knots}_knots',
      memory.temp_size_in_bytes / 2**20,
      'MiB',
      num_knots=num_knots,
    )
    print(line, flush=True)


if __name__ == '__main__':
  records.run(main)
