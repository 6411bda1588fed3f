"""I-JEPA and V-JEPA as families: loss, target, masks, encoders, doors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm import families, sharding, world_model
from jepa_wm.families import learner as learner_lib
from jepa_wm.objectives import prediction
from jepa_wm.training import masks as masks_lib
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

SMALL = {
  'image_size': 16,
  'patch_size': 2,
  'encoder_dim': 24,
  'encoder_depth': 2,
  'encoder_heads': 2,
  'encoder_mlp_dim': 32,
  'predictor_dim': 12,
  'predictor_depth': 1,
  'predictor_heads': 1,
  'predictor_mlp_dim': 16,
  'num_buckets': 2,
}
CLIPS = families.VJEPA(**SMALL, num_frames=4, num_mask_tokens=2)
IMAGES = families.IJEPA(**SMALL)
FAMILIES = {'vjepa': CLIPS, 'ijepa': IMAGES}
BATCH_SIZE = 8


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


@pytest.fixture(params=FAMILIES)
def family(request):
  return FAMILIES[request.param]


def batches(family):
  return masks_lib.MaskedBatches(Clips(family.num_frames), family, seed=0)


@functools.cache
def start(family):
  """Variables of all sizes, drawn by NumPy: compiling `init` takes longer."""
  draw = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: jnp.asarray(draw.normal(0, 0.2, x.shape), x.dtype),
    jax.eval_shape(family.init, jax.random.key(0)),
  )
  return variables, family.init_target(variables)


@functools.cache
def loss_fn(family):
  return jax.jit(family.loss)


def test_the_loss_is_that_of_the_paper(family, rng_key):
  """Sample by sample, target by target, without batches or buckets."""
  variables, target = start(family)
  batch = next(batches(family))
  loss, (metrics, batch_stats, latents) = loss_fn(family)(
    variables, target, batch, rng_key
  )
  kinds = len(batch['masks'])
  assert latents.shape == (BATCH_SIZE, kinds, 24) and batch_stats == {}
  assert loss == metrics['loss'] == metrics['prediction_loss']

  pixels = (batch['observation']['pixels'] / 255 - [0.485, 0.456, 0.406]) / [
    *(0.229, 0.224, 0.225)
  ]
  pixels = pixels.astype(np.float32)
  encode = jax.jit(
    lambda kind, *inputs: family.encoder().apply({'params': kind}, *inputs)[0]
  )
  predict = jax.jit(functools.partial(family.predict, mask_index=0))
  whole = encode(target['params']['encoder'], pixels)
  whole = np.asarray(whole)
  whole = (whole - whole.mean(-1, keepdims=True)) / np.sqrt(
    whole.var(-1, keepdims=True) + 1e-5
  )
  distance = prediction.DISTANCES[family.prediction_distance]
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
  loss, _ = loss_fn(family)(variables, target, two, rng_key)
  assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)


def test_every_kind_of_mask_may_have_its_token(rng_key):
  variables, target = start(CLIPS)
  batch = next(batches(CLIPS))
  per_kind = dataclasses.replace(CLIPS, mask_token='per_kind')

  def gradient(family):
    loss = lambda v: loss_fn(family)(v, target, batch, rng_key)[0]
    return jax.grad(loss)(variables)['params']['predictor']['mask_tokens']

  shared, own = gradient(CLIPS), gradient(per_kind)
  assert np.any(shared[0]) and not np.any(shared[1])
  assert np.any(own[0]) and np.any(own[1])


def test_the_target_gets_no_gradient(family, rng_key):
  variables, target = start(family)
  batch = next(batches(family))
  gradient = jax.grad(
    lambda t: loss_fn(family)(variables, t, batch, rng_key)[0]
  )(target)
  assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_padded_sets_of_one_length_are_no_padding(rng_key):
  padded = dataclasses.replace(CLIPS, truncate='none')
  variables, target = start(CLIPS)
  batch = next(batches(CLIPS))
  losses = [
    f.loss(variables, target, batch, rng_key)[0] for f in (CLIPS, padded)
  ]
  assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)


def test_padding_has_no_say(rng_key):
  padded = dataclasses.replace(CLIPS, truncate='none')
  variables, target = start(CLIPS)
  batch = next(batches(padded))
  assert not all(x.target_valid.all() for x in batch['masks'])
  loss, (_, _, latents) = loss_fn(padded)(variables, target, batch, rng_key)
  other_ids = tuple(
    x._replace(
      context_ids=np.where(x.context_valid, x.context_ids, 3),
      target_ids=np.where(x.target_valid, x.target_ids, 5),
    )
    for x in batch['masks']
  )
  again, (_, _, same) = loss_fn(padded)(
    variables, target, {**batch, 'masks': other_ids}, rng_key
  )
  assert float(loss) == pytest.approx(float(again), rel=1e-5)
  np.testing.assert_allclose(latents, same, atol=1e-5)


def test_options_of_2_1_add_levels_and_the_context(rng_key):
  family = dataclasses.replace(
    CLIPS, num_levels=2, context_weight=0.5, rope_style='interleaved'
  )
  variables, target = start(family)
  loss, (metrics, _, _) = loss_fn(family)(
    variables, target, next(batches(family)), rng_key
  )
  assert family.predictor().features == 2 * 24
  expected = metrics['prediction_loss'] + 0.5 * metrics['context_loss']
  assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_the_context_counts_less_the_farther_from_the_mask():
  masks = next(batches(CLIPS))['masks'][0]
  distances = np.asarray(CLIPS._distance_to_mask(masks))
  for b, (context, hidden) in enumerate(
    zip(masks.context_ids, masks.target_ids)
  ):
    places, others = (
      np.stack(np.unravel_index(ids, CLIPS.grid), -1)
      for ids in (context, hidden)
    )
    expected = np.linalg.norm(places[:, None] - others[None], axis=-1).min(1)
    np.testing.assert_allclose(distances[b], expected, rtol=1e-5)


@pytest.mark.parametrize('regularizer', ['sigreg', 'vcreg', 'barlow_twins'])
def test_every_regularizer_fits(family, rng_key, regularizer):
  family = dataclasses.replace(
    family, regularizer=regularizer, num_projections=16
  )
  variables, target = start(family)
  loss, (metrics, _, _) = loss_fn(family)(
    variables, target, next(batches(family)), rng_key
  )
  assert np.isfinite(loss) and loss != metrics['prediction_loss']


def test_momentum_rises_linearly_to_its_end(rng_key):
  family = dataclasses.replace(
    CLIPS,
    target_momentum=0.9,
    target_momentum_end=1.0,
    target_momentum_steps=10,
  )
  old = {'params': {'encoder': {'x': jnp.zeros(())}}, 'batch_stats': {}}
  new = {'params': {'encoder': {'x': jnp.ones(())}}, 'batch_stats': {}}
  for step, momentum in ((0, 0.9), (5, 0.95), (10, 1.0), (99, 1.0)):
    after = family.update_target(old, new, step)
    share = float(after['params']['encoder']['x'])
    assert share == pytest.approx(1 - momentum, abs=1e-6)


@pytest.mark.slow
def test_learns_and_is_compiled_once_per_bucket(family, rng_key):
  family = dataclasses.replace(family, target_momentum=0.95)
  optimizer = optimizers.AdamW(
    num_steps=60, learning_rate=3e-3, warmup_fraction=0.0
  ).transformation()
  learner = learner_lib.Learner(family)
  mesh = sharding.make_mesh(1)
  state = state_lib.create(
    learner, optimizer, rng_key, sharding=sharding.replicated(mesh)
  )
  train_step = step_lib.make_train_step(learner, optimizer, mesh)
  stream, losses, shapes = batches(family), [], set()
  for _ in range(60):
    batch = next(stream)
    shapes.add(
      tuple((x.context_ids.shape, x.target_ids.shape) for x in batch['masks'])
    )
    state, metrics = train_step(state, sharding.shard_batch(batch, mesh))
    losses.append(float(metrics['loss']))
  assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])
  assert train_step._cache_size() == len(shapes)
  assert 1 < len(shapes) <= len(family.buckets(BATCH_SIZE)) == 2


@pytest.mark.slow
def test_one_device_equals_eight(family, rng_key):
  variables, target = start(family)
  batch = next(batches(family))
  results = []
  for num_devices in (1, 8):
    mesh = sharding.make_mesh(num_devices)
    replicated = [
      sharding.replicate(x, mesh) for x in (variables, target, rng_key)
    ]
    value = jax.jit(
      jax.value_and_grad(lambda v, t, b, key: family.loss(v, t, b, key)[0])
    )(*replicated[:2], sharding.shard_batch(batch, mesh), replicated[2])
    results.append(jax.device_get(value))
  assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
  norms = [float(optax.tree.norm(gradient)) for _, gradient in results]
  assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_encodes_by_the_target_encoder(family, rng_key):
  variables, target = start(family)
  target = jax.tree.map(lambda x: 1.1 * x, target)
  whole = families.inference_variables(family, variables, target)
  pixels = jnp.asarray(next(Clips(family.num_frames))['observation']['pixels'])
  if family.name == 'ijepa':
    pixels = pixels[:, 0]
  model = world_model.WorldModel(family, whole, None)
  tokens = jax.jit(model.tokens)(whole, pixels)
  assert tokens.shape == (BATCH_SIZE, np.prod(family.grid), 24)
  np.testing.assert_allclose(
    jax.jit(model.encode)(whole, pixels), tokens.mean(1), atol=1e-5
  )
  online = dataclasses.replace(family, inference_encoder='encoder')
  assert np.abs(jax.jit(online.tokens)(whole, pixels) - tokens).max() > 1e-3
  with pytest.raises(ValueError, match="no 'target_encoder'"):
    family.tokens(variables, pixels)


def test_an_export_holds_both_encoders(family, rng_key, tmp_path):
  variables, target = start(family)
  whole = families.inference_variables(
    family, variables, jax.tree.map(lambda x: x + 1, target)
  )
  world_model.WorldModel(family, whole, None).save(tmp_path / 'export')
  loaded = world_model.WorldModel.from_checkpoint(tmp_path / 'export')
  assert loaded.family == family and loaded.action_statistics is None
  assert set(loaded.params['params']) == set(whole['params'])
  for part, params in whole['params'].items():
    for a, b in zip(
      jax.tree.leaves(loaded.params['params'][part]), jax.tree.leaves(params)
    ):
      np.testing.assert_array_equal(a, b)


def test_what_needs_dynamics_says_so(family):
  model = world_model.WorldModel(family, {}, None)
  pixels = jnp.zeros((1, 1, 16, 16, 3), jnp.uint8)
  for use in (
    lambda: model.action_dim,
    lambda: model.action_block,
    lambda: model.initial_state({}, pixels),
    lambda: model.latent_state({}, jnp.zeros((1, 1, 24))),
    lambda: model.root({}, pixels, pixels[:, 0]),
    lambda: model.dynamics({}, None, jnp.zeros((1, 2)), None),
    lambda: model.raw_actions(jnp.zeros((1, 2))),
    lambda: model.normalize_actions(jnp.zeros((1, 1, 2))),
    lambda: model.action_bounds(-1.0, 1.0),
    lambda: model.in_raw_units(None),
  ):
    with pytest.raises(ValueError, match=f'{family.name!r} encodes and has no'):
      use()


def test_a_config_comes_back(family):
  config = families.to_config(family)
  assert families.from_config(config) == family


@pytest.mark.parametrize(
  ('kind', 'fields', 'message'),
  [
    ('vjepa', {'mask_percent': (15, 100)}, 'leaves.*at most 0 for the context'),
    ('vjepa', {'min_context': 200}, 'min_context is 200'),
    ('vjepa', {'mask_percent': (15,)}, 'an entry per kind'),
    ('vjepa', {'num_frames': 5}, 'num_frames=5 must be a multiple'),
    ('vjepa', {'encoder_heads': 6}, 'leaves 4 channels a head'),
    ('vjepa', {'target_momentum': 1.5}, 'target_momentum must be at most 1'),
    ('vjepa', {'rope_style': 'tiled'}, 'rope_style must be one of'),
    (
      'vjepa',
      {'mask_token': 'per_kind', 'num_mask_tokens': 1},
      'too few for 2 kinds',
    ),
    ('ijepa', {'num_frames': 2}, 'ijepa is for images'),
    ('ijepa', {'target_percent': (15,)}, 'smallest and the largest'),
    ('ijepa', {'target_percent': (90, 95)}, 'min_context is 11'),
  ],
)
def test_fields_out_of_range(kind, fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(FAMILIES[kind], **fields)


def test_batches_that_do_not_fit(family, rng_key):
  variables, target = start(family)
  batch = next(batches(family))
  bare = {'observation': batch['observation']}
  with pytest.raises(ValueError, match='no masks'):
    family.loss(variables, target, bare, rng_key)
  pixels = batch['observation']['pixels']
  small = {**batch, 'observation': {'pixels': pixels[..., :8, :8, :]}}
  with pytest.raises(ValueError, match=r'clips \[..., T, 16, 16, 3\]'):
    family.loss(variables, target, small, rng_key)
  doubled = {'pixels': np.concatenate([pixels] * 2, axis=1)}
  with pytest.raises(ValueError, match='T equal to num_frames'):
    family.loss(variables, target, {**batch, 'observation': doubled}, rng_key)
