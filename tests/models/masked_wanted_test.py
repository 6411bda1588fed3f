"""What masked models predict in ablations, against NumPy."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import models

CONFIG = {
  'name': 'ijepa',
  'encoder': {
    'image_size': 12,
    'patch_size': 2,
    'width': 12,
    'depth': 1,
    'num_heads': 2,
    'mlp_dim': 16,
  },
  'predictor': {'width': 8, 'depth': 1, 'num_heads': 1, 'mlp_dim': 8},
  'masks': {'name': 'rasterized'},
  'terms': {'hidden_tokens': {'distance': 'squared'}},
}
PIXELS = {'target': {'name': 'pixels'}, 'inference_encoder': 'encoder'}
CLIPS = {
  **CONFIG,
  'name': 'vjepa',
  'encoder': {
    **CONFIG['encoder'],
    'num_frames': 4,
    'positions': {'name': 'sincos'},
  },
  'masks': {'name': 'random_tube', 'hidden_percent': 50},
}


def make(config, **changes):
  return models.from_config(json.loads(json.dumps({**config, **changes})))


@pytest.fixture(scope='module')
def rng():
  return np.random.default_rng(0)


def drawn(model, rng):
  """Variables and a batch of three, drawn by NumPy."""
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  variables = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), shapes
  )
  size = model.encoder.image_size
  pixels = rng.integers(0, 256, (3, model.num_frames, size, size, 3), np.uint8)
  return variables, {'observation': {'pixels': pixels}, **model.draw(rng, 3)}


def normalized_pixels(batch):
  pixels = batch['observation']['pixels'] / 255
  mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  return ((pixels - mean) / deviation).astype(np.float32)


def expected(model, variables, batch, wanted_fn):
  """The mean squared error, sample by sample and target by target."""
  pixels, (masks,) = normalized_pixels(batch), batch['masks']
  # Compiled once: op by op takes longer.
  encode = jax.jit(
    lambda params, *inputs: model.encoder.build(jnp.float32).apply(
      {'params': params}, *inputs
    )[0]
  )
  predict = jax.jit(functools.partial(model.predict, mask_index=0))
  errors = []
  for b in range(3):
    ids = masks.context_ids[b]
    context = encode(variables['params']['encoder'], pixels[b], ids)
    for hidden in np.atleast_2d(masks.target_ids[b]):
      predicted = predict(variables, context, ids, hidden)
      wanted = wanted_fn(encode, pixels[b], hidden)
      errors.append(np.mean((np.asarray(predicted) - wanted) ** 2))
  return np.mean(errors)


def patch_of(clip, token, model):
  """Pixels of a token, frame by frame and row by row."""
  _, rows, columns = model.grid
  t, rest = divmod(int(token), rows * columns)
  y, x = divmod(rest, columns)
  span, side = model.encoder.tubelet_size, model.encoder.patch_size
  return clip[
    t * span : (t + 1) * span,
    y * side : (y + 1) * side,
    x * side : (x + 1) * side,
  ].ravel()


@pytest.mark.parametrize(
  ('config', 'norm'),
  [(CONFIG, 'none'), (CLIPS, 'layer')],
  ids=['ijepa', 'vjepa'],
)
def test_pixels_are_predicted_patch_by_patch(config, norm, rng, rng_key):
  model = make(config, **PIXELS, target_norm=norm)
  variables, batch = drawn(model, rng)
  assert 'target' not in variables

  def wanted(encode, clip, hidden):
    cut = np.stack([patch_of(clip, token, model) for token in hidden])
    if norm == 'none':
      return cut
    variance = cut.var(-1, ddof=1, keepdims=True)
    return (cut - cut.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-6)

  loss = jax.jit(model.losses)(variables, batch, rng_key).loss
  assert float(loss) == pytest.approx(
    expected(model, variables, batch, wanted), rel=1e-4
  )
  kept = model.for_inference(variables)
  assert set(kept['params']) == {'encoder', 'predictor'}
  metrics, _ = jax.jit(model.evaluate)(kept, batch)
  assert float(metrics['loss']) == pytest.approx(float(loss), rel=1e-5)
  assert model.after_update(variables, 0) is variables


@pytest.mark.parametrize(
  ('given', 'norm'), [('whole', 'none'), ('hidden', 'layer')]
)
def test_the_average_may_see_hidden_tokens_alone(given, norm, rng, rng_key):
  model = make(CONFIG, target_input=given, target_norm=norm)
  variables, batch = drawn(model, rng)
  params = variables['target']['params']['encoder']

  def wanted(encode, clip, hidden):
    if given == 'hidden':
      tokens = np.asarray(encode(params, clip, hidden))
    else:
      tokens = np.asarray(encode(params, clip))[hidden]
    if norm == 'none':
      return tokens
    centred = tokens - tokens.mean(-1, keepdims=True)
    return centred / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)

  losses = lambda target: (
    model.losses({**variables, 'target': target}, batch, rng_key).loss
  )
  loss, gradient = jax.jit(jax.value_and_grad(losses))(variables['target'])
  assert float(loss) == pytest.approx(
    expected(model, variables, batch, wanted), rel=1e-4
  )
  assert not any(np.any(x) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'target': {'name': 'pixels'}}, "set inference_encoder='encoder'"),
    ({**PIXELS, 'target_input': 'hidden'}, "target_input 'whole'"),
    ({'target_norm': 'batch'}, 'target_norm must be one of'),
  ],
)
def test_what_contradicts_itself_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    make(CONFIG, **changes)


def test_the_context_is_unknown_to_a_target_that_does_not_see_it(rng, rng_key):
  terms = {'hidden_tokens': {'context_weight': 0.5}}
  model = make(CONFIG, target_input='hidden', terms=terms)
  with pytest.raises(ValueError, match="set target_input='whole'"):
    jax.eval_shape(model.losses, *drawn(model, rng), rng_key)


def test_tokens_of_several_depths_lie_one_after_the_other(rng):
  deep = {**CONFIG['encoder'], 'depth': 4}
  model = make(CONFIG, encoder=deep, inference_layers=2)
  variables, batch = drawn(model, rng)
  kept = model.for_inference(variables)
  params = kept['params']['target_encoder']
  seen = {'pixels': batch['observation']['pixels'][:, 0]}
  last, outputs = model.encoder.build(jnp.float32).apply(
    {'params': params}, normalized_pixels(batch)
  )
  half = np.asarray(outputs['block_1'])
  centred = half - half.mean(-1, keepdims=True)
  half = centred / np.sqrt(half.var(-1, keepdims=True) + 1e-6)
  scale, bias = (np.asarray(params['norm'][x]) for x in ('scale', 'bias'))
  half = half * scale + bias
  np.testing.assert_allclose(
    model.encode(kept, seen, tokens=True),
    np.concatenate([half, last], axis=1),
    atol=1e-4,
  )
  np.testing.assert_allclose(
    model.encode(kept, seen), last.mean(1), rtol=1e-5, atol=1e-5
  )
  with pytest.raises(ValueError, match='multiple of inference_layers=3'):
    make(CONFIG, encoder=deep, inference_layers=3)
