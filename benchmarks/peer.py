"""stable-worldmodel, imported and with LeWM's networks made of our weights.

Imported only where a benchmark was asked for `--peer`: it needs PyTorch.
docs/benchmarks.md says how to install it.
"""

import warnings
from typing import Any

import numpy as np
import torch

from jepa_wm.envs import stable_worldmodel as their_worlds
from jepa_wm.interop import lewm as published
from jepa_wm.models import lewm as models_lewm

their_worlds.declare_torchvision()
with warnings.catch_warnings():
  warnings.simplefilter('ignore')
  import stable_worldmodel
  import transformers
  from stable_worldmodel.envs.two_room import env as two_room
  from stable_worldmodel.wm.lewm import LeWM, module
  from stable_worldmodel.wm.loss import SIGReg

__all__ = ['SIGReg', 'lewm', 'stable_worldmodel', 'torch', 'two_room']


def lewm(
  variables: Any,
  *,
  config: models_lewm.LeWM | None = None,
  dropout: float = 0.1,
) -> Any:
  """The peer's LeWM with our variables, in eval mode.

  Args:
    variables: of the model.
    config: a ViT-tiny, the rest of any size; the published one by default.
    dropout: rate in its predictor.
  """
  config = models_lewm.LeWM() if config is None else config
  width, encoder, predictor = (
    config.latent_dim,
    config.encoder,
    config.predictor,
  )
  hidden_dim = config.projector.hidden_dim
  vit = {'hidden_size': width, 'num_attention_heads': 3}
  vit |= {'patch_size': encoder.patch_size, 'image_size': encoder.image_size}
  theirs = transformers.ViTConfig(**vit, intermediate_size=4 * width)
  sizes = {
    'num_frames': predictor.history,
    'depth': predictor.depth,
    'heads': predictor.num_heads,
    'dim_head': predictor.head_dim,
    'mlp_dim': predictor.mlp_dim,
    'input_dim': width,
    'hidden_dim': width,
  }
  projector = (width, hidden_dim, width, torch.nn.BatchNorm1d)
  model = LeWM(
    encoder=transformers.ViTModel(theirs, add_pooling_layer=False),
    predictor=module.Predictor(**sizes, dropout=dropout),
    action_encoder=module.Embedder(emb_dim=width),
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
