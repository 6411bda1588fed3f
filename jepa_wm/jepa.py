"""Jepa: its networks, its predictions over many steps, its target encoder."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.networks import predictors
from jepa_wm.types import Params

TARGETS = ('shared', 'ema', 'frozen')
"""What encodes the latents to be predicted.

  'shared': the encoder itself, with gradient;
  'ema': an exponential moving average of it, without;
  'frozen': a copy of what it was at the start, without.
"""

_TARGET_MODULES = ('encoder', 'projector')


class Jepa(nn.Module):
  """A joint-embedding predictive architecture, made of modules given to it.

  Source: A path towards autonomous machine intelligence (LeCun, 2022),
  section 4.4; LeWM for the two projectors.

  Attributes:
    encoder: normalised pixels `[..., height, width, C]` to features `[..., F]`
      and intermediates.
    projector: features to latents `[..., D]`.
    action_encoder: action blocks `[..., A]` to conditions.
    predictor: latents and conditions `[..., T, *]` to tokens `[..., T, E]` and
      a cache.
    prediction_projector: tokens to predicted latents `[..., T, D]`.
    inverse_dynamics: two successive latents to the action block between them,
      where the loss asks for it.
    predicts_change: whether predictions are added to the latents they start
      from.
  """

  encoder: nn.Module
  projector: nn.Module
  action_encoder: nn.Module
  predictor: nn.Module
  prediction_projector: nn.Module
  inverse_dynamics: nn.Module | None = None
  predicts_change: bool = False

  def encode(self, pixels: Any, *, train: bool = False) -> jax.Array:
    """Encodes normalised `pixels` `[..., height, width, C]` to `[..., D]`.

    Args:
      pixels: float, normalised, channels last; or whatever else the encoder
        observes.
      train: whether batch normalisation uses the statistics of this batch.

    Returns:
      float32 `[..., D]`.
    """
    features, _ = self.encoder(pixels, train=train)
    return self.projector(features, train=train).astype(jnp.float32)

  def encode_actions(self, actions: jax.Array) -> jax.Array:
    """Encodes normalised action blocks `[..., T, A]` as conditions."""
    return self.action_encoder(actions)

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
    conditions = self.encode_actions(actions)
    tokens, _ = self.predictor(latents, conditions, train=train)
    predicted = self.prediction_projector(tokens, train=train)
    return self._from(latents, predicted.astype(jnp.float32))

  def infer_actions(self, latents: jax.Array) -> jax.Array | None:
    """The blocks `[..., T - 1, A]` between latents `[..., T, D]`, if asked."""
    if self.inverse_dynamics is None:
      return None
    return self.inverse_dynamics(latents[..., :-1, :], latents[..., 1:, :])

  def step(
    self, latents: jax.Array, actions: jax.Array, cache: Any = None
  ) -> tuple[jax.Array, Any]:
    """Predicts the latent after a window, in eval mode.

    The last token of `predict`, in fewer operations.

    Args:
      latents: `[..., T, D]`.
      actions: `[..., M, A]`, those of the window that the cache lacks.
      cache: what the predictor remembers of the first tokens of this window.

    Returns:
      float32 `[..., 1, D]`, and the cache of the whole window.
    """
    tokens, cache = self.predictor(
      latents, self.encode_actions(actions), cache=cache, last_only=True
    )
    predicted = self.prediction_projector(tokens).astype(jnp.float32)
    return self._from(latents[..., -1:, :], predicted), cache

  def __call__(
    self, pixels: jax.Array, actions: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """Predicts from `pixels` `[..., T, height, width, C]`: all of it, once."""
    latents = self.encode(pixels, train=train)
    if self.inverse_dynamics is not None:
      self.inverse_dynamics(latents, latents)
    return self.predict(latents, actions, train=train)

  def _from(self, latents: jax.Array, predicted: jax.Array) -> jax.Array:
    return latents + predicted if self.predicts_change else predicted


@flax.struct.dataclass
class LatentState:
  """The latents a predictor looks back on, and what it remembers of them.

  Attributes:
    latents: `[..., L, D]`, oldest first; `L` grows from the number of observed
      frames to the family's `history`.
    cache: of the predictor (`predictors.Cache`), None while there is nothing
      to remember. It grows while the window does and shrinks when it slides,
      because sliding moves every latent to another position.
  """

  latents: jax.Array
  cache: Any = None


def advance(
  state: LatentState,
  predicted: jax.Array,
  cache: Any,
  *,
  history: int,
  slide_fn: Callable[[Any], Any] = predictors.slide,
) -> LatentState:
  """The state after a step: one latent more, the oldest dropped if need be.

  Args:
    state: before the step.
    predicted: `[..., 1, D]`, its next latent.
    cache: what the predictor remembers of the window of `state`.
    history: longest window.
    slide_fn: what is left of the cache when the first latent drops out.
  """
  latents = jnp.concatenate([state.latents, predicted], axis=-2)
  if latents.shape[-2] > history:
    latents = latents[..., 1:, :]
    cache = slide_fn(cache) if history > 1 else None
  return LatentState(latents, cache)


def window_view(
  sequence: jax.Array, start: int, shape: tuple[int, int]
) -> jax.Array:
  """Every run of consecutive steps, as a window of its own.

  Args:
    sequence: `[B, T, X]`.
    start: step at which the first window begins.
    shape: number of windows `W` and their length `L`.

  Returns:
    `[B, W, L, X]`; window `w` holds the steps from `start + w` on.
  """
  count, length = shape
  # Slices, not a gather: their gradient is a sum of slices too.
  return jnp.stack(
    [sequence[:, start + i : start + i + count] for i in range(length)], axis=2
  )


def rollout_windows(
  predict_fn: Callable[[jax.Array, jax.Array], jax.Array],
  latents: jax.Array,
  actions: jax.Array,
  *,
  history: int,
  num_steps: int,
  true_share: float = 0.0,
  rng_key: jax.Array | None = None,
) -> list[jax.Array]:
  """Predicts every window of latents, then on from the predictions.

  Step 1 sees the windows `z_w .. z_w+h-1` with their actions, and its token
  `i` estimates `z_w+i+1`. Step `j` sees what step `j - 1` estimated, which is
  the window shifted by one, with the actions shifted likewise, and estimates
  `z_w+i+j`: all tokens at once, so that `num_steps` calls cost `num_steps`
  forwards whatever the length. Windows whose last target would lie beyond the
  last frame drop out, one more at every step. Gradients run through all steps.

  With scheduled sampling every input of a step after the first is the true
  latent with probability `true_share`, drawn for each token. Its paper lowers
  the share while training; here it stays.

  Args:
    predict_fn: latents `[B, W, h, D]` and actions `[B, W, h, A]` to
      `[B, W, h, D]`.
    latents: `[B, T, D]`.
    actions: `[B, T - 1, A]`.
    history: length `h` of a window.
    num_steps: steps, at most `T - h`.
    true_share: chance of a true latent among the inputs of later steps.
    rng_key: draws them, consumed; not needed at a share of 0.

  Returns:
    For step `j` from 1 the estimates `[B, T - h - j + 1, h, D]`; their targets
    are `window_view(latents, j, (T - h - j + 1, h))`.

  Source: scheduled sampling, arXiv 1506.03099.
  """
  rolled: list[jax.Array] = []
  for step in range(num_steps):
    count = latents.shape[1] - history - step
    if step == 0:
      inputs = window_view(latents, 0, (count, history))
    else:
      inputs = rolled[-1][:, :count]
      if true_share:
        truth = window_view(latents, step, (count, history))
        is_true = jax.random.bernoulli(
          jax.random.fold_in(rng_key, step),  # type: ignore[arg-type]
          true_share,
          (*truth.shape[:-1], 1),
        )
        inputs = jnp.where(is_true, truth, inputs)
    rolled.append(
      predict_fn(inputs, window_view(actions, step, (count, history)))
    )
  return rolled


def init_target(kind: str, variables: Params) -> Params | None:
  """The target encoder at the start: a copy of encoder and projector.

  Args:
    kind: one of `TARGETS`.
    variables: `{'params': ..., 'batch_stats': ...}` of a `Jepa`.

  Returns:
    The same structure with encoder and projector alone; None for 'shared'.

  Raises:
    ValueError: no such kind.
  """
  _check_kind(kind)
  return None if kind == 'shared' else jax.tree.map(jnp.copy, _part(variables))


def update_target(
  kind: str,
  target_variables: Params | None,
  variables: Params,
  *,
  momentum: float | jax.Array,
) -> Params | None:
  """The target encoder after a step of the encoder.

  For 'ema' every parameter and running statistic becomes
  `momentum * target + (1 - momentum) * online`.

  Args:
    kind: one of `TARGETS`.
    target_variables: what `init_target` or the last update returned.
    variables: `{'params': ..., 'batch_stats': ...}` of the `Jepa`, updated.
    momentum: share of the old target.

  Returns:
    The new target; for 'frozen' the old one, for 'shared' None.

  Raises:
    ValueError: no such kind.
  """
  _check_kind(kind)
  if kind != 'ema':
    return target_variables
  return jax.tree.map(
    # This form keeps a target that equals the encoder exactly equal to it.
    lambda target, online: target + (1 - momentum) * (online - target),
    target_variables,
    _part(variables),
  )


def encode_target(
  kind: str,
  model: Jepa,
  target_variables: Params | None,
  pixels: jax.Array,
) -> jax.Array:
  """Latents of the 'ema' or the 'frozen' target encoder, without gradient.

  The moving average normalises by the statistics of the batch, as the encoder
  that it follows does; the frozen encoder by its own, so that it stays one
  function.

  Args:
    kind: 'ema' or 'frozen'.
    model: the `Jepa` whose encoder the target copies.
    target_variables: of the target.
    pixels: normalised `[..., height, width, C]`.

  Returns:
    `[..., D]`.

  Raises:
    ValueError: 'shared', which has no encoder of its own, or no such kind, or
      no target variables.
  """
  _check_kind(kind)
  if kind == 'shared' or target_variables is None:
    raise ValueError(
      f'A target encoder of kind {kind!r} with target_variables of type '
      f'{type(target_variables).__name__} cannot encode; pass what '
      "init_target returned for 'ema' or 'frozen'."
    )
  latents: Any = model.apply(
    target_variables, pixels, train=kind == 'ema', method='encode'
  )
  return jax.lax.stop_gradient(latents)


def _part(variables: Params) -> Any:
  """Encoder and projector out of every collection of `variables`."""
  return {
    collection: {
      name: module
      for name, module in modules.items()
      if name in _TARGET_MODULES
    }
    for collection, modules in variables.items()
  }


def _check_kind(kind: str) -> None:
  if kind not in TARGETS:
    raise ValueError(f'target must be one of {TARGETS}, got {kind!r}.')
