import dataclasses

import jax
import numpy as np
import pytest
import small_model
import toy

from experiments.configs import variants
from jepa_wm import exports, models, sharding
from jepa_wm.recipes import starting_weights, study_units, training
from jepa_wm.recipes.study import Row, Size, Study
from jepa_wm.training import checkpoints, optimizers
from jepa_wm.training import run as run_lib

OPTIMIZER = optimizers.AdamW(num_steps=3).transformation()


def _model(**changes):
  return models.from_config({**small_model.CONFIG, **changes})


@pytest.fixture(scope='module')
def export(tmp_path_factory):
  """A model whose weights are all known."""
  world_model = small_model.make(exports.WorldModel)
  path = tmp_path_factory.mktemp('run') / 'export'
  world_model.save(path)
  return world_model, path


def _same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_model_starts_from_the_weights_of_another(export):
  world_model, path = export
  params = world_model.params['params']
  found = starting_weights.read(_model(), path.parent)
  _same(found['params'], params)
  assert found.keys() == {'params', 'batch_stats'}
  # An average that the export does not hold begins at the encoder.
  averaged = starting_weights.read(_model(target={'name': 'ema'}), path)
  _same(averaged['target']['params']['encoder'], params['encoder'])
  assert set(averaged['target']['params']) == {'encoder', 'projector'}
  # One with a frozen encoder takes the rest.
  learnt = starting_weights.read(
    _model(target={'name': 'frozen'}, terms={'prediction': {}}), path
  )
  assert 'encoder' not in learnt['params']
  _same(learnt['params']['predictor'], params['predictor'])


def test_an_average_goes_on_where_the_export_holds_one(tmp_path):
  config = variants.resolve('vjepa.py:digits_tiny', {})['model']
  model = models.from_config(config)
  shapes = exports.inference_shapes(model)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes
  )
  exports.WorldModel(model, params, None, {}).save(tmp_path / 'export')
  found = starting_weights.read(model, tmp_path)
  _same(
    found['target']['params']['encoder'], params['params']['target_encoder']
  )
  assert found['params'].keys() == {'encoder', 'predictor'}
  # Longer clips and larger frames have the same weights.
  other = models.from_config(
    {**config, 'encoder': {**config['encoder'], 'image_size': 32}}
  )
  _same(starting_weights.read(other, tmp_path), found)


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      {'latent_dim': 4},
      r"has \[3\] for '.*/out/bias', where config.model has \[4\]",
    ),
    (
      {'predictor': {**small_model.CONFIG['predictor'], 'depth': 3}},
      "has no weight for 'predictor/.*', where config.model has",
    ),
  ],
)
def test_other_sizes_are_refused_by_the_first_that_differs(
  export, changes, sentence
):
  with pytest.raises(ValueError, match=f'config.initialise_from: .*{sentence}'):
    starting_weights.read(_model(**changes), export[1])


def test_nothing_there_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match='checkpoint'):
    starting_weights.read(_model(), tmp_path / 'none')


def test_a_run_starts_there_and_knows_from_where(tmp_path):
  model = toy.ToyModel()

  def run(seed, start=None):
    identity = {} if start is None else {'initialise_from': str(seed)}
    return run_lib.Run(
      model,
      OPTIMIZER,
      toy.ToyBatches(),
      num_steps=3,
      mesh=sharding.make_mesh(1),
      start=start,
      config=identity,
    )

  start = jax.device_get(model.init(jax.random.key(7)))
  first = run(7, start)
  _same(jax.device_get(first.state.variables), start)
  assert int(first.state.step) == 0
  next(first.steps())
  first.save(tmp_path)
  with pytest.raises(checkpoints.CheckpointError, match='initialise_from'):
    run(8, start).resume(tmp_path)
  assert run(7, start).resume(tmp_path)


def test_the_weights_are_part_of_a_run(export):
  """What a config reads, and what of it makes the run this run."""
  config = variants.resolve('lewm.py:two_room_tiny', {})
  config = {**config, 'model': small_model.CONFIG}
  plan = training.read_config({**config, 'initialise_from': str(export[1])})
  _same(plan.start['params'], export[0].params['params'])
  without = training.read_config(
    {**config, 'initialise_from': 'nowhere'}, weights=False
  )
  assert without.start is None
  assert len(starting_weights.fingerprint(export[1])) == 64


STUDY = Study(
  name='tiny/cool',
  question='Does it start?',
  source='nowhere',
  reference='plain',
  rows={
    'plain': Row(),
    'cooled': Row(start='plain', train={'num_steps': 1}),
  },
  sizes={
    'small': Size(
      config='lewm.py:two_room_tiny',
      data={'num_episodes': 4},
      minutes=0.1,
    )
  },
)


def _units(study, tmp_path, seeds=(0, 1)):
  return study_units.units(
    study,
    size='small',
    rows=study.runnable,
    seeds=seeds,
    out=tmp_path,
    data=None,
    resolve_fn=variants.resolve,
  )


def test_a_row_starts_from_the_run_of_another(tmp_path):
  plain, other, cooled, later = _units(STUDY, tmp_path)
  assert cooled.start == plain and later.start == other
  assert cooled.config['initialise_from'] == str(plain.workdir)
  assert len({plain.training, other.training, cooled.training}) == 3
  assert study_units.check(STUDY, 'small', variants.resolve) == []
  # What the other trains is part of what this one is.
  size = dataclasses.replace(
    STUDY.sizes['small'], train={'optimizer.learning_rate': 0.5}
  )
  longer = dataclasses.replace(STUDY, sizes={'small': size})
  assert _units(longer, tmp_path)[2].training != cooled.training


def test_a_row_that_cannot_start_there_is_named(tmp_path):
  wide = Row(start='plain', train={'model.latent_dim': 3})
  study = dataclasses.replace(STUDY, rows={**STUDY.rows, 'wide': wide})
  (fault,) = study_units.check(study, 'small', variants.resolve)
  assert "row 'wide': config.initialise_from: row 'plain' has" in fault
  with pytest.raises(ValueError, match="starts from 'none', which must be"):
    dataclasses.replace(STUDY, rows={'plain': Row(), 'a': Row(start='none')})
