import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import hybrid, windowed_attention

T, SIZE, CONDITION = 23, 5, 3
FIELDS = {
  'width': 6,
  'num_heads': 1,
  'head_dim': 6,
  'mlp_dim': 8,
  'depth': 2,
  'linear_every': 2,
  'window': 3,
  'dilations': (2,),
  'chunk': 4,
  'dropout': 0.0,
}


def readout(latents, outputs):
  return jnp.tanh(0.7 * latents + outputs[..., :SIZE])


def close(found, expected, atol=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected
  )


class Case:
  """A predictor with drawn weights, and its methods compiled."""

  def __init__(self, fill, draw):
    self.module = hybrid.HybridConfig(**FIELDS).build((1, 1), jnp.float32)
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


@pytest.mark.parametrize(('window', 'dilation'), [(3, 2), (8, 4), (1, 1)])
def test_a_window_sees_its_tokens_and_no_others(fill, draw, window, dilation):
  layer = windowed_attention.WindowedAttention(2, 6, window, dilation)
  tokens = draw(1, 40, 4)
  variables = fill(layer, tokens)
  run = jax.jit(lambda x: layer.apply(variables, x)[0][0])
  # Rows: the tokens that a token depends on.
  slopes = np.abs(np.asarray(jax.jacobian(run)(jnp.asarray(tokens)[:1])))
  depends = slopes.sum(axis=(1, 2, 4)) > 0
  ago = np.arange(40)[:, None] - np.arange(40)
  near = (ago >= 0) & (ago < window * dilation) & (ago % dilation == 0)
  np.testing.assert_array_equal(depends, near)


def test_a_state_goes_on_as_the_window_does(case):
  """Absorbed one by one, started anywhere: what a step predicts is the same."""
  outputs, memories = case.plain(case.latents, case.conditions)
  predicted = readout(case.latents, outputs)
  state = case.start(case.latents[:, :1], case.conditions[:, :0])
  shapes = jax.tree.map(jnp.shape, state)
  for t in range(T - 1):
    if t in (1, 9):
      started = case.start(case.latents[:, : t + 1], case.conditions[:, :t])
      close(started, state)
    ahead = case.advance(state, case.conditions[:, t])
    close(ahead.newest, predicted[:, t])
    state = case.absorb(state, case.conditions[:, t], case.latents[:, t + 1])
    assert jax.tree.map(jnp.shape, state) == shapes
    close(state.newest, case.latents[:, t + 1])
  last = case.advance(state, case.conditions[:, -1])
  close(last.memories, memories)


def test_rows_of_a_batch_may_be_of_any_age(case):
  """Auto-reset: one row begins anew, the other goes on."""
  at = lambda t: case.start(case.latents[:, : t + 1], case.conditions[:, :t])
  mixed = jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), at(9), at(0))
  ahead = case.advance(mixed, case.conditions[:, 0])
  alone = [case.advance(at(t), case.conditions[:, 0]) for t in (9, 0)]
  close(ahead, jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), *alone))


def test_ten_thousand_steps_at_one_size(case):
  state = case.start(case.latents[:, :1], case.conditions[:, :0])
  draw = np.random.default_rng(0)
  actions = draw.normal(size=(10_000, 2, CONDITION)).astype(np.float32)

  @jax.jit
  def play(state, actions):
    def step(state, action):
      state = case.advance(state, action)
      return state, jnp.all(jnp.isfinite(state.newest))

    return jax.lax.scan(step, state, actions)

  after, is_finite = play(state, actions)
  assert bool(is_finite.all())
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_what_is_far_back_still_counts(case):
  def slowed(path, leaf):
    return leaf - 8.0 if path[-1].key == 'step_bias' else leaf

  variables = jax.tree_util.tree_map_with_path(slowed, case.variables)
  moved = case.latents.copy()
  moved[:, 0] += 1.0
  run = jax.jit(case.module.apply)
  before, after = (
    run(variables, x, case.conditions)[0] for x in (case.latents, moved)
  )
  change = np.abs(after - before).max(axis=(0, 2))
  assert change.min() > 1e-3


def test_every_fourth_block_is_linear_and_one_is_dilated():
  kinds = lambda **fields: [
    getattr(hybrid.HybridConfig(**fields).build((1, 1), None)._mixer(i), name)
    for i, name in enumerate(['dilation'] * 3 + ['chunk'])
  ]
  assert kinds() == [1, 1, 4, 32]
  alone = hybrid.HybridConfig(linear_every=1, depth=2).build((1, 1), None)
  assert [alone._mixer(i).kernel_size for i in (0, 1)] == [4, 4]


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'linear_every': 1, 'window': 3}, r'window=3 would do nothing .*leave'),
    ({'linear_every': 5}, r'linear_every=5 would do nothing with depth=4'),
    ({'dilations': (1, 0)}, r'dilations must be positive'),
    ({'head_dim': 4}, r'head_dim must be at least 6'),
  ],
)
def test_doors(fields, message):
  with pytest.raises(ValueError, match=message):
    hybrid.HybridConfig(**fields)


def test_a_window_that_is_too_long(case, draw):
  module = case.module.clone(history=2)
  with pytest.raises(ValueError, match=r'a window of 3 steps.*history=2'):
    module.apply(case.variables, draw(1, 3, SIZE), draw(1, 3, CONDITION))
