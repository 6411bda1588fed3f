"""V-JEPA 2 and I-JEPA beside transformers: its folders in, its answers out.

Skipped but where torch and transformers are installed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pytest

from jepa_wm import exports, interop, models, units
from jepa_wm.envs import stable_worldmodel

pytestmark = peers.MARKS

ENCODER = {
  'image_size': 64,
  'patch_size': 8,
  'width': 96,
  'depth': 3,
  'num_heads': 3,
  'mlp_dim': 384,
}
PREDICTOR = {'width': 48, 'depth': 2, 'num_heads': 3, 'mlp_dim': 192}
# Few tokens, for the time that it takes: positions go on counting.
VIDEO = {
  'tiny': {'encoder': {**ENCODER, 'num_frames': 4}, 'predictor': PREDICTOR},
  # All of the published ViT-L, predictor and all.
  'vit_large': {'encoder': {'image_size': 128, 'num_frames': 4}},
}
# The published ViT-H/14 is all of its width and two blocks deep: 2.5 GB are
# too much for this test.
IMAGES = {
  'tiny': {'encoder': ENCODER, 'predictor': PREDICTOR},
  'vit_huge_cut': {'encoder': {'depth': 2}, 'predictor': {'depth': 1}},
}


@pytest.fixture(scope='module')
def torch():
  torch = pytest.importorskip('torch')
  stable_worldmodel.declare_torchvision()
  transformers = pytest.importorskip('transformers')
  # Now, while the operators are there: it imports its models when asked.
  assert transformers.VJEPA2Model and transformers.IJepaModel
  return torch


def draw(model):
  rng = np.random.default_rng(0)
  shapes = exports.inference_shapes(model)['params']
  params = jax.tree.map(
    lambda x: jnp.asarray(
      # As large as the layers before leave the numbers.
      rng.normal(0, 0.1 if x.ndim < 2 else x.shape[0] ** -0.5, x.shape),
      jnp.float32,
    ),
    {part: shapes[part] for part in ('target_encoder', 'predictor')},
  )
  # Half the memory.
  params['encoder'] = params['target_encoder']
  return {'params': params, 'batch_stats': {}}


def compare(record_property, name, ours, theirs):
  theirs = theirs.numpy()
  scale = max(1, np.abs(theirs).max())
  difference = np.abs(np.asarray(ours) - theirs).max()
  record_property(name, f'{difference:.2g} at a scale of {scale:.2g}')
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize('name', VIDEO)
def test_vjepa2_gives_the_same_tokens(name, torch, tmp_path, record_property):
  import transformers

  ours = models.from_config({'name': 'vjepa', **VIDEO[name]})
  variables = draw(ours)
  interop.write_masked(tmp_path, ours, variables)
  model = transformers.VJEPA2Model.from_pretrained(
    tmp_path, attn_implementation='eager'
  ).eval()
  rng = np.random.default_rng(1)
  size, num_tokens = ours.encoder.image_size, np.prod(ours.grid)
  pixels = rng.integers(0, 256, (2, 4, size, size, 3), np.uint8)
  video = np.array(units.normalize_pixels(jnp.asarray(pixels)))
  order = np.stack([rng.permutation(num_tokens) for _ in range(2)])
  context, target = np.sort(order[:, :40]), np.sort(order[:, 40:90])
  with torch.no_grad():
    out = model(
      torch.from_numpy(np.ascontiguousarray(np.moveaxis(video, -1, 2))),
      context_mask=[torch.from_numpy(context)],
      target_mask=[torch.from_numpy(target)],
    )
  with jax.default_matmul_precision('highest'):
    encode = functools.partial(ours.encode, tokens=True)
    tokens = jax.jit(encode)(variables, {'pixels': pixels})
    # It encodes everything and then takes the context.
    seen = jnp.take_along_axis(tokens, jnp.asarray(context)[..., None], axis=1)
    predicted = jax.jit(ours.predict)(variables, seen, context, target)
  theirs = out.predictor_output.last_hidden_state
  compare(record_property, 'encoder', tokens, out.last_hidden_state)
  compare(record_property, 'predictor', predicted, theirs)


@pytest.mark.parametrize('name', IMAGES)
def test_ijepa_gives_the_same_tokens(name, torch, tmp_path, record_property):
  import transformers

  ours = models.from_config({'name': 'ijepa', **IMAGES[name]})
  variables = draw(ours)
  interop.write_masked(tmp_path, ours, variables)
  model = transformers.IJepaModel.from_pretrained(
    tmp_path, attn_implementation='eager', add_pooling_layer=False
  ).eval()
  size = ours.encoder.image_size
  shape = 2, size, size, 3
  pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
  images = np.array(units.normalize_pixels(jnp.asarray(pixels)))
  with torch.no_grad():
    out = model(
      torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    )
  with jax.default_matmul_precision('highest'):
    encode = functools.partial(ours.encode, tokens=True)
    tokens = jax.jit(encode)(variables, {'pixels': pixels})
  compare(record_property, 'encoder', tokens, out.last_hidden_state)
