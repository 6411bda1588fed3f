"""I-JEPA's and V-JEPA's configs; one trained, stopped and gone on with."""

import jax
import numpy as np
import pytest

from experiments.configs import ijepa, vjepa
from jepa_wm import exports, fields, models
from jepa_wm.data import config as data_config
from jepa_wm.recipes import training
from jepa_wm.training import checkpoints, metrics, optimizers

CONFIGS = [(module, x) for module in (ijepa, vjepa) for x in module.VARIANTS]


@pytest.mark.parametrize(
  ('module', 'variant'),
  CONFIGS,
  ids=[f'{m.__name__.rpartition(".")[2]}-{v}' for m, v in CONFIGS],
)
def test_every_variant_is_whole(module, variant):
  config = module.get_config(variant).to_dict()
  models.from_config(config['model'])
  optimizers.AdamW(num_steps=config['num_steps'], **config['optimizer'])
  data_config.DataConfig(**config['data'])
  # As many as the model takes.
  assert config['data']['num_frames'] == 0


def test_the_full_sizes_are_the_published_models():
  def settings(module, variant, **changes):
    config = module.get_config(variant).to_dict()['model']
    changed = {**config, 'dtype': 'float32'}
    for name, change in changes.items():
      changed[name] = {**changed[name], **change}
    return fields.from_dict(models.MODELS, changed)

  published = {
    name: fields.from_dict(models.MODELS, {'name': name})
    for name in ('ijepa', 'vjepa')
  }
  whole = settings(ijepa, 'vit_h14', target={'momentum_steps': 187_500})
  assert whole == published['ijepa']
  second = settings(vjepa, 'vjepa2', masks={'min_context': 1})
  assert second == published['vjepa']
  huge = settings(
    vjepa, 'vjepa2', encoder={'width': 1280, 'depth': 32, 'mlp_dim': 5120}
  )
  # Parameters in millions as published, the fixed tables left out.
  for model, part, millions in (
    (second, 'encoder', 303.89),
    (settings(vjepa, 'vjepa1'), 'encoder', 303.89),
    (huge, 'encoder', 631.65),
    (second, 'predictor', 22.1),
    (published['ijepa'], 'predictor', 22.3),
  ):
    params = exports.inference_shapes(model.build())['params'][part]
    count = sum(x.size for x in jax.tree.leaves(params)) / 1e6
    assert count == pytest.approx(millions, abs=0.15)


@pytest.mark.parametrize(
  ('module', 'variant', 'warmup', 'schedule', 'rates', 'decays'),
  [
    (vjepa, 'vjepa1', 12_000, 112_500, (2e-4, 6.25e-4, None), (0.04, None)),
    (vjepa, 'vjepa2', 12_000, 252_000, (1e-4, 5.25e-4, 1e-6), (0.04, 0.04)),
    (ijepa, 'vit_h14', 25_000, 187_500, (2e-4, 1e-3, 1e-6), (0.04, 0.4)),
  ],
)
def test_published_schedules_meet_their_corners(
  module, variant, warmup, schedule, rates, decays
):
  config = module.get_config(variant).to_dict()
  optimizer = optimizers.AdamW(
    num_steps=config['num_steps'], **config['optimizer']
  )
  assert optimizer.warmup_steps == warmup
  assert optimizer.schedule_steps == schedule
  # Numbers from 1: the last update of the run is the one of `num_steps`.
  corners = 0, warmup - 1, config['num_steps'] - 1
  for rate, step in zip(rates, corners):
    if rate is not None:
      assert optimizer.schedule(step) == pytest.approx(rate, rel=4e-4)
  for decay, step in zip(decays, corners[::2]):
    if decay is not None:
      found = optimizer.scheduled_weight_decay(step)
      assert found == pytest.approx(decay, rel=1e-6)
  if variant == 'vjepa1':
    # Stopped on the way: a fifth of both schedules is left.
    assert 2e-5 < optimizer.schedule(corners[2]) < 8e-5
    assert 0.3 < optimizer.scheduled_weight_decay(corners[2]) < 0.38
  if variant == 'vjepa2':
    assert optimizer.schedule(239_999) == np.float32(5.25e-4)
    assert optimizer.schedule(245_999) == pytest.approx(2.63e-4, rel=1e-5)


@pytest.mark.parametrize('module', [ijepa, vjepa])
def test_an_unknown_variant_names_those_there_are(module):
  with pytest.raises(
    ValueError, match=r"variant must be .*digits_small.*got 'tiny'"
  ):
    module.get_config('tiny')


@pytest.mark.parametrize(
  ('module', 'variant', 'overrides', 'steps'),
  [
    (vjepa, 'digits_tiny', {'num_steps': 8}, 10),
    (vjepa, 'vjepa1', {}, 112_500),
    (vjepa, 'vjepa2', {}, 0),
    (ijepa, 'digits_tiny', {'num_steps': 8}, 8),
    (ijepa, 'vit_h14', {}, 187_500),
  ],
)
def test_momentum_and_frames_follow_the_run(module, variant, overrides, steps):
  config = {**module.get_config(variant).to_dict(), **overrides}
  plan = training.read_config(config)
  assert training.lasting(plan).target.momentum_steps == steps
  assert plan.data.num_frames == plan.model.num_frames


def _small(**overrides):
  config = vjepa.get_config('digits_tiny').to_dict()
  config |= {'num_steps': 8, 'log_every': 2, 'eval_every': 8, **overrides}
  config['data'] |= {'batch_size': 8, 'num_eval_windows': 16}
  config['model']['encoder'] |= {
    'image_size': 32,
    'patch_size': 4,
    'num_frames': 2,
    'depth': 1,
  }
  return config


@pytest.mark.slow
def test_goes_on_to_the_bit_and_exports_both_encoders(tmp_path, monkeypatch):
  training.train(_small(), tmp_path / 'whole')
  # Stopped after the checkpoint of the fourth step.
  saves = []
  save = checkpoints.save

  def save_and_stop(*args, **kwargs):
    path = save(*args, **kwargs)
    saves.append(path)
    raise KeyboardInterrupt

  monkeypatch.setattr(checkpoints, 'save', save_and_stop)
  with pytest.raises(KeyboardInterrupt):
    training.train(_small(checkpoint_every=4), tmp_path / 'parts')
  monkeypatch.undo()
  assert len(saves) == 1
  training.train(_small(checkpoint_every=4), tmp_path / 'parts')
  whole, parts = (
    exports.WorldModel.from_checkpoint(tmp_path / x) for x in ('whole', 'parts')
  )
  names = {'encoder', 'target_encoder', 'predictor'}
  assert set(whole.params['params']) == names
  for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params)):
    np.testing.assert_array_equal(a, b)
  records = metrics.read(tmp_path / 'whole' / 'metrics.jsonl')
  assert {
    'held_out/loss',
    'collapse/effective_rank',
    'probe/probe_r2',
    'probe/label_accuracy',
  } <= set(records[-1])
  pixels = np.zeros((3, 2, 32, 32, 3), np.uint8)
  latents = whole.encode(whole.params, {'pixels': pixels})
  assert latents.shape == (3, whole.model.latent_dim)
