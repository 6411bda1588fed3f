"""Milliseconds of what is exported beside the model's own.

  python -m benchmarks.exported_speed [--quick]

The shipped model's encoder, one step of its predictor, GC-IDM (untrained, which
takes as long) and a plan (CEM, 32 candidates, 3 iterations), for one robot.
`value` is the median from arrays in host memory to arrays in host memory, of
the StableHLO file or of the ONNX file in ONNX Runtime; `peer` is that of the
same function in this package, jitted, in the same run, and `ratio` how many
times as fast the file is. `config` has the largest difference of the numbers.
`--quick` calls 5 times.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from jax import export

import jepa_wm
from benchmarks import records
from jepa_wm import artefacts, exports, onnx_artefacts, recipes
from jepa_wm.models import heads
from jepa_wm.recipes import exported_functions, exporting

_QUICK = flags.DEFINE_bool('quick', False, 'Fewer calls, a smoke test.')

_BUDGET = {'num_samples': 32, 'num_elites': 4, 'num_iterations': 3}


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  for function in _functions():
    files = _files(function)
    ours = functools.partial(jax.jit(function.call), function.params)
    told = _run([ours, *(call for _, call in files)], _inputs(function))
    peer, known = told[0]
    for (written, _), (milliseconds, found) in zip(files, told[1:]):
      line = records.line(
        f'exported/{function.name}/{written.format}',
        round(milliseconds, 3),
        'ms',
        {
          'model': 'two_room_small',
          'bytes': len(written.content),
          'difference': _difference(known, found),
          **(_BUDGET if function.name == 'plan' else {}),
        },
        peer=round(peer, 3),
        ratio=round(peer / milliseconds, 2),
      )
      print(json.dumps(line), flush=True)


def _functions() -> list[artefacts.Function]:
  """What is measured."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  asked = recipes.Exporting(what=('encode', 'advance', 'plan'), options=_BUDGET)
  found, _ = exporting.functions(asked, model)
  head = heads.from_config(
    {'name': 'inverse_dynamics'}, exports.head_sizes(model, -1.0, 1.0)
  )
  params = head.for_inference(head.init(jax.random.key(0)))
  policy = exported_functions.policy(model, head.roles.policy, params, 1)
  return [artefacts.trimmed(x) for x in (*found, policy) if x.name != 'start']


def _inputs(function: artefacts.Function) -> dict[str, np.ndarray]:
  """Noise, or what is there before the first call."""
  draw = np.random.default_rng(0)
  return {
    name: draw.integers(0, 256, x.shape).astype(x.dtype)
    if x.start is None and x.dtype != 'float32'
    else np.full(x.shape, x.start or 0.5, x.dtype)
    for name, x in function.inputs.items()
  }


def _files(
  function: artefacts.Function,
) -> list[tuple[artefacts.Written, Callable[..., Mapping[str, Any]]]]:
  """The function in each format, and what calls it."""
  import onnxruntime

  lowered = artefacts.stablehlo(function, ['cpu', 'cuda', 'tpu'])
  call = jax.jit(export.deserialize(bytearray(lowered.content)).call)
  if function.name == 'plan':
    return [(lowered, call)]
  converted = onnx_artefacts.onnx(function)
  session = onnxruntime.InferenceSession(converted.content)
  run = lambda inputs: dict(zip(function.units, session.run(None, inputs)))
  return [(lowered, call), (converted, run)]


def _run(
  calls: list[Callable[..., Mapping[str, Any]]], inputs: dict[str, np.ndarray]
) -> list[tuple[float, dict[str, np.ndarray]]]:
  """Milliseconds of each, called in turns, and what came of it."""
  fetch = lambda call: {k: np.asarray(x) for k, x in call(inputs).items()}
  made = [fetch(call) for call in calls]
  seconds: list[list[float]] = [[] for _ in calls]
  for _ in range(5 if _QUICK.value else 200):
    for call, times in zip(calls, seconds):
      start = time.perf_counter()
      fetch(call)
      times.append(time.perf_counter() - start)
  return [(1e3 * statistics.median(x), y) for x, y in zip(seconds, made)]


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
  """The largest of any output of the file."""
  return max(float(np.max(np.abs(ours[x] - theirs[x]))) for x in theirs)


if __name__ == '__main__':
  records.run(main)
