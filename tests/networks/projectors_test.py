import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jepa_wm.networks import projectors


@pytest.fixture
def rows(draw):
  return 3 * draw(2, 4, 5) + 7


def test_batch_norm_counts_as_torch_does(rows, fill):
  module = projectors.BatchNorm()
  variables = fill(module, rows)
  params = {
    'scale': np.arange(5, dtype=np.float32),
    'bias': np.arange(5, dtype=np.float32) - 2,
  }
  outputs, updates = module.apply(
    {**variables, 'params': params}, rows, train=True, mutable=['batch_stats']
  )
  x = np.asarray(rows, np.float64).reshape(8, 5)
  expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
  expected = expected * np.arange(5) + np.arange(5) - 2
  np.testing.assert_allclose(outputs.reshape(8, 5), expected, atol=1e-5)
  old, new = jax.tree.map(
    np.asarray, (variables['batch_stats'], updates['batch_stats'])
  )
  mean = 0.9 * old['mean'] + 0.1 * x.mean(0)
  var = 0.9 * old['var'] + 0.1 * x.var(0, ddof=1)
  np.testing.assert_allclose(new['mean'], mean, rtol=1e-5)
  np.testing.assert_allclose(new['var'], var, rtol=1e-5)

  outputs = module.apply({'params': params, **updates}, rows)
  expected = (x - mean) / np.sqrt(var + 1e-5)
  expected = expected * np.arange(5) + np.arange(5) - 2
  np.testing.assert_allclose(outputs.reshape(8, 5), expected, rtol=1e-5)


def test_batch_norm_of_far_away_rows_keeps_its_digits(rows, fill):
  module = projectors.BatchNorm()
  variables = fill(module, rows)
  outputs = module.apply(variables, rows / 100 + 100, train=True)
  np.testing.assert_allclose(
    outputs, module.apply(variables, rows / 100, train=True), atol=5e-3
  )


def test_statistics_are_those_of_the_whole_sharded_batch(draw, fill):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  rows = draw(16, 3, 5) + np.arange(16, dtype=np.float32)[:, None, None]
  module = projectors.Projector(features=2, hidden_dim=6)
  variables = fill(module, rows)

  @jax.jit
  def run(variables, rows):
    def loss_fn(params):
      outputs, updates = module.apply(
        {**variables, 'params': params},
        rows,
        train=True,
        mutable=['batch_stats'],
      )
      return jnp.square(outputs).mean(), (outputs, updates)

    return jax.value_and_grad(loss_fn, has_aux=True)(variables['params'])

  one = run(variables, rows)
  sharding = NamedSharding(mesh, PartitionSpec('data'))
  eight = run(
    jax.device_put(variables, NamedSharding(mesh, PartitionSpec())),
    jax.device_put(rows, sharding),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, eight
  )


def test_statistics_move_only_where_they_may(rng_key, rows):
  module = projectors.BatchNorm()
  variables = module.init(rng_key, rows, train=True)
  np.testing.assert_array_equal(variables['batch_stats']['mean'], np.zeros(5))
  # No collection is mutable here: the batch's statistics are used, not kept.
  outputs = module.apply(variables, rows, train=True)
  np.testing.assert_allclose(outputs.mean(axis=(0, 1)), np.zeros(5), atol=1e-5)


def test_projector_without_norm_is_one_function(rows, fill):
  module = projectors.Projector(features=3, hidden_dim=6, norm='none')
  variables = fill(module, rows)
  assert set(variables) == {'params'}
  np.testing.assert_allclose(
    module.apply(variables, rows, train=True)[0],
    module.apply(variables, rows[0]),
    atol=1e-6,
  )


def test_low_precision_keeps_statistics_in_full(rows, fill):
  module = projectors.Projector(features=3, hidden_dim=6, dtype=jnp.bfloat16)
  variables = fill(module, rows)
  outputs, updates = module.apply(
    variables, rows, train=True, mutable=['batch_stats']
  )
  assert outputs.dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype('float32')}


def test_doors(rng_key):
  module = projectors.BatchNorm()
  with pytest.raises(ValueError, match='at least two rows of inputs'):
    module.init(rng_key, jnp.zeros((1, 1, 5)), train=True)
  with pytest.raises(ValueError, match=r"norm must be one of .*'layer'"):
    projectors.Projector(3, 6, norm='layer').init(rng_key, jnp.zeros((2, 5)))


def test_inverse_dynamics_sees_both_latents_in_order(draw, fill):
  module = projectors.InverseDynamics(features=3, hidden_dim=6)
  before, after = draw(2, 4, 5), draw(2, 4, 5)[::-1]
  variables = fill(module, before, after)
  inferred = module.apply(variables, before, after)
  head = projectors.Projector(features=3, hidden_dim=6, norm='none')
  expected = head.apply(
    {'params': variables['params']['head']},
    np.concatenate([before, after], axis=-1),
  )
  np.testing.assert_allclose(inferred, expected, rtol=1e-5)
  assert inferred.shape == (2, 4, 3)
  assert np.abs(inferred - module.apply(variables, after, before)).max() > 0.1


def test_inverse_dynamics_of_the_leading_numbers_sees_no_others(draw, fill):
  module = projectors.InverseDynamics(features=3, hidden_dim=6, num_seen=2)
  before, after = draw(2, 4, 5), draw(2, 4, 5)[::-1]
  variables = fill(module, before, after)
  inferred = module.apply(variables, before, after)
  blind = module.apply(variables, before[..., :2], after[..., :2])
  np.testing.assert_array_equal(inferred, blind)
