"""I-JEPA and V-JEPA: loss, target, masks, encoders, doors."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm import exports, fields, models, sharding
from jepa_wm.models import masked_tokens
from jepa_wm.objectives import mask_settings, prediction

ENCODER = {
  'image_size': 16,
  'patch_size': 2,
  'width': 24,
  'depth': 2,
  'num_heads': 2,
  'mlp_dim': 32,
}
PREDICTOR = {'width': 12, 'depth': 1, 'num_heads': 1, 'mlp_dim': 16}
CONFIGS = {
  'vjepa': {
    'name': 'vjepa',
    'encoder': {**ENCODER, 'num_frames': 4},
    'predictor': {**PREDICTOR, 'num_mask_tokens': 2},
    'masks': {'num_buckets': 2},
  },
  'ijepa': {
    'name': 'ijepa',
    'encoder': ENCODER,
    'predictor': PREDICTOR,
    'masks': {'num_buckets': 2},
  },
}
BATCH_SIZE = 8


@functools.cache
def _built(config):
  return models.from_config(json.loads(config))


def make(kind='vjepa', **changes):
  """A small model; `changes` are of fields, by dicts for those that nest."""
  config = {**CONFIGS[kind]}
  for name, value in changes.items():
    nested = isinstance(value, dict) and name in config
    config[name] = {**config[name], **value} if nested else value
  # Cached by its config, so that a model is compiled once.
  return _built(json.dumps(config))


CLIPS = make()


class Clips:
  """Batch number i is a function of i: a square that moves."""

  def __init__(self, num_frames, num_batches=None):
    self._num_frames, self._left, self.position = num_frames, num_batches, 0

  def __next__(self):
    rng = np.random.default_rng(self.position)
    self.position += 1
    pixels = np.zeros((BATCH_SIZE, self._num_frames, 16, 16, 3), np.uint8)
    for clip, start in zip(pixels, rng.integers(0, 9, (BATCH_SIZE, 2))):
      for t, frame in enumerate(clip):
        y, x = np.minimum(start + t, 10)
        frame[y : y + 6, x : x + 6] = (255, 128, 60)
    return {'observation': {'pixels': pixels}}

  def get_state(self):
    return {'position': self.position}

  def set_state(self, state):
    self.position = state['position']


class MaskedClips(Clips):
  """The same, with masks."""

  def __init__(self, model):
    super().__init__(model.num_frames)
    self._model = model

  def __next__(self):
    rng = np.random.default_rng(self.position)
    return {**super().__next__(), **self._model.draw(rng, BATCH_SIZE)}


@pytest.fixture(params=CONFIGS)
def model(request):
  return make(request.param)


batches = MaskedClips


@functools.cache
def start(model):
  """Variables of all sizes, drawn by NumPy: compiling `init` takes longer."""
  draw = np.random.default_rng(0)
  return model.target.split(
    jax.tree.map(
      lambda x: jnp.asarray(draw.normal(0, 0.2, x.shape), x.dtype),
      {
        name: collection
        for name, collection in jax.eval_shape(
          model.init, jax.random.key(0)
        ).items()
        if name != 'target'
      },
    )
  )


@functools.cache
def loss_fn(model):
  return jax.jit(model.losses)


def loss_of_target(model, variables, batch, rng_key):
  """The loss as a function of the target's variables."""
  return lambda target: (
    model.losses({**variables, 'target': target}, batch, rng_key).loss
  )


def test_the_loss_is_that_of_the_paper(model, rng_key):
  """Sample by sample, target by target, without batches or buckets."""
  variables = start(model)
  batch = next(batches(model))
  losses = loss_fn(model)(variables, batch, rng_key)
  kinds = len(batch['masks'])
  assert losses.latents.shape == (BATCH_SIZE, kinds, 24)
  assert losses.batch_stats == {} and losses.values.keys() == {
    'prediction_loss'
  }
  assert losses.loss == losses.metrics['loss']
  assert losses.loss == losses.metrics['prediction_loss']

  pixels = (batch['observation']['pixels'] / 255 - [0.485, 0.456, 0.406]) / [
    *(0.229, 0.224, 0.225)
  ]
  pixels = pixels.astype(np.float32)
  encode = jax.jit(
    lambda params, *inputs: model.encoder.build(jnp.float32).apply(
      {'params': params}, *inputs
    )[0]
  )
  predict = jax.jit(functools.partial(model.predict, mask_index=0))
  whole = encode(variables['target']['params']['encoder'], pixels)
  whole = np.asarray(whole)
  whole = (whole - whole.mean(-1, keepdims=True)) / np.sqrt(
    whole.var(-1, keepdims=True) + 1e-5
  )
  distance = prediction.DISTANCES[model.terms[0].distance]
  expected = []
  for drawn in batch['masks']:
    errors = []
    for b in range(2):
      ids = drawn.context_ids[b]
      context = encode(variables['params']['encoder'], pixels[b], ids)
      for targets in np.atleast_2d(drawn.target_ids[b]):
        predicted = predict(variables, context, ids, targets)
        errors.append(distance(predicted, jnp.asarray(whole[b][targets])))
    expected.append(np.mean(errors))
  two = jax.tree.map(lambda x: x[:2], batch)
  loss = loss_fn(model)(variables, two, rng_key).loss
  assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.slow
def test_every_kind_of_mask_may_have_its_token(rng_key):
  variables = start(CLIPS)
  batch = next(batches(CLIPS))
  per_kind = make(predictor={'mask_token': 'per_kind'})

  def gradient(model):
    loss = lambda params: (
      loss_fn(model)({**variables, 'params': params}, batch, rng_key).loss
    )
    return jax.grad(loss)(variables['params'])['predictor']['mask_tokens']

  shared, own = gradient(CLIPS), gradient(per_kind)
  assert np.any(shared[0]) and not np.any(shared[1])
  assert np.any(own[0]) and np.any(own[1])


def test_the_target_gets_no_gradient(model, rng_key):
  variables = start(model)
  loss = loss_of_target(model, variables, next(batches(model)), rng_key)
  gradient = jax.jit(jax.grad(loss))(variables['target'])
  assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_padded_sets_of_one_length_are_no_padding(rng_key):
  padded = make(masks={'truncate': 'none'})
  variables = start(CLIPS)
  batch = next(batches(CLIPS))
  losses = [
    float(loss_fn(x)(variables, batch, rng_key).loss) for x in (CLIPS, padded)
  ]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_padding_has_no_say(rng_key):
  padded = make(masks={'truncate': 'none'})
  variables = start(CLIPS)
  batch = next(batches(padded))
  assert not all(x.target_valid.all() for x in batch['masks'])
  losses = loss_fn(padded)(variables, batch, rng_key)
  other_ids = tuple(
    x._replace(
      context_ids=np.where(x.context_valid, x.context_ids, 3),
      target_ids=np.where(x.target_valid, x.target_ids, 5),
    )
    for x in batch['masks']
  )
  again = loss_fn(padded)(variables, {**batch, 'masks': other_ids}, rng_key)
  assert float(losses.loss) == pytest.approx(float(again.loss), rel=1e-5)
  np.testing.assert_allclose(losses.latents, again.latents, atol=1e-5)


@pytest.mark.slow
def test_options_of_2_1_add_levels_and_the_context(rng_key):
  model = make(
    encoder={'positions': {'style': 'interleaved'}},
    num_levels=2,
    terms={'hidden_tokens': {'context_weight': 0.5}},
  )
  variables = start(model)
  losses = loss_fn(model)(variables, next(batches(model)), rng_key)
  output = variables['params']['predictor']['output']['kernel']
  assert output.shape[-1] == 2 * 24
  metrics = losses.metrics
  expected = metrics['prediction_loss'] + 0.5 * metrics['context_loss']
  assert float(losses.loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
def test_the_context_counts_less_the_farther_from_the_mask(rng_key):
  """Of the loss at the context's tokens, worked out in NumPy."""
  model = make(terms={'hidden_tokens': {'context_weight': 1.0}})
  variables, batch = start(model), next(batches(model))
  masks = batch['masks'][0]
  one = {**batch, 'masks': (masks,)}
  found = float(
    jax.jit(model.losses)(variables, one, rng_key).metrics['context_loss']
  )
  whole = model.for_inference(variables)
  wanted = model.encode(whole, batch['observation'], tokens=True)
  wanted = np.asarray(masked_tokens.normalize(wanted))
  encoder, predictor = (
    model.encoder.build(jnp.float32),
    model.predictor.build(model.encoder, 24, jnp.float32),
  )
  pixels = model.encoder.inputs(batch['observation'])
  context, _ = encoder.apply(
    {'params': variables['params']['encoder']}, pixels, masks.context_ids
  )
  _, outputs = predictor.apply(
    {'params': variables['params']['predictor']},
    context,
    masks.context_ids,
    masks.target_ids,
  )
  errors = []
  for b, (seen, hidden) in enumerate(zip(masks.context_ids, masks.target_ids)):
    places, others = (
      np.stack(np.unravel_index(ids, model.grid), -1) for ids in (seen, hidden)
    )
    nearest = np.linalg.norm(places[:, None] - others[None], axis=-1).min(1)
    error = np.abs(outputs['context'][b] - wanted[b][seen]).mean(-1)
    errors.append(error / nearest)
  assert found == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize(
  'term',
  [{'sigreg': {'num_projections': 16}}, {'vcreg': {}}, {'barlow_twins': {}}],
)
def test_every_regularizer_fits(model, rng_key, term):
  first = {'hidden_tokens': {}}
  model = make(model.config.name, terms={**first, **term})
  losses = loss_fn(model)(start(model), next(batches(model)), rng_key)
  assert np.isfinite(losses.loss)
  assert losses.loss != losses.metrics['prediction_loss']


def test_momentum_rises_linearly_to_its_end(rng_key):
  model = make(
    target={
      'name': 'ema',
      'momentum': 0.9,
      'momentum_end': 1.0,
      'momentum_steps': 10,
    }
  )
  old = {'params': {'encoder': {'x': jnp.zeros(())}}, 'batch_stats': {}}
  new = {'params': {'encoder': {'x': jnp.ones(())}}, 'batch_stats': {}}
  for step, momentum in ((0, 0.9), (5, 0.95), (10, 1.0), (99, 1.0)):
    after = model.after_update({**new, 'target': old}, step)
    share = float(after['target']['params']['encoder']['x'])
    assert share == pytest.approx(1 - momentum, abs=1e-6)


@pytest.mark.slow
def test_learns_and_is_compiled_once_per_bucket(model, rng_key):
  model = make(
    model.config.name,
    target={'name': 'ema', 'momentum': 0.95, 'momentum_end': 0.95},
  )
  optimizer = optax.adam(3e-3)
  traced = []

  @jax.jit
  def train_step(variables, opt_state, batch, step):
    traced.append(step)

    def loss_of(params):
      return model.losses({**variables, 'params': params}, batch, rng_key).loss

    loss, gradient = jax.value_and_grad(loss_of)(variables['params'])
    updates, opt_state = optimizer.update(gradient, opt_state)
    params = optax.apply_updates(variables['params'], updates)
    variables = model.after_update({**variables, 'params': params}, step)
    return variables, opt_state, loss

  variables = jax.jit(model.init)(rng_key)
  opt_state = optimizer.init(variables['params'])
  stream, losses, shapes = batches(model), [], set()
  for step in range(60):
    batch = next(stream)
    shapes.add(
      tuple((x.context_ids.shape, x.target_ids.shape) for x in batch['masks'])
    )
    variables, opt_state, loss = train_step(variables, opt_state, batch, step)
    losses.append(float(loss))
  assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])
  assert len(traced) == len(shapes)
  planned = mask_settings.buckets(model.masks, model.grid, BATCH_SIZE)
  assert 1 < len(shapes) <= len(planned) == 2


@pytest.mark.slow
def test_one_device_equals_eight(model, rng_key):
  variables = start(model)
  batch = next(batches(model))
  results = []

  def loss_of(params, others, batch, rng_key):
    return model.losses({**others, 'params': params}, batch, rng_key).loss

  for num_devices in (1, 8):
    mesh = sharding.make_mesh(num_devices)
    held, key = (sharding.replicate(x, mesh) for x in (variables, rng_key))
    value = jax.jit(jax.value_and_grad(loss_of))(
      held['params'], held, sharding.shard_batch(batch, mesh), key
    )
    results.append(jax.device_get(value))
  assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
  norms = [float(optax.tree.norm(gradient)) for _, gradient in results]
  assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.slow
def test_encodes_by_the_target_encoder(model, rng_key):
  variables = start(model)
  target = jax.tree.map(lambda x: 1.1 * x, variables['target'])
  whole = model.for_inference({**variables, 'target': target})
  pixels = jnp.asarray(next(Clips(model.num_frames))['observation']['pixels'])
  if model.is_of_images:
    pixels = pixels[:, 0]
  seen = {'pixels': pixels}
  encode = jax.jit(model.encode, static_argnames='tokens')
  tokens = encode(whole, seen, tokens=True)
  assert tokens.shape == (BATCH_SIZE, np.prod(model.grid), 24)
  assert np.prod(model.token_grid) == np.prod(model.grid)
  np.testing.assert_allclose(encode(whole, seen), tokens.mean(1), atol=1e-5)
  online = make(model.config.name, inference_encoder='encoder')
  assert np.abs(online.encode(whole, seen) - encode(whole, seen)).max() > 1e-3
  with pytest.raises(ValueError, match="no 'target_encoder'"):
    model.encode(variables, seen)


def test_evaluates_what_an_export_holds(model, rng_key):
  variables, batch = start(model), next(batches(model))
  metrics, latents = jax.jit(model.evaluate)(
    model.for_inference(variables), batch
  )
  expected = loss_fn(model)(variables, batch, jax.random.key(0)).loss
  assert float(metrics['loss']) == pytest.approx(float(expected), rel=1e-5)
  frames = (1,) if model.is_of_images else ()
  assert latents.shape == (BATCH_SIZE, *frames, 24)


def test_an_export_holds_both_encoders(model, rng_key, tmp_path):
  variables = start(model)
  target = jax.tree.map(lambda x: x + 1, variables['target'])
  whole = model.for_inference({**variables, 'target': target})
  exports.WorldModel(model, whole, None).save(tmp_path / 'export')
  loaded = exports.WorldModel.from_checkpoint(tmp_path / 'export')
  assert loaded.model == model and loaded.units is None
  assert set(loaded.params['params']) == set(whole['params'])
  for part, params in whole['params'].items():
    for a, b in zip(
      jax.tree.leaves(loaded.params['params'][part]), jax.tree.leaves(params)
    ):
      np.testing.assert_array_equal(a, b)


def test_what_needs_dynamics_says_so(model):
  world = exports.WorldModel(model, {}, None)
  seen = {'pixels': jnp.zeros((1, 1, 16, 16, 3), jnp.uint8)}
  for use in (
    lambda: world.action_dim,
    lambda: world.action_block,
    lambda: world.start({}, seen),
    lambda: world.start_from({}, jnp.zeros((1, 1, 24))),
    lambda: world.root({}, seen, seen),
    lambda: world.dynamics({}, None, jnp.zeros((1, 2)), None),
    lambda: world.raw_actions(jnp.zeros((1, 2))),
    lambda: world.normalize_actions(jnp.zeros((1, 1, 2))),
    lambda: world.action_bounds(-1.0, 1.0),
    lambda: world.in_raw_units(None),
  ):
    with pytest.raises(
      ValueError, match=f'{model.config.name!r} encodes and has no'
    ):
      use()
  assert world.levels == ()


def test_a_config_comes_back(model):
  config = json.loads(json.dumps(fields.to_dict(model.config)))
  assert models.from_config(config) == model


@pytest.mark.parametrize(
  ('kind', 'changes', 'message'),
  [
    (
      'vjepa',
      {'masks': {'percent': (15, 100)}},
      'leaves.*at most 0 for the context',
    ),
    ('vjepa', {'masks': {'min_context': 200}}, 'min_context is 200'),
    ('vjepa', {'masks': {'percent': (15,)}}, 'an entry per kind'),
    (
      'vjepa',
      {'encoder': {'num_frames': 5}},
      'num_frames=5 must be a multiple',
    ),
    ('vjepa', {'encoder': {'num_heads': 6}}, 'leaves 4 channels a head'),
    ('vjepa', {'predictor': {'num_heads': 3}}, 'predictor.*leaves 4 channels'),
    (
      'vjepa',
      {'encoder': {'depth': 3}, 'num_levels': 2},
      'encoder.depth=3 must be a multiple of num_levels',
    ),
    ('vjepa', {'target': {'momentum': 1.5}}, 'momentum must be at most 1'),
    ('vjepa', {'target': {'name': 'shared'}}, 'target.name must be one of'),
    ('vjepa', {'terms': {'vcreg': {}}}, "first must be 'hidden_tokens'"),
    (
      'vjepa',
      {'encoder': {'positions': {'style': 'tiled'}}},
      'style must be one of',
    ),
    ('vjepa', {'encoder': {'name': 'vit'}}, 'must be one of'),
    (
      'vjepa',
      {'predictor': {'mask_token': 'per_kind', 'num_mask_tokens': 1}},
      'too few for 2 kinds',
    ),
    ('ijepa', {'encoder': {'num_frames': 2}}, 'ijepa is for images'),
    ('ijepa', {'masks': {'target_percent': (15,)}}, 'smallest and the largest'),
    ('ijepa', {'masks': {'target_percent': (90, 95)}}, 'min_context is 11'),
  ],
)
def test_fields_out_of_range(kind, changes, message):
  with pytest.raises(ValueError, match=message):
    make(kind, **changes)


def test_batches_that_do_not_fit(model, rng_key):
  variables = start(model)
  batch = next(batches(model))
  bare = {'observation': batch['observation']}
  with pytest.raises(ValueError, match='no masks'):
    model.losses(variables, bare, rng_key)
  pixels = batch['observation']['pixels']
  small = {**batch, 'observation': {'pixels': pixels[..., :8, :8, :]}}
  with pytest.raises(ValueError, match=r'pixels: expected \[..., 16, 16, 3\]'):
    model.losses(variables, small, rng_key)
  doubled = {'pixels': np.concatenate([pixels] * 2, axis=1)}
  with pytest.raises(ValueError, match=r'T equal to encoder.num_frames'):
    model.losses(variables, {**batch, 'observation': doubled}, rng_key)
