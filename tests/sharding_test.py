import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import sharding
from jepa_wm.evaluation.planning import undivided


def test_a_mesh_takes_all_devices_or_as_many_as_asked():
  mesh = sharding.make_mesh()
  assert dict(mesh.shape) == {'data': 8}
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
  assert sharding.make_mesh(2).size == 2
  two_axes = sharding.make_mesh(axes=('data', 'samples'), shape=(2, 3))
  assert dict(two_axes.shape) == {'data': 2, 'samples': 3}
  first = sharding.make_mesh(4, axes=('data', 'samples'))
  assert dict(first.shape) == {'data': 4, 'samples': 1}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'num_devices': 9}, 'between 1 and the 8 devices'),
    ({'num_devices': 0}, 'num_devices must be'),
    ({'num_devices': 4, 'shape': (2,)}, 'product is 4 devices'),
    ({'axes': ('data', 'samples'), 'shape': (8,)}, 'shape must give the 2'),
  ],
)
def test_a_mesh_that_cannot_be(arguments, message):
  with pytest.raises(ValueError, match=message):
    sharding.make_mesh(**arguments)


def shard_shape(x):
  return x.addressable_shards[0].data.shape


def test_a_mesh_for_any_number_of_problems():
  shapes = {
    number: dict(sharding.planning_mesh(number).shape)
    for number in (1, 3, 4, 12, 64)
  }
  assert shapes == {
    1: {'data': 1, 'samples': 8},
    3: {'data': 1, 'samples': 8},
    4: {'data': 4, 'samples': 2},
    12: {'data': 4, 'samples': 2},
    64: {'data': 8, 'samples': 1},
  }


def test_candidates_that_devices_cannot_share_are_told():
  assert undivided.sentence(64, [3]) == ''
  assert undivided.sentence(4, [30, 10]) == ''
  assert undivided.sentence(3, [32, 30]) == (
    'Planning 3 problems at once on 8 devices, 8 of them share the candidates '
    'of a problem and do not divide 30 (num_samples), so that each does the '
    'work of all 8: take a multiple of 8, or a --batch_size that 8 divides.'
  )


def test_constrain_places_and_changes_nothing():
  x = jnp.arange(4 * 6 * 3.0).reshape(4, 6, 3)
  assert sharding.constrain(x, 'data', 'samples') is x
  mesh = sharding.make_mesh(axes=('data', 'samples'), shape=(2, 4))
  constrain = jax.jit(sharding.constrain, static_argnums=(1, 2))
  for names, expected in (
    (('data', None), (2, 6, 3)),
    (('data', 'samples'), (2, 6, 3)),  # 4 does not divide 6
    (('samples', 'data'), (1, 3, 3)),
    (('samples', 'experts'), (1, 6, 3)),  # no such axis
  ):
    with jax.set_mesh(mesh):
      y = constrain(x, *names)
    np.testing.assert_array_equal(y, x)
    assert shard_shape(y) == expected, names
  with pytest.raises(ValueError, match='axis_names'):
    sharding.constrain(x[0, 0], 'data', 'samples')


def test_a_batch_is_split_over_the_devices():
  batch = {'pixels': np.arange(16.0).reshape(8, 2), 'actions': np.arange(8)}
  mesh = sharding.make_mesh(4)
  split = sharding.shard_batch(batch, mesh)
  jax.tree.map(np.testing.assert_array_equal, split, batch)
  assert shard_shape(split['pixels']) == (2, 2)
  assert len(split['actions'].addressable_shards) == 4


@pytest.mark.parametrize('shape', [(12, 2), ()])
def test_devices_must_divide_the_batch(shape):
  batch = {'pixels': np.zeros((8, 2)), 'actions': np.zeros(shape)}
  with pytest.raises(
    ValueError, match=r"batch\['actions'\].* 8 devices do not"
  ):
    sharding.shard_batch(batch, sharding.make_mesh())
  with pytest.raises(ValueError, match="an axis 'data'"):
    sharding.shard_batch(batch, sharding.make_mesh(axes=('samples',)))


def test_replicas_are_whole():
  mesh = sharding.make_mesh(3)
  tree = sharding.replicate({'w': np.arange(5.0)}, mesh)
  assert shard_shape(tree['w']) == (5,)
  assert tree['w'].sharding == sharding.replicated(mesh)
  assert len(tree['w'].addressable_shards) == 3


def test_large_arrays_are_split_along_their_longest_axis():
  shapes = {
    'kernel': (128, 256),
    'square': (128, 128),
    'odd': (1001, 136),
    'none': (129, 257),
    'small': (8, 16),
    'scalar': (),
  }
  arrays = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }
  found = sharding.layout(arrays, sharding.make_mesh())
  specs = {name: tuple(x.spec) for name, x in found.items()}
  assert specs == {
    'kernel': (None, 'data'),
    'square': ('data',),
    'odd': (None, 'data'),
    'none': (),
    'small': (),
    'scalar': (),
  }
  alone = sharding.layout(arrays, sharding.make_mesh(1))
  assert all(x.is_fully_replicated for x in alone.values())


def test_what_is_split_is_gathered_and_its_gradient_split():
  x = np.arange(128 * 128.0, dtype=np.float32).reshape(128, 128) / 1e4
  mesh = sharding.make_mesh()
  where = sharding.layout(x, mesh)
  split = jax.device_put(x, where)
  assert shard_shape(split) == (16, 128)

  @jax.jit
  def slope(x):
    return jax.grad(lambda x: jnp.sum(sharding.gathered(x, where) ** 2))(x)

  found = slope(split)
  assert shard_shape(found) == (16, 128)
  np.testing.assert_allclose(found, 2 * x, rtol=1e-6)
  np.testing.assert_array_equal(sharding.whole(split), x)
  assert isinstance(sharding.whole(split), np.ndarray)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('variables', 'expected'),
  [
    ({}, sharding.num_cores()),
    ({'JAX_NUM_CPU_DEVICES': '3'}, 3),
    ({'XLA_FLAGS': '--xla_force_host_platform_device_count=5'}, 5),
  ],
)
def test_every_core_becomes_a_device_unless_the_number_is_given(
  variables, expected
):
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      'import jax; from jepa_wm import sharding; sharding.use_every_core();'
      'print(jax.device_count()); sharding.use_every_core()',
    ],
    env={**environment, 'JAX_PLATFORMS': 'cpu', **variables},
    capture_output=True,
    text=True,
    check=True,
  )
  assert int(done.stdout) == expected


def test_how_arrays_are_spread_is_told_of_several_devices():
  mesh = sharding.make_mesh()
  small, large = np.zeros(8), np.zeros((8, 2**14))
  whole = sharding.replicate({'small': small, 'large': large}, mesh)
  assert sharding.spread(whole, mesh) == ': 8 devices, no array split'
  split = jax.device_put(whole, sharding.layout(whole, mesh))
  assert sharding.spread(split, mesh) == ': 8 devices, 1 of 2 arrays split'
  assert sharding.spread(whole, sharding.make_mesh(1)) == ''


def test_device_description_names_the_hardware(monkeypatch):
  assert sharding.device_description().startswith('CPU, ')

  @dataclasses.dataclass
  class Device:
    platform: str = 'gpu'
    device_kind: str = 'NVIDIA H200'

  monkeypatch.setattr(jax, 'devices', lambda: [Device()])
  assert sharding.device_description() == 'NVIDIA H200'
  monkeypatch.setattr(jax, 'devices', lambda: [Device(), Device()])
  assert sharding.device_description() == '2 x NVIDIA H200'
