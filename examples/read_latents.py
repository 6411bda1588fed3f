"""Reads the place of the agent out of a model's latents.

  python examples/read_latents.py

Encodes episodes of Two Room, fits a linear map from latents to places on most
of them, and draws how it reads another: `outputs/latents.png`.
"""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib.figure

import jepa_wm
from jepa_wm import envs


def main(out: str = 'outputs/latents.png', num_episodes: int = 16):
  """Fits and draws; the mean error in px on the episode left out."""
  model = jepa_wm.WorldModel.from_checkpoint('two_room_small')
  world = envs.TwoRoom(image_size=model.image_size)
  expert = envs.TwoRoomExpert(world, 2.0)

  def play(rng_key):
    """An episode: places `[T, 2]`, latents `[T, D]`."""
    reset_key, *step_keys = jax.random.split(rng_key, 61)

    def step(state, key):
      action, _ = expert(key, state, ())
      return world.step(state, action), state

    _, states = jax.lax.scan(step, world.reset(reset_key), jnp.stack(step_keys))
    seen = {'pixels': jax.vmap(world.render)(states)}
    return jax.vmap(world.vector)(states), model.encode(model.params, seen)

  keys = jax.random.split(jax.random.key(0), num_episodes)
  places, latents = jax.jit(jax.vmap(play))(keys)

  # Least squares on all episodes but the last.
  ones = jnp.ones((*latents.shape[:-1], 1))
  inputs = jnp.concatenate([latents, ones], axis=-1)
  flat = lambda x: x[:-1].reshape(-1, x.shape[-1])
  weights, *_ = jnp.linalg.lstsq(flat(inputs), flat(places))
  read = inputs[-1] @ weights
  error = jnp.linalg.norm(read - places[-1], axis=-1).mean()

  figure = matplotlib.figure.Figure(figsize=(4, 4), layout='constrained')
  axes = figure.subplots()
  axes.plot(*places[-1].T, label='where it was')
  axes.plot(*read.T, '.', label='read from 8 numbers')
  axes.set(aspect='equal', xlabel='x, px', ylabel='y, px')
  axes.invert_yaxis()
  axes.legend()
  pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(out)
  print(f'{error:.1f} px off on average; {out}')
  return error


if __name__ == '__main__':
  main()
