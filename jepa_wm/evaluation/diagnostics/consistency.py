"""Whether imagination agrees with itself, and keeps what does not change."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, played
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.planning import observations
from jepa_wm.evaluation.report import plots
from jepa_wm.types import Params

_STILL = 1e-3  # Of a number's deviation: what moves less does not change.


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Consistency:
  """Rollouts in one go and restarted halfway, and long ones at rest.

  A latent is all that a restart is given, so what the predictor remembered
  beside it is lost: the two ends differ where latents do not say enough. An
  invariant is a number of the true state that does not change while the world
  is played; what a probe reads of it off imagined latents should not either.
  Episodes are played at rest (actions of zero) and by the expert.

  Attributes:
    num_steps: environment steps of the long rollouts.
    num_rollouts: of each kind.
    num_probe_frames: that the probe is fitted to.
  """

  name = group = 'consistency'
  num_steps: int = 200
  num_rollouts: int = 32
  num_probe_frames: int = 512

  def __call__(self, question: diagnostic.Question) -> Finding:
    acting = question.acting(self.name)
    looked = question.look()
    if looked.action is None or looked.paths.shape[1] < 3:
      raise ValueError(
        'consistency takes windows of three frames or more with actions, got '
        f'{looked.paths.shape[1]}; raise data.num_frames.'
      )
    whole, halves = _rolled(
      acting, question.model.params, looked.paths, looked.action
    )
    variance = float(looked.rows.var(axis=0).mean())
    unit = max(variance, float(np.finfo(np.float32).tiny))
    apart = float(np.mean(np.square(whole - halves))) / unit
    wrong = float(np.mean(np.square(whole - looked.paths[:, -1]))) / unit
    num_steps = looked.paths.shape[1] - 1
    said = (
      f'restarted is the mean square between the ends of rollouts of '
      f'{num_steps} blocks in one go and restarted after {num_steps // 2}, '
      'error that between the first and what came, as shares of the variance '
      'of latents.'
    )
    scalars, figures = {'restarted': apart, 'error': wrong}, {}
    world = question.episodes.world
    if world is not None and not world.on_host:
      drifts = self._drifts(question, world)
      scalars |= {f'drift_{kind}': float(x[:, -1].mean())
                  for kind, x in drifts.items() if len(x)}  # fmt: skip
      said += (
        ' drift is how far what a probe reads of the unchanging moves '
        f'in {self._num_blocks(question) * question.model.action_block} '
        'environment steps, in deviations of that number over fresh states: '
        'at rest, and under the expert where it leaves something as it was.'
      )
      figures = self._figures(question, drifts)
    return Finding(
      title='Whether imagination agrees with itself',
      scalars=scalars,
      figures=figures,
      sentence=said[0].upper() + said[1:],
    )

  def _num_blocks(self, question: diagnostic.Question) -> int:
    return -(-self.num_steps // question.model.action_block)

  def _drifts(
    self, question: diagnostic.Question, world: worlds.World
  ) -> dict[str, np.ndarray]:
    """Drift `[M, T]` of invariants by how the episode was played."""
    model, env = question.model, played.make_env(question.model, world)
    probe_key, play_key = jax.random.split(question.rng_key)
    probe = played.fit_probe(model, env, probe_key, self.num_probe_frames)
    fresh = jax.vmap(env.reset)(jax.random.split(probe_key, 256))
    deviation = np.asarray(jax.vmap(env.vector)(fresh)).std(0)
    expert = world.policy('expert', env, world.action_noise)
    num_blocks, block = self._num_blocks(question), model.action_block

    def episode(rng_key: jax.Array, is_at_rest: jax.Array) -> Any:
      states, actions = played.play(
        env, expert, num_blocks * block, rng_key, jnp.asarray(False)
      )
      first = jax.tree.map(lambda leaf: leaf[0], states)
      actions = jnp.where(is_at_rest, 0.0, actions)
      after = played.follow(env, first, actions)
      vectors = jnp.concatenate(
        [env.vector(first)[None], jax.vmap(env.vector)(after)]
      )
      return first, vectors, actions.reshape(num_blocks, block, -1)

    @jax.jit
    def both(params: Params, rng_keys: jax.Array, is_at_rest: jax.Array) -> Any:
      first, vectors, actions = jax.vmap(episode, (0, None))(
        rng_keys, is_at_rest
      )
      latents = played.imagine(
        model,
        params,
        observations.observe(model, env, first),
        model.normalize_actions(actions),
      )
      return vectors, probe(latents)

    keys = jax.random.split(play_key, self.num_rollouts)
    drifts = {}
    for kind in ('rest', 'expert'):
      vectors, read = both(model.params, keys, jnp.asarray(kind == 'rest'))
      drifts[kind] = _drift(np.asarray(vectors), np.asarray(read), deviation)
    return drifts

  def _figures(
    self, question: diagnostic.Question, drifts: dict[str, np.ndarray]
  ) -> dict[str, bytes]:
    """Drift over time, of what there is."""
    shown = {kind: x for kind, x in drifts.items() if len(x)}
    if not shown:
      return {}
    length = next(iter(shown.values())).shape[1]
    draw = functools.partial(
      plots.lines,
      np.arange(length) * question.model.action_block,
      shown,
      title='Drift of what does not change',
      labels=('environment steps', 'deviations'),
    )
    return plots.both('consistency', draw)


def _drift(
  vectors: np.ndarray, read: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
  """Drift `[M, T]` of the numbers of episodes that do not change.

  Args:
    vectors: `[N, steps + 1, V]`, true.
    read: `[N, T, V]`, off imagined latents.
    deviation: `[V]`, of each number; one of zero tells nothing.
  """
  varies = deviation > 0
  unit = np.where(varies, deviation, 1.0)
  still = (np.ptp(vectors, axis=1) < _STILL * unit) & varies
  moved = np.abs(read - read[:, :1]) / unit
  return np.moveaxis(moved, 1, 2)[still]


@functools.partial(jax.jit, static_argnames='model')
def _rolled(
  model: models.Advances,
  params: Params,
  latents: jax.Array,
  actions: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Ends `[N, D]` of rollouts from the first latent: whole, and in halves."""

  def start(latent: jax.Array) -> Any:
    return model.start(params, latent[:, None], actions[:, :0])

  num_steps = actions.shape[1]
  whole = halves = start(latents[:, 0])
  for step in range(num_steps):
    if step == num_steps // 2:
      halves = start(model.read(whole))
    whole = model.advance(params, whole, actions[:, step])
    if step >= num_steps // 2:
      halves = model.advance(params, halves, actions[:, step])
  return model.read(whole), model.read(halves)
