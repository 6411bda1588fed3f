import functools

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.networks import block_causal, concatenated


@pytest.fixture(scope='module')
def golden():
  """Arrays, sizes, and the frames of tokens `[B, T, P, D]`."""
  data, meta = golden_files.load('vjepa2_ac_tiny')
  num_tokens = int(np.prod(meta['config']['grid_hw']))
  batch_size, _, features = data['z'].shape
  frames = data['z'].reshape(batch_size, -1, num_tokens, features)
  return data, meta['config'], frames


def published(data, config):
  """The golden state dict as our parameters, written out by hand."""

  def linear(name):
    return {
      'kernel': data[f'sd/{name}.weight'].T,
      'bias': data[f'sd/{name}.bias'],
    }

  def norm(name):
    return {'scale': data[f'sd/{name}.weight'], 'bias': data[f'sd/{name}.bias']}

  params = {
    'input': linear('predictor_embed'),
    'condition_0': linear('action_encoder'),
    'condition_1': linear('state_encoder'),
    'norm': norm('predictor_norm'),
    'output': linear('predictor_proj'),
  }
  for index in range(config['layers']):
    name = f'predictor_blocks.{index}'
    qkv = linear(f'{name}.attn.qkv')
    heads = zip(np.split(qkv['kernel'], 3, 1), np.split(qkv['bias'], 3))
    attention = {
      part: {'kernel': kernel, 'bias': bias}
      for part, (kernel, bias) in zip(('query', 'key', 'value'), heads)
    }
    params[f'block_{index}'] = {
      'attention_norm': norm(f'{name}.norm1'),
      'attention': {**attention, 'out': linear(f'{name}.attn.proj')},
      'mlp_norm': norm(f'{name}.norm2'),
      'mlp': {
        'hidden': linear(f'{name}.mlp.fc1'),
        'out': linear(f'{name}.mlp.fc2'),
      },
    }
  return {'params': jax.tree.map(jnp.asarray, params)}


def token_predictor(**fields):
  sizes = {'grid': (4, 4), 'width': 32, 'depth': 2, 'num_heads': 2}
  return block_causal.TokenPredictor(
    **{'history': 4, 'mlp_dim': 128, **sizes, **fields}
  )


def published_predictor(data, config, **fields):
  return token_predictor(
    history=config['frames'],
    grid=tuple(config['grid_hw']),
    width=config['width'],
    depth=config['layers'],
    num_heads=config['heads'],
    mlp_dim=len(data['sd/predictor_blocks.0.mlp.fc1.weight']),
    **fields,
  )


def concatenation_predictor(**fields):
  sizes = {'depth': 2, 'num_heads': 2, 'head_dim': 8, 'mlp_dim': 16}
  return concatenated.ConcatenationPredictor(
    **{'history': 4, 'condition_features': 3, **sizes, **fields}
  )


@functools.partial(jax.jit, static_argnums=0)
def make(predictor, rng_key):
  """Random frames, conditions and parameters, none of them a default."""
  keys = jax.random.split(rng_key, 4)
  frames = jax.random.normal(keys[0], (2, 4, 16, 6))
  conditions = (
    jax.random.normal(keys[1], (2, 4, 7)),
    jax.random.normal(keys[2], (2, 4, 5)),
  )
  variables = predictor.init(keys[3], frames, conditions)
  leaves, tree = jax.tree.flatten(variables)
  random = [
    leaf + 0.3 * jax.random.normal(jax.random.fold_in(keys[3], i), leaf.shape)
    for i, leaf in enumerate(leaves)
  ]
  return frames, conditions, jax.tree.unflatten(tree, random)


@functools.partial(jax.jit, static_argnums=0)
def apply(predictor, variables, frames, conditions):
  """As one program; piece by piece, a hundred would be compiled."""
  return predictor.apply(variables, frames, conditions)


PREDICTORS = {
  'tokens': token_predictor,
  'interleaved': lambda: token_predictor(rotary_style='interleaved'),
  'feature': lambda: token_predictor(conditioning='feature', depth=1),
  'concatenation': concatenation_predictor,
  'concatenation_wide': lambda: concatenation_predictor(width=20),
}


@pytest.fixture(params=PREDICTORS, scope='module')
def case(request):
  predictor = PREDICTORS[request.param]()
  return predictor, *make(predictor, jax.random.key(3))


def test_equals_the_published_predictor(golden):
  data, config, frames = golden
  with jax.default_matmul_precision('highest'):
    out, _ = apply(
      published_predictor(data, config),
      published(data, config),
      frames,
      (data['actions'], data['states']),
    )
  expected = data['out/full_raw']
  golden_files.close(out.reshape(expected.shape), expected, 1e-5)


def test_another_rotary_style_is_told_apart(golden):
  data, config, frames = golden
  predictor = published_predictor(data, config, rotary_style='interleaved')
  out, _ = apply(
    predictor,
    published(data, config),
    frames,
    (data['actions'], data['states']),
  )
  expected = data['out/full_raw']
  difference = np.abs(out.reshape(expected.shape) - expected).max()
  assert difference > 1e-3 * np.abs(expected).max()


@pytest.mark.slow
def test_a_frame_sees_itself_and_what_was_before(case):
  predictor, frames, conditions, variables = case
  whole, _ = apply(predictor, variables, frames, conditions)
  prefix, _ = apply(
    predictor, variables, frames[:, :2], [x[:, :2] for x in conditions]
  )
  np.testing.assert_allclose(whole[:, :2], prefix, atol=1e-5)
  # Tokens of one frame see each other, in both directions.
  jacobian = jax.jacobian(
    lambda x: apply(predictor, variables, x, conditions)[0][0, 1, :, 0]
  )
  jacobian = jax.jit(jacobian)(frames)[:, 0]
  seen = np.abs(jacobian).max(-1) > 0
  assert seen[:, :2].all()
  assert not seen[:, 2:].any()


def test_every_condition_counts(case):
  predictor, frames, conditions, variables = case
  out, _ = apply(predictor, variables, frames, conditions)
  for index in range(2):
    changed = list(conditions)
    changed[index] = conditions[index].at[:, 2].add(1.0)
    other, _ = apply(predictor, variables, frames, tuple(changed))
    np.testing.assert_array_equal(out[:, :2], other[:, :2])
    assert np.abs(out[:, 2] - other[:, 2]).max() > 1e-4


@pytest.mark.slow
def test_half_precision_keeps_parameters(rng_key):
  predictor = token_predictor(dtype=jnp.bfloat16)
  frames, conditions, variables = make(predictor, rng_key)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  out, _ = apply(predictor, variables, frames, conditions)
  exact, _ = apply(token_predictor(), variables, frames, conditions)
  assert out.dtype == jnp.bfloat16
  scale = float(jnp.abs(exact).max())
  np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.05 * scale)


def test_windows_that_do_not_fit_are_refused(case):
  predictor, frames, conditions, variables = case
  long = jnp.concatenate([frames, frames], axis=1)
  with pytest.raises(ValueError, match='T at most 4'):
    predictor.apply(variables, long, conditions)
  with pytest.raises(ValueError, match='as many as the frames'):
    predictor.apply(variables, frames[:, :2], conditions)


def test_a_frame_of_another_grid_is_refused(rng_key):
  predictor = token_predictor()
  frames, conditions, variables = make(predictor, rng_key)
  with pytest.raises(ValueError, match=r'16 tokens \(grid=\(4, 4\)\)'):
    predictor.apply(variables, frames[..., :9, :], conditions)
