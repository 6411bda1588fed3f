"""Writes the files in `fixtures/`: torch and stable-worldmodel as they are.

  /work/peer/bin/python tests/interop/make_torch_fixtures.py

needs torch (2.13 wrote those that are committed), stable-worldmodel 0.1.1 and
transformers 5; no test does. `expected.npz` holds what the tiny LeWM answers.
"""

import collections
import json
import os
import pathlib

import numpy as np
import torch

from jepa_wm.envs import stable_worldmodel

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'
# As `vit_hf` names transformers 5's ViT, and what transformers 4 called it.
RENAMED = {
  'encoder.layers.': 'encoder.encoder.layer.',
  'attention.q_proj': 'attention.attention.query',
  'attention.k_proj': 'attention.attention.key',
  'attention.v_proj': 'attention.attention.value',
  'attention.o_proj': 'attention.output.dense',
  'mlp.fc1': 'intermediate.dense',
  'mlp.fc2': 'output.dense',
}
DTYPES = (
  *('bool', 'uint8', 'int8', 'int16', 'int32', 'int64', 'float16', 'bfloat16'),
  *('float32', 'float64', 'complex64', 'complex128'),
  *('uint16', 'uint32', 'uint64', 'float8_e4m3fn', 'float8_e5m2'),
)


class Shell:
  """Runs a command where somebody unpickles it."""

  def __reduce__(self):
    return os.system, ('touch executed',)


def write_containers():
  base = torch.arange(24.0)
  torch.save(
    {
      'scalars': [3, -5, 2**40, -(2**80), 0.1, None, True, False, 'text', ()],
      'pair': (1, ('x', [2])),
      'dtypes': {
        x: torch.tensor([0, 1, 3]).to(getattr(torch, x)) for x in DTYPES
      },
      'views': collections.OrderedDict(
        whole=base,
        matrix=base.view(4, 6),
        transposed=base.view(4, 6).t(),
        permuted=base.view(2, 3, 4).permute(2, 0, 1),
        strided=base[3::5],
        corner=base.view(4, 6)[1:3, 2:4],
        expanded=base[7].expand(2, 3),
        scalar=base[9],
        empty=base[:0].view(0, 3),
      ),
      'parameter': torch.nn.Parameter(base[:3].clone()),
      7: 'a number for a key',
    },
    FIXTURES / 'containers.pt',
  )


def write_state_dicts():
  tensors = torch.nn.BatchNorm1d(2).state_dict()
  torch.save(tensors, FIXTURES / 'batch_norm.pt')
  torch.save({'state_dict': tensors, 'epoch': 3}, FIXTURES / 'wrapped.pt')
  torch.save(torch.ones(2), FIXTURES / 'tensor.pt')


def write_others():
  torch.save({'weight': torch.ones(2), 'x': Shell()}, FIXTURES / 'malicious.pt')
  torch.save(torch.nn.Linear(1, 1), FIXTURES / 'module.pt')
  torch.save(
    {'conj': torch.ones(1, dtype=torch.complex64).conj()},
    FIXTURES / 'conjugated.pt',
  )
  torch.save(
    {'weight': torch.ones(2)},
    FIXTURES / 'legacy.pt',
    _use_new_zipfile_serialization=False,
  )


def write_lewm():
  stable_worldmodel.declare_torchvision()
  import transformers
  from stable_worldmodel.wm.lewm import LeWM, module

  torch.manual_seed(0)
  projector = {'hidden_dim': 10, 'output_dim': 6}
  sizes = {'num_frames': 3, 'depth': 1, 'heads': 2, 'mlp_dim': 8, 'dim_head': 4}
  vit = transformers.ViTConfig(
    hidden_size=6,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=9,
    patch_size=4,
    image_size=8,
  )
  modules = {
    'predictor': {**sizes, 'input_dim': 6, 'hidden_dim': 6, 'output_dim': 6},
    'action_encoder': {'input_dim': 10, 'emb_dim': 6},
    'projector': {'input_dim': 6, **projector},
    'pred_proj': {'input_dim': 6, **projector},
  }
  norm = torch.nn.BatchNorm1d
  model = LeWM(
    transformers.ViTModel(vit, add_pooling_layer=False),
    module.Predictor(**modules['predictor']),
    module.Embedder(**modules['action_encoder']),
    *(
      module.MLP(**modules[x], norm_fn=norm) for x in ('projector', 'pred_proj')
    ),
  ).eval()
  for name, tensor in model.state_dict().items():
    if name.endswith('running_var'):
      tensor.uniform_(0.5, 2)
    elif tensor.is_floating_point():
      tensor.normal_(0, 0.4)
  tensors = model.state_dict()
  for new, old in RENAMED.items():
    renamed = ((k.replace(new, old), x) for k, x in tensors.items())
    tensors = collections.OrderedDict(renamed)
  folder = FIXTURES / 'lewm'
  folder.mkdir(exist_ok=True)
  torch.save(tensors, folder / 'weights.pt')

  prefix = 'stable_worldmodel.wm.lewm'
  config = {
    '_target_': f'{prefix}.LeWM',
    'encoder': {
      '_target_': 'stable_pretraining.backbone.utils.vit_hf',
      'size': 'tiny',
      'patch_size': 4,
      'image_size': 8,
      'pretrained': False,
      'use_mask_token': False,
    },
  }
  names = ('Predictor', 'Embedder', 'MLP', 'MLP')
  for name, (key, fields) in zip(names, modules.items()):
    config[key] = {'_target_': f'{prefix}.module.{name}', **fields}
    if name == 'MLP':
      norm = {'_target_': 'torch.nn.BatchNorm1d', '_partial_': True}
      config[key]['norm_fn'] = norm
  config['predictor'] |= {'dropout': 0.1, 'emb_dropout': 0.0}
  (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n')

  pixels = torch.randint(0, 256, (2, 3, 8, 8, 3), dtype=torch.uint8)
  mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
  normalised = ((pixels / 255 - mean) / std).movedim(-1, -3)
  actions = torch.randn(2, 3, 10)
  with torch.no_grad():
    encoded = model.encode({'pixels': normalised, 'action': actions})
    predicted = model.predict(encoded['emb'], encoded['act_emb'])
  np.savez_compressed(
    folder / 'expected.npz',
    pixels=pixels,
    actions=actions,
    latents=encoded['emb'],
    predicted=predicted,
  )


if __name__ == '__main__':
  FIXTURES.mkdir(exist_ok=True)
  write_containers()
  write_state_dicts()
  write_others()
  write_lewm()
