"""States of one shape: windows that fill, slide, and do both in one batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import (
  block_causal,
  causal,
  concatenated,
  frames,
  looking_around,
  recurrent,
  robot,
  windows,
)

HEADS = {'depth': 2, 'num_heads': 2, 'mlp_dim': 8}


def concatenation(**fields):
  core = concatenated.ConcatenationPredictor(
    history=3, head_dim=4, condition_features=3, **HEADS, **fields
  )
  return frames.FramePredictor(core, num_tokens=2)


def tokens(**fields):
  core = block_causal.TokenPredictor(
    history=3, grid=(1, 2), width=12, **HEADS, **fields
  )
  return robot.RobotPredictor(core, num_tokens=2, state_dim=0)


PREDICTORS = {
  'causal': lambda: causal.CausalPredictor(
    width=12, history=3, head_dim=4, **HEADS
  ),
  'recurrent': lambda: recurrent.RecurrentPredictor(history=3),
  'looking': lambda: looking_around.LookingAround(
    history=3, num_points=2, rows=2, reach=1, width=8, depth=1
  ),
  'concatenated': concatenation,
  'uncausal': lambda: concatenation(causal=False),
  'wide': lambda: concatenation(width=8),
  'token': tokens,
  'feature': lambda: tokens(conditioning='feature'),
  'adaln': lambda: tokens(conditioning='adaln', rotary_style='interleaved'),
}
SIZE, CONDITION, STEPS = 8, 3, 6


def readout(latents, outputs):
  return jnp.tanh(0.7 * latents + outputs[..., :SIZE])


class Case:
  """A predictor with drawn weights, compiled, and its oracle."""

  def __init__(self, module, fill, draw):
    self.module = module
    self.latents, self.conditions = (
      draw(2, 3, 3, SIZE),
      draw(2, 3, 9, CONDITION),
    )
    self.variables = fill(module, self.latents, self.conditions[..., :3, :])
    method = lambda name, **options: jax.jit(
      lambda *args: module.apply(self.variables, *args, method=name, **options)
    )
    self.start, self.plain = method('start'), method('__call__')
    self.grow = method('start', grows=True)
    self.advance = jax.jit(
      lambda state, condition: module.apply(
        self.variables, state, condition, readout, method='advance'
      )
    )
    self.absorb = method('absorb')

  @functools.cache  # noqa: B019
  def expected(self, number):
    """Latents after `number` that were seen, each of its whole window."""
    seen = [self.latents[..., t, :] for t in range(number)]
    for _ in range(STEPS):
      first = max(0, len(seen) - 3)
      window = jnp.stack(seen[first:], axis=-2)
      outputs, _ = self.plain(
        window, self.conditions[..., first : first + window.shape[-2], :]
      )
      seen.append(readout(window[..., -1:, :], outputs[..., -1:, :])[..., 0, :])
    return seen[number:]

  def started(self, number, grows=False):
    start = self.grow if grows else self.start
    return start(
      self.latents[..., :number, :], self.conditions[..., : number - 1, :]
    )


@pytest.fixture(params=PREDICTORS, scope='module')
def case(request, fill, draw):
  return Case(PREDICTORS[request.param](), fill, draw)


@pytest.mark.parametrize('grows', [False, True])
@pytest.mark.parametrize('number', [1, 2, 3])
def test_a_rollout_is_that_of_whole_windows(case, number, grows):
  state = case.started(number, grows)
  shapes = jax.tree.map(jnp.shape, state)
  for t, expected in enumerate(case.expected(number)):
    state = case.advance(state, case.conditions[..., number - 1 + t, :])
    if not grows:
      assert jax.tree.map(jnp.shape, state) == shapes
    np.testing.assert_allclose(state.newest, expected, atol=1e-6, err_msg=t)


def test_what_is_absorbed_is_what_it_would_be_started_from(case, draw):
  seen = draw(2, 3, 6, SIZE)
  state = case.started(1)
  state = state.replace(newest=seen[..., 0, :])
  for t in range(1, 6):
    state = case.absorb(state, case.conditions[..., t - 1, :], seen[..., t, :])
    if t not in (2, 5):
      continue
    # What a window cannot hold is forgotten; nothing that it held is in doubt.
    fresh = case.start(
      seen[..., t - 2 : t + 1, :], case.conditions[..., t - 2 : t, :]
    )
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    for name in ('newest', 'earlier', 'place'):
      jax.tree.map(
        np.testing.assert_array_equal,
        *(getattr(x, name, None) for x in (state, fresh)),
      )
    jax.tree.map(
      lambda *x: np.testing.assert_allclose(*x, atol=1e-5), state, fresh
    )


def test_what_grows_absorbs_too(fill, draw):
  case = Case(PREDICTORS['causal'](), fill, draw)
  state = case.started(1, grows=True)
  for t in range(1, 6):
    latent = case.latents[..., t % 3, :]
    state = case.absorb(state, case.conditions[..., t - 1, :], latent)
  fresh = case.start(case.latents, case.conditions[..., 3:5, :])
  state, fresh = (
    case.advance(x, case.conditions[..., 5, :]) for x in (state, fresh)
  )
  np.testing.assert_allclose(state.newest, fresh.newest, atol=1e-5)


def test_windows_that_fill_and_slide_share_a_batch(case):
  """Auto-reset: every row was started at another step, from other latents."""
  state, others = case.started(1), [case.started(n) for n in (1, 2, 3)]
  ages = np.zeros((2, 3), int)
  for t in range(STEPS):
    if t in (2, 4):
      fresh = [(0, 0), (1, 2)] if t == 2 else [(0, 1)]
      for row in fresh:
        ages[row] = 0
        state = jax.tree.map(
          lambda leaf, new, row=row: leaf.at[row].set(new[row]),
          state,
          others[0],
        )
    condition = np.stack(
      [[case.conditions[i, j, ages[i, j]] for j in range(3)] for i in range(2)]
    )
    state = case.advance(state, condition)
    for row in np.ndindex(2, 3):
      expected = case.expected(1)[ages[row]][row]
      np.testing.assert_allclose(
        state.newest[row], expected, atol=1e-6, err_msg=(t, row)
      )
    ages += 1


def test_it_scans_and_vmaps(case):
  state = case.started(2)
  conditions = jnp.moveaxis(case.conditions[..., 1 : 1 + STEPS, :], 2, 0)

  def step(state, condition):
    state = case.advance(state, condition)
    return state, state.newest

  each = jax.vmap(jax.vmap(lambda *args: jax.lax.scan(step, *args)))
  for scan, axis in ((functools.partial(jax.lax.scan, step), 0), (each, 2)):
    _, path = jax.jit(scan)(state, jnp.moveaxis(conditions, 0, axis))
    np.testing.assert_allclose(
      jnp.moveaxis(path, axis, 0), case.expected(2), atol=1e-6
    )


def test_a_token_is_taken_put_and_pushed():
  buffer = jnp.arange(1.0, 25.0).reshape(2, 6, 2)
  place, equal = jnp.array([0, 2]), np.testing.assert_array_equal
  taken = windows.take(buffer, place, 2)
  equal(taken, [buffer[0, :2], buffer[1, 4:]])
  equal(windows.take(buffer, None, 2), buffer[:, 4:])
  window = windows.whole(buffer, place, -taken)
  equal(window[0, :6], jnp.concatenate([-taken[0], buffer[0, 2:]]))
  equal(window[1, :6], jnp.concatenate([buffer[1, :4], -taken[1]]))
  new = jnp.zeros((2, 1, 2))
  after = windows.push(buffer, jnp.array([5, 6]), new, 6)
  equal(after[0], buffer[0].at[5].set(0.0))
  equal(after[1], jnp.concatenate([buffer[1, 1:], new[1]]))
