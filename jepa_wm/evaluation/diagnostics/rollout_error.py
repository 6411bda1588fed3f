"""How far imagination drifts from the world, in the world's own unit."""

import dataclasses
import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, played, probing
from jepa_wm.evaluation.diagnostics.finding import Finding, Table
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import Params

_STREAM = zlib.crc32(b'jepa_wm.evaluation.rollout_error')


@dataclasses.dataclass(frozen=True)
class Drift:
  """Mean distance between the imagined and the true state.

  Attributes:
    steps: environment steps imagined, one entry a block; the first is 0, where
      the error is that of the probe alone.
    recorded: under actions as the peers record them (expert, noise 2.0).
    pushes: under straight pushes, one action of length 1 kept throughout. This
      is where a planner goes.
    unit: of the distances.
  """

  steps: list[int]
  recorded: list[float]
  pushes: list[float]
  unit: str

  def finding(self) -> Finding:
    """The errors by step as a table, the last ones as scalars."""
    return Finding(
      title='How far imagination drifts',
      scalars={
        'probe': self.recorded[0],
        'recorded': self.recorded[-1],
        'pushes': self.pushes[-1],
      },
      table=Table(
        ['imagined steps', *map(str, self.steps)],
        [
          ['recorded actions', *self.recorded],
          ['straight pushes', *self.pushes],
        ],
      ),
      sentence=f'Mean distance ({self.unit}) between the true state and the '
      'one read by a linear probe off the imagined latent. At step 0 the '
      'latent is an encoded frame, so that error is the probe\u2019s own.',
    )


def measure(
  model: diagnostic.Imagines,
  world: worlds.World,
  *,
  horizon: int = 5,
  action_noise: float | None = None,
  num_probe_frames: int = 512,
  num_rollouts: int = 128,
  rng_key: jax.Array | None = None,
) -> Drift:
  """Rolls the model out open loop and reads the true state off its latents.

  A linear probe is fitted to encoded frames of fresh states. Then, from other
  fresh states, the model imagines `horizon` blocks, the world plays the same
  actions, and the probe says where the model believes to be.

  Args:
    model: the world model.
    world: an entry of `worlds.WORLDS`.
    horizon: blocks to imagine.
    action_noise: of the expert that plays the recorded actions; the world's by
      default.
    num_probe_frames: frames that the probe is fitted to.
    num_rollouts: rollouts of either kind.
    rng_key: of all draws, apart from those of training data and pairs.

  Returns:
    Mean errors after each block.

  Raises:
    ValueError: the model sees proprio that the world has not.
  """
  env = played.make_env(model, world)
  if action_noise is None:
    action_noise = world.action_noise
  expert = world.policy('expert', env, action_noise)
  num_steps = horizon * model.action_block

  play = functools.partial(played.play, env, expert, num_steps)

  @jax.jit
  def errors(
    params: Params,
    probe: probing.LinearProbe,
    rng_key: jax.Array,
    pushes: jax.Array,
  ) -> jax.Array:
    rng_keys = jax.random.split(rng_key, num_rollouts)
    states, actions = jax.vmap(play, (0, None))(rng_keys, pushes)
    blocks = actions.reshape(
      num_rollouts, horizon, model.action_block, actions.shape[-1]
    )
    first = jax.tree.map(lambda leaf: leaf[:, 0], states)
    seen = observations.observe(model, env, first)
    blocks = model.normalize_actions(blocks)
    latents = played.imagine(model, params, seen, blocks)
    believed = probe(latents)
    truth = jax.tree.map(lambda leaf: leaf[:, :: model.action_block], states)

    def distance(vector: jax.Array, state: Any) -> jax.Array:
      return env.distance(env.from_vector(vector), state)

    return jnp.mean(jax.vmap(jax.vmap(distance))(believed, truth), axis=0)

  if rng_key is None:
    rng_key = jax.random.key(0)
  key = jax.random.fold_in(rng_key, _STREAM)
  probe_key, rollout_key = jax.random.split(key)
  probe = played.fit_probe(model, env, probe_key, num_probe_frames)
  recorded, pushed = (
    np.asarray(errors(model.params, probe, rollout_key, kind)).tolist()
    for kind in (False, True)
  )
  steps = [h * model.action_block for h in range(horizon + 1)]
  return Drift(steps, recorded, pushed, world.unit)


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class RolloutError:
  """The drift of a model in its world.

  Attributes:
    num_probe_frames: see `measure`.
    num_rollouts: see `measure`.
  """

  name = group = 'rollout_error'
  num_probe_frames: int = 512
  num_rollouts: int = 128

  def __call__(self, question: diagnostic.Question) -> Finding:
    question.acting(self.name)
    drift = measure(
      question.model,
      question.world(self.name),
      horizon=question.episodes.horizon,
      num_probe_frames=self.num_probe_frames,
      num_rollouts=self.num_rollouts,
      rng_key=question.rng_key,
    )
    return drift.finding()
