"""Whether the model is surprised by what cannot happen."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.types import Variables


def auroc(ordinary: np.ndarray, odd: np.ndarray) -> float:
  """Chance that an odd case scores above an ordinary one, ties half.

  The area under the receiver operating characteristic, by ranks (the
  Mann-Whitney statistic).

  Args:
    ordinary: `[M]` scores.
    odd: `[N]` scores.

  Returns:
    1 where all odd cases score higher, 0.5 where the score tells nothing.
  """
  ranked = np.sort(ordinary)
  below = np.searchsorted(ranked, odd, 'left')
  upto = np.searchsorted(ranked, odd, 'right')
  return float(np.mean(below + upto) / (2 * len(ordinary)))


@functools.partial(jax.jit, static_argnames='model')
def predicted(
  model: models.Advances,
  variables: Variables,
  latents: jax.Array,
  actions: jax.Array,
) -> jax.Array:
  """The latents `[B, T - 1, D]` that true pasts lead the model to expect."""
  expected = []
  for t in range(1, latents.shape[1]):
    first = max(0, t - model.history)
    state = model.start(
      variables, latents[:, first:t], actions[:, first : t - 1]
    )
    state = model.advance(variables, state, actions[:, t - 1])
    expected.append(model.read(state))
  return jnp.stack(expected, axis=1)


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Surprise:
  """Violation of expectation: prediction errors of true and teleported steps.

  Surprise is the mean squared error of the next latent (LeWM, arXiv
  2603.19312). After a teleport the next frame is one of another episode.
  """

  name = group = 'surprise'

  def __call__(self, question: diagnostic.Question) -> Finding:
    looked, model = question.look(), question.model
    acting = model.model.acting
    paths = looked.paths
    if acting is None or looked.action is None or len(paths) < 2:
      raise ValueError(
        'surprise takes a model with dynamics and two episodes or more, got '
        f'{model.model.config.name} and {len(paths)}.'
      )
    expected = np.asarray(predicted(acting, model.params, paths, looked.action))
    num_episodes, num_steps = expected.shape[:2]
    other_key, time_key = jax.random.split(question.rng_key)
    shape = num_episodes, num_steps
    ahead = jax.random.randint(other_key, shape, 1, num_episodes)
    others = (np.arange(num_episodes)[:, None] + ahead) % num_episodes
    times = np.asarray(jax.random.randint(time_key, shape, 0, num_steps + 1))
    error = lambda came: np.mean(np.square(expected - came), axis=-1).ravel()
    plain, teleported = error(paths[:, 1:]), error(paths[others, times])
    tiny = np.finfo(np.float32).tiny
    return Finding(
      title='Whether the impossible surprises it',
      scalars={
        'plain': float(plain.mean()),
        'teleport': float(teleported.mean()),
        'ratio': float(teleported.mean() / max(plain.mean(), tiny)),
        'auroc': auroc(plain, teleported),
      },
      sentence='Mean squared error of the next latent where it came as it '
      'does, and where the next frame is one of another episode. The area '
      'under the curve is the chance that the latter surprises more: 1 is '
      f'always, 0.5 tells nothing. Over {plain.size} steps of '
      f'{num_episodes} episodes.',
    )
