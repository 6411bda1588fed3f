"""Functions as files that run without this package: StableHLO and a manifest.

A folder has `manifest.json`, which says what every function takes and gives,
and a file for each of them. `jax.export.deserialize` reads those; nothing else
of ours is needed.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export

from jepa_wm import files, pytrees
from jepa_wm.types import Params

PLATFORMS = 'cpu', 'cuda', 'rocm', 'tpu'
"""What StableHLO can be lowered for, on any machine."""

FORMAT_VERSION = 1
"""Layout of a folder; one more where loaders of old ones fail."""

MANIFEST, WEIGHTS = 'manifest.json', 'weights.safetensors'
_ENDINGS = '.stablehlo', '.onnx'

MOST_BYTES = 2**31 - 2**24
"""Of a file: flatbuffers and protobuf count by 31 bits."""

ROWS = 'B'
"""In place of a number of rows: any."""


@dataclasses.dataclass(frozen=True)
class Array:
  """An array at the boundary of a function.

  Attributes:
    shape: its sizes, `ROWS` for any number.
    dtype: as NumPy names it.
    unit: what its numbers are, in words.
    start: of what one call hands to the next, what all its numbers are before
      the first; None of all else.
  """

  shape: tuple[int | str, ...]
  dtype: str
  unit: str
  start: float | None = None

  def to_dict(self) -> dict[str, Any]:
    """For the manifest; JSON has no infinity, so that is a text."""
    found = dataclasses.asdict(self)
    start = found.pop('start')
    if start is not None:
      found['start'] = start if np.isfinite(start) else str(start)
    return found


@dataclasses.dataclass(frozen=True)
class Function:
  """What is to be written: arrays by name to arrays by name.

  Attributes:
    name: of it, and of its files.
    call: `(params, inputs) -> outputs`, the last two dicts of arrays.
    params: the weights, nested dicts of arrays.
    inputs: what it takes.
    units: of its outputs, by name.
  """

  name: str
  call: Callable[[Params, dict[str, jax.Array]], dict[str, jax.Array]]
  params: Params
  inputs: Mapping[str, Array]
  units: Mapping[str, str]

  @property
  def weights(self) -> dict[str, Any]:
    """Its weights by path."""
    found: dict[str, Any] = flax.traverse_util.flatten_dict(
      self.params, sep='/'
    )
    return found

  def specs(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Its inputs as JAX is told of them."""
    (rows,) = export.symbolic_shape(ROWS)
    return {
      name: jax.ShapeDtypeStruct(
        tuple(rows if size == ROWS else size for size in array.shape),
        np.dtype(array.dtype),
      )
      for name, array in self.inputs.items()
    }

  def without(self, names: Sequence[str]) -> 'Function':
    """The same where inputs that decide nothing are zeros inside.

    What would hand them on to the next call is given no more.
    """
    zeros = {
      name: jnp.zeros([1 if x == ROWS else x for x in array.shape], array.dtype)
      for name, array in self.inputs.items()
      if name in names
    }
    return dataclasses.replace(
      self,
      call=lambda params, inputs: self.call(params, {**zeros, **inputs}),
      inputs={k: x for k, x in self.inputs.items() if k not in names},
      units={k: x for k, x in self.units.items() if k not in names},
    )


@dataclasses.dataclass(frozen=True)
class Written:
  """A function in one format.

  Attributes:
    format: its name.
    function: what it does.
    content: of its file.
    outputs: what it gives.
    details: what the manifest says of the file besides.
    has_weights: whether they are inside; else they come first, by path.
  """

  format: str
  function: Function
  content: bytes
  outputs: Mapping[str, Array]
  details: Mapping[str, Any]
  has_weights: bool = True

  @property
  def file(self) -> str:
    """Its name in the folder."""
    return f'{self.function.name}.{self.format}'


def needs(what: str, *packages: str) -> None:
  """Makes sure that packages of the extra `export` are there.

  Raises:
    ImportError: one is not.
  """
  missing = [x for x in packages if importlib.util.find_spec(x) is None]
  if missing:
    raise ImportError(
      f'{what} needs {" and ".join(missing)}, which is not installed: '
      "pip install 'jepa-wm[export]', or -e '.[export]' in a clone."
    )


def check_size(function: Function) -> None:
  """Makes sure that the weights of a function fit into one file.

  Raises:
    ValueError: they do not.
  """
  size = sum(x.size * x.dtype.itemsize for x in function.weights.values())
  if size > MOST_BYTES:
    raise ValueError(
      f'{function.name}: {size / 1e9:.1f} GB of weights do not fit into one '
      f'file, which holds {MOST_BYTES / 1e9:.1f} GB; keep them beside it, with '
      '--weights=beside and --format=stablehlo.'
    )


def trimmed(function: Function) -> Function:
  """The function without inputs that decide nothing or are empty.

  Raises:
    ValueError: it calls back to Python.
  """
  kept = _lower(function, ['cpu'], beside=False).module_kept_var_idx
  # Dicts are flattened by name.
  unused = [
    name
    for i, name in enumerate(sorted(function.inputs))
    if i not in kept or 0 in function.inputs[name].shape
  ]
  return function.without(unused) if unused else function


def stablehlo(
  function: Function, platforms: Sequence[str], *, beside: bool = False
) -> Written:
  """Lowers a function for all platforms at once; compiles nothing.

  Args:
    function: what is lowered.
    platforms: of `PLATFORMS`.
    beside: whether the weights are an argument, and not inside.

  Raises:
    ImportError: without flatbuffers.
    ValueError: it calls back to Python, or its weights are too large.
  """
  if not beside:
    check_size(function)
  needs('StableHLO', 'flatbuffers')
  exported = _lower(function, platforms, beside)
  shapes = jax.tree.unflatten(exported.out_tree, exported.out_avals)
  details = {
    'platforms': [*exported.platforms],
    'calling_convention_version': exported.calling_convention_version,
  }
  return Written(
    'stablehlo',
    function,
    bytes(exported.serialize()),
    described(function, shapes),
    details,
    not beside,
  )


def described(
  function: Function, shapes: Mapping[str, Any]
) -> dict[str, Array]:
  """What a function gives, of the shapes that tracing has found."""
  return {
    name: Array(
      tuple(x if isinstance(x, int) else str(x) for x in shapes[name].shape),
      str(shapes[name].dtype),
      unit,
    )
    for name, unit in function.units.items()
  }


def _lower(
  function: Function, platforms: Sequence[str], beside: bool
) -> export.Exported:
  """Lowers `(weights, inputs)`, or `inputs` alone where they are inside."""

  def call(
    weights: dict[str, jax.Array], inputs: dict[str, jax.Array]
  ) -> dict[str, jax.Array]:
    if not beside:
      # Else XLA computes with constants at once, and rounds otherwise; one by
      # one, so that those that nobody needs go.
      weights = jax.tree.map(jax.lax.optimization_barrier, weights)
    params = flax.traverse_util.unflatten_dict(weights, sep='/')
    outputs = function.call(params, inputs)
    return {name: outputs[name] for name in function.units}

  given: Any = (function.weights, function.specs())
  if not beside:
    call, given = functools.partial(call, given[0]), given[1:]
  with _said_of_callbacks(function.name):
    lower = export.export(jax.jit(call), platforms=platforms)
    found: export.Exported = lower(*given)
  return found


@contextlib.contextmanager
def _said_of_callbacks(name: str) -> Iterator[None]:
  """Says in one sentence what no other process could call."""
  try:
    yield
  except (NotImplementedError, ValueError) as error:
    if not any(x in str(error) for x in ('callback', 'custom call')):
      raise
    why = ' '.join(str(error).split())
    raise ValueError(
      f'{name} calls what is not in the file, Python or a library of this '
      f'machine ({why:.160}); export a model without that.'
    ) from error


def write(
  path: files.Path,
  written: Sequence[Written],
  about: Mapping[str, Any],
  *,
  overwrite: bool = False,
  before_fn: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Writes a folder, which appears whole or not at all.

  Args:
    path: of the folder, which is not there, empty or to be replaced.
    written: functions, each in one format or more.
    about: what the manifest says besides, for JSON.
    overwrite: whether an export that is there is replaced.
    before_fn: called when all is written, before the folder appears.

  Returns:
    The manifest.

  Raises:
    FileExistsError: see `check_place`.
    OSError: it cannot be written.
  """
  check_place(path, overwrite=overwrite)
  manifest = {'format_version': FORMAT_VERSION, **about, 'functions': {}}
  weights: dict[str, Any] = {}
  with files.folder_written_whole(path) as folder:
    for one in written:
      function = one.function
      (folder / one.file).write_bytes(one.content)
      entry = manifest['functions'].setdefault(
        function.name,
        {
          'inputs': {k: x.to_dict() for k, x in function.inputs.items()},
          'outputs': {k: x.to_dict() for k, x in one.outputs.items()},
        },
      )
      entry[one.format] = {
        'file': one.file,
        'sha256': files.digest(one.content),
        'bytes': len(one.content),
        **one.details,
      }
      if not one.has_weights:
        entry[one.format]['weights'] = sorted(function.weights)
        weights |= function.weights
    if weights:
      manifest['weights'] = _write_weights(folder, weights)
    text = json.dumps(manifest, indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + '\n')
    before_fn()
  return manifest


def _write_weights(
  folder: pathlib.Path, weights: Mapping[str, Any]
) -> dict[str, Any]:
  """Writes the weights of all functions; what the manifest says of them."""
  arrays = {k: np.asarray(x, order='C') for k, x in weights.items()}
  path = folder / WEIGHTS
  path.write_bytes(safetensors.numpy.save(arrays))
  return {
    'file': WEIGHTS,
    'sha256': files.digest_file(path),
    'bytes': path.stat().st_size,
    'parameters': pytrees.count_parameters(arrays),
  }


def check_place(path: files.Path, *, overwrite: bool = False) -> None:
  """Refuses a folder in which something is.

  Args:
    path: where an export is to be.
    overwrite: whether one that is there may go.

  Raises:
    FileExistsError: an export is there and may not go, or something else.
  """
  files.check_replaceable(
    path, lambda name: name in (MANIFEST, WEIGHTS) or name.endswith(_ENDINGS)
  )
  found = files.real(path)
  if not overwrite and found.exists() and any(found.iterdir()):
    raise FileExistsError(
      f'{path} is there already; add --overwrite to replace it.'
    )
