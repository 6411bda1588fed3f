"""What families share whose predictor steps one vector a frame by actions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import jepa
from jepa_wm.families import latent_networks, regularizers
from jepa_wm.objectives import dynamics, prediction
from jepa_wm.types import Params

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class LatentDynamics(latent_networks.LatentNetworks):
  """The losses of such networks, and the functions that planning needs.

  A family is a subclass with a `name` and its published defaults. Every
  default here is LeWM's. The loss is the sum of

      prediction
      + the regulariser's terms, see `regularizers.Regularized`
      + temporal_similarity_weight * mean (z_t - z_t+1)^2
      + straightening_weight * straightening(Z)
      + inverse_dynamics_weight * mean (a - inferred(z_t, z_t+1))^2

  with `Z` the latents of all frames.

  Prediction: every run of `history` consecutive latents with their actions is
  a window; each of its tokens predicts the next latent, and the squared errors
  (or what `prediction_distance` says) are averaged over everything. A batch of
  `T = history + 1` frames is exactly one window; with `history=1` every frame
  is a window of its own. With `rollout_steps=k` the predictions of a step are
  the inputs of the next one, see `jepa.rollout_windows`.

  Attributes, beside those of `latent_networks.LatentNetworks`:
    prediction_distance: one of `prediction.DISTANCES`.
    prediction_gradient: share of the prediction loss's gradient that reaches
      the encoder, 0..1; with 0 the other terms alone shape the latents, and
      the predictor learns to predict what they make of them.
    rollout_steps: steps that the loss predicts, each from the last.
    rollout_decay: weight of a step relative to the one before.
    scheduled_sampling: chance that an input of a later step is the encoded
      frame after all.
    temporal_similarity_weight: of the squared change of the latent.
    straightening_weight: of the curvature of the latent's path.
    target: what encodes the latents to be predicted, one of `jepa.TARGETS`.
    target_momentum: of the 'ema' target.
  """

  name: ClassVar[str]

  prediction_distance: str = 'squared'
  prediction_gradient: float = 1.0
  rollout_steps: int = 1
  rollout_decay: float = 1.0
  scheduled_sampling: float = 0.0
  temporal_similarity_weight: float = 0.0
  straightening_weight: float = 0.0
  target: str = 'shared'
  target_momentum: float = 0.996

  def __post_init__(self):
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    self.check(
      {
        'prediction_distance': tuple(prediction.DISTANCES),
        'target': jepa.TARGETS,
      }
    )
    for name in (
      'target_momentum',
      'scheduled_sampling',
      'prediction_gradient',
    ):
      if getattr(self, name) > 1:
        raise ValueError(
          f'{name} must be at most 1, got {getattr(self, name)!r}.'
        )

    if self.regularizer == 'barlow_twins' and not self.prediction_gradient:
      raise ValueError(
        "regularizer='barlow_twins' works on predictions alone, of which "
        'prediction_gradient=0 keeps the encoder: choose another of the two.'
      )

  @property
  def num_frames(self) -> int:
    """Fewest frames `T` of a batch that the loss can use."""
    return self.history + self.rollout_steps

  def loss(
    self,
    variables: Params,
    target_variables: Params | None,
    batch: Mapping[str, Any],
    rng_key: jax.Array,
  ) -> tuple[jax.Array, tuple[Metrics, Params, jax.Array]]:
    """The training loss of a batch, batch statistics and dropout on.

    Args:
      variables: of the model.
      target_variables: of the target encoder, None for 'shared'.
      batch: `observation`, a mapping of `pixels` uint8
        `[B, T, height, width, 3]` and, with `proprio_dim`, `proprio`
        `[B, T, proprio_dim]`; and `action`
        `[B, T - 1, action_block * action_dim]` in normalised units, with
        `T >= history + rollout_steps`. Or `latents` `[B, T, D]` and `action`:
        latents that are what they are, so the terms that shape them are left
        out.
      rng_key: key of dropout, of the regulariser and of scheduled sampling,
        consumed.

    Returns:
      The loss, and beside it the metrics (scalars: every term before its
      weight), the new batch statistics and the latents `[B, T, D]`.

    Raises:
      ValueError: the batch has other shapes or a wrong dtype.
    """
    given, actions = batch.get('latents'), batch['action']
    if given is None:
      # The batches of a world have its state even where nobody asks for it.
      seen = batch['observation']
      proprio = seen.get('proprio') if self.proprio_dim else None
      observation = self.observation(seen['pixels'], proprio)
      size = self.image_size
      self._check_windows('pixels', seen['pixels'], (size, size, 3), actions)
    else:
      self._check_windows('latents', given, (self.latent_dim,), actions)
    dropout_key, regularizer_key = jax.random.split(rng_key)
    model = self.model()

    def forward(model):
      latents = given
      if latents is None:
        latents = model.encode(observation, train=True)
      rolled = jepa.rollout_windows(
        lambda *window: model.predict(*window, train=True),
        self._held(latents),
        actions,
        history=self.history,
        num_steps=self.rollout_steps,
        true_share=self.scheduled_sampling,
        rng_key=jax.random.fold_in(rng_key, 2),
      )
      return latents, rolled, model.infer_actions(latents)

    (latents, rolled, inferred), updates = model.apply(
      variables,
      method=forward,
      rngs={'dropout': dropout_key},
      mutable=['batch_stats'],
    )
    targets = self._held(latents)
    if given is None and self.target != 'shared':
      targets = jepa.encode_target(
        self.target, model, target_variables, observation
      )
    views = [
      jepa.window_view(targets, step + 1, predicted.shape[1:3])
      for step, predicted in enumerate(rolled)
    ]
    distance = prediction.DISTANCES[self.prediction_distance]
    step_losses = [distance(*pair).mean() for pair in zip(rolled, views)]
    weights = [self.rollout_decay**step for step in range(self.rollout_steps)]
    loss = jnp.average(jnp.stack(step_losses), weights=jnp.asarray(weights))
    metrics: Metrics = {'prediction_loss': loss}
    if self.rollout_steps > 1:
      for step, step_loss in enumerate(step_losses, 1):
        metrics[f'prediction_loss_step_{step}'] = step_loss
    terms: list[regularizers.Term] = []
    if given is None:
      terms += self.regularizer_terms(
        latents, rolled[0], views[0], regularizer_key
      )
      terms += self._path_terms(latents)
    if inferred is not None:
      error = dynamics.inverse_dynamics(inferred, actions).mean()
      terms.append(('inverse_dynamics', self.inverse_dynamics_weight, error))
    for name, weight, value in terms:
      metrics[name] = value
      # A term without weight must not send 0 * inf back.
      if weight:
        loss = loss + weight * value
    metrics['loss'] = loss
    return loss, (metrics, updates.get('batch_stats', {}), latents)

  def encode(
    self,
    variables: Params,
    pixels: jax.Array,
    proprio: jax.Array | None = None,
  ) -> jax.Array:
    """Encodes frames as they come, in eval mode.

    Args:
      variables: of the model.
      pixels: uint8 `[..., image_size, image_size, 3]` in 0..255.
      proprio: `[..., proprio_dim]`, where that is not 0.

    Returns:
      float32 `[..., D]`.

    Raises:
      ValueError: what `observation` refuses.
    """
    observation = self.observation(pixels, proprio)
    latents: Any = self.model().apply(variables, observation, method='encode')
    return latents

  def predict(
    self, variables: Params, latents: jax.Array, actions: jax.Array
  ) -> jax.Array:
    """Predicts one latent step on for every token of a window, in eval mode.

    Args:
      variables: of the model.
      latents: `[..., L, D]`, `L` at most `history`.
      actions: `[..., L, action_block * action_dim]`, normalised, the block
        taken at each latent.

    Returns:
      float32 `[..., L, D]`; the last token is the latent after the window.

    Raises:
      ValueError: sizes that do not fit the model, or too long a window.
    """
    for name, value, size in (
      ('latents', latents, self.latent_dim),
      ('actions', actions, self.action_block * self.action_dim),
    ):
      if value.ndim < 2 or value.shape[-1] != size:
        raise ValueError(
          f'{name} must be [..., L, {size}], got shape {value.shape}.'
        )
    predicted: Any = self.model().apply(
      variables, latents, actions, method='predict'
    )
    return predicted

  def initial_state(
    self, variables: Params, latents: jax.Array, actions: jax.Array
  ) -> jepa.LatentState:
    """Starts a state, and lets the predictor look at its past once.

    Args:
      variables: of the model.
      latents: `[..., L, D]`, `L` from 1 to `history`, oldest first.
      actions: `[..., L - 1, action_block * action_dim]`, normalised, between
        them.

    Returns:
      A state for `step`.
    """
    cache = None
    if actions.shape[-2]:
      _, cache = self.model().apply(  # type: ignore[misc]
        variables, latents[..., :-1, :], actions, method='step'
      )
    return jepa.LatentState(latents, cache)

  def step(
    self, variables: Params, state: jepa.LatentState, action: jax.Array
  ) -> jepa.LatentState:
    """Steps a state by one action block, as `predict` of its window would.

    Keys and values of a growing window, and the modulations of past actions,
    are computed once; what only other tokens need is left out.

    Args:
      variables: of the model.
      state: leaves `[..., L, *]`.
      action: `[..., action_block * action_dim]`, normalised.
    """
    predicted, cache = self.model().apply(  # type: ignore[misc]
      variables,
      state.latents,
      jnp.expand_dims(action, -2),
      state.cache,
      method='step',
    )
    return jepa.advance(
      state,
      predicted,
      cache,
      history=self.history,
      slide_fn=self.slide,
    )

  def init_target(self, variables: Params) -> Params | None:
    """The target encoder at the start, None for 'shared'."""
    return jepa.init_target(self.target, variables)

  def update_target(
    self,
    target_variables: Params | None,
    variables: Params,
    step: jax.Array | int,
  ) -> Params | None:
    """The target encoder after the update that gave `variables`.

    Args:
      target_variables: what `init_target` or the last update returned.
      variables: of the model, updated.
      step: of the update; the momentum of this family does not depend on it.

    Returns:
      The new target: None for 'shared', the old one for 'frozen'.
    """
    del step
    return jepa.update_target(
      self.target, target_variables, variables, momentum=self.target_momentum
    )

  def _held(self, latents: jax.Array) -> jax.Array:
    """The same `latents`, which let `prediction_gradient` of it through."""
    share = self.prediction_gradient
    if share == 1.0:
      return latents
    return share * latents + (1.0 - share) * jax.lax.stop_gradient(latents)

  def _path_terms(self, latents: jax.Array) -> list[regularizers.Term]:
    """What the path of `latents` `[B, T, D]` should look like in time."""
    terms = [
      (
        'temporal_similarity',
        self.temporal_similarity_weight,
        dynamics.temporal_similarity(latents).mean(),
      )
    ]
    if latents.shape[1] > 2:
      terms.append(
        (
          'straightening',
          self.straightening_weight,
          dynamics.straightening(latents).mean(),
        )
      )
    return terms

  def _check_windows(
    self, name: str, frames: jax.Array, frame: tuple[int, ...], actions: Any
  ) -> None:
    """Refuses windows of `frames` and `actions` that do not fit."""
    if frames.ndim != 2 + len(frame) or (
      frames.shape[1] < self.num_frames or frames.shape[2:] != frame
    ):
      sizes = ', '.join(map(str, frame))
      raise ValueError(
        f'{name} must be [B, T, {sizes}] with T at least '
        f'{self.num_frames} (history={self.history} plus '
        f'rollout_steps={self.rollout_steps}), got shape {frames.shape}.'
      )
    num_samples, num_frames = frames.shape[:2]
    expected = (
      num_samples,
      num_frames - 1,
      self.action_block * self.action_dim,
    )
    if actions.shape != expected:
      raise ValueError(
        f'actions must be {list(expected)}: one block of '
        f'action_block={self.action_block} actions of '
        f'action_dim={self.action_dim} between any two frames, got shape '
        f'{actions.shape}.'
      )
