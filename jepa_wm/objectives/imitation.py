"""A policy that is learnt beside the predictor, on the same latents."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm.objectives import terms


@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class Policy(terms.OneValue):
  """The error of the action meant at one frame for a later one, `policy`.

  A network beside the predictor says what to do at a latent on the way to
  another; every pair of frames of a window teaches it, the later one the goal
  in hindsight. It acts (`experiments.plan --planner=policy`) and proposes.

  Source: a policy and a predictor learnt as one model, as in INTACT (arXiv
  2607.26056); goals in hindsight as in GCBC.

  Attributes:
    weight: in the loss.
    width: of the hidden layers.
    depth: hidden layers.
  """

  name: ClassVar[str] = 'policy'
  shapes_latents: ClassVar[bool] = False

  weight: float = 1.0
  width: int = 256
  depth: int = 3

  def value(self, outcome: terms.Outcome, rng_key: jax.Array) -> jax.Array:
    """See `terms.OneValue`.

    Raises:
      ValueError: the model has no policy.
    """
    del rng_key
    if outcome.meant is None or outcome.actions is None:
      raise ValueError(
        'The term policy needs a model with actions and a policy, such as lewm.'
      )
    return imitation(outcome.meant, outcome.actions)


def imitation(meant: jax.Array, actions: jax.Array) -> jax.Array:
  """Mean squared error of actions meant for all later frames of a window.

  Args:
    meant: `[..., T - 1, T - 1, A]`, at frame t for frame k + 1; what is meant
      for a frame that has passed counts nothing.
    actions: `[..., T - 1, A]`, what was done at each frame.

  Returns:
    Scalar, float32: the mean over all pairs of a frame and a later one.

  Raises:
    ValueError: the shapes differ.
  """
  length, size = actions.shape[-2:]
  wanted = (*actions.shape[:-2], length, length, size)
  if meant.shape != wanted:
    raise ValueError(
      f'meant must be [..., T - 1, T - 1, A] = {list(wanted)}, got shape '
      f'{list(meant.shape)}.'
    )
  error = meant.astype(jnp.float32) - jnp.expand_dims(actions, -2)
  is_later = jnp.triu(jnp.ones((length, length), bool))
  return jnp.mean(
    jnp.mean(jnp.square(error), axis=-1),
    where=jnp.broadcast_to(is_later, meant.shape[:-1]),
  )
