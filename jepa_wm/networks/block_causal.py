"""V-JEPA 2-AC's predictor, and the blocks of all that are causal by frame."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.networks import (
  attention,
  layers,
  modulated_frames,
  rotary,
  transformer,
  windows,
)

CONDITIONING = ('token', 'feature', 'adaln')
"""How a condition reaches the tokens of its frame.

  'token': it is one more of them, as published;
  'feature': it is concatenated to each of them, before the linear map that
    brings them to the width of the transformer;
  'adaln': it modulates them in every block.

Source: V-JEPA 2-AC, arXiv 2506.09985; the others JEPA-WMs, arXiv 2512.24497.
"""

Past = tuple[attention.KeysValues, ...]
"""Keys and values of the tokens of frames, one entry per block."""


class TokenPredictor(layers.Module):
  """Frames of tokens to the next ones, conditions as tokens before them.

  Every condition (the action, the state) is one more token of its frame, in
  front of the patches, or what `CONDITIONING` says. Positions are rotary:
  patches turn by frame, row and column, conditions by the frame alone.

  Source: V-JEPA 2-AC, arXiv 2506.09985, section 3.1, and its released code.

  Its fields are those of `robot.BlockCausalConfig`, and `grid`, the rows and
  columns of patches.
  """

  history: int
  grid: tuple[int, int]
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  rotary_style: str = 'vjepa2'
  conditioning: str = 'token'

  @property
  def head_dim(self) -> int:
    """Size of a head."""
    return self.width // self.num_heads

  @nn.compact
  def __call__(
    self,
    frames: jax.Array,
    conditions: Sequence[jax.Array],
    *,
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, Past]:
    """Predicts for every frame the one after it.

    Args:
      frames: `[..., T, P, D]`, row by row, `T` at most `history`.
      conditions: each `[..., T, C]`.
      look: of the newest frame, see `predictors.WindowPredictor`; nothing of
        its memory but the past is looked at.
      train: whether dropout is on; there is none here.

    Returns:
      `[..., T, P, D]`, with a `look` `[..., 1, P, D]`, and the past of these
      frames.

    Raises:
      ValueError: the window is longer than `history`, the conditions are not
        as many as the frames, or these are not of `grid`.
    """
    dtypes = self.dtypes
    check_window(frames, conditions, self.history)
    *_, num_frames, size, features = frames.shape
    rows, columns = self.grid
    if size != rows * columns:
      raise ValueError(
        f'frames must have {rows * columns} tokens (grid={self.grid}), got '
        f'shape {frames.shape}.'
      )
    num_conditions = len(conditions) if self.conditioning == 'token' else 0
    dense = layers.normal_dense
    given = [
      dense(self.width, x.shape[-1], name=f'condition_{index}', **dtypes)(
        jnp.expand_dims(x, -2).astype(self.dtype)
      )
      for index, x in enumerate(conditions)
    ]
    seen = dense(self.width, features, name='input', **dtypes)(
      frames.astype(self.dtype)
    )
    condition = None
    if self.conditioning == 'token':
      seen = jnp.concatenate([*given, seen], axis=-2)
    elif self.conditioning == 'feature':
      # A linear map of what is concatenated is the sum of one of each part.
      seen = functools.reduce(operator.add, given, seen)
    else:
      condition = functools.reduce(operator.add, given)[..., 0, :]
    first = count_past(look, num_conditions + size)
    tokens, past = run_blocks(
      self,
      seen,
      look,
      condition=condition,
      # Nobody asks for the conditions of the newest frame.
      num_last=size,
      epsilon=1e-6,
      qkv_bias=True,
      dense_fn=dense,
      rotation=rotary.rotation(
        _positions(range(first, first + num_frames), self.grid, num_conditions),
        head_dim=self.head_dim,
        style=self.rotary_style,
      ),
      train=train,
    )
    tokens = tokens[..., tokens.shape[-2] - size :, :]
    tokens = layers.layer_norm(1e-6, name='norm', **dtypes)(tokens)
    return dense(features, self.width, name='output', **dtypes)(tokens), past


def check_window(
  frames: jax.Array, conditions: Sequence[jax.Array], history: int
) -> None:
  """Checks a window of frames and what is given with them.

  Args:
    frames: `[..., T, P, D]`.
    conditions: each `[..., T, C]`.
    history: longest window.

  Raises:
    ValueError: they do not fit each other or `history`.
  """
  if frames.ndim < 3 or frames.shape[-3] > history:
    raise ValueError(
      f'frames must be [..., T, P, D] with T at most {history}, the history '
      f'that the predictor was built for, got shape {frames.shape}.'
    )
  for condition in conditions:
    if condition.shape[:-1] != frames.shape[:-2]:
      raise ValueError(
        'every condition must be as many as the frames, '
        f'{[*frames.shape[:-2], "C"]}, got shape {condition.shape}.'
      )


def count_past(look: windows.Look | None, size: int) -> int:
  """Frames of `size` tokens whose keys and values are remembered."""
  if look is None or look.memory.past is None:
    return 0
  number: int = look.memory.past[0].keys.shape[-2] // size
  return number


def run_blocks(
  predictor: Any,
  frames: jax.Array,
  look: windows.Look | None,
  *,
  num_last: int,
  causal: bool = True,
  condition: jax.Array | None = None,
  rotation: rotary.Rotation | None = None,
  train: bool,
  **fields: Any,
) -> tuple[jax.Array, Past]:
  """Runs `frames` `[..., T, S, W]` through the blocks of `predictor`.

  With a `look` (see `predictors.WindowPredictor`), the last block answers for
  the `num_last` last tokens of the newest frame alone, `[..., 1, num_last, W]`.
  Where it is not `causal`, frames see those after them, too. A `condition`
  `[..., T, W]` modulates the tokens of its frame.
  """
  *lead, num_frames, size, width = frames.shape
  tokens = frames.reshape(*lead, num_frames * size, width)
  mask, last_mask, asked = None, None, None
  past = None if look is None else look.memory.past
  # A single frame sees everything.
  if causal and num_frames > 1:
    frame = np.arange(num_frames).repeat(size)
    mask = last_mask = jnp.asarray(frame[:, None] >= frame)
  if look is not None:
    place = look.place if past is None else None
    asked = attention.Asked(num_last, place, size)
    if place is not None:
      last_mask = windows.seen(place, num_frames, size)
      mask = mask if causal else last_mask
    elif mask is not None:
      last_mask = mask[-num_last:]
  kind: Any = transformer.Block
  given: dict[str, Any] = {}
  if condition is not None:
    kind, given = modulated_frames.ModulatedFrames, {'condition': condition}
  remembered = []
  for index in range(predictor.depth):
    is_last = index == predictor.depth - 1
    tokens, keys_values = kind(
      num_heads=predictor.num_heads,
      head_dim=predictor.head_dim,
      mlp_dim=predictor.mlp_dim,
      name=f'block_{index}',
      dtype=predictor.dtype,
      param_dtype=predictor.param_dtype,
      **fields,
    )(
      tokens,
      past=None if past is None else past[index],
      asked=asked if is_last else None,
      rotation=rotation,
      mask=last_mask if is_last else mask,
      train=train,
      **given,
    )
    remembered.append(keys_values)
  shape = (num_frames, size) if look is None else (1, num_last)
  return tokens.reshape(*lead, *shape, width), tuple(remembered)


def _positions(
  frames: range, grid: tuple[int, int], num_conditions: int
) -> jax.Array:
  """Frame, row and column `[T, 3]` of all tokens, conditions at the corner."""
  rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
  place = np.stack([rows, columns], axis=-1)
  place = np.concatenate([np.zeros((num_conditions, 2), int), place])
  return jnp.asarray(
    np.concatenate([np.insert(place, 0, frame, axis=1) for frame in frames])
  )
