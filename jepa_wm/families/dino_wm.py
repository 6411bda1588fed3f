"""DINO-WM: predict a frozen encoder's patch tokens, plan among them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import jepa
from jepa_wm.families import frozen
from jepa_wm.networks import block_causal, predictors
from jepa_wm.types import Params

Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class DinoWM(frozen.FrozenTokens):
  """DINO-WM as plain fields; the defaults are the published model.

  The predictor sees a window of frames, the patch tokens of each, and beside
  every token an embedding of the action taken there and, with `proprio_dim`,
  one of the body's own state, which it predicts as well. The loss is the mean
  squared error to the tokens of the next frames, which have no gradient; as in
  `lewm.LeWM`, every run of `history` frames of a batch is a window, and with
  `rollout_steps` predictions are inputs of the next step.

  Source: DINO-WM, arXiv 2411.04983, and its released code.

  Attributes, beside those of `frozen.FrozenTokens`:
    proprio_dim: numbers of the body's own state, 0 for none.
    proprio_scale: what they are divided by before they are embedded.
    proprio_weight: of their embedding's distance in the planning cost.
    condition_features: size of the embeddings of action and state.
    predictor_width: of the predictor's tokens; 0, as published, for that of
      token and embeddings together.
    predictor_head_dim: size of an attention head.
    dropout: rate in the predictor.
    rollout_steps: steps that the loss predicts, each from the last.
  """

  name: ClassVar[str] = 'dino_wm'

  proprio_dim: int = 0
  proprio_scale: float = 1.0
  proprio_weight: float = 1.0
  condition_features: int = 10
  predictor_width: int = 0
  predictor_head_dim: int = 64
  dropout: float = 0.1
  rollout_steps: int = 1

  def __post_init__(self):
    """Checks every field.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    self.check({}, may_be_zero=('proprio_dim', 'predictor_width'))
    if self.dropout >= 1:
      raise ValueError(f'dropout must be below 1, got {self.dropout!r}.')
    if not self.proprio_scale:
      raise ValueError('proprio_scale must be positive, got 0.')

  @property
  def num_frames(self) -> int:
    """Fewest frames `T` of a batch that the loss can use."""
    return self.history + self.rollout_steps

  @property
  def token_features(self) -> int:
    """Size `F` of a latent's token: features, and the state's embedding."""
    features = self.encoder_grid[2]
    return features + bool(self.proprio_dim) * self.condition_features

  def predictor(self) -> block_causal.ConcatenationPredictor:
    """Builds the predictor."""
    return block_causal.ConcatenationPredictor(
      history=self.history,
      depth=self.predictor_depth,
      num_heads=self.predictor_heads,
      head_dim=self.predictor_head_dim,
      mlp_dim=self.predictor_mlp_dim,
      condition_features=self.condition_features,
      width=self.predictor_width,
      dropout=self.dropout,
      dtype=jnp.dtype(self.dtype),
    )

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables `{'params': ..., 'batch_stats': {}, 'frozen': ...}`.

    Args:
      rng_key: key of the parameters, consumed.

    Returns:
      The variables, float32.
    """
    keys = jax.random.split(rng_key, 3)
    tokens = jnp.zeros((1, 1, self.num_tokens, self.token_features))
    action = jnp.zeros((1, 1, self.action_block * self.action_dim))
    params = {'predictor': self.predictor().init(keys[0], tokens, (action,))}
    if self.proprio_dim:
      params['proprio_encoder'] = self._proprio_encoder().init(
        keys[1], jnp.zeros((1, self.proprio_dim))
      )
    return {
      'params': {name: module['params'] for name, module in params.items()},
      'batch_stats': {},
      'frozen': self.init_frozen(keys[2]),
    }

  def encode(
    self,
    variables: Params,
    pixels: jax.Array,
    proprio: jax.Array | None = None,
  ) -> jax.Array:
    """Encodes frames as they come.

    Args:
      variables: of the family.
      pixels: uint8 `[..., image_size, image_size, 3]` in 0..255.
      proprio: `[..., proprio_dim]`, where there is such.

    Returns:
      float32 `[..., P * F]`.

    Raises:
      ValueError: pixels of another size, or a state that is missing, not asked
        for or of another size.
    """
    tokens = self.encode_tokens(variables['frozen'], pixels)
    expected = (*pixels.shape[:-3], self.proprio_dim)
    if (proprio is None) != (not self.proprio_dim) or (
      proprio is not None and proprio.shape != expected
    ):
      got = None if proprio is None else list(proprio.shape)
      wanted = list(expected) if self.proprio_dim else None
      raise ValueError(
        f'proprio must be {wanted} for proprio_dim={self.proprio_dim}, got '
        f'{got}.'
      )
    if proprio is not None:
      embedded: Any = self._proprio_encoder().apply(
        {'params': variables['params']['proprio_encoder']},
        proprio / self.proprio_scale,
      )
      shape = (*tokens.shape[:-1], self.condition_features)
      tiled = jnp.broadcast_to(jnp.expand_dims(embedded, -2), shape)
      tokens = jnp.concatenate([tokens, tiled.astype(jnp.float32)], axis=-1)
    return self.join(tokens)

  def apply_predictor(
    self,
    variables: Params,
    latents: jax.Array,
    actions: jax.Array,
    *,
    past: block_causal.Past | None = None,
    last_only: bool = False,
    dropout_key: jax.Array | None = None,
  ) -> tuple[jax.Array, block_causal.Past]:
    """See `frozen.FrozenTokens.apply_predictor`."""
    rngs: Any = {} if dropout_key is None else {'dropout': dropout_key}
    answer: Any = self.predictor().apply(
      {'params': variables['params']['predictor']},
      self.split(latents),
      (actions,),
      past=past,
      last_only=last_only,
      train=dropout_key is not None,
      rngs=rngs,
    )
    predicted, remembered = answer
    return self.join(predicted.astype(jnp.float32)), remembered

  def loss(
    self,
    variables: Params,
    target_variables: None,
    batch: Mapping[str, Any],
    rng_key: jax.Array,
  ) -> tuple[jax.Array, tuple[Metrics, Params, jax.Array]]:
    """The training loss of a batch, dropout on.

    Args:
      variables: of the family.
      target_variables: None.
      batch: `observation`, a mapping of `pixels` uint8
        `[B, T, height, width, 3]` and with `proprio_dim` also `proprio`
        `[B, T, proprio_dim]`; and `action`
        `[B, T - 1, action_block * action_dim]` in normalised units, with
        `T >= history + rollout_steps`.
      rng_key: key of dropout, consumed.

    Returns:
      The loss, and beside it the metrics, no batch statistics and the latents
      `[B, T, P * F]`.

    Raises:
      ValueError: the batch has other shapes.
    """
    del target_variables
    pixels, actions = self.check_batch(batch, self.num_frames)
    proprio = batch['observation']['proprio'] if self.proprio_dim else None
    latents = self.encode(variables, pixels, proprio)
    keys = iter(jax.random.split(rng_key, self.rollout_steps))
    rolled = jepa.rollout_windows(
      lambda *window: self.apply_predictor(
        variables, *window, dropout_key=next(keys)
      )[0],
      latents,
      actions,
      history=self.history,
      num_steps=self.rollout_steps,
    )
    targets = jax.lax.stop_gradient(latents)
    step_losses = []
    for step, predicted in enumerate(rolled, 1):
      count, length = predicted.shape[1:3]
      view = jepa.window_view(targets, step, (count, length))
      step_losses.append(jnp.mean(jnp.square(predicted - view)))
    loss = jnp.mean(jnp.stack(step_losses))
    metrics: Metrics = {'prediction_loss': loss, 'loss': loss}
    if self.rollout_steps > 1:
      for step, step_loss in enumerate(step_losses, 1):
        metrics[f'prediction_loss_step_{step}'] = step_loss
    return loss, (metrics, {}, latents)

  def cost(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """Mean squared distance of tokens, and of the state's embedding.

    Source: DINO-WM's released planning objective, `alpha` its proprio weight.

    Args:
      latents: `[..., P * F]`.
      goal: the same, broadcast against `latents`.

    Returns:
      `[...]`.
    """
    squares = jnp.square(self.split(latents) - self.split(goal))
    features = self.encoder_grid[2]
    cost = squares[..., :features].mean((-2, -1))
    if self.proprio_dim:
      embedding = squares[..., features:].mean((-2, -1))
      cost = cost + self.proprio_weight * embedding
    return cost

  def _proprio_encoder(self) -> predictors.LinearEncoder:
    return predictors.LinearEncoder(
      features=self.condition_features, dtype=jnp.dtype(self.dtype)
    )
