"""Devices: which there are, and how arrays lie on them.

The only file that knows. Everything else is written as for one device; a mesh
that `jax.set_mesh` made current, and arguments that lie on it, spread it.
Axes: `data` (a batch, or problems to plan), `samples` (a planner's candidates).
"""

import contextlib
import contextvars
import functools
import math
import os
import pathlib
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
  Sharding,
)

LAYOUTS = ('replicated', 'fsdp')
"""How what a run changes lies on the devices of a mesh.

  'replicated': all of it on every device;
  'fsdp': a part of every large array on each (fully sharded data parallelism,
    ZeRO, arXiv 1910.02054): the compiler gathers an array where it is used.
"""

_SMALLEST = 2**14
"""Numbers of an array that is worth sharding: gathering it costs a message."""

_alone = contextvars.ContextVar('alone', default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
  """Inside it there are the devices of this process alone.

  For what one of several processes does while the others wait.
  """
  token = _alone.set(True)
  try:
    yield
  finally:
    _alone.reset(token)


def is_alone() -> bool:
  """Whether no other process takes part in what is done here."""
  return _alone.get() or jax.process_count() == 1


def devices() -> list[jax.Device]:
  """Those of all processes, or this one's where it is `alone`."""
  return jax.local_devices() if _alone.get() else jax.devices()


def make_mesh(
  num_devices: int | None = None,
  axes: Sequence[str] = ('data',),
  shape: Sequence[int] | None = None,
) -> Mesh:
  """Arranges devices in a grid with named axes.

  Args:
    num_devices: how many to use; the product of `shape`, or all, by default.
    axes: a name for every axis.
    shape: devices along every axis; all along the first, by default.

  Returns:
    A mesh for `jax.set_mesh`, `shard_batch` and `replicated`; the compiler
    chooses how arrays lie on it where nothing says so.

  Raises:
    ValueError: more devices than there are, or axes, shape and number that do
      not fit each other.
  """
  available = devices()
  if num_devices is None:
    num_devices = len(available) if shape is None else int(np.prod(shape))
  if not 1 <= num_devices <= len(available):
    raise ValueError(
      f'num_devices must be between 1 and the {len(available)} devices there '
      f'are, got {num_devices}.'
    )
  if shape is None:
    shape = (num_devices,) + (1,) * (len(axes) - 1)
  if len(shape) != len(axes) or int(np.prod(shape)) != num_devices:
    raise ValueError(
      f'shape must give the {len(axes)} axes {tuple(axes)} sizes whose product '
      f'is {num_devices} devices, got {tuple(shape)}.'
    )
  return jax.make_mesh(
    tuple(shape),
    tuple(axes),
    axis_types=(AxisType.Auto,) * len(axes),
    devices=available[:num_devices],
  )


def planning_mesh(num_problems: int) -> Mesh:
  """Arranges all devices for planning `num_problems` at once.

  As many as can have problems of their own get them ('data'); what is left
  shares the candidates of each ('samples'). Planning alike on every device
  needs no company, so that comes first.

  Args:
    num_problems: B.

  Returns:
    A mesh with the axes 'data' and 'samples'.
  """
  num_devices = len(devices())
  # Each axis must divide what it splits, or that stays whole.
  data = math.gcd(num_problems, num_devices)
  return make_mesh(axes=('data', 'samples'), shape=(data, num_devices // data))


def use_every_core() -> None:
  """Makes a device of every core, where there is nothing but a CPU.

  Each then works on problems or candidates of its own and never waits for the
  other within a step, which is faster than sharing each operation. Call it
  before anything touches a device; afterwards, or where the number of devices
  has been chosen already (`XLA_FLAGS`, `JAX_NUM_CPU_DEVICES`), it does nothing.
  """
  chosen = 'xla_force_host_platform_device_count'
  if chosen in os.environ.get('XLA_FLAGS', ''):
    return
  if 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  with contextlib.suppress(RuntimeError):  # Too late: JAX has its devices.
    jax.config.update('jax_num_cpu_devices', num_cores())


def constrain(x: jax.Array, *axis_names: str | None) -> jax.Array:
  """Spreads the first dimensions of `x` over axes of the current mesh.

  Where the work is done, never what comes out. So a dimension stays whole where
  the mesh lacks the axis or its size does not divide the dimension, and without
  a current mesh nothing happens.

  Args:
    x: `[...]`.
    axis_names: an axis for each leading dimension, or None to keep it whole.

  Returns:
    `x`.

  Raises:
    ValueError: more names than `x` has dimensions.
  """
  if len(axis_names) > x.ndim:
    raise ValueError(
      f'axis_names {axis_names} are more than the dimensions of x, whose shape '
      f'is {x.shape}.'
    )
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  sizes = mesh.shape
  spec = [
    name if name in sizes and dim % sizes[name] == 0 else None
    for name, dim in zip(axis_names, x.shape)
  ]
  return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def row_by_row(fn: Callable[[jax.Array], Any], x: jax.Array) -> Any:
  """`fn(x)` where no row needs another; a compiler might gather them first.

  Args:
    fn: of `[b, ...]`, to arrays `[b, ...]`.
    x: `[B, ...]`, its rows over `data` where the current mesh divides them.
  """
  mesh = jax.sharding.get_abstract_mesh()
  size = 1 if mesh.empty else mesh.shape.get('data', 1)
  if size == 1 or x.shape[0] % size:
    return fn(x)
  rows = PartitionSpec('data')
  return jax.shard_map(fn, in_specs=rows, out_specs=rows, axis_names={'data'})(
    x
  )


def num_processes(mesh: Mesh) -> int:
  """How many processes have devices in a mesh."""
  return len({device.process_index for device in mesh.devices.flat})


def shard_batch(batch: Any, mesh: Mesh) -> Any:
  """Puts a batch on the devices, its leading axis split over `data`.

  Args:
    batch: pytree of arrays `[B, ...]`; with several processes, each gives its
      `shares.own_rows`, and `B` of the result is the sum of theirs.
    mesh: a mesh with a `data` axis.

  Returns:
    The same pytree of device arrays.

  Raises:
    ValueError: no `data` axis, or it does not divide the batch.
  """
  if 'data' not in mesh.shape:
    raise ValueError(
      f"mesh must have an axis 'data', got axes {mesh.axis_names}."
    )
  num_devices = mesh.shape['data']
  split = NamedSharding(mesh, PartitionSpec('data'))
  several = num_processes(mesh)

  def put(path: Any, leaf: Any) -> jax.Array:
    size = leaf.shape[0] * several if leaf.ndim else 0
    if not size or size % num_devices:
      raise ValueError(
        f'batch{jax.tree_util.keystr(path)} of shape {leaf.shape} makes a '
        f'batch of {size}, which {num_devices} devices do not divide: change '
        'the batch size or use fewer devices.'
      )
    return jax.make_array_from_process_local_data(split, leaf)

  return jax.tree_util.tree_map_with_path(put, batch)


def replicated(mesh: Mesh) -> NamedSharding:
  """Sharding of an array that every device of `mesh` holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Puts a whole copy of every leaf of `tree` on every device of `mesh`.

  Each of several processes gives the same.
  """
  return put(tree, replicated(mesh))


def put(tree: Any, where: Sharding) -> Any:
  """Lays arrays, which every process has, on devices that may be of several.

  Args:
    tree: pytree of arrays.
    where: of all of them.
  """
  if where.is_fully_addressable:
    return jax.device_put(tree, where)
  return jax.tree.map(functools.partial(_put_parts, where), tree)


def _put_parts(where: Sharding, x: Any) -> jax.Array:
  if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
    data = _put_parts(where, jax.random.key_data(x))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  host = np.asarray(x)
  return jax.make_array_from_callback(host.shape, where, lambda at: host[at])


def layout(shapes: Any, mesh: Mesh) -> Any:
  """How a state lies on the devices by 'fsdp', see `LAYOUTS`.

  An array is split over `data` along the longest axis that it divides; a small
  one, and one without such an axis, stays whole.

  Args:
    shapes: pytree of arrays or `jax.ShapeDtypeStruct`.
    mesh: a mesh with a `data` axis.

  Returns:
    The same pytree of shardings.
  """
  num_devices = mesh.shape['data']

  def choose(leaf: Any) -> NamedSharding:
    axes = [x for x, size in enumerate(leaf.shape) if not size % num_devices]
    if num_devices == 1 or leaf.size < _SMALLEST or not axes:
      return replicated(mesh)
    longest = max(axes, key=lambda x: leaf.shape[x])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, 'data'))

  return jax.tree.map(choose, shapes)


def gathered(tree: Any, layouts: Any) -> Any:
  """Whole arrays, to compute with, of those that lie split.

  Within a compiled function: what depends on `tree` then is computed as if it
  had lain whole, and its gradient comes back split.

  Args:
    tree: pytree of arrays.
    layouts: how they lie, by `layout`, or one for all of them.
  """
  return jax.tree.map(
    lambda where, part: jax.tree.map(functools.partial(_gather, where), part),
    layouts,
    tree,
  )


def _gather(where: NamedSharding, x: jax.Array) -> jax.Array:
  return x if where.is_fully_replicated else _gather_split(where, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gather_split(where: NamedSharding, x: jax.Array) -> jax.Array:
  return jax.lax.with_sharding_constraint(
    x, NamedSharding(where.mesh, PartitionSpec())
  )


def _gather_forward(where, x):
  return _gather_split(where, x), None


def _gather_backward(where, _, cotangent):
  return (jax.lax.with_sharding_constraint(cotangent, where),)


_gather_split.defvjp(_gather_forward, _gather_backward)


def whole(tree: Any) -> Any:
  """A pytree of device arrays, those that lie split as NumPy arrays.

  One after the other is gathered, so that no device holds them all.
  """

  def fetch(leaf: Any) -> Any:
    if leaf.is_fully_replicated:
      return leaf
    if leaf.is_fully_addressable:
      return np.asarray(leaf)
    # Of several processes; each gets it.
    copies = jax.device_put(leaf, replicated(leaf.sharding.mesh))
    return np.asarray(copies.addressable_data(0))

  return jax.tree.map(fetch, tree)


def spread(tree: Any, mesh: Mesh) -> str:
  """How arrays lie on several devices, in words to follow the hardware.

  Args:
    tree: pytree of device arrays.
    mesh: that they lie on.

  Returns:
    `': 2 processes, 8 devices, 41 of 60 arrays split'`, and nothing on one.
  """
  if mesh.size == 1:
    return ''
  several = num_processes(mesh)
  processes = f'{several} processes, ' if several > 1 else ''
  leaves = jax.tree.leaves(tree)
  split = sum(not leaf.is_fully_replicated for leaf in leaves)
  lie = f'{split} of {len(leaves)} arrays split' if split else 'no array split'
  return f': {processes}{mesh.size} devices, {lie}'


def device_description() -> str:
  """The hardware that a measurement was taken on, in words for its record.

  Returns:
    `'CPU, 2 cores, AMD EPYC'`, `'NVIDIA H200'` or `'8 x NVIDIA H200'`. Fake CPU
    devices are no hardware and are not told.
  """
  devices = jax.devices()
  if devices[0].platform == 'cpu':
    cores = num_cores()
    unit = 'core' if cores == 1 else 'cores'
    return f'CPU, {cores} {unit}, {_processor_name()}'
  kind = devices[0].device_kind
  return kind if len(devices) == 1 else f'{len(devices)} x {kind}'


def num_cores() -> int:
  """Cores this process may run on, where the system can tell."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _processor_name() -> str:
  table = pathlib.Path('/proc/cpuinfo')
  if table.exists():
    for line in table.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
