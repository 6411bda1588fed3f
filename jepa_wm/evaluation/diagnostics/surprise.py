"""Whether the model is surprised by what cannot happen."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import (
  diagnostic,
  host_violations,
  violations,
)
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.report import figures, plots
from jepa_wm.evaluation.statistics import ranks, t_test
from jepa_wm.types import Variables

_BATCH_SIZE = 16
_SURE = 0.01  # LeWM's bound on p.
_TITLE = 'Whether the impossible surprises it'


@functools.partial(jax.jit, static_argnames='model')
def predicted(
  model: models.Advances,
  variables: Variables,
  latents: jax.Array,
  actions: jax.Array,
) -> jax.Array:
  """The latents that true pasts lead the model to expect.

  Args:
    model: predicts from the true past, as far as it looks back.
    variables: of it.
    latents: `[B, T, D]`.
    actions: `[B, T - 1, A]`, normalised.

  Returns:
    `[B, T - 1, D]`.
  """

  def ahead(first: jax.Array | int, length: int) -> jax.Array:
    cut = functools.partial(jax.lax.dynamic_slice_in_dim, axis=1)
    acted = cut(actions, first, length)
    past = cut(latents, first, length)
    state = model.start(variables, past, acted[:, :-1])
    return model.read(model.advance(variables, state, acted[:, -1]))

  num_steps = latents.shape[1] - 1
  longest = min(model.history, num_steps)
  early = [ahead(0, length)[:, None] for length in range(1, longest)]
  firsts = jnp.arange(num_steps - longest + 1)
  rest = jax.lax.map(lambda first: ahead(first, longest), firsts)
  return jnp.concatenate([*early, jnp.moveaxis(rest, 0, 1)], axis=1)


def _errors(expected: jax.Array, came: Any) -> np.ndarray:
  """Mean squares of the last axis."""
  return np.mean(np.square(np.asarray(expected) - np.asarray(came)), axis=-1)


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Surprise:
  """Violation of expectation: prediction errors where the impossible happens.

  Surprise is the mean squared error of the next latent (LeWM, arXiv
  2603.19312, section 5.2). In a world episodes are played as they go, with a
  teleport of the agent and, where it is written in JAX, with a change of its
  colour, each in the middle; the surprise at the changed frame is held against
  the same episodes unchanged. Where no world is known, after a teleport, the
  next latent of a held-out window is one of another window.

  Attributes:
    num_blocks: action blocks of an episode.
    num_episodes: that are played.
  """

  name = group = 'surprise'
  num_blocks: int = 10
  num_episodes: int = 64

  def __call__(self, question: diagnostic.Question) -> Finding:
    acting = question.acting(self.name)
    world = question.episodes.world
    if world is None:
      return _swapped(question, acting)
    return self._played(question, acting, world)

  def _played(
    self,
    question: diagnostic.Question,
    acting: models.Advances,
    world: worlds.World,
  ) -> Finding:
    """The paper's, in a world that can be changed."""
    model = question.model
    play = host_violations.play if world.on_host else violations.play
    shown = play(
      model,
      world,
      question.rng_key,
      num_blocks=self.num_blocks,
      num_episodes=self.num_episodes,
    )
    shape = (*shown.actions.shape[:2], model.action_block, -1)
    actions = model.normalize_actions(shown.actions.reshape(shape))
    encode = jax.jit(model.encode)
    errors = {}
    for name, seen in shown.seen.items():
      parts = []
      for first in range(0, self.num_episodes, _BATCH_SIZE):
        rows = slice(first, first + _BATCH_SIZE)
        latents = encode(
          model.params, jax.tree.map(lambda x, rows=rows: x[rows], seen)
        )
        expected = predicted(acting, model.params, latents, actions[rows])
        parts.append(_errors(expected, latents[:, 1:]))
      errors[name] = np.concatenate(parts)
    at = shown.moment - 1
    finding = _judge({name: x[:, at] for name, x in errors.items()})
    block = model.action_block
    curve = functools.partial(
      plots.lines,
      np.arange(1, self.num_blocks + 1) * block,
      errors,
      title='Surprise over time',
      labels=('environment steps', 'squared error of the next latent'),
      mark=shown.moment * block,
    )
    return dataclasses.replace(
      finding,
      figures={**plots.both('surprise', curve), **_pictures(shown)},
      sentence=f'{finding.sentence} At the frame that is changed, over '
      f'{self.num_episodes} episodes of the expert, against the same frame '
      'unchanged (t-test of pairs).',
    )


def _swapped(question: diagnostic.Question, acting: models.Advances) -> Finding:
  """On windows alone: the next latent is one of another window."""
  looked = question.look()
  paths = looked.paths
  if looked.action is None or len(paths) < 2:
    raise ValueError(
      f'surprise takes two episodes with actions or more, got {len(paths)}.'
    )
  num_episodes, num_frames = paths.shape[:2]
  other_key, time_key = jax.random.split(question.rng_key)
  shape = num_episodes, num_frames - 1
  ahead = jax.random.randint(other_key, shape, 1, num_episodes)
  others = (np.arange(num_episodes)[:, None] + ahead) % num_episodes
  times = np.asarray(jax.random.randint(time_key, shape, 0, num_frames))
  expected = predicted(acting, question.model.params, paths, looked.action)
  finding = _judge(
    {
      name: _errors(expected, came)
      for name, came in (
        ('plain', paths[:, 1:]),
        ('teleport', paths[others, times]),
      )
    }
  )
  return dataclasses.replace(
    finding,
    sentence=f'{finding.sentence} The teleported frame is one of another '
    f'episode. Over {expected.shape[1]} steps of {num_episodes} episodes, '
    'whose means are the pairs of the t-test.',
  )


def _judge(errors: Mapping[str, np.ndarray]) -> Finding:
  """Scalars of errors `[N]` or `[N, T]` by change, 'plain' among them."""
  plain = errors['plain']
  tiny = float(np.finfo(np.float32).tiny)
  scalars = {name: float(x.mean()) for name, x in errors.items()}
  scalars['ratio'] = scalars['teleport'] / max(scalars['plain'], tiny)
  for name, odd in errors.items():
    if name != 'plain':
      more = (odd - plain).reshape(len(odd), -1).mean(1)
      suffix = '' if name == 'teleport' else f'_{name}'
      tested = t_test.paired(more)
      scalars[f'auroc{suffix}'] = ranks.auroc(plain.ravel(), odd.ravel())
      scalars[f't{suffix}'] = tested.t
      scalars[f'p{suffix}'] = tested.p_value
  is_sure = scalars['p'] < _SURE and scalars['t'] > 0
  return Finding(
    title=_TITLE,
    scalars=scalars,
    verdict='surprised' if is_sure else 'not surprised',
    sentence='Mean squared error of the next latent where it came as it '
    'does, and where it could not. The area under the curve is the chance '
    'that the latter surprises more: 1 is always, 0.5 tells nothing. The '
    'verdict is of the teleport, at p < 0.01.',
  )


def _pictures(shown: violations.Violations) -> dict[str, bytes]:
  """Frames around the change, of the first episode."""
  around = slice(max(0, shown.moment - 2), shown.moment + 3)
  rows = {
    name: np.asarray(seen['pixels'][0, around])
    for name, seen in shown.seen.items()
    if 'pixels' in seen
  }
  if not rows:
    return {}
  return plots.both(
    'surprise_frames', functools.partial(figures.draw_rows, rows)
  )
