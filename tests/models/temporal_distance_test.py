"""A distance in environment steps: what it learns, and what holds always."""

import functools

import acting
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.models import heads

FORMS = ('mlp', 'quasimetric')


def walks(rng, count=256):
  """Walkers on a circle's arc, which is not where the latents are straight.

  Half a turn takes 20 steps: the ends are 2 apart and the way is longer.
  """
  steps = rng.integers(0, 20, count, endpoint=True)
  first = rng.integers(0, 20 - steps, endpoint=True)
  place = lambda step: np.stack([np.cos(step * np.pi / 20),
                                 np.sin(step * np.pi / 20)], -1)  # fmt: skip
  return {
    'latents': np.float32(np.stack([place(first), place(first + steps)], 1)),
    'steps': np.float32(steps),
  }


@pytest.fixture(scope='module', params=FORMS)
def learnt(request):
  head = acting.build(
    'temporal_distance', form=request.param, depth=2, scale=5.0
  )
  return head, *acting.learn(head, walks, 300)


def test_it_says_steps_along_the_way(learnt):
  head, params, metrics = learnt
  assert metrics['explained'] > 0.95 and metrics['steps_off'] < 1.5
  batch = walks(np.random.default_rng(7))
  here, there = batch['latents'][:, 0], batch['latents'][:, 1]
  # Many latents for one goal, as planners ask; each goal's own among them.
  said = jax.jit(head.roles.cost)(params, here[None], there[:, None])
  assert said.shape == (256, 256)
  assert np.abs(np.diag(said) - batch['steps']).mean() < 1.5
  back = jax.jit(head.roles.cost)(params, there[None], here[:, None])
  assert np.abs(np.diag(back) - batch['steps']).mean() < 1.5


def test_one_way_leaves_the_way_back_unsaid():
  batch = walks(np.random.default_rng(0))
  back = {**batch, 'latents': batch['latents'][:, ::-1]}

  @functools.partial(jax.jit, static_argnums=0)
  def look(head):
    params = head.init(acting.KEY)
    losses = [head.losses(params, x, acting.KEY).loss for x in (batch, back)]
    pair = jnp.moveaxis(batch['latents'], 1, 0)
    return losses, [head.roles.cost(params, *x) for x in (pair, pair[::-1])]

  off = lambda said: np.square((said - batch['steps']) / 25.0)
  losses, (there, home) = look(acting.build('temporal_distance'))
  drawn = jax.random.bernoulli(acting.KEY, shape=(256, 1))[:, 0]
  both = np.where(drawn, off(home), off(there)).mean()
  np.testing.assert_allclose(losses[0], both, rtol=1e-5)
  losses, ways = look(acting.build('temporal_distance', both_ways=False))
  each = [off(x).mean() for x in ways]
  np.testing.assert_allclose(losses, each, rtol=1e-5)
  assert each[0] != each[1]
  low = acting.build('temporal_distance', both_ways=False, expectile=0.1)
  losses, ways = look(low)
  short = (ways[0] < batch['steps'], ways[1] < batch['steps'])
  share = [np.where(x, 0.1, 0.9) for x in short]
  expected = [(2 * s * off(x)).mean() for s, x in zip(share, ways)]
  np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'form': 'iqe'}, "form must be one of mlp, quasimetric, got 'iqe'"),
    ({'scale': 0.0}, 'scale must be above 0'),
    ({'expectile': 1.0}, 'expectile must be above 0 and below 1, got 1'),
    ({'max_steps': -1}, 'max_steps must be an integer of at least 0'),
  ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
  sizes = heads.Sizes(latent_dim=2)  # No actions are asked for.
  with pytest.raises(ValueError, match=message):
    heads.from_config({'name': 'temporal_distance', **settings}, sizes)
