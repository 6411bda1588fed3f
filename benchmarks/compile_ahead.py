"""Compiles every hot path for TPUs that are not there, and says what it takes.

  pip install -e '.[tpu]'
  python -m benchmarks.compile_ahead [--quick] [--paths=plan_shipped_1,...]
    [--topologies=v5e:2x2,...] [--attention=auto] [--out=ahead.jsonl]
  python -m benchmarks.compile_ahead --table --out=ahead.jsonl

XLA compiles for a TPU topology on a machine without one, by the package
libtpu. Prints one JSON line for every path and topology: seconds to compile,
memory per chip (arguments, outputs, temporaries) of the chip's own, operations,
what chips tell each other, and how long a call takes at least. Nothing has run:
those times are estimates, from published peaks (`benchmarks/chips.py`) and from
the compiler's own count of cycles.

Large programs take many minutes. With `--out` lines are kept as they come, and
what is there already is left out; `--table` prints the file as Markdown.
"""

import gzip
import json
import os
import pathlib
import time
from typing import Any

import jax
from absl import flags

from benchmarks import ahead_table, chips, compiled_text, hot_paths, records
from jepa_wm.evaluation.planning import flops
from jepa_wm.networks import attention_kernels

_QUICK = flags.DEFINE_bool('quick', False, 'Small programs, a smoke test.')
_PATHS = flags.DEFINE_list(
  'paths', None, f'What to compile, of {", ".join(hot_paths.PATHS)}; all.'
)
_TOPOLOGIES = flags.DEFINE_list(
  'topologies', ['v5e:2x2', 'v5p:2x2x1', 'v5e:4x4'], 'For what.'
)
_ATTENTION = flags.DEFINE_enum(
  'attention', 'plain', attention_kernels.KERNELS, 'How many tokens are mixed.'
)
_OUT = flags.DEFINE_string('out', None, 'File that lines are added to.')
_TEXTS = flags.DEFINE_string(
  'texts', None, 'Folder to keep the optimised programs in.'
)
_TABLE = flags.DEFINE_bool(
  'table', False, 'Print what --out holds as a table; compile nothing.'
)


def _devices(topology: str) -> Any:
  """Those of a topology, which need not be there.

  Raises:
    ValueError: libtpu is missing, or does not know the topology.
  """
  from jax.experimental import topologies

  # Or libtpu asks the cloud it believes to be in.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  # Nobody needs a chip to himself.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  try:
    return topologies.get_topology_desc(topology, 'tpu').devices
  except (ImportError, RuntimeError) as error:
    raise ValueError(
      f'--topologies: no devices of {topology!r} ({_first(error)}); install '
      "libtpu by pip install -e '.[tpu]', and give a topology that it knows, "
      'such as v5e:2x2.'
    ) from error


def measure(name: str, topology: str) -> dict[str, Any]:
  """Compiles a path for a topology; a line as `records.line` has it."""
  chip, devices = chips.of(topology), _devices(topology)
  path = hot_paths.PATHS[name](devices, quick=_QUICK.value)
  # What a kernel computes is not seen from outside.
  total = flops.count(path.trace().jaxpr)
  with attention_kernels.use(_ATTENTION.value):
    traced = path.trace()
  config = {
    'path': name,
    'topology': topology,
    'chip': chip.name,
    'num_chips': len(devices),
    'attention': _ATTENTION.value,
    **path.work,
    'memory_gib_of_chip': chip.memory,
    'tflop': round(total / 1e12, 4),
    'jax': jax.__version__,
  }
  lowered = traced.lower(lowering_platforms=('tpu',))
  start = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    config['does_not_fit'] = _first(error)
  seconds = time.perf_counter() - start
  if 'does_not_fit' not in config:
    text = compiled.as_text()
    if _TEXTS.value:
      _keep(pathlib.Path(_TEXTS.value), _case(name, topology), text)
    config |= _analysis(compiled, text, chip, total / len(devices))
  return records.line(_case(name, topology), round(seconds, 1), 's', config)


def _case(name: str, topology: str) -> str:
  """The name of a line."""
  kernel = '' if _ATTENTION.value == 'plain' else f'/{_ATTENTION.value}'
  return f'compile_ahead/{name}/{topology}{kernel}'


def _analysis(
  compiled: Any, text: str, chip: chips.Chip, own_flops: float
) -> dict[str, Any]:
  """What a compiled program says of itself, for one chip."""
  memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
  said = compiled_text.read(text)
  gib = {
    'arguments_gib': memory.argument_size_in_bytes,
    'outputs_gib': memory.output_size_in_bytes,
    'reused_gib': memory.alias_size_in_bytes,
    'temporaries_gib': memory.temp_size_in_bytes,
    'program_gib': memory.generated_code_size_in_bytes,
  }
  sizes = {key: round(value / 2**30, 4) for key, value in gib.items()}
  needed = sum(gib.values()) - 2 * memory.alias_size_in_bytes
  # XLA counts the inside of a loop once: its bytes are taken as often as its
  # operations are.
  loops = max(1.0, own_flops / max(costs['flops'], 1.0))
  moved = sum(one.runs * one.mebibytes for one in said.collectives) * 2**20
  estimates = {
    'products_ms': own_flops / chip.peak / 1e9,
    'memory_ms': loops * costs['bytes accessed'] / chip.bandwidth / 1e6,
    'links_ms': moved / chip.links / 1e6,
    'cycles_ms': (said.cycles or 0) / chip.clock / 1e6,
  }
  return {
    **sizes,
    'needed_gib': round(needed / 2**30, 4),
    'tflop_of_chip': round(own_flops / 1e12, 4),
    'xla_tflop': round(costs['flops'] / 1e12, 4),
    'xla_gib': round(costs['bytes accessed'] / 2**30, 4),
    'estimates': {key: round(value, 3) for key, value in estimates.items()},
    'collectives': compiled_text.grouped(said.collectives),
    'custom_calls': said.custom_calls,
  }


def _keep(folder: pathlib.Path, case: str, text: str) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  name = case.replace('/', '.').replace(':', '_')
  (folder / f'{name}.txt.gz').write_bytes(gzip.compress(text.encode()))


def _first(error: Exception) -> str:
  """The first sentence of an error, without lines after it."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _there(out: pathlib.Path | None) -> list[dict[str, Any]]:
  """The lines of a file, if there is one."""
  if out is None or not out.exists():
    return []
  return [json.loads(line) for line in out.read_text().splitlines() if line]


def main(argv: list[str]) -> None:
  """Compiles and prints."""
  del argv
  out = None if _OUT.value is None else pathlib.Path(_OUT.value)
  if _TABLE.value:
    if out is None or not out.exists():
      raise ValueError(
        f'--table prints what --out={_OUT.value} holds, and there is no such '
        'file; compile first.'
      )
    print(ahead_table.markdown(_there(out)))
    return
  # A program that was kept takes no time to compile.
  jax.config.update('jax_enable_compilation_cache', False)
  names = _PATHS.value or list(hot_paths.PATHS)
  unknown = [name for name in names if name not in hot_paths.PATHS]
  if unknown:
    raise ValueError(
      f'--paths={",".join(unknown)}: choose of {", ".join(hot_paths.PATHS)}.'
    )
  for topology in _TOPOLOGIES.value:
    chips.of(topology)
  done = {line['name'] for line in _there(out)}
  for name in names:
    for topology in _TOPOLOGIES.value:
      if _case(name, topology) in done:
        continue
      text = json.dumps(measure(name, topology))
      print(text, flush=True)
      if out is not None:
        with out.open('a') as file:
          file.write(text + '\n')


if __name__ == '__main__':
  records.run(main)
