"""What would have happened: one start, several actions, several outcomes."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, played
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.planning import observations
from jepa_wm.evaluation.report import figures, plots
from jepa_wm.types import Params


class _Outcomes(NamedTuple):
  """Where K actions lead from each of B starts.

  Attributes:
    true: states, leaves `[B, K, ...]`.
    latents: `[B, K, D]`, imagined.
    apart: `[B, K, K]`, between true outcomes, in the world's unit.
    believed: `[B, K, K]`, between those that a probe reads off `latents`.
    off: `[B, K]`, between each true outcome and the one that is read.
  """

  true: Any
  latents: jax.Array
  apart: jax.Array
  believed: jax.Array
  off: jax.Array


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Counterfactual:
  """Distances between outcomes of different actions, imagined and true.

  From every start several pushes are played and imagined, each one action
  kept throughout the horizon. A model that does not listen to actions
  imagines the same every time.

  Attributes:
    num_starts: B.
    num_actions: K, pushes from every start.
    num_probe_frames: that the probe is fitted to.
  """

  name = group = 'counterfactual'
  num_starts: int = 32
  num_actions: int = 6
  num_probe_frames: int = 512

  def __call__(self, question: diagnostic.Question) -> Finding:
    question.acting(self.name)
    world = question.world(self.name)
    env = played.make_env(question.model, world)
    found = self._play(question, env)
    pairs = np.triu_indices(self.num_actions, 1)
    apart, believed = (
      np.asarray(x)[:, *pairs].ravel() for x in (found.apart, found.believed)
    )
    spread = float(apart.std() * believed.std())
    together = float(
      np.mean((apart - apart.mean()) * (believed - believed.mean()))
    )
    scalars = {
      'true': float(apart.mean()),
      'imagined': float(believed.mean()),
      'ratio': float(believed.mean() / max(apart.mean(), 1e-12)),
      'error': float(np.abs(believed - apart).mean()),
      'r': together / spread if spread > 0 else 0.0,
      'outcome_error': float(np.asarray(found.off).mean()),
    }
    return Finding(
      title='Whether different actions have different outcomes',
      scalars=scalars,
      figures=self._figures(question, world, env, found, apart, believed),
      sentence='Mean distances '
      f'({world.unit}) between outcomes of {self.num_actions} pushes from one '
      'start: true, and as a linear probe reads them off what is imagined; the '
      'mean of their differences (error) and their correlation r. '
      'outcome_error is how far a single outcome is off. '
      f'{question.episodes.horizon * question.model.action_block} environment '
      f'steps, {self.num_starts} starts.',
    )

  def _play(self, question: diagnostic.Question, env: Any) -> _Outcomes:
    model, horizon = question.model, question.episodes.horizon
    probe_key, start_key, push_key = jax.random.split(question.rng_key, 3)
    probe = played.fit_probe(model, env, probe_key, self.num_probe_frames)
    shape = self.num_starts, self.num_actions
    block = model.action_block

    def distances(ones: Any, others: Any) -> jax.Array:
      over = jax.vmap(jax.vmap(env.distance, (None, 0)), (0, None))
      return jax.vmap(over)(ones, others)

    @jax.jit
    def play(params: Params, starts_keys: jax.Array) -> _Outcomes:
      starts = jax.vmap(env.reset)(starts_keys)
      pushes = jax.random.normal(push_key, (*shape, env.action_dim))
      pushes = pushes / jnp.linalg.norm(pushes, axis=-1, keepdims=True)
      middle = (env.action_high + env.action_low) / 2
      half = (env.action_high - env.action_low) / 2
      raw = jnp.expand_dims(middle[None, None] + half[None, None] * pushes, 2)
      raw = jnp.broadcast_to(raw, (*shape, horizon * block, raw.shape[-1]))

      def one(start: Any, actions: jax.Array) -> Any:
        states = played.follow(env, start, actions)
        return jax.tree.map(lambda leaf: leaf[-1], states)

      true = jax.vmap(jax.vmap(one, (None, 0)))(starts, raw)
      seen = observations.observe(model, env, starts)
      repeat = lambda x: jnp.repeat(x, self.num_actions, axis=0)
      blocks = raw.reshape(-1, horizon, block, raw.shape[-1])
      latents = played.imagine(
        model,
        params,
        jax.tree.map(repeat, seen),
        model.normalize_actions(blocks),
      )[:, -1].reshape(*shape, -1)
      read = jax.vmap(jax.vmap(env.from_vector))(probe(latents))
      off = jax.vmap(jax.vmap(env.distance))(read, true)
      return _Outcomes(
        true, latents, distances(true, true), distances(read, read), off
      )

    return play(model.params, jax.random.split(start_key, self.num_starts))

  def _figures(
    self,
    question: diagnostic.Question,
    world: worlds.World,
    env: Any,
    found: _Outcomes,
    apart: np.ndarray,
    believed: np.ndarray,
  ) -> dict[str, bytes]:
    """Distances over distances; outcomes of the first start, if decoded."""
    cloud = functools.partial(
      plots.points,
      {'two outcomes of one start': (apart, believed)},
      title='How far apart outcomes are',
      labels=(f'true ({world.unit})', f'imagined ({world.unit})'),
    )
    drawn = plots.both('counterfactual', cloud)
    picture_fn = question.episodes.picture_fn
    if picture_fn is not None:
      first = jax.tree.map(lambda leaf: leaf[0], found.true)
      rows = {
        'true': np.asarray(jax.vmap(env.render)(first)),
        'imagined': np.asarray(picture_fn(found.latents[0])),
      }
      draw = functools.partial(figures.draw_rows, rows)
      drawn |= plots.both('counterfactual_decoded', draw)
    return drawn
