import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import banks

T, SIZE, CONDITION = 9, 5, 3
HORIZONS = (3.0, 25.0)


def readout(latents, outputs):
  return jnp.tanh(0.7 * latents + outputs[..., :SIZE])


class Case:
  """A predictor with drawn weights, and its methods compiled."""

  def __init__(self, fill, draw):
    config = banks.BanksConfig(width=6, depth=1, mlp_dim=8, horizons=HORIZONS)
    self.module = config.build((1, 1), jnp.float32)
    self.latents, self.conditions = draw(2, T, SIZE), draw(2, T, CONDITION)
    self.variables = fill(self.module, self.latents, self.conditions)
    apply = functools.partial(self.module.apply, self.variables)
    self.plain = jax.jit(apply)
    self.start = jax.jit(functools.partial(apply, method='start'))
    self.absorb = jax.jit(functools.partial(apply, method='absorb'))
    self.advance = jax.jit(
      lambda *args: apply(*args, readout, method='advance')
    )


@pytest.fixture(scope='module')
def case(fill, draw):
  return Case(fill, draw)


def test_banks_are_means_of_what_was_seen(case):
  state = case.start(case.latents, case.conditions[:, 1:])
  for index, horizon in enumerate(HORIZONS):
    # Unrolled: what is k steps old has faded to exp(-k / horizon).
    kept = np.exp(-np.arange(T)[::-1] / horizon)
    weights = kept * (1 - np.exp(-1 / horizon))
    weights[0] = kept[0]
    mean = np.einsum('t,btd->bd', weights, case.latents)
    np.testing.assert_allclose(state.banks[:, index], mean, atol=1e-6)
    assert weights.sum() == pytest.approx(1)


def test_a_state_goes_on_as_the_window_does(case):
  outputs, last = case.plain(case.latents, case.conditions)
  predicted = readout(case.latents, outputs)
  state = case.start(case.latents[:, :1], case.conditions[:, :0])
  for t in range(T):
    ahead = case.advance(state, case.conditions[:, t])
    np.testing.assert_allclose(ahead.newest, predicted[:, t], atol=1e-5)
    if t + 1 < T:
      latent = case.latents[:, t + 1]
      state = case.absorb(state, case.conditions[:, t], latent)
      np.testing.assert_array_equal(case.module.read(state), latent)
  np.testing.assert_allclose(state.banks, last, atol=1e-5)


def test_ten_thousand_steps_at_one_size(case):
  state = case.start(case.latents[:, :1], case.conditions[:, :0])
  draw = np.random.default_rng(0)
  actions = draw.normal(size=(10_000, 2, CONDITION)).astype(np.float32)
  step = lambda state, action: (case.advance(state, action), ())
  after, _ = jax.jit(functools.partial(jax.lax.scan, step))(state, actions)
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_doors():
  with pytest.raises(ValueError, match=r'horizons must be .*got \(3.0, 0.0\)'):
    banks.BanksConfig(horizons=(3.0, 0.0))
