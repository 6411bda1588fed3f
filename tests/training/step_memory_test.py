"""How a step fits eight devices, and that it stays the same step."""

import functools
import sys

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jepa_wm import models, sharding
from jepa_wm.models import encoding
from jepa_wm.recipes import training as recipe
from jepa_wm.training import accumulation, memory
from jepa_wm.training import run as run_lib
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

sys.path.append(str(__file__).rpartition('/training/')[0] + '/models')
import tiny

FSDP = memory.Memory(sharding='fsdp')
ALL = memory.Memory(sharding='fsdp', remat='full', accumulate=2)
OPTIMIZER = optax.chain(
  optax.clip_by_global_norm(1.0),
  # A bias before a BatchNorm has a gradient of rounding errors alone, which a
  # small epsilon would blow up.
  optax.adamw(1e-2, eps=1e-2),
)


@functools.cache
def _model():
  """A LeWM with arrays that are worth sharding, and a moving average."""
  return tiny.build(
    latent_dim=64,
    encoder={'features': 64},
    projector={'hidden_dim': 512},
    predictor={'width': 64, 'mlp_dim': 512},
    target={'name': 'ema'},
  )


def _frames():
  batch = tiny.batch()
  return jax.tree.map(lambda x: np.concatenate([x, x[:, ::-1]] * 2), batch)


class Batches:
  """The same batch of 32 windows always."""

  def __next__(self):
    return _frames()

  def get_state(self):
    return {}

  def set_state(self, state):
    del state


def _run(how, **given):
  given = {'mesh': sharding.make_mesh(), **given}
  return run_lib.Run(
    _model(), OPTIMIZER, Batches(), num_steps=2, memory=how, **given
  )


@functools.cache
def _two_steps(how, num_devices):
  """A run of two steps, and what they cost."""
  run = _run(how, mesh=sharding.make_mesh(num_devices))
  reports = list(run.steps())
  run.check()
  return run, [report.values for report in reports]


def _layout(mesh, how):
  name = 'replicated' if how is None else how.sharding
  return state_lib.layout(_model(), OPTIMIZER, mesh, name)


def _plain(state):
  state = state.replace(rng_key=jax.random.key_data(state.rng_key))
  return jax.device_get(sharding.whole(state))


def _bytes_of_a_device(state):
  return sum(
    leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)
  )


def test_eight_devices_that_spare_memory_train_as_one_does():
  (one, costs), (eight, others) = _two_steps(None, 1), _two_steps(ALL, 8)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  jax.tree.map(close, costs, others)
  jax.tree.map(close, _plain(one.state), _plain(eight.state))
  # Every collection is split, the moving average and the optimiser's too.
  whole = _bytes_of_a_device(one.state)
  assert whole / 8 < _bytes_of_a_device(eight.state) < whole / 6


def test_a_step_holds_an_eighth_of_the_state():
  held = []
  for how, num_devices in ((None, 1), (ALL, 8)):
    run, _ = _two_steps(how, num_devices)
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      (run.state, run.next_batch()),
    )
    lowered = run._train_step.lower(*shapes)  # Traced already.
    analysis = lowered.compile().memory_analysis()
    held.append(analysis.argument_size_in_bytes)
    assert analysis.alias_size_in_bytes > 0.9 * held[-1]  # all is donated
  assert held[1] < held[0] / 6


def test_a_run_goes_on_under_the_other_sharding(tmp_path):
  split, _ = _two_steps(ALL, 8)
  split.save(tmp_path)
  whole = _run(memory.Memory())
  assert whole.resume(tmp_path) and whole.step == 2
  jax.tree.map(
    np.testing.assert_array_equal, _plain(split.state), _plain(whole.state)
  )
  kernel = whole.state.variables['params']['projector']['hidden']['kernel']
  assert kernel.is_fully_replicated
  again = _run(FSDP)
  again.resume(tmp_path)
  jax.tree.map(
    lambda a, b: a.sharding == b.sharding or pytest.fail(f'{a} {b}'),
    again.state,
    split.state,
  )


def test_what_a_run_starts_from_is_split(tmp_path):
  start = tiny.start(_model())
  run = _run(FSDP, start=start)
  jax.tree.map(
    np.testing.assert_array_equal, sharding.whole(run.state.variables), start
  )
  fresh, _ = _two_steps(ALL, 8)
  found, expected = (
    jax.tree.map(lambda x: x.sharding, x.state) for x in (run, fresh)
  )
  assert found == expected


def test_a_step_computes_its_blocks_again():
  run = _run(memory.Memory(remat='dots'))
  layout = _layout(run.mesh, None)
  make_fn = functools.partial(step_lib.make_train_step, layout=layout)
  shapes = state_lib.describe(_model(), OPTIMIZER, sharding=layout)
  traced = run.compiled(make_fn).trace(shapes, tiny.batch())
  assert ' policy=' in str(traced.jaxpr)


def test_what_would_do_nothing_is_said(monkeypatch):
  assert FSDP.inert() == memory.Memory().inert() == []
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  (sentence,) = FSDP.inert()
  assert sentence.startswith('--config.sharding=fsdp has no effect')


def test_what_does_not_go_together_is_refused(tmp_path):
  config = {'model': {'name': 'lewm'}, 'sharding': 'fsdp'}
  assert recipe.read_config(config).memory == FSDP
  with pytest.raises(ValueError, match='fsdp does not go with'):
    recipe.train_together([config, {**config, 'seed': 1}], [tmp_path] * 2)
  convolutions = {
    'name': 'lewm',
    'encoder': {'name': 'conv'},
    'predictor': {'name': 'recurrent'},
  }
  with pytest.raises(ValueError, match="part of the model 'lewm'"):
    recipe.read_config({'model': convolutions, 'remat': 'full'})
  with pytest.raises(ValueError, match="got 'fdsp'"):
    recipe.read_config({**config, 'sharding': 'fdsp'})


CLIPS = {
  'name': 'vjepa',
  'encoder': {
    'image_size': 8,
    'patch_size': 2,
    'num_frames': 2,
    'width': 12,
    'depth': 2,
    'num_heads': 2,
    'mlp_dim': 24,
  },
  'predictor': {
    'width': 12,
    'depth': 1,
    'num_heads': 2,
    'mlp_dim': 24,
    'num_mask_tokens': 1,
  },
  'masks': {
    'blocks': (2,),
    'percent': (25,),
    'truncate': 'random',
    'num_buckets': 1,
    'min_context': 4,
  },
  'terms': {'hidden_tokens': {}, 'vcreg': {}},
}


def _clips(model):
  draw = np.random.default_rng(0)
  pixels = draw.integers(0, 256, (32, 2, 8, 8, 3), np.uint8)
  return {'observation': {'pixels': pixels}, **model.draw(draw, 32)}


@pytest.mark.parametrize('kind', ['lewm', 'vjepa'])
def test_chunks_have_the_gradient_of_the_whole_batch(kind):
  if kind == 'lewm':
    # With a projector and a predictor that normalise by the batch, and dropout.
    model = tiny.build(
      target={'name': 'ema'},
      encoder={'channels': (32,)},
      predictor={'dropout': 0.3},
      terms={'prediction': {}, 'sigreg': {'num_projections': 8}, 'vcreg': {}},
    )
    batch = _frames()
  else:
    model = models.from_config(CLIPS)
    batch = _clips(model)
  variables, key = tiny.start(model), jax.random.key(5)
  parts, mesh = model.parts(), sharding.make_mesh(2)

  def whole(params, batch):
    losses = model.losses({**variables, 'params': params}, batch, key)
    return losses.loss, (losses.metrics, losses.batch_stats)

  def chunks(params, batch):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return accumulation.value_and_grad(
        parts,
        lambda params: {**variables, 'params': params},
        params,
        batch,
        key,
        count=4,
      )

  args = variables['params'], sharding.shard_batch(batch, mesh)
  both = [
    jax.jit(x).lower(*args).compile()
    for x in (jax.value_and_grad(whole, has_aux=True), chunks)
  ]
  expected, found = (compiled(*args) for compiled in both)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    found,
    expected,
  )
  held = [x.memory_analysis().temp_size_in_bytes for x in both]
  assert held[1] < 0.7 * held[0], held


def test_chunks_lie_where_their_samples_are():
  mesh = sharding.make_mesh()
  x = sharding.shard_batch(np.arange(32.0), mesh)

  @jax.jit
  def cut(x):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      chunks = accumulation.in_chunks(x, 2)
      return chunks, accumulation.joined(chunks)

  chunks, joined = cut(x)
  np.testing.assert_array_equal(chunks[1], np.arange(1.0, 32.0, 2))
  np.testing.assert_array_equal(joined, x)
  assert chunks.addressable_shards[3].data.shape == (2, 2)
  text = cut.lower(x).compile().as_text()
  assert not any(word in text for word in ('all-', 'collective-permute'))


def test_chunks_that_cannot_be():
  config = {'model': {'name': 'lewm'}, 'accumulate': 2}
  with pytest.raises(
    ValueError, match='2 chunks on 8 devices; choose a multiple of 16'
  ):
    recipe.read_config({**config, 'data': {'batch_size': 24}})
  frozen = tiny.build(target={'name': 'frozen'}, terms={'prediction': {}})
  with pytest.raises(ValueError, match="of 'lewm' is frozen"):
    frozen.parts()
  with pytest.raises(ValueError, match="'mine' normalises by the whole batch"):
    encoding.check_chunks('lewm', 'mine', {'batch_stats': {'encoder': {}}})


def _equations(jaxpr):
  """All of a program, those of its loops and inner programs among them."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from _equations(inner)


@pytest.mark.parametrize('kind', ['lewm', 'vjepa'])
def test_masters_and_statistics_are_float32_under_bfloat16(kind):
  if kind == 'lewm':
    model = tiny.build(dtype='bfloat16', target={'name': 'ema'})
    batch = tiny.batch()
  else:
    model = models.from_config({**CLIPS, 'dtype': 'bfloat16'})
    batch = _clips(model)
  state = state_lib.describe(model, OPTIMIZER)
  traced = jax.jit(step_lib.update(model, OPTIMIZER)).trace(state, batch)
  after, metrics = traced.out_info
  # Parameters, moments, average and running statistics, before and after.
  floats = [
    x.dtype
    for x in jax.tree.leaves((state, after, metrics))
    if jnp.issubdtype(x.dtype, jnp.floating)
  ]
  assert set(floats) == {jnp.dtype('float32')}
  used = [
    (equation.primitive.name, x.aval.dtype)
    for equation in _equations(traced.jaxpr.jaxpr)
    for x in equation.invars
  ]
  assert ('dot_general', jnp.bfloat16) in used
  # Of softmax, norms, batch statistics and the terms.
  exact = ('reduce_max', 'rsqrt', 'sqrt', 'log', 'cos', 'sin')
  assert not [x for x in used if x[0] in exact and x[1] == jnp.bfloat16]
  assert ('rsqrt', jnp.float32) in used
