import fractions

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm.models import targets
from jepa_wm.training import optimizers


@pytest.fixture(scope='module')
def golden():
  """Schedules of the released V-JEPA 2: arrays, and their parameters."""
  arrays, meta = golden_files.load('masks')
  return arrays, meta['config']['schedules']


def stopped_early(schedule_steps):
  """Steps of a run that stops at four fifths, as V-JEPA's do, and stretch."""
  num_steps = schedule_steps * 4 // 5
  return num_steps, schedule_steps / num_steps


def published(name, meta):
  """The optimiser of one of the golden learning rate schedules."""
  fields = meta[name]
  num_steps, stretch = fields['T_max'], 1.0
  if name == 'warmup_cosine':
    num_steps, stretch = stopped_early(fields['T_max'])
  decays = {'warmup_stable_decay': fields.get('anneal_steps', 0)}
  return optimizers.AdamW(
    num_steps=num_steps,
    learning_rate=fields['ref_lr'],
    start_learning_rate=fields.get('start_lr', 0.0),
    final_learning_rate=fields['final_lr'],
    warmup_fraction=fields.get('warmup_steps', 0) / num_steps,
    decay='cosine' if name == 'warmup_cosine' else 'linear',
    decay_fraction=decays.get(name, num_steps) / num_steps,
    stretch=stretch,
    first_step=1,
  )


@pytest.mark.parametrize(
  'name', ['warmup_cosine', 'warmup_stable_decay', 'linear_decay']
)
def test_learning_rates_are_those_of_the_released_code(golden, name):
  arrays, meta = golden
  optimizer = published(name, meta)
  assert optimizer.warmup_steps == meta[name].get('warmup_steps', 0)
  # The released counter says 1 at the first update.
  steps = jnp.asarray(arrays[f'schedule/{name}/step'] - 1)
  rates = jax.vmap(optimizer.schedule)(steps)
  np.testing.assert_allclose(rates, arrays[f'schedule/{name}/value'], rtol=1e-6)


def test_weight_decay_is_that_of_the_released_code(golden):
  arrays, meta = golden
  fields = meta['weight_decay_cosine']
  num_steps, stretch = stopped_early(fields['T_max'])
  optimizer = optimizers.AdamW(
    num_steps=num_steps,
    stretch=stretch,
    weight_decay=fields['ref_wd'],
    weight_decay_schedule='cosine',
    final_weight_decay=fields['final_wd'],
    first_step=1,
  )
  steps = jnp.asarray(arrays['schedule/weight_decay_cosine/step'] - 1)
  np.testing.assert_allclose(
    jax.vmap(optimizer.scheduled_weight_decay)(steps),
    arrays['schedule/weight_decay_cosine/value'],
    rtol=1e-6,
  )


def test_momentum_is_that_of_the_released_code(golden):
  arrays, meta = golden
  fields = meta['ema_momentum']
  epochs = fields['iterations_per_epoch'] * fields['epochs']
  exact_steps = epochs * fields['ipe_scale']
  num_steps = round(exact_steps)
  average = targets.EMA(
    momentum=fields['start'],
    momentum_end=fields['end'],
    momentum_steps=num_steps,
  )
  # From 0 towards 1 an update goes one minus the momentum of the way.
  old, new = (
    {'params': {'encoder': {'x': x(())}}, 'batch_stats': {}}
    for x in (jnp.zeros, jnp.ones)
  )
  ways = [
    average.after_update({**new, 'target': old}, step)['target']['params'][
      'encoder'
    ]['x']
    for step in jnp.asarray(arrays['schedule/ema_momentum/update'])
  ]
  # One float32 step of a momentum near 1, as stored and as computed, and what
  # it is to end at a whole step.
  rounded = abs(1 / num_steps - 1 / exact_steps) * exact_steps
  tolerance = 1.2e-7 + rounded * abs(fields['end'] - fields['start'])
  np.testing.assert_allclose(
    ways, arrays['schedule/ema_momentum/one_minus_value'], atol=tolerance
  )


def test_a_constant_rate_follows_the_warm_up():
  optimizer = optimizers.AdamW(
    num_steps=100, learning_rate=0.5, warmup_fraction=0.1, decay='constant'
  )
  rates = jax.vmap(optimizer.schedule)(jnp.arange(100))
  np.testing.assert_allclose(rates[:10], 0.05 * np.arange(10), rtol=1e-6)
  np.testing.assert_array_equal(rates[10:], np.float32(0.5))


def test_decay_never_begins_before_the_warm_up_is_over():
  optimizer = optimizers.AdamW(
    num_steps=10,
    learning_rate=1.0,
    warmup_fraction=0.5,
    decay='linear',
    decay_fraction=0.9,
  )
  rates = jax.vmap(optimizer.schedule)(jnp.arange(11))
  expected = [0, 0.2, 0.4, 0.6, 0.8, 1, 0.8, 0.6, 0.4, 0.2, 0]
  np.testing.assert_allclose(rates, expected, atol=1e-6)


def oracle(optimizer, steps):
  """Learning rates in float64, from the published formula."""
  warmup, end = optimizer.warmup_steps, optimizer.schedule_steps
  steps = np.asarray(steps, np.float64) + optimizer.first_step
  start, peak, final = (
    optimizer.start_learning_rate,
    optimizer.learning_rate,
    optimizer.final_learning_rate,
  )
  rising = start + (peak - start) * steps / max(warmup, 1)
  # 0.5 * (1 + cos), which cancels in float64 too where little is left.
  left = np.sin(0.5 * np.pi * (end - steps) / (end - warmup)) ** 2
  return np.where(steps < warmup, rising, final + (peak - final) * left)


@pytest.mark.parametrize(
  'fields',
  [
    {'num_steps': 20},
    {'num_steps': 1500, 'warmup_fraction': 0.02, 'learning_rate': 1e-3},
    {'num_steps': 60_000},
    # I-JEPA's ViT-H/14: what is left at the end is a ten-millionth.
    {
      'num_steps': 187_500,
      'learning_rate': 1e-3,
      'start_learning_rate': 2e-4,
      'final_learning_rate': 1e-6,
      'warmup_fraction': 40 / 300,
      'first_step': 1,
    },
    {'num_steps': 90_000, 'stretch': 1.25, 'warmup_fraction': 12 / 90},
  ],
)
def test_a_cosine_keeps_its_digits_to_the_last_step(fields):
  optimizer = optimizers.AdamW(**fields)
  steps = np.arange(optimizer.num_steps)
  rates = jax.jit(jax.vmap(optimizer.schedule))(jnp.asarray(steps))
  # A few roundings of float32; on average below one.
  expected = oracle(optimizer, steps)
  np.testing.assert_allclose(rates, expected, rtol=6e-7)
  seen = expected > 0
  errors = np.asarray(rates, np.float64)[seen] / expected[seen] - 1
  assert np.sqrt(np.mean(errors**2)) < 1.5e-7


@pytest.mark.parametrize(
  'fraction', ['0.01', '0.02', '0.05', '0.07', '0.1', '0.15', '0.29', '0.333']
)
def test_a_warm_up_is_no_step_short(fraction):
  for num_steps in range(1, 5001):
    optimizer = optimizers.AdamW(
      num_steps=num_steps,
      warmup_fraction=float(fraction),
      stretch=1 + float(fraction),
    )
    exact = fractions.Fraction(fraction) * num_steps
    assert optimizer.warmup_steps == exact // 1, num_steps
    assert optimizer.schedule_steps == num_steps + exact // 1, num_steps


def test_a_warm_up_given_as_a_ratio_of_steps_is_those_steps():
  for num_steps in range(1, 1001, 7):
    for warmup in range(num_steps):
      optimizer = optimizers.AdamW(
        num_steps=num_steps, warmup_fraction=warmup / num_steps
      )
      assert optimizer.warmup_steps == warmup


def test_the_defaults_are_optax_to_the_bit():
  optimizer = optimizers.AdamW(num_steps=300)
  assert set(optimizer.metrics(0)) == {'learning_rate'}
  theirs = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(optimizer.schedule, weight_decay=1e-3),
  )
  gradient = {'bias': jnp.array([3.0]), 'kernel': jnp.array([[0.5, 4.0]])}
  results = []
  for transformation in (optimizer.transformation(), theirs):
    params = {'bias': jnp.array([3.0]), 'kernel': jnp.array([[1.0, -2.0]])}
    state = transformation.init(params)
    for _ in range(5):
      updates, state = transformation.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
    results.append((params, state))
  # The state too: what checkpoints hold keeps its structure.
  jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize('schedule', optimizers.WEIGHT_DECAY_SCHEDULES)
def test_scheduled_decay_falls_on_matrices_only(schedule):
  optimizer = optimizers.AdamW(
    num_steps=4,
    learning_rate=0.1,
    warmup_fraction=0.0,
    decay='constant',
    weight_decay=0.2,
    weight_decay_schedule=schedule,
    final_weight_decay=0.6,
    decayed='matrices',
    clip_norm=0.0,
  )
  ones = jnp.ones((2, 2))
  params = {
    'norm': {'scale': ones[0]},
    # Of every head its own: two dimensions, and a bias all the same.
    'attention': {'bias': ones, 'kernel': ones},
    'mask_tokens': ones,
  }
  zeros = jax.tree.map(jnp.zeros_like, params)
  transformation = optimizer.transformation()
  state = transformation.init(params)
  shrunk = 1.0
  for step in range(4):
    updates, state = jax.jit(transformation.update)(zeros, state, params)
    params = optax.apply_updates(params, updates)
    decay = 0.2
    if schedule == 'cosine':
      decay = 0.6 - 0.4 * 0.5 * (1 + np.cos(np.pi * step / 4))
      np.testing.assert_allclose(
        optimizer.metrics(step)['weight_decay'], decay, rtol=1e-6
      )
    shrunk *= 1 - 0.1 * decay
    for kept in (params['norm']['scale'], params['attention']['bias']):
      np.testing.assert_array_equal(kept, 1.0)
    for shrinking in (params['attention']['kernel'], params['mask_tokens']):
      np.testing.assert_allclose(shrinking, shrunk, rtol=1e-5)


def test_no_clipping_leaves_a_long_gradient():
  clipped, free = (
    optimizers.AdamW(num_steps=10, clip_norm=x, epsilon=1.0, warmup_fraction=0)
    for x in (1.0, 0.0)
  )
  params, gradient = {'x': jnp.zeros(2)}, {'x': jnp.array([30.0, 40.0])}
  lengths = []
  for optimizer in (clipped, free):
    transformation = optimizer.transformation()
    updates, _ = transformation.update(
      gradient, transformation.init(params), params
    )
    lengths.append(np.abs(updates['x']) / optimizer.learning_rate)
  # Adam's first step is g / (|g| + epsilon).
  np.testing.assert_allclose(lengths[0], [0.6 / 1.6, 0.8 / 1.8], rtol=1e-5)
  np.testing.assert_allclose(lengths[1], [30 / 31, 40 / 41], rtol=1e-5)


@pytest.mark.parametrize('num_steps', [1, 20])
def test_short_runs_start_at_the_peak(num_steps):
  optimizer = optimizers.AdamW(num_steps=num_steps, learning_rate=0.5)
  np.testing.assert_allclose(optimizer.schedule(jnp.int32(0)), 0.5)


def test_updates_are_clipped_adamw_on_every_parameter():
  optimizer = optimizers.AdamW(
    num_steps=10, learning_rate=0.1, weight_decay=0.2, warmup_fraction=0.2
  )
  params = {'bias': jnp.array([3.0]), 'kernel': jnp.array([[1.0, -2.0]])}
  gradient = {'bias': jnp.array([3.0]), 'kernel': jnp.array([[0.0, 4.0]])}
  transformation = optimizer.transformation()
  opt_state = transformation.init(params)
  w = np.array([3.0, 1.0, -2.0])
  # Norm 5, so a fifth of the gradient remains.
  g = np.array([3.0, 0.0, 4.0]) / 5
  m, v = np.zeros(3), np.zeros(3)
  for i, rate in enumerate([0.0, 0.05, 0.1]):
    updates, opt_state = transformation.update(gradient, opt_state, params)
    params = jax.tree.map(jnp.add, params, updates)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    unbiased = m / (1 - 0.9 ** (i + 1)), v / (1 - 0.999 ** (i + 1))
    w = w - rate * (unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8) + 0.2 * w)
    ours = np.concatenate([params['bias'], params['kernel'][0]])
    np.testing.assert_allclose(ours, w, rtol=1e-5)


@pytest.mark.parametrize(
  'field',
  [
    {'num_steps': 0},
    {'learning_rate': 0.0},
    {'learning_rate': float('nan')},
    {'weight_decay': -1e-3},
    {'warmup_fraction': 1.0},
    {'clip_norm': -1.0},
    {'start_learning_rate': -1e-4},
    {'final_learning_rate': float('nan')},
    {'decay': 'exponential'},
    {'decay_fraction': 0.0},
    {'stretch': 0.5},
    {'first_step': 2},
    {'weight_decay_schedule': 'linear'},
    {'final_weight_decay': -0.1},
    {'decayed': 'none'},
    {'beta1': 1.0},
  ],
)
def test_fields_out_of_range_are_named(field):
  with pytest.raises(ValueError, match=next(iter(field))):
    optimizers.AdamW(**{'num_steps': 10, **field})
