"""How actions reach tokens, and frames that see what comes after them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import block_causal, concatenated, frames, robot


def _random(variables, key):
  leaves, tree = jax.tree.flatten(variables)
  return jax.tree.unflatten(
    tree,
    [
      leaf + 0.3 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape)
      for i, leaf in enumerate(leaves)
    ],
  )


def _token_predictor(conditioning):
  return block_causal.TokenPredictor(
    history=2,
    grid=(1, 2),
    width=12,
    depth=1,
    num_heads=2,
    mlp_dim=8,
    conditioning=conditioning,
  )


def _start(predictor):
  keys = jax.random.split(jax.random.key(0), 4)
  seen = jax.random.normal(keys[0], (2, 2, 2, 5))
  given = jax.random.normal(keys[1], (2, 2, 3))
  variables = jax.jit(predictor.init)(keys[2], seen, (given,))
  return seen, given, _random(variables, keys[3])


def test_a_feature_is_what_concatenation_comes_to():
  predictor = _token_predictor('feature')
  seen, given, variables = _start(predictor)
  out, _ = jax.jit(predictor.apply)(variables, seen, (given,))
  params = variables['params']
  both = jnp.concatenate(
    [seen, jnp.broadcast_to(given[:, :, None], (*seen.shape[:3], 3))], axis=-1
  )
  # One linear map of features and condition side by side, and no condition.
  joint = {
    'kernel': jnp.concatenate(
      [params['input']['kernel'], params['condition_0']['kernel']]
    ),
    'bias': params['input']['bias'] + params['condition_0']['bias'],
  }
  plain = {
    name: x for name, x in params.items() if name not in ('condition_0',)
  }
  plain['output'] = {
    'kernel': jnp.pad(params['output']['kernel'], ((0, 0), (0, 3))),
    'bias': jnp.pad(params['output']['bias'], (0, 3)),
  }
  expected, _ = jax.jit(_token_predictor('token').apply)(
    {'params': {**plain, 'input': joint}}, both, ()
  )
  np.testing.assert_allclose(out, expected[..., :5], atol=1e-5)


def test_a_fresh_modulation_is_the_identity():
  predictor = _token_predictor('adaln')
  seen, given, variables = _start(predictor)
  params = variables['params']
  block = params['block_0']
  zero = jax.tree.map(jnp.zeros_like, block['modulation'])
  fresh = {**params, 'block_0': {**block, 'modulation': zero}}
  apply = jax.jit(predictor.apply)
  out, _ = apply({'params': fresh}, seen, (given,))
  params = jax.tree.map(np.asarray, params)
  tokens = np.asarray(seen) @ params['input']['kernel']
  tokens += params['input']['bias']
  tokens -= tokens.mean(-1, keepdims=True)
  tokens /= np.sqrt(np.square(tokens).mean(-1, keepdims=True) + 1e-6)
  tokens = tokens * params['norm']['scale'] + params['norm']['bias']
  expected = tokens @ params['output']['kernel'] + params['output']['bias']
  np.testing.assert_allclose(out, expected, atol=1e-4)
  other, _ = apply(variables, seen, (given + 1.0,))
  before, _ = apply(variables, seen, (given,))
  assert np.abs(other - before).max() > 1e-3


def test_a_modulated_frame_sees_none_after_it():
  predictor = _token_predictor('adaln')
  seen, given, variables = _start(predictor)
  apply = jax.jit(predictor.apply)
  whole, _ = apply(variables, seen, (given,))
  first, _ = apply(variables, seen[:, :1], (given[:, :1],))
  np.testing.assert_allclose(first, whole[:, :1], rtol=1e-4, atol=1e-4)


def test_there_is_no_other_conditioning():
  with pytest.raises(ValueError, match=r"conditioning must be .*'tokens'"):
    robot.BlockCausalConfig(conditioning='tokens')


@pytest.fixture(scope='module')
def uncausal():
  core = concatenated.ConcatenationPredictor(
    history=3,
    depth=2,
    num_heads=2,
    head_dim=4,
    mlp_dim=8,
    condition_features=3,
    causal=False,
  )
  predictor = frames.FramePredictor(core, num_tokens=2)
  keys = jax.random.split(jax.random.key(1), 4)
  latents = jax.random.normal(keys[0], (2, 3, 10))
  actions = jax.random.normal(keys[1], (2, 3, 4))
  variables = predictor.init(keys[2], latents, actions)
  return predictor, latents, actions, _random(variables, keys[3])


def test_without_a_mask_a_frame_sees_those_after_it(uncausal):
  predictor, latents, actions, variables = uncausal
  out, _ = predictor.apply(variables, latents, actions)
  after, _ = predictor.apply(variables, latents.at[:, 2].add(1.0), actions)
  assert np.abs(out[:, 0] - after[:, 0]).max() > 1e-3
