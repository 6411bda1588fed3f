"""Clips a second of a LeWM training step, beside stable-worldmodel.

  python -m benchmarks.train_throughput [--quick] [--peer] [--dtype=bfloat16]
    [--batch_size=16] [--image_size=64] [--attention=auto]

Prints one JSON line. A step is the published recipe at full size: clips of 4
frames at 224 px, prediction and SIGReg, dropout, gradient clipping and AdamW,
from uint8 frames in host memory to new parameters, on all devices there are (of
a CPU: its cores). At 64 px, as many worlds are rendered, patches are 8 pixels
wide in place of 14. `value` is clips a second at the median step; the default
batch is 16 on a CPU and 128 elsewhere. `config` holds the work of the matrix
products of a step and the share of the rate that large products reach here.

`--peer` trains stable-worldmodel's LeWM in turns with us, on the CPU in
float32: same weights, frames (its already normalised), losses and optimiser.
Before anything is timed, without dropout and SIGReg (whose directions are
drawn), one batch must give both the same loss and gradient norm, to 1e-3.
"""

import dataclasses
import json
import os
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import products, records
from jepa_wm import sharding, units
from jepa_wm.models import lewm
from jepa_wm.networks import attention_kernels, vit
from jepa_wm.objectives import prediction, sigreg
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

_QUICK = flags.DEFINE_bool('quick', False, 'One step of two clips.')
_PEER = flags.DEFINE_bool('peer', False, 'Also measure stable-worldmodel.')
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'Ours.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', None, 'Clips.', lower_bound=2)
_ATTENTION = flags.DEFINE_enum(
  'attention', 'plain', attention_kernels.KERNELS, 'How tokens are mixed.'
)

_IMAGE_SIZE = flags.DEFINE_enum('image_size', '224', ['224', '64'], 'Pixels.')

_OPTIMIZER = optimizers.AdamW(num_steps=1000)


def _config(**fields: Any) -> lewm.LeWM:
  """LeWM at the size that was asked for."""
  side = int(_IMAGE_SIZE.value)
  encoder = vit.ViTConfig(image_size=side, patch_size=14 if side == 224 else 8)
  return lewm.LeWM(encoder=encoder, **fields)


def _draw_batch(size: int) -> dict[str, np.ndarray]:
  """Frames and normalised action blocks of `size` clips."""
  rng = np.random.default_rng(0)
  side = int(_IMAGE_SIZE.value)
  return {
    'observation': {
      'pixels': rng.integers(0, 256, (size, 4, side, side, 3), np.uint8)
    },
    'action': rng.standard_normal((size, 3, 10), np.float32),
  }


class _Ours:
  """A run that takes one step after another."""

  def __init__(self, config: lewm.LeWM):
    self._mesh = sharding.make_mesh()
    statistics = units.ActionStatistics(jnp.zeros(2), jnp.ones(2))
    optimizer, model = _OPTIMIZER.transformation(), config.build()
    self._step = step_lib.make_train_step(
      model,
      optimizer,
      self._mesh,
      action_statistics=statistics,
      schedule_fn=_OPTIMIZER.metrics,
    )
    self._state = state_lib.create(
      model,
      optimizer,
      jax.random.key(0),
      sharding=sharding.replicated(self._mesh),
    )

  def variables(self) -> Any:
    """A copy that outlives the next step."""
    return jax.device_get(self._state.variables)

  def step(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """One update."""
    batch = sharding.shard_batch(batch, self._mesh)
    with attention_kernels.use(_ATTENTION.value):
      self._state, metrics = self._step(self._state, batch)
    jax.block_until_ready(self._state)
    return jax.device_get(metrics)


class _Peer:
  """stable-worldmodel's LeWM with our weights and its own training losses."""

  def __init__(
    self,
    variables: Any,
    config: lewm.LeWM,
    *,
    dropout: float,
    sigreg_weight: float,
  ):
    from benchmarks import peer

    self._torch = torch = peer.torch
    torch.set_num_threads(os.cpu_count() or 1)
    self._model = peer.lewm(variables, config=config, dropout=dropout).train()
    self._sigreg = peer.SIGReg(knots=17, num_proj=1024)
    self._sigreg_weight = sigreg_weight
    self._optimizer = torch.optim.AdamW(
      self._model.parameters(), lr=5e-5, weight_decay=1e-3
    )

  def step(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """One update, as the peer's training script has it."""
    torch = self._torch
    emb = self._model.encode(
      {
        'pixels': torch.from_numpy(batch['observation']['pixels']),
        'action': torch.from_numpy(batch['action']),
      }
    )
    predicted = self._model.predict(emb['emb'][:, :3], emb['act_emb'])
    prediction_loss = (predicted - emb['emb'][:, 1:]).square().mean()
    loss = prediction_loss
    if self._sigreg_weight:
      statistic = self._sigreg(emb['emb'].transpose(0, 1))
      loss = loss + self._sigreg_weight * statistic
    self._optimizer.zero_grad()
    loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
    self._optimizer.step()
    return {'loss': loss.item(), 'grad_norm': grad_norm.item()}


def _for_peer(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  pixels = units.normalize_pixels(batch['observation']['pixels'])
  pixels = np.ascontiguousarray(np.moveaxis(np.asarray(pixels), -1, -3))
  return {**batch, 'observation': {'pixels': pixels}}


def _check_same() -> None:
  """Asserts that both learn the same from the same batch."""
  predictor = dataclasses.replace(lewm.LeWM().predictor, dropout=0.0)
  config = _config(predictor=predictor, terms=(prediction.NextLatent(),))
  batch = _draw_batch(2 * jax.device_count())
  with jax.default_matmul_precision('highest'):
    ours = _Ours(config)
    peer = _Peer(ours.variables(), config, dropout=0.0, sigreg_weight=0.0)
    mine = ours.step(batch)
  for name, value in peer.step(_for_peer(batch)).items():
    np.testing.assert_allclose(mine[name], value, 1e-3, err_msg=name)


def _tflop(config: Any, batch_size: int) -> float:
  """Matrix products of one step, forward and twice backward, in TFLOP."""
  width, mlp, patch = 192, 768, config.encoder.patch_size
  num_tokens = (config.encoder.image_size // patch) ** 2 + 1
  block = 4 * width**2 + 2 * width * mlp + 2 * num_tokens * width
  image = 11 * num_tokens * block + (num_tokens - 1) * patch**2 * 3 * width
  # Of the last block the class token alone is wanted, which sees all.
  keys = num_tokens * 2 * width**2
  image += keys + 2 * width**2 + 2 * width * mlp + 2 * num_tokens * width
  predictor = config.predictor
  inner = predictor.num_heads * predictor.head_dim
  token = 4 * width * inner + 2 * width * predictor.mlp_dim
  token += 6 * width**2 + 2 * predictor.history * inner
  projector = config.projector.hidden_dim * (width + config.latent_dim)
  predicted = predictor.depth * token + projector
  clip = 4 * (image + projector) + predictor.history * predicted
  tested = 4 * sigreg.SIGReg().num_projections * config.latent_dim
  return 3 * 2e-12 * batch_size * (clip + tested)


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  on_cpu = jax.default_backend() == 'cpu'
  batch_size = _BATCH_SIZE.value or (16 if on_cpu else 128)
  if _QUICK.value:
    batch_size = 2 * jax.device_count()
  config = _config(dtype=_DTYPE.value)
  ours = _Ours(config)
  batch = _draw_batch(batch_size)
  runs = [lambda: ours.step(batch)]
  if _PEER.value:
    try:
      _check_same()
    except ImportError as error:
      raise ValueError(
        f'--peer: {error}; docs/benchmarks.md says how to install it.'
      ) from error
    peer = _Peer(ours.variables(), config, dropout=0.1, sigreg_weight=0.09)
    theirs = _for_peer(batch)
    runs.append(lambda: peer.step(theirs))
  peak = products.gflops(_DTYPE.value)
  # The first steps still look for memory that later ones find.
  for _ in range(1 if _QUICK.value else 3):
    for run in runs:
      run()
  repeats = 1 if _QUICK.value else 5 if on_cpu else 30
  times: list[list[float]] = [[] for _ in runs]
  for _ in range(repeats):
    for run, taken in zip(runs, times):
      start = time.perf_counter()
      run()
      taken.append(time.perf_counter() - start)
  rates = [batch_size / statistics.median(taken) for taken in times]
  peer_rate = rates[1] if _PEER.value else None
  tflop = _tflop(config, batch_size)
  line = records.line(
    'train_throughput/lewm',
    round(rates[0], 3),
    'clips/s',
    {
      'batch_size': batch_size,
      'num_frames': 4,
      'image_size': config.encoder.image_size,
      'dtype': _DTYPE.value,
      'attention': _ATTENTION.value,
      'seconds': round(batch_size / rates[0], 3),
      'num_devices': jax.device_count(),
      'tflop': round(tflop, 3),
      'peak_gflops': round(peak),
      'share_of_peak': round(1e3 * tflop * rates[0] / batch_size / peak, 3),
    },
    peer=peer_rate and round(peer_rate, 3),
    ratio=peer_rate and round(rates[0] / peer_rate, 2),
  )
  print(json.dumps(line), flush=True)


if __name__ == '__main__':
  records.run(main)
