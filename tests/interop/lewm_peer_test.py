"""LeWM at full size beside stable-worldmodel, its own files in and ours out.

Skipped but where torch, stable-worldmodel and stable-pretraining are installed.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest
import safetensors.numpy

from jepa_wm import exports, interop, units
from jepa_wm.envs import stable_worldmodel
from jepa_wm.interop import lewm
from jepa_wm.models import lewm as models_lewm

pytestmark = peers.MARKS


@pytest.fixture(scope='module')
def torch():
  torch = pytest.importorskip('torch')
  stable_worldmodel.declare_torchvision()
  pytest.importorskip('stable_worldmodel')
  pytest.importorskip('stable_pretraining')
  return torch


@pytest.fixture(scope='module')
def module(torch):
  """The published module, built from a config of ours, all of it random."""
  import hydra.utils

  model = hydra.utils.instantiate(lewm.to_config(models_lewm.LeWM())).eval()
  torch.manual_seed(0)
  for name, tensor in model.state_dict().items():
    if name.endswith('running_var'):
      tensor.uniform_(0.5, 2)
    elif tensor.is_floating_point():
      tensor.normal_(0, 0.05)
  return model


@pytest.fixture(scope='module')
def folder(module, tmp_path_factory):
  """What its own `save_pretrained` writes."""
  import omegaconf
  from stable_worldmodel.wm import utils

  cache = tmp_path_factory.mktemp('cache')
  config = omegaconf.OmegaConf.create(lewm.to_config(models_lewm.LeWM()))
  utils.save_pretrained(module, 'lewm', config=config, cache_dir=str(cache))
  (path,) = cache.rglob('weights.pt')
  return path.parent


@pytest.fixture(scope='module')
def model(folder):
  statistics = units.ActionStatistics(np.zeros(2), np.ones(2))
  return exports.WorldModel.from_pretrained(
    folder, action_statistics=statistics
  )


def test_its_folder_gives_its_answers(torch, module, model, record_property):
  assert model.model.config == models_lewm.LeWM()
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (1, 3, 224, 224, 3), np.uint8)
  actions = rng.normal(size=(1, 3, 10)).astype(np.float32)
  normalised = np.asarray(units.normalize_pixels(jnp.asarray(pixels)))
  theirs = np.moveaxis(normalised, -1, -3).copy()
  theirs = {
    k: torch.from_numpy(x) for k, x in (('pixels', theirs), ('action', actions))
  }
  with torch.no_grad():
    # transformers' ViTModel, and then the whole.
    features = module.encoder(theirs['pixels'][0]).last_hidden_state[None, :, 0]
    encoded = module.encode(theirs)
    predicted = module.predict(encoded['emb'], encoded['act_emb'])
  expected = features, encoded['emb'], predicted
  with jax.default_matmul_precision('highest'):
    latents = model.encode(model.params, {'pixels': jnp.asarray(pixels)})
    predicted = model.model.predict(model.params, latents, actions)
    encoder = model.model.networks.encoder
    seen, _ = encoder.apply(
      {'params': model.params['params']['encoder']}, normalised
    )
  names = ('ViTModel', 'encode', 'predict')
  for name, ours, x in zip(names, (seen, latents, predicted), expected):
    x = np.asarray(x)
    scale = np.abs(x).max()
    difference = np.abs(np.asarray(ours) - x).max()
    record_property(name, f'{difference:.2g} at a scale of {scale:.2g}')
    np.testing.assert_allclose(ours, x, rtol=0, atol=1e-5 * scale)


def test_our_folder_is_taken_by_its_module(torch, module, model, tmp_path):
  import hydra.utils

  interop.write_lewm(tmp_path, model.model.config, model.params)
  config = json.loads((tmp_path / 'config.json').read_text())
  rebuilt = hydra.utils.instantiate(config)
  tensors = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
  rebuilt.load_state_dict({k: torch.from_numpy(x) for k, x in tensors.items()})
  for name, tensor in rebuilt.state_dict().items():
    assert torch.equal(tensor, module.state_dict()[name]), name
