"""What is exported runs without this package, and says what the model says."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import small_model
from examples_test import load as load_example
from given_flags import given_flags

import jepa_wm
from experiments import export as command
from jepa_wm import (
  artefacts,
  exports,
  models,
  onnx_artefacts,
  planning,
  recipes,
)
from jepa_wm.models import heads

ROOT = pathlib.Path(__file__).parents[2]
BUDGET = {'num_samples': 16, 'num_elites': 4, 'num_iterations': 2}
SEVERAL = '--num_samples=16', '--num_elites=4', '--num_iterations=2'


@pytest.fixture(scope='module')
def model():
  return exports.WorldModel.from_checkpoint('two_room_small')


@pytest.fixture(scope='module')
def head(model, tmp_path_factory):
  """An untrained policy of the shipped model, in a folder."""
  sizes = exports.head_sizes(model, -1.0, 1.0)
  made = heads.from_config(
    {'name': 'inverse_dynamics', 'width': 8, 'depth': 1}, sizes
  )
  draw = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(draw.normal(size=x.shape), x.dtype),
    jax.eval_shape(
      lambda key: made.for_inference(made.init(key)), jax.random.key(0)
    ),
  )
  found = exports.TrainedHead(
    made, params, 'two_room_small', exports.encoder_fingerprint(model)
  )
  found.save(path := tmp_path_factory.mktemp('head') / 'idm')
  return path, found


@pytest.fixture(scope='module')
def folder(head, tmp_path_factory):
  """All functions of the shipped model, by the command."""
  out = tmp_path_factory.mktemp('exported') / 'robot'
  what = '--what=encode,advance,policy,plan', f'--head={head[0]}'
  formats = '--format=stablehlo,onnx'
  with given_flags(command, *what, *SEVERAL, formats, f'--out={out}'):
    command.main([])
  return out


def frames(*lead, seed=0, size=64):
  shape = (*lead, size, size, 3)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def blocks(page='robots.md'):
  """The Python of the page."""
  text = (ROOT / 'docs' / page).read_text()
  return re.findall(r'```python\n(.*?)```', text, re.DOTALL)


@pytest.fixture(scope='module')
def asked():
  """What functions are given: two pictures and a raw block."""
  raw = np.random.default_rng(2).uniform(-1, 1, (1, 5, 2)).astype(np.float32)
  return frames(1), frames(1, seed=1), raw


@pytest.fixture(scope='module')
def answered(model, head, asked):
  """What the model says: latents, those after the block, and actions."""
  seen, goal, raw = asked
  encode = jax.jit(model.encode)
  latents, wanted = (encode(model.params, {'pixels': x}) for x in (seen, goal))
  state = model.start_from(model.params, latents[:, None])
  block = model.normalize_actions(raw)
  after = jax.jit(model.dynamics)(model.params, None, block, state)
  _, trained = head
  acted = trained.head.roles.policy(
    trained.params, None, latents, wanted, jnp.full(1, 20.0)
  )
  return latents, model.latent(after), model.raw_actions(acted)


def test_it_runs_where_this_package_is_not(
  folder, model, asked, answered, tmp_path
):
  """By the loader of the page; a plan has the same bits."""
  seen, goal, raw = asked
  mean = 0.1 * np.ones((1, 5, 10), np.float32)
  both = {'pixels': seen, 'goal/pixels': goal}
  plan = {**both, 'rng_key': np.uint32([0, 3]), 'warm_start/mean': mean}
  np.savez(tmp_path / 'given.npz', actions=raw, steps_left=np.int32(20), **plan)
  loader, _ = blocks()
  assert len(loader.strip().splitlines()) <= 22
  code = f"""
import sys
sys.modules['jepa_wm'] = sys.modules['flax'] = None
{loader}
given = dict(np.load('given.npz'))
for name in ('encode', 'start', 'advance', 'policy', 'plan'):
  call, about = load({str(folder)!r}, name)
  made = call({{k: given[k] for k in about['inputs']}})
  made = {{k: np.asarray(x) for k, x in made.items()}}
  given = {{**made, **given}}
  np.savez(f'{{name}}.npz', **made)
"""
  env = {**os.environ, 'PYTHONPATH': ''}
  run = [sys.executable, '-c', code]
  done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True)
  assert done.returncode == 0, done.stderr.decode()
  made = {
    path.stem: dict(np.load(path)) for path in tmp_path.glob('[a-z]*.npz')
  }

  latents, after, acted = answered
  np.testing.assert_array_equal(made['encode']['latents'], latents)
  np.testing.assert_allclose(made['advance']['latents'], after, atol=1e-5)
  np.testing.assert_allclose(made['policy']['actions'], acted, atol=1e-5)

  planner = model.planner(
    jepa_wm.CEM(**BUDGET),
    horizon=5,
    limits=jepa_wm.Limits(model.action_bounds(-1, 1)),
  )
  start = planner.first(1)._replace(mean=mean)
  ours = planner(
    jax.random.key(3), {'pixels': seen}, {'pixels': goal}, warm_start=start
  )
  np.testing.assert_array_equal(
    made['plan']['actions'], jax.jit(model.raw_actions)(ours.actions)
  )
  np.testing.assert_array_equal(made['plan']['cost'], ours.cost)
  np.testing.assert_array_equal(
    made['plan']['warm_start/mean'], planner.shift(ours, 1).mean
  )


def test_the_manifest_says_what_is_there(folder, model):
  manifest = json.loads((folder / 'manifest.json').read_text())
  functions = manifest['functions']
  assert sorted(functions) == ['advance', 'encode', 'plan', 'policy', 'start']
  for name, about in functions.items():
    assert about['stablehlo']['platforms'] == ['cpu', 'cuda', 'tpu']
    content = (folder / f'{name}.stablehlo').read_bytes()
    assert artefacts.files.digest(content) == about['stablehlo']['sha256']
  takes = functions['plan']['inputs']
  assert takes['pixels'] == {
    'shape': [1, 64, 64, 3],
    'dtype': 'uint8',
    'unit': 'pixels in 0..255, [height, width, channels], RGB',
  }
  # CEM looks at no clock, and keeps no elites.
  assert set(takes) == {'pixels', 'goal/pixels', 'rng_key', 'warm_start/mean'}
  assert takes['warm_start/mean']['start'] == 0.0
  assert set(functions['policy']['inputs']) == {
    'pixels', 'goal/pixels', 'steps_left',
  }  # fmt: skip
  assert '--num_samples=16' in manifest['command']
  assert manifest['planner']['action_low'] == [-1.0, -1.0]
  names = {path.name for path in folder.iterdir()}
  files = {
    f'{x}.{kind}' for x in functions for kind in recipes.exporting.FORMATS
  }
  assert names == {'manifest.json', *files} - {'plan.onnx'}


def test_onnx_runtime_says_the_same(folder, asked, answered):
  """Row after row as the manifest has them; the converter leaves no trace."""
  manifest = json.loads((folder / 'manifest.json').read_text())
  seen, goal, raw = asked
  given = {'pixels': seen, 'goal/pixels': goal, 'actions': raw}
  given['steps_left'] = np.array(20, np.int32)
  made = {}
  for name in ('encode', 'start', 'advance', 'policy'):
    about = manifest['functions'][name]
    session = onnxruntime.InferenceSession(folder / about['onnx']['file'])
    found = session.run(None, {k: given[k] for k in about['inputs']})
    made[name] = dict(zip(about['outputs'], found, strict=True))
    given = {**made[name], **given}
    assert about['onnx']['error'] < 1e-5
  latents, after, acted = answered
  for name, output, ours in (
    ('encode', 'latents', latents),
    ('advance', 'latents', after),
    ('policy', 'actions', acted),
  ):
    np.testing.assert_allclose(made[name][output], ours, atol=1e-5)
  assert jnp.cumsum(jnp.ones(2), 0)[1] == 2.0


def test_a_memory_is_advanced_by_onnx(sensing):
  """Truth values are chosen among, a number comes twice."""
  asked = recipes.Exporting(
    checkpoint=str(sensing[0]), what='advance', format='onnx'
  )
  (_, advance), _ = recipes.exporting.functions(asked, sensing[1])
  written = onnx_artefacts.onnx(artefacts.trimmed(advance))
  assert written.details['error'] < 1e-5


def test_a_robot_is_driven(folder, tmp_path, capsys):
  """The example is the page's code, arrives and says so."""
  example = load_example('control_a_robot')
  text = (ROOT / 'examples' / 'control_a_robot.py').read_text()
  loader, loop = blocks()
  assert loader.partition('def ')[2] in text and loop in text
  assert example.main(folder, num_blocks=12) < 16.0
  assert capsys.readouterr().out.endswith('; goal reached\n')
  with pytest.raises(ValueError, match='holds no plan; export it again'):
    example.main(tmp_path)


class Made:
  """An array of a plan, on its way for ever or there."""

  def __init__(self, value, is_there=True):
    self.value, self.is_there = np.float32(value), is_there

  def is_ready(self):
    return self.is_there

  def __array__(self, dtype=None, copy=None):
    return self.value


def test_a_robot_stops_where_plans_are_late_or_mean_nothing():
  example = load_example('control_a_robot')
  late = {'actions': Made(np.ones((1, 2, 1, 2)), False), 'cost': Made([0.0])}
  sound = {**late, 'actions': Made(np.ones((1, 2, 1, 2)))}
  lost = {**sound, 'cost': Made([np.nan])}
  plans = iter([sound, late, late, sound, lost])
  about = {
    'inputs': {'pixels': {'shape': [1, 2, 8, 8, 3]}, 'actions': {}},
    'outputs': {'actions': {'shape': [1, 2, 1, 2]}},
  }
  played, given = [], []

  def plan(inputs):
    given.append(inputs)
    return next(plans)

  picture = np.zeros((8, 8, 3), np.uint8)
  ways = {'seconds': 0.0, 'num_blocks': 5}
  said = example.drive(
    lambda: picture, played.append, picture, plan, about, **ways
  )
  assert said == ['new', 'late', 'late', 'new', 'not finite']
  np.testing.assert_array_equal([x[0] for x in played], [1, 1, 0, 1, 0])
  # The blocks between the frames that it sees.
  assert [x['actions'][0, 0, 0, 0] for x in given] == [0, 1, 1, 0, 1]


@pytest.fixture(scope='module')
def sensing(tmp_path_factory):
  """A model of no world of ours that sees pixels and its own state."""
  pixels = small_model.CONFIG['encoder']
  proprio = {'name': 'state', 'dim': 4, 'features': 3, 'num_hidden': 0}
  made = small_model.make(
    exports.WorldModel,
    predictor={**small_model.CONFIG['predictor'], 'depth': 1},
    encoder={'name': 'fused', 'pixels': pixels, 'proprio': proprio},
  )
  made.save(path := tmp_path_factory.mktemp('models') / 'sensing')
  return path, made


def test_a_plan_looks_back_and_feels(sensing, tmp_path):
  """Two frames and the raw block between them, pixels and proprio; beside."""
  path, model = sensing
  options = {'num_samples': 8, 'num_iterations': 1, 'num_kept': 2}
  function = recipes.exporting.functions(
    recipes.Exporting(
      checkpoint=str(path),
      what='plan',
      planner='icem',
      options=options,
      history=2,
      horizon=2,
      receding_horizon=2,
      action_low=(-1.0,),
      action_high=(1.0, 2.0),
    ),
    model,
  )[0][0]
  written = artefacts.stablehlo(
    artefacts.trimmed(function), ['cpu'], beside=True
  )
  draw = np.random.default_rng(0)
  seen, goal = frames(1, 2, size=16), frames(1, seed=1, size=16)
  feels = draw.normal(size=(1, 2, 4)).astype(np.float32)
  raw = draw.normal(size=(1, 1, 5, 2)).astype(np.float32)
  plan = jax.jit(jax.export.deserialize(bytearray(written.content)).call)
  inputs = {
    name: np.full(x.shape, x.start, x.dtype)
    for name, x in written.function.inputs.items()
    if x.start is not None
  }
  inputs |= {'pixels': seen, 'proprio': feels, 'actions': raw}
  inputs |= {'goal/pixels': goal, 'goal/proprio': feels[:, 0]}
  inputs |= {'rng_key': np.uint32([0, 7])}
  made = plan(function.weights, inputs)
  assert set(inputs) == set(written.function.inputs)

  planner = model.planner(
    planning.ICEM(**options),
    horizon=2,
    limits=jepa_wm.Limits(model.action_bounds(-1, np.float32([1, 2]))),
  )
  ours = planner(
    jax.random.key(7),
    {'pixels': seen, 'proprio': feels},
    {'pixels': goal, 'proprio': feels[:, 0]},
    actions=model.normalize_actions(raw),
  )
  np.testing.assert_allclose(
    made['actions'], model.raw_actions(ours.actions), atol=1e-5
  )
  left = planner.shift(ours, 2)
  np.testing.assert_allclose(made['warm_start/mean'], left.mean, atol=1e-5)
  np.testing.assert_allclose(made['warm_start/elites'], left.elites, atol=1e-5)


def test_any_number_of_rows(model):
  """One file for all; what is of any number is called B."""
  asked = recipes.Exporting(what='encode', batch='symbolic')
  (function,), _ = recipes.exporting.functions(asked, model)
  written = artefacts.stablehlo(artefacts.trimmed(function), ['cpu', 'tpu'])
  assert written.outputs['latents'].shape == ('B', 8)
  encode = jax.jit(jax.export.deserialize(bytearray(written.content)).call)
  seen = frames(3)
  np.testing.assert_allclose(
    encode({'pixels': seen})['latents'],
    jax.jit(model.encode)(model.params, {'pixels': seen}),
    atol=1e-5,
  )


def test_a_memory_of_any_number_of_rows_is_advanced(model):
  asked = recipes.Exporting(what='advance', batch='symbolic')
  found, _ = recipes.exporting.functions(asked, model)
  for function in found:
    written = artefacts.stablehlo(artefacts.trimmed(function), ['cpu'])
    assert all(x.shape[0] == 'B' for x in written.outputs.values())


@pytest.mark.parametrize(
  ('asked', 'sentence'),
  [
    ({'what': 'plans'}, "got 'plans'. Did you mean 'plan'?"),
    ({'platforms': 'gpu'}, "platforms must be one of cpu, cuda, rocm, tpu"),
    ({'what': ()}, 'what must name one at least'),
    ({'format': 'onnx'}, 'format=onnx holds no plan'),
    (
      {'what': 'encode', 'format': 'onnx', 'weights': 'beside'},
      'weights=beside would do nothing: files of ONNX',
    ),
    ({'batch': 'many'}, "a number of rows or 'symbolic', got 'many'"),
    ({'batch': '0'}, "or 'symbolic', got '0'"),
    ({'batch': 'symbolic'}, 'batch=symbolic cannot be had of a plan'),
    ({'receding_horizon': 6}, 'in 1..horizon = 1..5, got 6'),
    ({'head': 'runs/a'}, "head=runs/a would do nothing: 'policy' is not in"),
    ({'what': 'encode', 'planner': 'icem'}, 'planner=icem would do nothing'),
    ({'what': 'encode', 'horizon': 3}, 'horizon=3 would do nothing'),
    ({'action_low': (0.0,)}, 'action_low and action_high go together'),
    (
      {'environment': 'two_room', 'action_low': (0.0,), 'action_high': (1.0,)},
      'environment=two_room would do nothing beside action_low',
    ),
    ({'what': 'policy'}, 'two_room_small has no policy of its own; name with'),
    ({'action_low': (1.0,), 'action_high': (0.0,)}, 'lie below action_high'),
    ({'action_low': (0.0,) * 3, 'action_high': (1.0,)}, 'number or 2, one for'),
    ({'options': {'num_sample': 3}}, "Did you mean 'num_samples'?"),
    ({'planner': 'policy'}, 'name the folder of a head that acts'),
    ({'checkpoint': 'two_room_smal'}, "Did you mean 'two_room_small'?"),
  ],
)  # fmt: skip
def test_what_cannot_be_exported_is_said(asked, sentence, tmp_path):
  with pytest.raises((ValueError, OSError), match=re.escape(sentence)):
    recipes.export(recipes.Exporting(out=str(tmp_path / 'out'), **asked))
  assert not [*tmp_path.iterdir()]


def test_what_does_not_fit_together_is_said(
  head, sensing, model, tmp_path, monkeypatch
):
  out = tmp_path / 'out'

  def said(sentence, kind=ValueError, **asked):
    with pytest.raises(kind, match=re.escape(sentence)):
      recipes.export(recipes.Exporting(out=str(out), **asked))

  path, other = str(head[0]), str(sensing[0])
  said('which reads the latents of two_room_small', checkpoint=path)
  said('has another', checkpoint=other, what='policy', head=path)
  said('does not say which world its actions are of', checkpoint=other)
  encodes = exports.WorldModel(models.from_config({'name': 'ijepa'}), {}, None)
  with pytest.raises(ValueError, match='so there is no advance of it'):
    recipes.exporting.functions(recipes.Exporting(what='advance'), encodes)
  monkeypatch.setattr(artefacts.importlib.util, 'find_spec', lambda name: None)
  said("pip install 'jepa-wm[export]', or", ImportError, what='encode')
  # What is wrong with the flags comes before what is not installed.
  said('two_room_small has no policy of its own', what=('encode', 'policy'))
  monkeypatch.setattr(artefacts, 'MOST_BYTES', 1000)
  said('keep them beside it, with --weights=beside', what='encode')
  out.mkdir()
  (out / 'thesis.tex').touch()
  said('holds thesis.tex', FileExistsError, what='encode')


def test_what_calls_back_is_refused():
  def call(params, inputs):
    shape = jax.ShapeDtypeStruct((2,), np.float32)
    return {'x': jax.pure_callback(np.sin, shape, inputs['x'])}

  array = artefacts.Array((2,), 'float32', '')
  calls = artefacts.Function('sine', call, {}, {'x': array}, {'x': ''})
  with pytest.raises(ValueError, match='sine calls what is not in the file'):
    artefacts.stablehlo(calls, ['cpu', 'tpu'])
  with pytest.raises(ValueError, match='jax2onnx cannot convert it'):
    onnx_artefacts.onnx(calls)


def test_nothing_is_half_written_and_damage_is_seen(
  folder, tmp_path, monkeypatch
):
  """Ctrl-C while it is written; a file that is cut off."""
  array = artefacts.Array((2,), 'float32', '')
  doubles = artefacts.Function(
    'double',
    lambda params, inputs: {'x': params['by'] * inputs['x']},
    {'by': jnp.float32(2.0)},
    {'x': array},
    {'x': ''},
  )
  written = artefacts.stablehlo(doubles, ['cpu'], beside=True)

  def stop(*args, **kwargs):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched:
    patched.setattr(artefacts.json, 'dumps', stop)
    with pytest.raises(KeyboardInterrupt):
      artefacts.write(tmp_path / 'out', [written], {})
  assert not [*tmp_path.iterdir()]
  manifest = artefacts.write(tmp_path / 'out', [written], {})
  assert manifest['weights']['parameters'] == 1
  with pytest.raises(FileExistsError, match='add --overwrite to replace it'):
    artefacts.write(tmp_path / 'out', [written], {})
  (tmp_path / 'out' / 'old.onnx').touch()
  assert manifest == artefacts.write(
    tmp_path / 'out', [written], {}, overwrite=True
  )
  assert not (tmp_path / 'out' / 'old.onnx').exists()
  assert manifest['functions']['double']['stablehlo']['weights'] == ['by']

  cut = tmp_path / 'out' / 'double.stablehlo'
  cut.write_bytes(cut.read_bytes()[:-100])
  with pytest.raises(ValueError, match='holds no triple; export it again'):
    load_example('control_a_robot').load(tmp_path / 'out', 'triple')
  with pytest.raises(ValueError, match='holds no double; export it again'):
    load_example('control_a_robot').load(tmp_path, 'double')
  with pytest.raises(ValueError, match='is damaged; copy it again'):
    load_example('control_a_robot').load(tmp_path / 'out', 'double')
