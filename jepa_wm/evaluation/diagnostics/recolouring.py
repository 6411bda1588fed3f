"""Whether the model is surprised when something changes its colour."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jepa_wm.envs import variation
from jepa_wm.evaluation.diagnostics import diagnostic, played, surprise
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.planning import observations
from jepa_wm.evaluation.statistics import ranks
from jepa_wm.types import Params


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Recolouring:
  """Violation of expectation: a frame in which one thing has another colour.

  Pasts are as they were; the next frame is seen as it is, and with a factor of
  variation drawn anew. Surprise is the mean squared error of its latent.

  Source: LeWM, arXiv 2603.19312, section 5.2, whose test is a paired t-test.

  Attributes:
    factor: of the world's `variation_groups`.
    num_episodes: of the expert, each recoloured in its own way.
  """

  name = group = 'surprise_colour'

  factor: str = 'agent_color'
  num_episodes: int = 64

  def __call__(self, question: diagnostic.Question) -> Finding:
    model, world = question.model, question.episodes.world
    if model.model.acting is None or world is None or world.on_host:
      raise ValueError(
        'surprise_colour takes a model with dynamics and a world written in '
        'JAX, whose colours can be drawn anew.'
      )
    env: Any = played.make_env(model, world)
    expert = world.policy('expert', env, world.action_noise)
    horizon = question.episodes.horizon
    num_steps = horizon * model.action_block

    @jax.jit
    def errors(params: Params, rng_keys: jax.Array) -> Any:
      play = functools.partial(played.play, env, expert, num_steps)
      states, actions = jax.vmap(play, (0, None))(rng_keys, jnp.asarray(False))
      seen = jax.tree.map(lambda x: x[:, :: model.action_block], states)
      look = functools.partial(observations.observe, model)
      others = jax.vmap(functools.partial(variation.vary, env, self.factor))(
        rng_keys
      )
      paths = model.encode(params, jax.vmap(lambda x: look(env, x))(seen))
      odd = model.encode(params, jax.vmap(look)(others, seen))
      blocks = actions.reshape(len(rng_keys), horizon, model.action_block, -1)
      expected = surprise.predicted(
        model.model.acting, params, paths, model.normalize_actions(blocks)
      )
      return [
        jnp.mean(jnp.square(expected - came[:, 1:]), axis=-1)
        for came in (paths, odd)
      ]

    keys = jax.random.split(question.rng_key, self.num_episodes)
    plain, odd = map(np.asarray, errors(model.params, keys))
    tiny = np.finfo(np.float32).tiny
    # Steps of one episode are not independent of each other: means are.
    test = stats.ttest_rel(odd.mean(1), plain.mean(1), alternative='greater')
    return Finding(
      title='Whether another colour surprises it',
      scalars={
        'plain': float(plain.mean()),
        'colour': float(odd.mean()),
        'ratio': float(odd.mean() / max(plain.mean(), tiny)),
        'auroc': ranks.auroc(plain.ravel(), odd.ravel()),
        'p_value': float(np.nan_to_num(test.pvalue, nan=1.0)),
      },
      sentence=f'Mean squared error of the next latent, as it comes and with '
      f'{self.factor} drawn anew. The area under the curve is the chance that '
      'the latter surprises more: 1 is always, 0.5 tells nothing; p is of a '
      f'paired t-test over {self.num_episodes} episodes.',
    )
