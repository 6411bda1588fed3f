"""V-JEPA's encoder and a predictor of long memory, over a stream of clips.

  python -m benchmarks.clip_stream --checkpoint=runs/vjepa [--quick]
    [--frames=5000] [--predictor=hybrid] [--picture=clip_stream.png]

The encoder of a run of `experiments/configs/vjepa.py:digits_small` makes a
latent of every clip of four frames of moving digits; a predictor learns on
latents of short streams what comes next (LeWM's loss, frozen latents, no
actions). Then it follows held-out streams many times as long, clip by clip.
Prints one JSON line a measurement: errors of the diagnostic `streaming`, how
far following clip by clip is from chunks of many clips at once, milliseconds a
frame, bytes of the state and of the process at the start and at the end.
"""

import json
import pathlib
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import jepa_wm
from benchmarks import records
from jepa_wm import files, models, sharding, units
from jepa_wm.data import digits
from jepa_wm.evaluation.diagnostics import diagnostic, streaming
from jepa_wm.training import optimizers
from jepa_wm.training import run as run_lib

_QUICK = flags.DEFINE_bool('quick', False, 'Few steps, a smoke test.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', '', 'A V-JEPA of digits.')
_FRAMES = flags.DEFINE_integer('frames', 5000, 'Frames of a held-out stream.')
_PREDICTOR = flags.DEFINE_string('predictor', 'hybrid', 'Which predictor.')
_PICTURE = flags.DEFINE_string('picture', '', 'Where a PNG of errors goes.')

_CLIPS = 64  # Of a stream in training.
_STREAMS, _HELD_OUT = 256, 8
_AT_ONCE = 25  # Clips.


def _latents(
  encoder: jepa_wm.WorldModel, split: str, num_streams: int, num_clips: int
) -> tuple[np.ndarray, float]:
  """Latents `[N, T, D]` of streams, and milliseconds a frame of encoding."""
  length = encoder.model.clip_length
  look = digits.MovingDigits(
    image_size=encoder.image_size, background='texture'
  )
  batches = digits.moving_digits(
    look, num_frames=num_clips * length, batch_size=1, seed=0, split=split
  )
  encode = jax.jit(encoder.encode)
  found, seconds = [], 0.0
  for _ in range(num_streams):
    pixels = np.asarray(next(batches)['observation']['pixels'][0])
    clips = pixels.reshape(num_clips, length, *pixels.shape[1:])
    short = -num_clips % _AT_ONCE
    clips = np.concatenate([clips, clips[:short]])
    start = time.perf_counter()
    parts = [
      np.asarray(encode(encoder.params, {'pixels': part}))
      for part in np.split(clips, len(clips) // _AT_ONCE)
    ]
    seconds += time.perf_counter() - start
    found.append(np.concatenate(parts)[:num_clips])
  return np.stack(found), 1e3 * seconds / (num_streams * num_clips * length)


def _predictor(seen: np.ndarray) -> tuple[Any, Any]:
  """A model of latents as they are, but for their units, and its 'frozen'."""
  size = seen.shape[-1]
  encoder = {'name': 'state', 'key': 'clip', 'dim': size, 'features': size}
  sizes = {'history': _CLIPS - 1, 'width': 96, 'depth': 4, 'mlp_dim': 192}
  model = models.from_config(
    {
      'name': 'lewm',
      'latent_dim': size,
      'action_dim': 1,
      'action_block': 1,
      'encoder': {**encoder, 'num_hidden': 0},
      'projector': {'name': 'linear'},
      'actions': {'features': 8},
      'predictor': {'name': _PREDICTOR.value, 'dropout': 0.0, **sizes},
      'predicts': 'change',
      'terms': {'prediction': {}},
      'target': {'name': 'frozen'},
    }
  )
  frozen = jax.jit(lambda key: model.init(key)['frozen'])(jax.random.key(0))
  rows = seen.reshape(-1, size)
  scale = 1 / rows.std(axis=0)
  maps = {
    'encoder': (np.diag(scale), -rows.mean(axis=0) * scale),
    'projector': (np.eye(size), np.zeros(size)),
  }
  for name, (kernel, bias) in maps.items():
    out = frozen['params'][name]['out']
    out |= {'kernel': jnp.float32(kernel), 'bias': jnp.float32(bias)}
  return model, frozen


class _Batches:
  """Endless windows of latents; its position is the number of the batch."""

  def __init__(self, seen: np.ndarray):
    self._seen, self._number = seen, 0

  def __next__(self) -> dict[str, Any]:
    rng = np.random.default_rng(self._number)
    self._number += 1
    rows = rng.integers(len(self._seen), size=16)
    return _batch(self._seen[rows])

  def get_state(self) -> int:
    """See `run.BatchIterator`."""
    return self._number

  def set_state(self, state: int) -> None:
    """See `run.BatchIterator`."""
    self._number = state


def _batch(seen: np.ndarray) -> dict[str, Any]:
  action = np.zeros((*seen.shape[:1], seen.shape[1] - 1, 1), np.float32)
  return {'observation': {'clip': seen}, 'action': action}


def _trained(seen: np.ndarray, num_steps: int) -> jepa_wm.WorldModel:
  """A predictor on these latents."""
  model, frozen = _predictor(seen)
  optimizer = optimizers.AdamW(num_steps=num_steps, learning_rate=1e-3)
  run = run_lib.Run(
    model,
    optimizer.transformation(),
    _Batches(seen),
    num_steps=num_steps,
    start={'frozen': frozen},
  )
  for _ in run.steps():
    pass
  params = model.for_inference(run.state.variables)
  still = units.ActionStatistics(
    np.zeros(1, np.float32), np.ones(1, np.float32)
  )
  return jepa_wm.WorldModel(model, params, still)


def _in_chunks(model: jepa_wm.WorldModel, seen: np.ndarray) -> float:
  """Most that chunks of many clips at once and single clips are apart.

  Of what the model expects after `seen` `[N, T, D]`, in standard deviations.
  """
  latents = model.encode(model.params, {'clip': seen})
  actions = jnp.zeros((*latents.shape[:-1], 1))
  networks = model.model.networks

  def see(networks: Any, latents: Any, actions: Any, memories: Any) -> Any:
    conditions = networks.action_encoder(actions)
    outputs, memories = networks.predictor.see(latents, conditions, memories)
    return latents + networks.prediction_projector(outputs), memories

  follow = jax.jit(
    lambda *args: networks.apply(model.params, *args, method=see)
  )
  most = []
  for number in (1, 50):
    memories, parts = None, []
    for first in range(0, latents.shape[1] - number + 1, number):
      part = np.s_[:, first : first + number]
      expected, memories = follow(latents[part], actions[part], memories)
      parts.append(np.asarray(expected))
    most.append(np.concatenate(parts, axis=1))
  alone, chunks = most
  return float(np.abs(alone[:, : chunks.shape[1]] - chunks).max())


def _print(name: str, value: float, unit: str, **config: Any) -> None:
  line = records.line(f'clip_stream/{name}', value, unit, config)
  print(json.dumps(line), flush=True)


def _resident() -> float:
  """Most memory that the process has had, in MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _follow(model: jepa_wm.WorldModel, seen: np.ndarray) -> None:
  """Follows one stream clip by clip, as a program that lives on does."""
  latents = model.encode(model.params, {'clip': seen})
  still = jnp.zeros((1, 1))
  absorb = jax.jit(model.absorb)
  state = model.start_from(model.params, latents[None, :1])
  num_bytes = lambda: sum(x.nbytes for x in jax.tree.leaves(state))
  state = absorb(model.params, state, still, latents[None, 1])
  before, resident = num_bytes(), _resident()
  start = time.perf_counter()
  for latent in latents[2:]:
    state = absorb(model.params, state, still, latent[None])
  jax.block_until_ready(state)
  taken = 1e3 * (time.perf_counter() - start) / (len(latents) - 2)
  _print('absorb', round(taken, 3), 'ms a clip', num_clips=len(latents))
  for name, values in (
    ('state', (before, num_bytes())),
    ('process', (round(resident, 1), round(_resident(), 1))),
  ):
    unit = 'bytes' if name == 'state' else 'MiB at most'
    for moment, value in zip(('first', 'last'), values):
      _print(f'{name}_{moment}', value, unit)


def main(argv: list[str]) -> None:
  """Trains, follows, prints and draws."""
  del argv
  sharding.use_every_core()
  if not _CHECKPOINT.value:
    raise ValueError(
      '--checkpoint: name a run of experiments/configs/vjepa.py:digits_small.'
    )
  encoder = jepa_wm.WorldModel.from_checkpoint(_CHECKPOINT.value)
  if encoder.model.clip_length is None:
    raise ValueError(
      f'--checkpoint={_CHECKPOINT.value} is of a model of frames; name one of '
      'clips (vjepa).'
    )
  num_clips = _FRAMES.value // encoder.model.clip_length
  streams = 8 if _QUICK.value else _STREAMS
  seen, _ = _latents(encoder, 'train', streams, _CLIPS)
  held_out, taken = _latents(encoder, 'held_out', _HELD_OUT, num_clips)
  _print('encode', round(taken, 3), 'ms a frame')
  model = _trained(seen, 20 if _QUICK.value else 600)
  windows = lambda split: [_batch(seen if split == 'train' else held_out)]
  question = diagnostic.Question(
    model, diagnostic.Episodes(windows), jax.random.key(0)
  )
  found = streaming.Streaming()(question)
  how = {
    'predictor': _PREDICTOR.value,
    'num_clips': num_clips,
    'num_streams': _HELD_OUT,
    'trained_on': _CLIPS,
  }
  for name, value in found.scalars.items():
    _print(name, value, 'bytes' if name == 'state_bytes' else 'share', **how)
  if _PREDICTOR.value == 'hybrid':
    apart = _in_chunks(model, held_out[:2])
    _print('chunks_apart', apart, 'standard deviations', chunk=50)
  _follow(model, held_out[0])
  if _PICTURE.value:
    picture = found.figures['streaming.png']
    files.write_whole(pathlib.Path(_PICTURE.value), picture)


if __name__ == '__main__':
  records.run(main)
