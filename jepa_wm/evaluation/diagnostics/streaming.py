"""Whether a state that follows a stream stays right, however long."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.report import plots
from jepa_wm.types import Params

_MOST_POINTS = 50  # Of a curve.


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Streaming:
  """A state that absorbs every frame, against the encoder and against windows.

  The state starts from the first frame of a window and absorbs the others one
  by one; before each it says what comes. Its error over time is its drift. At
  some moments another state is started from the past at once, as training
  does: the two say the same where absorbing is that, and what the window cannot
  hold is what the stream knows beyond it.

  Attributes:
    num_moments: at which a state is started anew, evenly spread, the last step
      among them.
  """

  name = group = 'streaming'
  num_moments: int = 4

  def __call__(self, question: diagnostic.Question) -> Finding:
    acting = question.acting(self.name)
    looked = question.look()
    if looked.action is None or looked.paths.shape[1] < 3:
      raise ValueError(
        'streaming takes windows of three frames or more with actions, got '
        f'{looked.paths.shape[1]}; raise data.num_frames.'
      )
    paths, params = looked.paths, question.model.params
    streamed, num_bytes = _streamed(acting, params, paths, looked.action)
    variance = float(looked.rows.var(axis=0).mean())
    unit = max(variance, float(np.finfo(np.float32).tiny))
    share = lambda a, b: np.mean(np.square(a - b), axis=-1) / unit
    errors = share(streamed, paths[:, 1:])
    still = share(paths[:, :-1], paths[:, 1:])
    apart = [
      share(
        streamed[:, end - 1],
        _restarted(acting, params, paths[:, :end], looked.action[:, :end]),
      ).mean()
      for end in self._moments(paths.shape[1] - 1)
    ]
    part = max(1, errors.shape[1] // 4)
    early, late = errors[:, :part].mean(), errors[:, -part:].mean()
    return Finding(
      title='Whether what follows a stream stays right',
      scalars={
        'error': float(errors.mean()),
        'still': float(still.mean()),
        'early': float(early),
        'late': float(late),
        'apart': float(np.max(apart)),
        'state_bytes': num_bytes,
      },
      figures=plots.both(
        'streaming',
        functools.partial(
          plots.lines,
          _spans(np.arange(1, errors.shape[1] + 1)[None])[0],
          {'streamed': _spans(errors), 'as if nothing moved': _spans(still)},
          title='Error of what comes next',
          labels=('blocks seen', 'share of the variance'),
        ),
      ),
      sentence=(
        'Mean squares as shares of the variance of latents, one step ahead of '
        f'a state that absorbs {errors.shape[1]} frames one by one: error, '
        'early and late in the first and last quarter, still if nothing moved. '
        'apart is how far, at most, it is from a state started from the last '
        f'{acting.history} frames at once; state_bytes what it holds of one '
        'stream, from first to last.'
      ),
    )

  def _moments(self, num_steps: int) -> list[int]:
    """Numbers of latents seen, each once."""
    ends = np.linspace(0, num_steps, self.num_moments + 1)[1:]
    return sorted({max(1, round(end)) for end in ends})


def _spans(values: np.ndarray) -> np.ndarray:
  """Values `[N, T]` as means over spans of time, few enough to be drawn."""
  number = min(values.shape[1], _MOST_POINTS)
  parts = np.array_split(values, number, axis=1)
  return np.stack([part.mean(axis=1) for part in parts], axis=1)


@functools.partial(jax.jit, static_argnames='model')
def _followed(
  model: models.Advances, params: Params, latents: jax.Array, actions: jax.Array
) -> tuple[jax.Array, Any]:
  """What is expected at every step, `[T - 1, N, D]`, and the last state."""

  def step(state: Any, token: tuple[jax.Array, jax.Array]) -> Any:
    action, latent = token
    ahead = model.read(model.advance(params, state, action))
    return model.absorb(params, state, action, latent), ahead

  first = model.start(params, latents[:, :1], actions[:, :0])
  in_time = lambda x: jnp.moveaxis(x, 1, 0)
  state, ahead = jax.lax.scan(
    step, first, (in_time(actions), in_time(latents[:, 1:]))
  )
  return ahead, state


def _streamed(
  model: models.Advances, params: Params, latents: Any, actions: Any
) -> tuple[np.ndarray, int]:
  """What is expected, `[N, T - 1, D]`, and the bytes of a stream's state."""
  ahead, state = _followed(model, params, latents, actions)
  num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  return np.moveaxis(np.asarray(ahead), 0, 1), num_bytes // len(latents)


@functools.partial(jax.jit, static_argnames='model')
def _restarted(
  model: models.Advances, params: Params, latents: jax.Array, actions: jax.Array
) -> jax.Array:
  """The latent `[N, D]` after all, expected of the last ones at once.

  Args:
    model: steps latents.
    params: of it.
    latents: `[N, T, D]`.
    actions: `[N, T, A]`.
  """
  first = max(0, latents.shape[1] - model.history)
  state = model.start(params, latents[:, first:], actions[:, first:-1])
  return model.read(model.advance(params, state, actions[:, -1]))
