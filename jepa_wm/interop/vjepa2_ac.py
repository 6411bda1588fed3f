"""V-JEPA 2-AC: the released `vjepa2-ac-vitg.pt`, or its predictor alone.

The file comes without a config: sizes are read off the tensors. What no tensor
shows is taken from the release: 64 channels a head, 256 pixels, windows of 8
frames. It holds the frozen encoder twice, as every V-JEPA does; actions and
states are in metres, radians and the gripper's 0..1.

Source: V-JEPA 2, arXiv 2506.09985, and its released code (vjepa2 at c2963a4).
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jepa_wm import files
from jepa_wm.data import torch_files
from jepa_wm.interop import layouts, masked_layouts, state_dicts, vjepa
from jepa_wm.models import jepa, masked, vjepa2_ac
from jepa_wm.networks import robot, tokens, video_vit
from jepa_wm.types import Params, Variables

NAME = 'V-JEPA 2-AC'
"""What messages call this source."""

_CHANNELS_PER_HEAD = 64

# Always in the state dict, never used: an embedding of camera poses.
_IGNORED = ('extrinsics_encoder.weight', 'extrinsics_encoder.bias')


def matches_tensors(tensors: Mapping[str, np.ndarray]) -> bool:
  """Whether a state dict without a config is of this source."""
  return 'predictor.action_encoder.weight' in tensors


def matches(config: Mapping[str, Any]) -> bool:
  """False: the release has no `config.json`."""
  del config
  return False


def load(
  published: state_dicts.Published,
) -> tuple[jepa.Jepa, Variables, dict[str, Any]]:
  """The released V-JEPA 2-AC as our model and its variables.

  Args:
    published: without a config, names beginning with 'predictor.' and that of
      an encoder. Its training took 'target_encoder', torch.hub takes 'encoder'.

  Returns:
    The model, its variables (float32), and what a record should say.

  Raises:
    ValueError: no such encoder there, or weights that fit no such model; the
      message names the first tensor that differs, both shapes and how many
      others differ.
  """
  _, tensors, _, encoder, where = published
  part = _choose(encoder, tensors, where)
  try:
    settings, features = _settings(tensors, part, where)
  except KeyError as error:
    raise ValueError(
      f'{where}: no tensor {error}, which a V-JEPA 2-AC has; take the released '
      'file as it is.'
    ) from error
  video: Any = settings.encoder.encoder
  if features != video.width:
    width = len(tensors['predictor.predictor_embed.weight'])
    raise ValueError(
      f"{where}: the tensor 'predictor.predictor_embed.weight' is "
      f'{[width, features]}, expected {[width, video.width]} by the width of '
      f'{part!r}; take encoder and predictor of one model.'
    )
  frozen = masked_layouts.load_encoder(video, tensors, part=part, where=where)
  held = {k: x for k, x in tensors.items() if k.startswith('predictor.')}
  model = settings.build()
  shapes = jax.eval_shape(model.init, jax.random.key(0))['params']
  layout = _layout('predictor.')
  layout.check(held, {'params': shapes['predictor']['core']}, where=where)
  predictor = layout.to_variables(held)['params']
  variables = {
    'params': {
      'encoder': {'encoder': frozen['params']},
      'predictor': {'core': _as_floats(predictor)},
    },
    'batch_stats': {},
  }
  record = {
    'source': NAME,
    'key_layout': 'facebook',
    'parts': [part, 'predictor'],
    'action_statistics': 'none: metres, radians and gripper, as released',
  }
  return model, variables, record


def to_source(
  model: jepa.Jepa, variables: Variables, *, part: str = 'encoder'
) -> dict[str, np.ndarray]:
  """A V-JEPA 2-AC as a state dict, its encoder under the name `part`.

  Args:
    model: with a V-JEPA for a frozen encoder, and states.
    variables: as `for_inference` gives them.
    part: one of `masked.ENCODERS`.

  Raises:
    ValueError: the frozen encoder is no V-JEPA, or the model has no states.
  """
  video = model.config.encoder.encoder
  if video.name != video_vit.VideoViTConfig.name or not model.state_dim:
    raise ValueError(
      'The published model has a V-JEPA for a frozen encoder and states of '
      f'size 7, got {video.name!r} and state_dim={model.state_dim}.'
    )
  params = variables['params']
  predictor = to_tensors({'params': params['predictor']['core']})
  encoder = {'params': params['encoder']['encoder']}
  return {
    **masked_layouts.encoder_to_source(video, encoder, part=part),
    **{f'predictor.{name}': x for name, x in predictor.items()},
  }


def _settings(
  tensors: Mapping[str, np.ndarray], part: str, where: str
) -> tuple[vjepa2_ac.VJEPA2AC, int]:
  """The settings that the tensors are of, and the features of their tokens."""
  encoder = {
    name: x
    for name, x in tensors.items()
    # A table may linger; rotary positions have no use for it.
    if name.startswith(f'{part}.') and not name.endswith('.pos_embed')
  }
  width, features = tensors['predictor.predictor_embed.weight'].shape
  settings = vjepa2_ac.VJEPA2AC(
    encoder=tokens.TokensConfig(
      encoder=vjepa.settings_of(encoder, where=where).encoder,
      norm='token',
      proprio_dim=tensors['predictor.state_encoder.weight'].shape[1],
    ),
    action_dim=tensors['predictor.action_encoder.weight'].shape[1],
    predictor=robot.BlockCausalConfig(
      width=width,
      num_heads=max(1, width // _CHANNELS_PER_HEAD),
      depth=vjepa.depth_of(tensors, 'predictor.predictor_blocks.'),
      mlp_dim=len(tensors['predictor.predictor_blocks.0.mlp.fc1.weight']),
    ),
  )
  return settings, features


def _choose(
  encoder: str | None, tensors: Mapping[str, np.ndarray], where: str
) -> str:
  """The encoder that is asked for, or the first that is there."""
  there = [
    part
    for part in masked.ENCODERS
    if f'{part}.patch_embed.proj.weight' in tensors
  ]
  if encoder is None and there:
    return there[0]
  if encoder not in there:
    asked = f'no {encoder!r}' if encoder else 'no encoder'
    known = ', '.join(masked.ENCODERS)
    raise ValueError(
      f'{where}: holds {asked}, expected one of {known} beside '
      f'the predictor, there is {", ".join(there) or "none"}; '
      'interop.read_vjepa2_ac reads a predictor alone.'
    )
  return encoder


def read_vjepa2_ac(path: str | os.PathLike[str], variables: Params) -> Params:
  """Reads the predictor of V-JEPA 2-AC; nothing in the file is executed.

  Args:
    path: the released `.pt`, whose `predictor` is taken, or a file that holds
      the predictor's tensors alone.
    variables: of `networks.block_causal.TokenPredictor`, or their shapes; what
      the file must hold.

  Returns:
    The predictor's variables, float32.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another model; the message names the first tensor that differs,
      both shapes and how many others differ.
  """
  path = files.expand(path)
  if path.suffix == '.safetensors':
    tensors = state_dicts.read(path)
  else:
    held = torch_files.read(path)
    tensors = held.get('predictor', held) if isinstance(held, dict) else held
    if not isinstance(tensors, dict):
      raise ValueError(
        f'{path}: expected a dict of tensors or of modules, got a '
        f'{type(tensors).__name__}.'
      )
  tensors, _ = state_dicts.unwrapped(tensors)
  _LAYOUT.check(tensors, {'params': variables['params']}, where=str(path))
  return to_variables(tensors)


def to_variables(tensors: Mapping[str, np.ndarray]) -> Params:
  """Published tensors as variables of `networks.block_causal.TokenPredictor`.

  Raises:
    ValueError: a tensor that the predictor does not have.
  """
  return {'params': _as_floats(_LAYOUT.to_variables(tensors)['params'])}


def to_tensors(variables: Params) -> dict[str, np.ndarray]:
  """Inverts `to_variables`; the camera's embedding, not used, is zero.

  Args:
    variables: of a `networks.block_causal.TokenPredictor` with actions and
      states.

  Raises:
    ValueError: variables of another network.
  """
  params = jax.tree.map(np.asarray, variables['params'])
  width = len(params['norm']['scale'])
  extrinsics = (np.zeros((width, 6), 'f4'), np.zeros(width, 'f4'))
  return {
    **_LAYOUT.to_tensors({'params': params}),
    **dict(zip(_IGNORED, extrinsics)),
  }


def write_vjepa2_ac(path: str | os.PathLike[str], variables: Params) -> None:
  """Writes the predictor as a safetensors file for users of PyTorch.

  Args:
    path: of the file.
    variables: see `to_tensors`. Those of a whole model are written so:
      `state_dicts.write_safetensors(path, to_source(model, variables))`.

  Raises:
    ValueError: variables of another network.
  """
  state_dicts.write_safetensors(path, to_tensors(variables))


def _as_floats(params: Params) -> Params:
  # A copy: the tensors may be views of a file.
  return jax.tree.map(lambda x: np.array(x, np.float32), params)


def _layout(prefix: str = '') -> layouts.Layout:
  """The table of the predictor's names, which begin with `prefix`."""
  theirs, ours = f'{prefix}predictor_blocks.{{}}', 'block_{}'
  attention = [f'{ours}/attention/{x}' for x in ('query', 'key', 'value')]
  return layouts.Layout(
    [
      *layouts.linear(f'{prefix}predictor_embed', 'input'),
      *layouts.linear(f'{prefix}action_encoder', 'condition_0'),
      *layouts.linear(f'{prefix}state_encoder', 'condition_1'),
      *layouts.norm(f'{theirs}.norm1', f'{ours}/attention_norm'),
      *layouts.stacked_linear(f'{theirs}.attn.qkv', attention, bias=True),
      *layouts.linear(f'{theirs}.attn.proj', f'{ours}/attention/out'),
      *layouts.norm(f'{theirs}.norm2', f'{ours}/mlp_norm'),
      *layouts.linear(f'{theirs}.mlp.fc1', f'{ours}/mlp/hidden'),
      *layouts.linear(f'{theirs}.mlp.fc2', f'{ours}/mlp/out'),
      *layouts.norm(f'{prefix}predictor_norm', 'norm'),
      *layouts.linear(f'{prefix}predictor_proj', 'output'),
    ],
    ignored=[f'{prefix}{name}' for name in _IGNORED],
  )


_LAYOUT = _layout()
