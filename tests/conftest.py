"""Every test runs on eight fake CPU devices with strict rank promotion.

What XLA compiles is kept for the other workers and for the processes that tests
start, until the session ends; `JAX_COMPILATION_CACHE_DIR` keeps it for longer.
"""

import atexit
import collections
import gc
import os
import shutil
import tempfile

import compiler

# Flags of one's own come after, and win.
os.environ['XLA_FLAGS'] = ' '.join(
  (
    compiler.FLAGS,
    os.environ.get('XLA_FLAGS', ''),
    '--xla_force_host_platform_device_count=8',
  )
)
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('MPLBACKEND', 'agg')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '0')
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  # By the process that starts the workers: they find the name set.
  _programs = tempfile.mkdtemp(prefix='jepa_wm_programs_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _programs
  atexit.register(shutil.rmtree, _programs, ignore_errors=True)

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_threefry_partitionable', True)
compiler.share_contexts()


def pytest_collection_modifyitems(config, items):
  """Files with slow tests come first: no worker ends alone with one.

  Those of stress take forty minutes, and run where they are asked for.
  """
  if 'stress' not in config.option.markexpr:
    left_out = [item for item in items if item.get_closest_marker('stress')]
    items[:] = [x for x in items if not x.get_closest_marker('stress')]
    config.hook.pytest_deselected(items=left_out)
  slow = collections.Counter(
    item.path for item in items if item.get_closest_marker('slow')
  )
  items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish():
  """What has been imported stays: nobody searches it for garbage."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000)


@pytest.fixture
def rng_key():
  return jax.random.key(0)
