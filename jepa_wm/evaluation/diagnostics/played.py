"""Episodes that are played for a diagnostic, as windows with the true state."""

import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm import planning
from jepa_wm.envs import environment, worlds
from jepa_wm.evaluation.diagnostics import diagnostic, probing
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import Params

_STREAM = zlib.crc32(b'jepa_wm.evaluation.diagnostics.played')


def make_env(model: diagnostic.Imagines, world: worlds.World) -> Any:
  """The world, with pictures of the model's size.

  Raises:
    ValueError: the model sees proprio that the world has not.
  """
  env = world.make(image_size=model.image_size)
  observations.check_proprio(
    model, type(env).__name__, environment.proprio_dim(env)
  )
  return env


def play(
  env: Any, expert: Any, num_steps: int, rng_key: jax.Array, pushes: jax.Array
) -> tuple[Any, jax.Array]:
  """One episode.

  Args:
    env: the world.
    expert: a policy of it.
    num_steps: environment steps.
    rng_key: of the start, the policy and the push, consumed.
    pushes: bool; whether one action of length 1 is kept throughout, in place
      of the expert's.

  Returns:
    States, leaves `[num_steps + 1, ...]`, and actions `[num_steps, raw]`.
  """
  keys = jax.random.split(rng_key, 4)
  first = env.reset(keys[0])
  push = jax.random.normal(keys[1], (env.action_dim,))
  push = push / jnp.linalg.norm(push)

  def step(carry, t):
    state, memory = carry
    action_key = jax.random.fold_in(keys[3], t)
    action, memory = expert(action_key, state, memory)
    action = jnp.where(pushes, push, action)
    after = env.step(state, action)
    return (after, memory), (after, action)

  carry = (first, expert.init(keys[2], first))
  _, (states, actions) = jax.lax.scan(step, carry, jnp.arange(num_steps))
  states = jax.tree.map(
    lambda one, more: jnp.concatenate([one[None], more]), first, states
  )
  return states, actions


def follow(env: Any, state: Any, actions: jax.Array) -> Any:
  """States, leaves `[T, ...]`, after each of raw actions `[T, raw]`."""

  def step(state: Any, action: jax.Array) -> Any:
    after = env.step(state, action)
    return after, after

  return jax.lax.scan(step, state, actions)[1]


def fit_probe(
  model: diagnostic.Imagines, env: Any, rng_key: jax.Array, num_frames: int
) -> probing.LinearProbe:
  """A linear probe of the state, fitted to frames of fresh states.

  Args:
    model: encodes them.
    env: the world.
    rng_key: of the states, consumed.
    num_frames: how many.
  """

  @jax.jit
  def fit(params: Params, rng_key: jax.Array) -> probing.LinearProbe:
    states = jax.vmap(env.reset)(jax.random.split(rng_key, num_frames))
    seen = observations.observe(model, env, states)
    latents = model.encode(params, seen)
    return probing.fit(latents, jax.vmap(env.vector)(states))

  return fit(model.params, rng_key)


def imagine(
  model: diagnostic.Imagines, params: Params, seen: Any, actions: jax.Array
) -> jax.Array:
  """Latents `[B, 1 + H, D]` of a frame, encoded, and of what follows.

  Args:
    model: is rolled out.
    params: of it.
    seen: observations `[B, ...]`.
    actions: normalised blocks `[B, H, A]`.
  """
  root = model.start(
    params, jax.tree.map(lambda x: jnp.expand_dims(x, 1), seen)
  )
  path = planning.rollout_path(
    params,
    jax.random.split(jax.random.key(0), len(actions)),
    root,
    actions,
    model.dynamics,
    read_fn=model.latent,
  )
  return jnp.concatenate([model.latent(root)[:, None], path], axis=1)


def windows(
  model: diagnostic.Imagines,
  world: worlds.World,
  split: str,
  *,
  horizon: int = 5,
  num_episodes: int = 64,
) -> list[diagnostic.Batch]:
  """Episodes of the expert, seen once an action block.

  Args:
    model: says what it observes, and how many steps a block has.
    world: a JAX world.
    split: 'train' or 'held_out', whose episodes differ.
    horizon: blocks of an episode.
    num_episodes: to play.

  Returns:
    One batch: `observation` `[B, horizon + 1, ...]`, raw `action` `[B, horizon,
    A]` and `state` `[B, horizon + 1, V]`.

  Raises:
    ValueError: the model sees proprio that the world has not.
  """
  env = make_env(model, world)
  expert = world.policy('expert', env, world.action_noise)
  num_steps = horizon * model.action_block

  @jax.jit
  def episodes(rng_keys: jax.Array) -> diagnostic.Batch:
    states, actions = jax.vmap(
      functools.partial(play, env, expert, num_steps), (0, None)
    )(rng_keys, jnp.asarray(False))
    seen = jax.tree.map(lambda x: x[:, :: model.action_block], states)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    pictures = observations.observe(model, env, flat)
    return {
      'observation': jax.tree.map(
        lambda x: x.reshape(num_episodes, horizon + 1, *x.shape[1:]), pictures
      ),
      'action': actions.reshape(num_episodes, horizon, -1),
      'state': jax.vmap(jax.vmap(env.vector))(seen),
    }

  key = jax.random.fold_in(jax.random.key(_STREAM), zlib.crc32(split.encode()))
  return [jax.device_get(episodes(jax.random.split(key, num_episodes)))]
