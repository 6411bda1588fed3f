"""The same functions as ONNX, by jax2onnx, compared with ONNX Runtime."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jepa_wm import artefacts

MOST_ERROR = 1e-3
"""Of outputs, as a share of the largest number, above which none is written."""

_BOOL = 9
"""`onnx.TensorProto.BOOL`."""

_ROWS = 3
"""To compare with, where any number will do."""


def onnx(function: artefacts.Function) -> artefacts.Written:
  """Converts a function, and compares what ONNX Runtime makes of it.

  What is converted is the traced program and not its layers, so that nothing
  depends on how these are written.

  Args:
    function: what is converted; its weights are inside.

  Raises:
    ImportError: without jax2onnx or ONNX Runtime.
    ValueError: an operation that jax2onnx does not know, weights that are too
      large, or numbers that differ by more than `MOST_ERROR`.
  """
  artefacts.check_size(function)
  artefacts.needs('ONNX', 'jax2onnx', 'onnxruntime')
  specs = function.specs()

  def call(*arrays: jax.Array) -> list[jax.Array]:
    outputs = function.call(function.params, dict(zip(specs, arrays)))
    return [outputs[name] for name in function.units]

  closed, shapes = jax.make_jaxpr(call, return_shape=True)(*specs.values())
  content, opset = _converted(function, closed, specs)
  outputs = artefacts.described(function, dict(zip(function.units, shapes)))
  error = _error(function, content)
  if not error <= MOST_ERROR:
    raise ValueError(
      f'{function.name}: ONNX Runtime gives other numbers than JAX, by '
      f'{error:.1g} of the largest; export it as stablehlo.'
    )
  details = {'opset': opset, 'error': error}
  return artefacts.Written('onnx', function, content, outputs, details)


def _converted(
  function: artefacts.Function, closed: Any, specs: dict[str, Any]
) -> tuple[bytes, int]:
  """The file of a traced program, and the version of its operations."""
  names = output_names(function)
  # What is given under two names is converted under the first.
  firsts: dict[Any, str] = {}
  for name, variable in zip(names, closed.jaxpr.outvars, strict=True):
    firsts.setdefault(variable, name)
  rows = [names.index(name) for name in firsts.values()]
  call = core.jaxpr_as_fun(closed)

  def once(*arrays: jax.Array) -> list[jax.Array]:
    outputs = call(*arrays)
    return [outputs[i] for i in rows]

  try:
    with _contained():
      import jax2onnx

      model = jax2onnx.to_onnx(
        once,
        [*specs.values()],
        model_name=function.name,
        input_names=[*specs],
        output_names=[*firsts.values()],
      )
  except Exception as error:  # Of any kind.
    raise _cannot(function, 'jax2onnx cannot convert it', error) from error
  _tidy(model.graph)
  for name, variable in zip(names, closed.jaxpr.outvars, strict=True):
    if (first := firsts[variable]) != name:
      _name_again(model.graph, first, name)
  ordered = sorted(model.graph.output, key=lambda x: names.index(x.name))
  del model.graph.output[:]
  model.graph.output.extend(ordered)
  found: bytes = model.SerializeToString()
  return found, model.opset_import[0].version


def _tidy(graph: Any) -> None:
  """Makes a graph one that ONNX Runtime can run, and is silent about."""
  known = [*graph.value_info, *graph.input, *graph.output]
  truths = {x.name for x in known if x.type.tensor_type.elem_type == _BOOL}
  nodes = [*graph.node]
  del graph.node[:]
  for node in nodes:
    if node.op_type == 'Where' and node.output[0] in truths:
      _choose_truths(graph, node)
    else:
      graph.node.append(node)
  # Shapes in between, some of which are wrong: it finds its own.
  del graph.value_info[:]
  used = {name for node in graph.node for name in node.input}
  used |= {x.name for x in graph.output}
  constants = [x for x in graph.initializer if x.name in used]
  del graph.initializer[:]
  graph.initializer.extend(constants)


def _choose_truths(graph: Any, node: Any) -> None:
  """`Where` of truth values, which ONNX Runtime has not, in words that it has.

  `(condition and x) or (not condition and y)`.
  """
  (condition, x, y), (out,) = node.input, node.output
  for op, given, name in (
    ('And', [condition, x], f'{out}/and'),
    ('Not', [condition], f'{out}/not'),
    ('And', [f'{out}/not', y], f'{out}/else'),
    ('Or', [f'{out}/and', f'{out}/else'], out),
  ):
    graph.node.add(op_type=op, input=given, output=[name], name=f'{name}/{op}')


def output_names(function: artefacts.Function) -> list[str]:
  """What the outputs are called in the file, in the order of the manifest.

  There inputs and outputs have no name in common: 'next/state' is the state
  that a step leads to.
  """
  return [f'next/{x}' if x in function.inputs else x for x in function.units]


def _cannot(
  function: artefacts.Function, what: str, error: Exception
) -> ValueError:
  """What to say of a converter's or a runtime's own error."""
  why = ' '.join(f'{type(error).__name__}: {error}'.split())
  rows = [x.shape[0] for x in function.inputs.values() if x.shape]
  number = '--batch=NUMBER or ' if artefacts.ROWS in rows else ''
  return ValueError(
    f'{function.name}: {what} ({why:.200}); export it with {number}'
    '--format=stablehlo.'
  )


def _name_again(graph: Any, first: str, name: str) -> None:
  """Gives an output of a graph under another name besides."""
  (known,) = (x for x in graph.output if x.name == first)
  graph.output.add().CopyFrom(known)
  graph.output[-1].name = name
  graph.node.add(op_type='Identity', input=[first], output=[name])


def _error(function: artefacts.Function, content: bytes) -> float:
  """By how much ONNX Runtime is off, as a share of the largest number."""
  import onnxruntime

  draw = np.random.default_rng(0)
  inputs = {}
  for name, array in function.inputs.items():
    shape = [_ROWS if isinstance(x, str) else x for x in array.shape]
    dtype = np.dtype(array.dtype)
    if dtype == np.uint8:
      inputs[name] = draw.integers(0, 256, shape).astype(dtype)
    elif np.issubdtype(dtype, np.floating):
      inputs[name] = draw.normal(size=shape).astype(dtype)
    else:
      inputs[name] = np.zeros(shape, dtype)
  try:
    session = onnxruntime.InferenceSession(
      content, providers=['CPUExecutionProvider']
    )
  except Exception as error:  # It has kinds of its own.
    raise _cannot(function, 'ONNX Runtime cannot run it', error) from error
  theirs = session.run(None, inputs)
  call: Any = jax.jit(function.call)
  ours = call(function.params, inputs)
  errors = [
    np.max(np.abs(x - ours[name])) / max(1.0, np.max(np.abs(ours[name])))
    for name, x in zip(function.units, theirs, strict=True)
    if x.size
  ]
  return float(max(errors))


@contextlib.contextmanager
def _contained() -> Iterator[None]:
  """Keeps to itself what the converter prints, and what it changes in JAX.

  jax2onnx 0.13 logs plugins that it does without, and leaves a `jnp.cumsum`
  behind that takes no axis by position.
  """
  loggers = [logging.getLogger(name) for name in ('jax2onnx', 'onnx_ir')]
  levels, cumsum = [logger.level for logger in loggers], jnp.cumsum
  for logger in loggers:
    logger.setLevel(logging.CRITICAL)
  try:
    with (
      contextlib.redirect_stdout(io.StringIO()),
      warnings.catch_warnings(action='ignore'),
    ):
      yield
  finally:
    vars(jnp)['cumsum'] = cumsum
    for logger, level in zip(loggers, levels, strict=True):
      logger.setLevel(level)
