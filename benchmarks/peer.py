"""stable-worldmodel, imported and with LeWM's networks made of our weights.

Imported only where a benchmark was asked for `--peer`: it needs PyTorch.
benchmarks/README.md says how to install it.
"""

import warnings
from typing import Any

import numpy as np
import torch

try:
  import torchvision  # noqa: F401
except RuntimeError:
  # A wheel whose compiled operators do not load, which the peer only needs to
  # have been declared, and for as long as the library object lives.
  _declared = torch.library.Library('torchvision', 'DEF')
  for _name in ('nms', 'qnms'):
    _declared.define(
      f'{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    )
with warnings.catch_warnings():
  warnings.simplefilter('ignore')
  import stable_worldmodel
  import transformers
  from stable_worldmodel.envs.two_room import env as two_room
  from stable_worldmodel.wm.lewm import LeWM, module
  from stable_worldmodel.wm.loss import SIGReg

from jepa_wm.interop import lewm as published

__all__ = ['SIGReg', 'lewm', 'stable_worldmodel', 'torch', 'two_room']


def lewm(variables: Any, *, dropout: float = 0.1) -> Any:
  """The peer's full-size LeWM with our variables, in eval mode.

  Args:
    variables: of `families.LeWM()`, the published size.
    dropout: rate in its predictor.
  """
  vit = {'hidden_size': 192, 'num_attention_heads': 3, 'patch_size': 14}
  config = transformers.ViTConfig(**vit, intermediate_size=768)
  sizes = {'num_frames': 3, 'depth': 6, 'heads': 16, 'mlp_dim': 2048}
  sizes |= {'input_dim': 192, 'hidden_dim': 192}
  projector = (192, 2048, 192, torch.nn.BatchNorm1d)
  model = LeWM(
    encoder=transformers.ViTModel(config, add_pooling_layer=False),
    predictor=module.Predictor(**sizes, dropout=dropout),
    action_encoder=module.Embedder(emb_dim=192),
    projector=module.MLP(*projector),
    pred_proj=module.MLP(*projector),
  ).eval()
  model.load_state_dict(
    {
      name: torch.from_numpy(np.array(tensor))
      for name, tensor in published.to_source(variables).items()
    }
  )
  return model
