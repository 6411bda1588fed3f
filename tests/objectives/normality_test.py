import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jepa_wm.objectives import normality, sigreg

NAMES = list(normality.STATISTICS)


def quantiles(count):
  """Where the normal's distribution function is (i + 1/2) / count."""
  levels = (np.arange(count) + 0.5) / count
  return np.asarray(jax.scipy.special.ndtri(jnp.asarray(levels)))


@pytest.mark.parametrize(
  'name, expected',
  [
    # At the ideal levels nothing is left but W^2's constant.
    ('cramer_von_mises', 1 / (12 * 8)),
    ('watson', 1 / (12 * 8)),
    (
      'anderson_darling',
      -8
      - np.sum(
        (2 * np.arange(8) + 1) / 8 * 2 * np.log((np.arange(8) + 0.5) / 8)
      ),
    ),
  ],
)
def test_ideal_samples_in_closed_form(name, expected):
  views = np.random.default_rng(0).permutation(quantiles(8))[:, None]
  value = jax.jit(normality.STATISTICS[name])(views)
  np.testing.assert_allclose(value, [expected], rtol=1e-4)


@pytest.mark.parametrize(
  'name, expected',
  [('cramer_von_mises', 1 / 6), ('anderson_darling', 1), ('watson', 1 / 12)],
)
def test_means_for_normal_samples_are_known(name, expected):
  views = np.random.default_rng(1).normal(size=(16, 20_000))
  values = np.asarray(jax.jit(normality.STATISTICS[name])(views))
  error = values.std() / np.sqrt(values.size)
  assert abs(values.mean() - expected) < 5 * error < 0.05 * expected


@pytest.mark.parametrize('name', NAMES)
def test_collapse_is_dear_and_undone(name):
  statistic = jax.jit(normality.STATISTICS[name])
  normal = np.random.default_rng(2).normal(size=(64, 1)).astype(np.float32)
  thin = jnp.asarray(1e-2 * normal)
  price, slope = jax.jit(jax.value_and_grad(lambda x: statistic(x).sum()))(thin)
  assert price > 5 * statistic(jnp.asarray(normal)).sum()
  # The way downhill is the way apart.
  assert (slope * (thin - thin.mean())).sum() < 0


def test_far_samples_stay_finite():
  views = jnp.asarray([[-30.0], [30.0], [0.0], [1.0]])
  value, slope = jax.jit(
    jax.value_and_grad(lambda x: normality.anderson_darling(x).sum())
  )(views)
  assert np.isfinite(value) and np.isfinite(slope).all()
  # Far out log(ndtr(-x)) falls by x; the outermost weigh 2 * (1/2) / 4.
  np.testing.assert_allclose(slope[:2, 0], [-7.5, 7.5], rtol=0.01)


def test_watson_knows_no_shift_of_levels():
  levels = (np.arange(8) + 0.5) / 8
  shifted = jax.scipy.special.ndtri(jnp.asarray(0.9 * levels + 0.0))[:, None]
  w, u = normality.cramer_von_mises(shifted), normality.watson(shifted)
  mean = (0.9 * levels).mean()
  np.testing.assert_allclose(w - u, [8 * (mean - 0.5) ** 2], rtol=1e-3)


@pytest.mark.parametrize('name', NAMES)
def test_eight_devices_test_as_one(name, rng_key):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  latents = np.random.default_rng(3).normal(size=(3, 16, 4))
  latents = latents.astype(np.float32)

  @jax.jit
  @jax.value_and_grad
  def run(latents):
    return sigreg.sigreg(
      latents, rng_key, num_projections=8, statistic=name
    ).sum()

  spread = NamedSharding(mesh, PartitionSpec(None, 'data'))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    run(latents),
    run(jax.device_put(latents, spread)),
  )


def test_an_unknown_test_is_refused(rng_key):
  with pytest.raises(ValueError, match=r"statistic must be .*'watsn'"):
    sigreg.sigreg(jnp.zeros((4, 2)), rng_key, statistic='watsn')
