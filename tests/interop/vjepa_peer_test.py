"""V-JEPA 2 and I-JEPA beside transformers: its folders in, its answers out.

Skipped but where torch and transformers are installed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm import families, interop
from jepa_wm.data import normalization

pytestmark = [
  pytest.mark.peer,
  pytest.mark.slow,
  pytest.mark.filterwarnings('ignore'),
]

SIZES = {
  'encoder_dim': 96,
  'encoder_depth': 3,
  'encoder_heads': 3,
  'encoder_mlp_dim': 384,
  'predictor_dim': 48,
  'predictor_depth': 2,
  'predictor_heads': 3,
  'predictor_mlp_dim': 192,
  'image_size': 64,
  'patch_size': 8,
}


@pytest.fixture(scope='module')
def torch():
  torch = pytest.importorskip('torch')
  try:
    import torchvision  # noqa: F401
  except (ImportError, RuntimeError):
    # A wheel whose compiled operators do not load; nobody calls them.
    library = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
      library.define(f'{name}(Tensor a, Tensor b, float c) -> Tensor')
  transformers = pytest.importorskip('transformers')
  # Now, while the operators are there: it imports its models when asked.
  assert transformers.VJEPA2Model and transformers.IJepaModel
  return torch


def draw(family):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape), jnp.float32),
    families.inference_shapes(family),
  )


def test_vjepa2_gives_the_same_tokens(torch, tmp_path):
  import transformers

  family = families.VJEPA(**SIZES, num_frames=4)
  variables = draw(family)
  interop.write_masked(tmp_path, family, variables)
  model = transformers.VJEPA2Model.from_pretrained(
    tmp_path, attn_implementation='eager'
  ).eval()
  rng = np.random.default_rng(1)
  pixels = rng.integers(0, 256, (2, 4, 64, 64, 3), np.uint8)
  video = np.array(normalization.normalize_pixels(jnp.asarray(pixels)))
  order = np.stack([rng.permutation(128) for _ in range(2)])
  context, target = np.sort(order[:, :40]), np.sort(order[:, 40:90])
  with torch.no_grad():
    out = model(
      torch.from_numpy(np.ascontiguousarray(np.moveaxis(video, -1, 2))),
      context_mask=[torch.from_numpy(context)],
      target_mask=[torch.from_numpy(target)],
    )
  with jax.default_matmul_precision('highest'):
    tokens = family.tokens(variables, jnp.asarray(pixels))
    # It encodes everything and then takes the context.
    seen = jnp.take_along_axis(tokens, jnp.asarray(context)[..., None], axis=1)
    predicted = family.predict(variables, seen, context, target)
  for ours, theirs in (
    (tokens, out.last_hidden_state),
    (predicted, out.predictor_output.last_hidden_state),
  ):
    theirs = theirs.numpy()
    np.testing.assert_allclose(
      ours, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max())
    )


def test_ijepa_gives_the_same_tokens(torch, tmp_path):
  import transformers

  family = families.IJEPA(**SIZES)
  variables = draw(family)
  interop.write_masked(tmp_path, family, variables)
  model = transformers.IJepaModel.from_pretrained(
    tmp_path, attn_implementation='eager', add_pooling_layer=False
  ).eval()
  pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
  images = np.array(normalization.normalize_pixels(jnp.asarray(pixels)))
  with torch.no_grad():
    out = model(
      torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    )
  with jax.default_matmul_precision('highest'):
    tokens = family.tokens(variables, jnp.asarray(pixels))
  theirs = out.last_hidden_state.numpy()
  np.testing.assert_allclose(
    tokens, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max())
  )
