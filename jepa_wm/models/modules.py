"""The modules of a JEPA, put together: encode, predict, start, advance."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm.networks import decoder as decoder_lib
from jepa_wm.networks import mlp, projectors
from jepa_wm.objectives import dynamics, imitation, reconstruction, terms
from jepa_wm.types import ActionSpec, LatentState, ObservationSpec


class Networks(nn.Module):
  """The modules of a JEPA; those left out change nothing.

  Attributes:
    encoder: what `encoders.Encoder.inputs` gives to features `[..., F]` and
      intermediates.
    predictor: a `predictors.Predictor`.
    projector: features to latents `[..., D]`.
    action_encoder: action blocks `[..., A]` to conditions.
    embedding: features of what is frozen to latents `[..., D]`, where
      something is learnt on top.
    prediction_projector: what it gives, to latents `[..., D]`.
    inverse_dynamics: two successive latents to the action block between them,
      where a term asks for it.
    policy: a latent and a goal to the action block to be played, where a term
      asks for it.
    decoder: latents to pictures in 0..1, where a term asks for it.
    predicts_change: whether predictions are added to the latents they start
      from.
  """

  encoder: nn.Module
  predictor: Any
  projector: nn.Module | None = None
  embedding: nn.Module | None = None
  action_encoder: nn.Module | None = None
  prediction_projector: nn.Module | None = None
  inverse_dynamics: nn.Module | None = None
  policy: nn.Module | None = None
  decoder: nn.Module | None = None
  predicts_change: bool = False

  def encode(self, inputs: Any, *, train: bool = False) -> jax.Array:
    """Encodes `inputs`, leading dims `[...]`, to float32 `[..., D]`.

    Args:
      inputs: what the encoder takes.
      train: whether batch normalisation uses the statistics of this batch.
    """
    return self.latents(self.encoded(inputs, train=train), train=train)

  def latents(self, features: jax.Array, *, train: bool = False) -> jax.Array:
    """Latents, as of `encode`, of what `encoded` gives."""
    return self.embed(self.project(features, train=train))

  def features(self, inputs: Any, *, train: bool = False) -> jax.Array:
    """What encoder and projector make of `inputs`: float32 `[..., F]`."""
    return self.project(self.encoded(inputs, train=train), train=train)

  def encoded(self, inputs: Any, *, train: bool = False) -> jax.Array:
    """What the encoder alone makes of `inputs`: `[..., F]`."""
    features, _ = self.encoder(inputs, train=train)
    return features

  def project(self, features: jax.Array, *, train: bool = False) -> jax.Array:
    """Features of the encoder, projected: float32 `[..., F]`."""
    if self.projector is not None:
      features = self.projector(features, train=train)
    return features.astype(jnp.float32)

  def embed(self, features: jax.Array) -> jax.Array:
    """Latents `[..., D]` of features `[..., F]`."""
    if self.embedding is None:
      return features
    return self.embedding(features).astype(jnp.float32)

  def predict(
    self, latents: jax.Array, actions: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """Predicts, for every token of a window, the latent one step on.

    Args:
      latents: `[..., T, D]`, `T` at most the history of the predictor.
      actions: `[..., T, A]`, the normalised action block taken at each latent.
      train: whether dropout and batch statistics are on.

    Returns:
      float32 `[..., T, D]`.

    Raises:
      ValueError: the leading axes of the two differ.
    """
    if latents.shape[:-1] != actions.shape[:-1]:
      raise ValueError(
        'latents and actions must agree in all but the last axis, got '
        f'{latents.shape} and {actions.shape}.'
      )
    outputs, _ = self.predictor(latents, self._encoded(actions), train=train)
    return self._readout(latents, outputs, train=train)

  def infer_actions(self, latents: jax.Array) -> jax.Array | None:
    """The blocks `[..., T - 1, A]` between latents `[..., T, D]`, if asked."""
    if self.inverse_dynamics is None:
      return None
    return self.inverse_dynamics(latents[..., :-1, :], latents[..., 1:, :])

  def mean_actions(self, latents: jax.Array) -> jax.Array | None:
    """What is meant at each of latents `[..., T, D]` for each later one.

    `[..., T - 1, T - 1, A]`, at frame t for frame k + 1, if asked.
    """
    if self.policy is None:
      return None
    here, later = latents[..., :-1, None, :], latents[..., None, 1:, :]
    return self.act(here, later)

  def act(self, latents: jax.Array, goals: jax.Array) -> jax.Array:
    """Blocks `[..., A]` at latents `[..., D]` on the way to goals, alike."""
    assert self.policy is not None
    found: jax.Array = self.policy(latents, goals)
    return found

  def draw(self, latents: jax.Array) -> jax.Array | None:
    """Pictures `[..., height, width, 3]` of latents `[..., D]`, if asked."""
    if self.decoder is None:
      return None
    drawn: jax.Array = self.decoder(latents)
    return drawn

  def start(
    self, latents: jax.Array, actions: jax.Array, *, grows: bool = False
  ) -> LatentState:
    """Starts a state, see `model.Advances`."""
    return self.predictor.start(latents, self._encoded(actions), grows=grows)

  def advance(self, state: LatentState, action: jax.Array) -> LatentState:
    """Steps a state, see `model.Advances`."""
    return self.predictor.advance(state, self._encoded(action), self._readout)

  def absorb(
    self, state: LatentState, action: jax.Array, latent: jax.Array
  ) -> LatentState:
    """Steps a state by what was seen, see `model.Advances`."""
    return self.predictor.absorb(state, self._encoded(action), latent)

  def __call__(self, inputs: Any, actions: jax.Array) -> jax.Array:
    """Predicts from what is observed: all modules, once."""
    latents = self.encode(inputs)
    if self.inverse_dynamics is not None:
      self.inverse_dynamics(latents, latents)
    self.mean_actions(latents)
    self.draw(latents)
    return self.predict(latents, actions)

  def _encoded(self, actions: jax.Array) -> jax.Array:
    if self.action_encoder is None:
      return actions
    return self.action_encoder(actions)

  def _readout(
    self, latents: jax.Array, outputs: jax.Array, *, train: bool = False
  ) -> jax.Array:
    if self.prediction_projector is not None:
      outputs = self.prediction_projector(outputs, train=train)
    predicted = outputs.astype(jnp.float32)
    return latents + predicted if self.predicts_change else predicted


def inverse_dynamics(
  all_terms: Sequence[terms.Term], action_spec: ActionSpec, dtype: Any
) -> nn.Module | None:
  """The head that the term `inverse_dynamics` prices, where it is a term."""
  for term in all_terms:
    if isinstance(term, dynamics.InverseDynamics):
      return projectors.InverseDynamics(
        features=action_spec.size,
        hidden_dim=term.hidden_dim,
        num_seen=term.num_seen,
        dtype=dtype,
      )
  return None


def policy(
  all_terms: Sequence[terms.Term], action_spec: ActionSpec, dtype: Any
) -> nn.Module | None:
  """What acts for the term `policy`, where it is a term."""
  for term in all_terms:
    if isinstance(term, imitation.Policy):
      return mlp.MLP(action_spec.size, term.width, term.depth, dtype=dtype)
  return None


def decoder(
  all_terms: Sequence[terms.Term], spec: ObservationSpec, dtype: Any
) -> nn.Module | None:
  """What draws for the term `reconstruction`, where it is a term.

  Raises:
    ValueError: pictures of a size that it cannot draw.
  """
  for term in all_terms:
    if isinstance(term, reconstruction.Reconstruction):
      sizes = spec['pixels'].shape[0], term.channels, term.patch_size
      decoder_lib.check(*sizes)
      return decoder_lib.Decoder(*sizes, dtype=dtype)
  return None
