"""What a path of latents should look like in time."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.objectives import terms

# Shortest velocity that has a direction (the epsilon of LeWM's cosine).
_EPSILON = 1e-8


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class TemporalSimilarity(terms.Shaping):
  """The mean squared step of latents, `temporal_similarity`."""

  name: ClassVar[str] = 'temporal_similarity'

  weight: float = 0.0

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`."""
    del rng_key
    return temporal_similarity(outcome.latents).mean()


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class Straightening(terms.Shaping):
  """The curvature of the path of latents, `straightening`."""

  name: ClassVar[str] = 'straightening'

  weight: float = 0.0

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`."""
    del rng_key
    return straightening(outcome.latents).mean()

  def price(self, outcome: terms.Outcome, rng_key: jax.Array) -> terms.Priced:
    """See `terms.Term`; two frames have no curvature, and no value."""
    if outcome.latents.shape[-2] < 3:
      return terms.Priced({}, {}, {})
    return super().price(outcome, rng_key)


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class InverseDynamics(terms.OneValue):
  """The error of the action inferred from two latents, `inverse_dynamics`.

  A head beside the predictor infers it; it is there where this term is.

  Attributes:
    weight: in the loss.
    hidden_dim: hidden width of the head.
    num_seen: leading numbers of a latent that the head sees, the points of
      `points_on_map` say; 0 for all of them.
  """

  name: ClassVar[str] = 'inverse_dynamics'
  shapes_latents: ClassVar[bool] = False

  weight: float = 1.0
  hidden_dim: int = 512
  num_seen: int = 0

  def __post_init__(self) -> None:
    fields.check(self, may_be_zero=('num_seen',))

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`.

    Raises:
      ValueError: the model has no head that infers actions.
    """
    del rng_key
    if outcome.inferred is None or outcome.actions is None:
      raise ValueError(
        'The term inverse_dynamics needs a model with actions and a head that '
        'infers them.'
      )
    return inverse_dynamics(outcome.inferred, outcome.actions).mean()


def temporal_similarity(latents: jax.Array) -> jax.Array:
  """Mean squared step of every latent to the next.

  Small for slow latents. The gradient reaches both ends of a step.

  Args:
    latents: `[..., T, D]`, at least two frames.

  Returns:
    `[..., T-1]`, float32, the mean over `D` of `(z_t - z_{t+1})^2`.

  Raises:
    ValueError: no time axis, or fewer than two frames.

  Source: the temporal similarity term of PLDM (arXiv 2502.14819).
  """
  return jnp.square(_velocities(latents, num_frames=2)).mean(-1)


def straightening(latents: jax.Array) -> jax.Array:
  """Minus the cosine between every velocity and the next.

  -1 on a straight path, whatever its speed, and 1 where it turns back. At rest
  there is no direction: a velocity shorter than 1e-8 counts as a cosine of
  0 and sends back no gradient.

  Args:
    latents: `[..., T, D]`, at least three frames.

  Returns:
    `[..., T-2]`, float32, in -1..1.

  Raises:
    ValueError: no time axis, or fewer than three frames.

  Source: temporal straightening as LeWM reports it (arXiv 2603.19312).
  """
  velocity = _velocities(latents, num_frames=3)
  squared_speed = jnp.sum(jnp.square(velocity), axis=-1, keepdims=True)
  moves = squared_speed > _EPSILON**2
  # The square root's slope is infinite at 0: it must not see one, even where
  # the outer `where` drops the result.
  speed = jnp.sqrt(jnp.where(moves, squared_speed, 1.0))
  heading = jnp.where(moves, velocity / speed, 0.0)
  return -jnp.sum(heading[..., :-1, :] * heading[..., 1:, :], axis=-1)


def inverse_dynamics(inferred: jax.Array, actions: jax.Array) -> jax.Array:
  """Mean squared error of the action inferred from two successive latents.

  It keeps in the latents what actions change.

  Args:
    inferred: `[..., A]`, by a head that saw the latents before and after.
    actions: `[..., A]`, the action that was taken, in the same units.

  Returns:
    `[...]`, float32, the mean over `A`.

  Raises:
    ValueError: the shapes differ; nothing is broadcast.

  Source: the inverse dynamics term of PLDM (arXiv 2502.14819).
  """
  if inferred.shape != actions.shape or not actions.shape:
    raise ValueError(
      'inferred and actions must both be [..., A], got shapes '
      f'{inferred.shape} and {actions.shape}.'
    )
  error = inferred.astype(jnp.float32) - actions.astype(jnp.float32)
  return jnp.square(error).mean(-1)


def _velocities(latents: jax.Array, *, num_frames: int) -> jax.Array:
  """Steps `[..., T-1, D]` of `[..., T, D]`, which has `num_frames` or more."""
  if latents.ndim < 2 or latents.shape[-2] < num_frames:
    raise ValueError(
      f'latents must be [..., T, D] with at least {num_frames} frames, got '
      f'shape {latents.shape}.'
    )
  latents = latents.astype(jnp.float32)
  return latents[..., 1:, :] - latents[..., :-1, :]
