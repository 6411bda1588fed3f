import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.special

from jepa_wm import interop
from jepa_wm.envs import stable_worldmodel
from jepa_wm.interop import dinov2 as dinov2_layout
from jepa_wm.interop import state_dicts
from jepa_wm.networks import dinov2, patches

WIDTH, DEPTH, HEADS = 24, 2, 2


def random_tensors(seed=0, width=WIDTH, depth=DEPTH, grid=3, patch=14):
  """A state dict as on the Hub, none of its numbers a default."""
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return rng.normal(0, 0.2, shape).astype(np.float32)

  tensors = {
    'embeddings.cls_token': draw(1, 1, width),
    'embeddings.mask_token': draw(1, width),
    'embeddings.position_embeddings': draw(1, 1 + grid**2, width),
    'embeddings.patch_embeddings.projection.weight': draw(
      width, 3, patch, patch
    ),
    'embeddings.patch_embeddings.projection.bias': draw(width),
    'layernorm.weight': 1 + draw(width),
    'layernorm.bias': draw(width),
  }
  for i in range(depth):
    block = f'encoder.layer.{i}'
    for norm in ('norm1', 'norm2'):
      tensors[f'{block}.{norm}.weight'] = 1 + draw(width)
      tensors[f'{block}.{norm}.bias'] = draw(width)
    for name, shape in {
      'attention.attention.query': (width, width),
      'attention.attention.key': (width, width),
      'attention.attention.value': (width, width),
      'attention.output.dense': (width, width),
      'mlp.fc1': (4 * width, width),
      'mlp.fc2': (width, 4 * width),
    }.items():
      tensors[f'{block}.{name}.weight'] = draw(*shape)
      tensors[f'{block}.{name}.bias'] = draw(shape[0])
    for scale in ('layer_scale1', 'layer_scale2'):
      tensors[f'{block}.{scale}.lambda1'] = 1 + draw(width)
  return tensors


def oracle(tensors, image, grid=3, patch=14):
  """DINOv2 in plain NumPy, float64, out of the published names."""
  w = {k: v.astype(np.float64) for k, v in tensors.items()}

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * w[f'{name}.weight'] + w[f'{name}.bias']

  def linear(x, name):
    return x @ w[f'{name}.weight'].T + w[f'{name}.bias']

  rows, columns = (side // patch for side in image.shape[:2])
  kernel = w['embeddings.patch_embeddings.projection.weight']
  tokens = [
    np.einsum(
      'ocij,ijc->o',
      kernel,
      image[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch],
    )
    + w['embeddings.patch_embeddings.projection.bias']
    for r in range(rows)
    for c in range(columns)
  ]
  x = np.concatenate([w['embeddings.cls_token'][0], np.stack(tokens)])
  positions = w['embeddings.position_embeddings'][0]
  table = positions[1:].reshape(grid, grid, -1)
  table = patches.resize_positions(np.float32(table), shape=(rows, columns))
  x = x + np.concatenate([positions[:1], table.reshape(rows * columns, -1)])
  size = WIDTH // HEADS
  for i in range(DEPTH):
    block = f'encoder.layer.{i}'
    h = norm(x, f'{block}.norm1')
    heads = []
    for head in range(HEADS):
      q, k, v = (
        linear(h, f'{block}.attention.attention.{part}')[
          :, head * size : (head + 1) * size
        ]
        for part in ('query', 'key', 'value')
      )
      logits = q @ k.T / np.sqrt(size)
      heads.append(scipy.special.softmax(logits, axis=-1) @ v)
    h = linear(np.concatenate(heads, -1), f'{block}.attention.output.dense')
    x = x + h * w[f'{block}.layer_scale1.lambda1']
    h = linear(norm(x, f'{block}.norm2'), f'{block}.mlp.fc1')
    h = h * 0.5 * (1 + scipy.special.erf(h / np.sqrt(2)))
    h = linear(h, f'{block}.mlp.fc2')
    x = x + h * w[f'{block}.layer_scale2.lambda1']
  return norm(x, 'layernorm')


@pytest.mark.parametrize('size', [(42, 42), (28, 56)])
def test_equals_a_plain_forward(size):
  tensors = random_tensors()
  image = np.random.default_rng(1).normal(size=(*size, 3)).astype(np.float32)
  module = dinov2.Dinov2(width=WIDTH, depth=DEPTH, num_heads=HEADS, grid=3)
  variables = dinov2_layout.to_variables(tensors)
  with jax.default_matmul_precision('highest'):
    cls, kept = jax.jit(module.apply)(variables, image)
  expected = oracle(tensors, image)
  np.testing.assert_allclose(kept['tokens'], expected, atol=1e-5)
  np.testing.assert_allclose(cls, expected[0], atol=1e-5)
  rows, columns = (side // 14 for side in size)
  np.testing.assert_allclose(
    kept['feature_map'], expected[1:].reshape(rows, columns, -1), atol=1e-5
  )


@pytest.mark.parametrize('layout', dinov2_layout.LAYOUTS)
def test_every_layout_holds_the_same_model(layout):
  variables = dinov2_layout.to_variables(random_tensors())
  tensors = dinov2_layout.to_tensors(variables, layout=layout)
  again = dinov2_layout.to_variables(tensors)
  jax.tree.map(np.testing.assert_array_equal, variables, again)


def test_the_hub_gets_its_own_tensors_back():
  tensors = random_tensors()
  variables = dinov2_layout.to_variables(tensors)
  written = dinov2_layout.to_tensors(variables, layout='transformers_4')
  assert written.keys() == tensors.keys()
  for name in tensors.keys() - {'embeddings.mask_token'}:
    np.testing.assert_array_equal(written[name], tensors[name])


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A folder as on the Hub, of the published small size, thin numbers."""
  folder = tmp_path_factory.mktemp('dinov2')
  tensors = random_tensors(width=384, depth=12, grid=37)
  variables = dinov2_layout.to_variables(tensors)
  interop.write_dinov2(folder, variables, layout='transformers_4')
  return folder


def test_a_folder_of_the_hub_is_recognised_and_read(small, tmp_path):
  assert interop.is_dinov2(small)
  size, variables = interop.read_dinov2(small)
  assert size == 'small'
  assert json.loads((small / 'config.json').read_text())['image_size'] == 518
  interop.write_dinov2(tmp_path, variables, layout='facebook')
  assert interop.is_dinov2(tmp_path / 'model.safetensors')
  assert interop.read_dinov2(tmp_path / 'model.safetensors').size == size
  assert not interop.is_dinov2(tmp_path / 'nowhere')


def test_a_tensor_of_another_shape_is_named(small, tmp_path):
  tensors = dict(state_dicts.read(small / 'model.safetensors'))
  name = 'encoder.layer.3.mlp.fc1.weight'
  tensors[name] = tensors[name][:100]
  path = tmp_path / 'cut.safetensors'
  path.write_bytes(safetensors.numpy.save(tensors))
  with pytest.raises(
    ValueError, match=r'3\.mlp\.fc1\.weight.* is \[100, 384\], expected'
  ):
    interop.read_dinov2(path)


def test_other_models_are_refused(tmp_path):
  path = tmp_path / 'x.safetensors'
  path.write_bytes(safetensors.numpy.save({'a.weight': np.zeros((2, 2))}))
  with pytest.raises(ValueError, match=r'not the tensors of a DINOv2.*a\.w'):
    interop.read_dinov2(path)
  path.write_bytes(safetensors.numpy.save(random_tensors()))
  with pytest.raises(ValueError, match='width 24 and 2 blocks; known are'):
    interop.read_dinov2(path)
  with pytest.raises(ValueError, match=r"layout must be one of .*'timm'"):
    dinov2_layout.to_tensors(
      dinov2_layout.to_variables(random_tensors()), layout='timm'
    )


@pytest.mark.parametrize('name', ['small', 'base'])
@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_equals_transformers(name, tmp_path, record_property):
  torch = pytest.importorskip('torch')
  stable_worldmodel.declare_torchvision()
  transformers = pytest.importorskip('transformers')
  sizes = dinov2.SIZES[name]
  config = transformers.Dinov2Config(
    hidden_size=sizes['width'],
    num_hidden_layers=sizes['depth'],
    num_attention_heads=sizes['num_heads'],
  )
  config.image_size = 518
  config.patch_size = 14
  model = transformers.Dinov2Model(config).eval()
  torch.manual_seed(0)
  for tensor in model.state_dict().values():
    tensor.normal_(0, 0.05)
  # Into ours and back out, so that its own reader is tested as well.
  tensors = {k: v.numpy() for k, v in model.state_dict().items()}
  variables = dinov2_layout.to_variables(tensors)
  interop.write_dinov2(tmp_path, variables)
  model = transformers.Dinov2Model.from_pretrained(tmp_path).eval()
  image = np.random.default_rng(1).normal(size=(196, 196, 3))
  image = image.astype(np.float32)
  with torch.no_grad():
    pixels = torch.from_numpy(image.transpose(2, 0, 1)[None])
    expected = model(pixels).last_hidden_state[0].numpy()
  _, kept = jax.jit(dinov2.Dinov2(**sizes).apply)(variables, image)
  difference = np.abs(kept['tokens'] - expected).max()
  record_property('tokens', f'{difference:.2g}')
  np.testing.assert_allclose(kept['tokens'], expected, atol=1e-5)
