"""What families share whose predictor steps one vector a frame by actions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import jepa
from jepa_wm.data import normalization
from jepa_wm.families import fields, regularizers
from jepa_wm.networks import encoders, predictors, projectors
from jepa_wm.objectives import dynamics, prediction
from jepa_wm.types import Params

ENCODERS = (*encoders.VIT_PRESETS, 'impala', 'conv')

Metrics = dict[str, jax.Array]


class Forward(NamedTuple):
  """What the networks made of a batch in training.

  Attributes:
    latents: `[B, T, D]`, of all frames.
    rolled: the predictions of every step, `[B, W, L, D]` (see
      `jepa.rollout_windows`).
    targets: what they should have been, of the same shapes.
    batch_stats: the new batch statistics.
  """

  latents: jax.Array
  rolled: list[jax.Array]
  targets: list[jax.Array]
  batch_stats: Params


@dataclasses.dataclass(frozen=True)
class LatentDynamics(regularizers.Regularized):
  """Encoder, projector and causal predictor, and the functions planning needs.

  A family is a subclass with a `name`, its published defaults and a `loss` of
  the terms that are made here. Every default here is LeWM's.

  Prediction: every run of `history` consecutive latents with their actions is
  a window; each of its tokens predicts the next latent, and the squared errors
  (or what `prediction_distance` says) are averaged over everything. A batch of
  `T = history + 1` frames is exactly one window; with `history=1` every frame
  is a window of its own. With `rollout_steps=k` the predictions of a step are
  the inputs of the next one, see `jepa.rollout_windows`.

  Attributes, beside those of `regularizers.Regularized`:
    image_size: side of the square frames, pixels.
    action_dim: raw action dimensions of one environment step.
    action_block: environment steps, so raw actions, per latent step.
    history: longest window of latents the predictor sees.
    latent_dim: size of a latent.
    encoder: one of `ENCODERS`; 'conv' is 'impala' with strided convolutions in
      place of max-pooling.
    patch_size: side of a patch, of the ViT encoders.
    encoder_features: size of the output of 'impala' and 'conv'.
    encoder_channels: channels of their stages.
    encoder_strides: how many times each stage shrinks the image.
    encoder_blocks: residual blocks of each stage.
    projector_dim: hidden width of both projectors.
    projector_norm: 'batch', or 'none'.
    smoothed_dim: bottleneck of the action encoder.
    predictor_dim: width of the predictor, published as the encoder's, and of
      the encoded action, published as the latent's (all are 192 there).
    predictor_depth: blocks of the predictor.
    predictor_heads: its attention heads.
    predictor_head_dim: size of each.
    predictor_mlp_dim: hidden width of its MLPs.
    dropout: rate in the predictor.
    prediction_distance: one of `prediction.DISTANCES`.
    rollout_steps: steps that the loss predicts, each from the last.
    rollout_decay: weight of a step relative to the one before.
    temporal_similarity_weight: of the squared change of the latent.
    straightening_weight: of the curvature of the latent's path.
    target: what encodes the latents to be predicted, one of `jepa.TARGETS`.
    target_momentum: of the 'ema' target.
    dtype: of the networks' computation; parameters, norms, softmax, losses and
      latents are float32.
  """

  image_size: int = 224
  action_dim: int = 2
  action_block: int = 5
  history: int = 3
  latent_dim: int = 192
  encoder: str = 'vit_tiny'
  patch_size: int = 14
  encoder_features: int = 256
  encoder_channels: tuple[int, ...] = (16, 32, 32)
  encoder_strides: tuple[int, ...] = (2, 2, 2)
  encoder_blocks: tuple[int, ...] = (2, 2, 2)
  projector_dim: int = 2048
  projector_norm: str = 'batch'
  smoothed_dim: int = 10
  predictor_dim: int = 192
  predictor_depth: int = 6
  predictor_heads: int = 16
  predictor_head_dim: int = 64
  predictor_mlp_dim: int = 2048
  dropout: float = 0.1
  prediction_distance: str = 'squared'
  rollout_steps: int = 1
  rollout_decay: float = 1.0
  temporal_similarity_weight: float = 0.0
  straightening_weight: float = 0.0
  target: str = 'shared'
  target_momentum: float = 0.996
  dtype: str = 'float32'

  def __post_init__(self):
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    fields.check(
      self,
      choices={
        'encoder': ENCODERS,
        'projector_norm': projectors.NORMS,
        'regularizer': regularizers.REGULARIZERS,
        'prediction_distance': tuple(prediction.DISTANCES),
        'target': jepa.TARGETS,
        'dtype': ('float32', 'bfloat16'),
      },
    )
    super().__post_init__()
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')
    if self.target_momentum > 1:
      raise ValueError(
        f'target_momentum must be at most 1, got {self.target_momentum!r}.'
      )
    is_vit = self.encoder in encoders.VIT_PRESETS
    if is_vit and self.image_size % self.patch_size:
      raise ValueError(
        f'image_size={self.image_size} must be a multiple of '
        f'patch_size={self.patch_size} for encoder={self.encoder!r}.'
      )
    stages = self.encoder_channels, self.encoder_strides, self.encoder_blocks
    if len({len(x) for x in stages}) > 1:
      raise ValueError(
        'encoder_channels, encoder_strides and encoder_blocks must have one '
        f'entry per stage each, got {stages[0]}, {stages[1]} and {stages[2]}.'
      )
    if min(self.encoder_channels + self.encoder_strides) < 1:
      raise ValueError(
        'encoder_channels and encoder_strides must be positive, got '
        f'{self.encoder_channels} and {self.encoder_strides}.'
      )

  @property
  def num_frames(self) -> int:
    """Fewest frames `T` of a batch that the loss can use."""
    return self.history + self.rollout_steps

  def model(self) -> jepa.Jepa:
    """Builds the networks."""
    dtypes: Any = {'dtype': jnp.dtype(self.dtype)}
    encoder: Any
    if self.encoder in encoders.VIT_PRESETS:
      sizes: Any = encoders.VIT_PRESETS[self.encoder]
      encoder = encoders.ViT(
        patch_size=self.patch_size,
        image_size=self.image_size,
        **sizes,
        **dtypes,
      )
    else:
      encoder = encoders.ConvEncoder(
        features=self.encoder_features,
        channels=self.encoder_channels,
        strides=self.encoder_strides,
        blocks=self.encoder_blocks,
        pooling=self.encoder == 'impala',
        **dtypes,
      )
    projector: Any = {
      'features': self.latent_dim,
      'hidden_dim': self.projector_dim,
      'norm': self.projector_norm,
      **dtypes,
    }
    return jepa.Jepa(
      encoder=encoder,
      projector=projectors.Projector(**projector),
      action_encoder=predictors.ActionEncoder(
        features=self.predictor_dim,
        smoothed_dim=self.smoothed_dim,
        hidden_dim=4 * self.predictor_dim,
        **dtypes,
      ),
      predictor=predictors.CausalPredictor(
        width=self.predictor_dim,
        history=self.history,
        depth=self.predictor_depth,
        num_heads=self.predictor_heads,
        head_dim=self.predictor_head_dim,
        mlp_dim=self.predictor_mlp_dim,
        dropout=self.dropout,
        **dtypes,
      ),
      prediction_projector=projectors.Projector(**projector),
    )

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables `{'params': ..., 'batch_stats': ...}`.

    Args:
      rng_key: key of the parameters, consumed.

    Returns:
      The variables, float32; `batch_stats` is empty without batch norm.
    """
    pixels = jnp.zeros((1, 1, self.image_size, self.image_size, 3))
    actions = jnp.zeros((1, 1, self.action_block * self.action_dim))
    return {'batch_stats': {}, **self.model().init(rng_key, pixels, actions)}

  def forward(
    self,
    variables: Params,
    target_variables: Params | None,
    batch: Mapping[str, jax.Array],
    rng_key: jax.Array,
  ) -> Forward:
    """Encodes and predicts a batch, batch statistics and dropout on.

    Args:
      variables: of the model.
      target_variables: of the target encoder, None for 'shared'.
      batch: `pixels` uint8 `[B, T, height, width, 3]` and `actions`
        `[B, T - 1, action_block * action_dim]` in normalised units, with
        `T >= history + rollout_steps`.
      rng_key: key of dropout, consumed.

    Returns:
      Latents, predictions, targets and batch statistics.

    Raises:
      ValueError: the batch has other shapes or a wrong dtype.
    """
    pixels, actions = self._check_batch(batch)
    model = self.model()

    def run(model):
      latents = model.encode(pixels, train=True)
      rolled = jepa.rollout_windows(
        lambda *window: model.predict(*window, train=True),
        latents,
        actions,
        history=self.history,
        num_steps=self.rollout_steps,
      )
      return latents, rolled

    (latents, rolled), updates = model.apply(
      variables,
      method=run,
      rngs={'dropout': rng_key},
      mutable=['batch_stats'],
    )
    encoded = latents
    if self.target != 'shared':
      encoded = jepa.encode_target(self.target, model, target_variables, pixels)
    targets = [
      jepa.window_view(encoded, step + 1, predicted.shape[1:3])
      for step, predicted in enumerate(rolled)
    ]
    return Forward(latents, rolled, targets, updates.get('batch_stats', {}))

  def prediction_loss(self, forward: Forward) -> tuple[jax.Array, Metrics]:
    """The mean distance of predictions to targets over all rollout steps.

    Returns:
      The loss, and the metrics: it, and with several steps each one's share.
    """
    distance = prediction.DISTANCES[self.prediction_distance]
    pairs = zip(forward.rolled, forward.targets)
    step_losses = [distance(*pair).mean() for pair in pairs]
    weights = [self.rollout_decay**step for step in range(self.rollout_steps)]
    loss = jnp.average(jnp.stack(step_losses), weights=jnp.asarray(weights))
    metrics = {'prediction_loss': loss}
    if self.rollout_steps > 1:
      for step, step_loss in enumerate(step_losses, 1):
        metrics[f'prediction_loss_step_{step}'] = step_loss
    return loss, metrics

  def path_terms(self, latents: jax.Array) -> list[regularizers.Term]:
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

  def encode(self, variables: Params, pixels: jax.Array) -> jax.Array:
    """Encodes frames as they come, in eval mode.

    Args:
      variables: of the model.
      pixels: uint8 `[..., image_size, image_size, 3]` in 0..255.

    Returns:
      float32 `[..., D]`.

    Raises:
      ValueError: pixels of another size or dtype.
    """
    self._check_pixels(pixels)
    pixels = normalization.normalize_pixels(pixels)
    latents: Any = self.model().apply(variables, pixels, method='encode')
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
    return jepa.advance(state, predicted, cache, history=self.history)

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

  def _check_pixels(self, pixels: jax.Array) -> None:
    size = (self.image_size, self.image_size, 3)
    if pixels.ndim < 3 or pixels.shape[-3:] != size:
      raise ValueError(
        f'pixels must be [..., {size[0]}, {size[1]}, 3] for '
        f'image_size={self.image_size}, got shape {pixels.shape}.'
      )

  def _check_batch(
    self, batch: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    """Normalised pixels and the actions of a batch that fits the model."""
    pixels, actions = batch['pixels'], batch['actions']
    self._check_pixels(pixels)
    if pixels.ndim != 5 or pixels.shape[1] < self.num_frames:
      raise ValueError(
        f'pixels must be [B, T, height, width, 3] with T at least '
        f'{self.num_frames} (history={self.history} plus '
        f'rollout_steps={self.rollout_steps}), got shape {pixels.shape}.'
      )
    num_samples, num_frames = pixels.shape[:2]
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
    return normalization.normalize_pixels(pixels), actions
