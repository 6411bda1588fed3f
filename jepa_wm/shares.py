"""What each of several processes has of a batch and of a state."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jepa_wm import sharding


def own_rows(batch_size: int, mesh: Mesh | None = None) -> np.ndarray | None:
  """Which rows of a batch lie on the devices of this process.

  Args:
    batch_size: B, of all processes together.
    mesh: that the batch will lie on; of all devices if left out.

  Returns:
    int64 `[b]`, ascending, of 0..B-1; None where that is every row.

  Raises:
    ValueError: the devices do not divide the batch.
  """
  mesh = sharding.make_mesh() if mesh is None else mesh
  if sharding.num_processes(mesh) == 1:
    return None
  split = NamedSharding(mesh, PartitionSpec('data'))
  places = split.addressable_devices_indices_map((batch_size,)).values()
  rows = [np.arange(batch_size)[place] for place in places if place is not None]
  return np.unique(np.concatenate(rows))


def split(batch: Any, mesh: Mesh) -> Any:
  """Puts a batch that every process has whole on the devices of all.

  Args:
    batch: pytree of arrays `[B, ...]`.
    mesh: a mesh with a `data` axis, over which the leading axis is split.

  Raises:
    ValueError: see `sharding.shard_batch`.
  """
  if sharding.num_processes(mesh) == 1:
    return sharding.shard_batch(batch, mesh)
  return sharding.put(batch, NamedSharding(mesh, PartitionSpec('data')))


def brought_home(tree: Any) -> Any:
  """A tree that lies on the devices of several processes, whole on ours.

  All of them call it. What lies on ours alone stays as it is.

  Args:
    tree: pytree of device arrays.
  """
  with sharding.alone():
    home = sharding.replicated(sharding.make_mesh())

  def bring(x: jax.Array) -> jax.Array:
    if x.is_fully_addressable:
      return x
    (found,) = jax.tree.leaves(sharding.whole(x))
    own = found.addressable_data(0) if isinstance(found, jax.Array) else found
    return jax.device_put(own, home)

  return jax.tree.map(bring, tree)
