"""What a model imagines, drawn: true frames and decoded latents, in time."""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.data import simulation
from jepa_wm.envs import environment, worlds
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import Params

_STREAM = zlib.crc32(b'jepa_wm.evaluation.imagination')


class Videos(NamedTuple):
  """Rollouts as pictures.

  Attributes:
    true: `[n, T, height, width, 3]` uint8, what the world looked like.
    imagined: the same of the model, which saw the first frame alone and was
      told the actions.
    steps: environment steps from one frame to the next.
  """

  true: np.ndarray
  imagined: np.ndarray
  steps: int


def record(
  model: diagnostic.Imagines,
  world: worlds.World,
  picture_fn: Callable[[jax.Array], jax.Array],
  *,
  num_blocks: int = 10,
  num_rollouts: int = 6,
  seed: int = 0,
) -> Videos:
  """Rolls the model out open loop under an expert's actions, and draws it.

  Args:
    model: the world model.
    world: an entry of `worlds.WORLDS` whose `make` gives a JAX world.
    picture_fn: latents `[..., D]` to pixels uint8 `[..., height, width, 3]`.
    num_blocks: action blocks to imagine.
    num_rollouts: n, how many.
    seed: of all draws, apart from those of training data and pairs.

  Raises:
    ValueError: the model sees proprio that the world has not.
  """
  env = world.make(image_size=model.image_size)
  observations.check_proprio(
    model, type(env).__name__, environment.proprio_dim(env)
  )
  batch = next(
    simulation.simulated_windows(
      env,
      world.policy('expert', env, world.action_noise),
      num_frames=num_blocks + 1,
      stride=model.action_block,
      batch_size=num_rollouts,
      seed=_STREAM + seed,
      num_steps=num_blocks * model.action_block,
    )
  )
  shape = num_rollouts, num_blocks, model.action_block, env.action_dim
  seen = {name: batch['observation'][name] for name in model.observation_spec}

  @jax.jit
  def imagine(params: Params) -> jax.Array:
    root = model.start(params, {name: x[:, :1] for name, x in seen.items()})
    path = planning.rollout_path(
      params,
      jax.random.split(jax.random.key(seed), num_rollouts),
      root,
      model.normalize_actions(batch['action'].reshape(shape)),
      model.dynamics,
      read_fn=model.latent,
    )
    first = model.latent(root)[:, None]
    return picture_fn(
      jnp.concatenate([first, path.reshape(*path.shape[:2], -1)], axis=1)
    )

  true = np.asarray(batch['observation']['pixels'])
  return Videos(true, np.asarray(imagine(model.params)), model.action_block)
