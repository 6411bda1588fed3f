"""Dynamics of one line: latents move by what the action says, times a gain."""

import dataclasses

import jax.numpy as jnp

from jepa_wm.types import ActionSpec


@dataclasses.dataclass(frozen=True)
class Adding:
  """Latents move by what the action says, times a gain."""

  gain: float = 1.0
  history: int = 2
  dim: int = 2

  @property
  def acting(self):
    return self

  @property
  def action_spec(self):
    return ActionSpec(self.dim, 1)

  def start(self, variables, latents, actions, *, grows=False):
    assert latents.shape[-2] <= self.history
    assert actions.shape[-2] == latents.shape[-2] - 1
    return latents[..., -1, :]

  def advance(self, variables, state, action):
    return state + self.gain * action

  def absorb(self, variables, state, action, latent):
    return latent

  def read(self, state):
    return state

  def distance(self, latents, goal):
    return jnp.sum(jnp.square(latents - goal), axis=-1)
