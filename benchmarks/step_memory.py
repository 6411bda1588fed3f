"""What a training step holds on each device, by how it is spared.

  JAX_PLATFORMS=cpu python -m benchmarks.step_memory --devices=16

Counted on the traced program; nothing is compiled and nothing computed. The
state is parameters, moments and the moving average. What is kept is what the
backward pass asks of the forward pass, for every sample, by what blocks keep
(`--config.remat`): before a compiler has merged anything, so an upper bound.
With `--config.accumulate=K` it is that of a chunk, and besides what all samples
give to the loss.
"""

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from jax.sharding import AbstractMesh, AxisType

from experiments.configs import vjepa as vjepa_config
from jepa_wm import models, sharding
from jepa_wm.models import lewm
from jepa_wm.networks import remat
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib

_DEVICES = flags.DEFINE_integer(
  'devices', 16, 'Over how many a state is split.'
)
_MODELS = flags.DEFINE_list(
  'models', ['lewm', 'vjepa_large', 'vjepa_giant'], 'Which models.'
)


def _model(name: str) -> Any:
  """A model of published size by its name here."""
  if name == 'lewm':
    return lewm.LeWM(dtype='bfloat16').build()
  config = vjepa_config.get_config('vjepa2').model.to_dict()
  config['encoder'] |= {'size': name.removeprefix('vjepa_')}
  return models.from_config(config)


def _batch(model: Any, size: int) -> dict[str, Any]:
  """A batch of shapes."""
  spec = model.observation_spec['pixels']
  frames = model.num_frames
  pixels = jax.ShapeDtypeStruct((size, frames, *spec.shape), spec.dtype)
  batch = {'observation': {'pixels': pixels}}
  if model.acting is not None:
    shape = size, frames - 1, model.acting.action_spec.size
    batch['action'] = jax.ShapeDtypeStruct(shape, np.float32)
  drawn = model.draw(np.random.default_rng(0), 8)
  cut = lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
  return {**batch, **jax.tree.map(cut, drawn)}


def _state_bytes(model: Any, how: str) -> int:
  """Bytes of a state on one device."""
  mesh = AbstractMesh((_DEVICES.value,), ('data',), axis_types=(AxisType.Auto,))
  optimizer = optimizers.AdamW(num_steps=1000).transformation()
  state = state_lib.describe(model, optimizer)
  leaves = jax.tree.leaves(state)
  if how == 'replicated':
    return sum(_nbytes(x.shape, x.dtype) for x in leaves)
  layouts = jax.tree.leaves(sharding.layout(state, mesh))
  return sum(
    _nbytes(where.shard_shape(x.shape), x.dtype)
    for x, where in zip(leaves, layouts)
  )


def _nbytes(shape: Sequence[int], dtype: Any) -> int:
  size = 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else None
  return int(np.prod(shape)) * (size or np.dtype(dtype).itemsize)


def _kept_bytes(model: Any, variables: Any, size: int, policy: str) -> int:
  """Bytes that the backward pass of a batch asks for."""

  def backward(variables: Any, batch: Any) -> Any:
    def loss_fn(params: Any) -> jax.Array:
      own = {**variables, 'params': params}
      return model.losses(own, batch, jax.random.key(0)).loss

    with remat.applied(policy):
      return jax.vjp(loss_fn, variables['params'])[1]

  found = jax.eval_shape(backward, variables, _batch(model, size))
  return sum(_nbytes(x.shape, x.dtype) for x in jax.tree.leaves(found))


def main(argv: Sequence[str]) -> None:
  """Prints a line for each model."""
  del argv
  for name in _MODELS.value:
    model = _model(name)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    # Two sizes: what does not grow with the batch are the parameters.
    kept = {
      policy: _kept_bytes(model, variables, 4, policy)
      - _kept_bytes(model, variables, 2, policy)
      for policy in remat.POLICIES
    }
    given = jax.eval_shape(
      model.parts().look, variables, _batch(model, 1), jax.random.key(0)
    )
    given = [_nbytes(x.shape, x.dtype) for x in jax.tree.leaves(given)]
    params = jax.tree.leaves(variables['params'])
    record = {
      'model': name,
      'num_parameters': sum(x.size for x in params),
      'devices': _DEVICES.value,
      'state_gib': {
        how: round(_state_bytes(model, how) / 2**30, 3)
        for how in sharding.LAYOUTS
      },
      'kept_mib_a_sample': {
        policy: round(x / 2 / 2**20, 1) for policy, x in kept.items()
      },
      'given_mib_a_sample': round(sum(given) / 2**20, 3),
    }
    print(json.dumps(record), flush=True)


if __name__ == '__main__':
  app.run(main)
