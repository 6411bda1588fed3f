"""The smallest model and data source that a training run accepts."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import units
from jepa_wm.models import acting
from jepa_wm.types import ActionSpec

STATISTICS = units.ActionStatistics(
  mean=np.array([0.5, -1.0], np.float32), std=np.array([2.0, 0.25], np.float32)
)


class Losses(NamedTuple):
  """What a batch costs."""

  loss: Any
  metrics: Any
  batch_stats: Any


@dataclasses.dataclass(frozen=True)
class ToyModel:
  """A linear encoder and a linear predictor, with noise and statistics."""

  name: ClassVar[str] = 'toy'
  image_size, latent_dim = 4, 3
  action_dim = action_block = 2
  history: int = 2
  target: str = 'shared'
  noise: float = 0.1

  def init(self, rng_key):
    encoder_key, predictor_key = jax.random.split(rng_key)
    size, latent_dim = self.image_size**2 * 3, self.latent_dim
    num_inputs = latent_dim + self.action_dim * self.action_block
    draw = jax.random.normal
    variables = {
      'params': {
        'encoder': {'kernel': draw(encoder_key, (size, latent_dim)) / 4},
        'predictor': {
          'kernel': draw(predictor_key, (num_inputs, latent_dim)) / 3
        },
      },
      'batch_stats': {'mean': jnp.zeros(latent_dim)},
    }
    if self.target == 'ema':
      encoder = variables['params']['encoder']
      variables['target'] = jax.tree.map(jnp.copy, encoder)
    return variables

  def after_update(self, variables, step):
    del step
    if self.target == 'shared':
      return variables
    target = jax.tree.map(
      lambda old, new: 0.9 * old + 0.1 * new,
      variables['target'],
      variables['params']['encoder'],
    )
    return {**variables, 'target': target}

  def for_inference(self, variables):
    return variables

  @property
  def acting(self):
    return self

  @property
  def config(self):
    return self

  @property
  def observation_spec(self):
    shape = (self.image_size, self.image_size, 3)
    return {'pixels': jax.ShapeDtypeStruct(shape, jnp.uint8)}

  @property
  def action_spec(self):
    return ActionSpec(self.action_dim, self.action_block)

  def evaluate(self, variables, batch):
    return acting.prediction_errors(self, variables, batch)

  def encode(self, variables, observation):
    pixels = observation['pixels']
    return self._encode(variables['params']['encoder'], pixels)

  def _encode(self, encoder, pixels):
    flat = pixels.astype(jnp.float32) / 255.0 - 0.5
    return flat.reshape(*pixels.shape[:-3], -1) @ encoder['kernel']

  def predict(self, variables, latents, actions):
    kernel = variables['params']['predictor']['kernel']
    return latents + jnp.concatenate([latents, actions], axis=-1) @ kernel

  def start(self, variables, latents, actions, *, grows=False):
    return latents[..., -1, :]

  def advance(self, variables, state, action):
    return self.predict(variables, state, action)

  def absorb(self, variables, state, action, latent):
    return latent

  def read(self, state):
    return state

  def losses(self, variables, batch, rng_key):
    latents = self.encode(variables, batch['observation'])
    targets = latents
    if self.target == 'ema':
      targets = self._encode(
        variables['target'], batch['observation']['pixels']
      )
    noise = self.noise * jax.random.normal(rng_key, latents[:, :-1].shape)
    predicted = self.predict(
      variables, latents[:, :-1] + noise, batch['action']
    )
    prediction = jnp.mean(jnp.square(predicted - targets[:, 1:]))
    mean = jnp.mean(latents, axis=(0, 1))
    spread = jnp.std(latents, axis=(0, 1))
    variance = jnp.mean(jnp.square(1.0 - spread))
    old = variables['batch_stats']['mean']
    batch_stats = {'mean': 0.9 * old + 0.1 * mean}
    metrics = {'prediction_loss': prediction, 'variance_loss': variance}
    return Losses(prediction + variance, metrics, batch_stats)


class ToyBatches:
  """Batch number i is a function of i, so its position is one number."""

  def __init__(self, *, batch_size=8, num_frames=3, on_batch=None):
    self._batch_size, self._num_frames = batch_size, num_frames
    self._on_batch = on_batch
    self.position = 0

  def __next__(self):
    rng = np.random.default_rng(self.position)
    self.position += 1
    batch = {
      'observation': {
        'pixels': rng.integers(
          0, 256, (self._batch_size, self._num_frames, 4, 4, 3), np.uint8
        )
      },
      'action': rng.normal(
        size=(self._batch_size, self._num_frames - 1, 4)
      ).astype(np.float32),
    }
    if self._on_batch is not None:
      self._on_batch(self.position, batch)
    return batch

  def get_state(self):
    return {'position': self.position}

  def set_state(self, state):
    self.position = state['position']
