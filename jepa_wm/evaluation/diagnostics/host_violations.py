"""Teleports in worlds outside JAX, whose rows worker processes step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import stage, worlds
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.violations import Violations
from jepa_wm.evaluation.planning import observations


def play(
  model: diagnostic.Imagines,
  world: worlds.World,
  rng_key: jax.Array,
  *,
  num_blocks: int,
  num_episodes: int,
) -> Violations:
  """As `violations.play`, of a world on the host, without a change of colour.

  After a teleport what `World.body` names is as at the start of another
  episode.

  Raises:
    ValueError: the model sees proprio that the world has not, or a world that
      broke.
  """
  block, moment = model.action_block, (num_blocks + 1) // 2
  seed = int(jax.random.randint(rng_key, (), 0, 2**31 - 1))
  with world.stage(image_size=model.image_size) as opened:
    observations.check_proprio(model, 'this one', opened.proprio_dim)
    turns = [
      _turn(opened, world, rows, seed, (num_blocks, block, moment))
      for rows in stage.waves(num_episodes, opened.num_rows)
    ]
  plain, teleport, actions = jax.tree.map(
    lambda *parts: np.concatenate(parts), *turns
  )
  names = model.observation_spec
  return Violations(
    {
      kind: {name: jnp.asarray(seen[name]) for name in names}
      for kind, seen in (('plain', plain), ('teleport', teleport))
    },
    jnp.asarray(actions),
    moment,
  )


def _turn(
  opened: Any,
  world: worlds.World,
  numbers: np.ndarray,
  seed: int,
  sizes: tuple[int, int, int],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
  """What is seen, plain and teleported, `[n, T, ...]`, and the blocks."""
  num_blocks, block, moment = sizes
  rows = np.arange(len(numbers))
  streams = opened.streams(stage.Purpose.EPISODES, seed, numbers)
  opened.reset(rows, streams)
  role = stage.Role(('expert',), world.action_noise)
  acted = opened.perform(
    rows, role, streams, num_steps=num_blocks * block, look=True
  )
  plain = {
    name: np.array(x[:, ::block]) for name, x in acted.observations.items()
  }
  actions = np.asarray(acted.actions).reshape(len(rows), num_blocks, block, -1)
  body = np.asarray(world.teleport.is_body)
  vectors = np.asarray(acted.vectors)
  others = np.roll(vectors[:, 0], 1, axis=0)
  moved = np.where(body, others, vectors[:, moment * block])
  opened.place(rows, stage.Problems(moved, moved))
  frames = [opened.observe(rows)]
  for number in range(moment, num_blocks):
    opened.play(rows, actions[:, number])
    frames.append(opened.observe(rows))
  if opened.failures:
    raise ValueError(
      f'surprise: the world broke: {next(iter(opened.failures.values()))}'
    )
  teleport = {
    name: np.concatenate(
      [x[:, :moment], np.stack([f[name] for f in frames], 1)], axis=1
    )
    for name, x in plain.items()
  }
  return plain, teleport, actions.reshape(len(rows), num_blocks, -1)
