"""The rate of large matrix products on this machine, to compare others with."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import sharding


def gflops(dtype: str) -> float:
  """Rate of large products of `dtype` on all devices at once, in GFLOP/s."""
  on_cpu = jax.default_backend() == 'cpu'
  size, repeats = (1536, 9) if on_cpu else (8192, 20)
  mesh = sharding.planning_mesh(jax.device_count())
  batch = np.ones((jax.device_count(), size, size), dtype)
  x = sharding.shard_batch(batch, mesh)
  multiply = jax.jit(lambda x: jnp.einsum('bij,bjk->bik', x, x))
  multiply(x).block_until_ready()
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    multiply(x).block_until_ready()
    times.append(time.perf_counter() - start)
  return 2e-9 * len(batch) * size**3 / statistics.median(times)
