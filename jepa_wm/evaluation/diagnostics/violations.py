"""Episodes in which something happens that cannot."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.envs import variation, worlds
from jepa_wm.evaluation.diagnostics import diagnostic, played
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import Observation

KINDS = ('plain', 'colour', 'teleport')


class Violations(NamedTuple):
  """The same episodes, as they went and with a change.

  Attributes:
    seen: observations `[B, T, ...]` by what was changed, 'plain' of all;
      'colour' is missing where the world has none to vary.
    actions: raw blocks `[B, T - 1, A]`, the same in all.
    moment: index of the first changed frame.
  """

  seen: dict[str, Observation]
  actions: jax.Array
  moment: int


def play(
  model: diagnostic.Imagines,
  world: worlds.World,
  rng_key: jax.Array,
  *,
  num_blocks: int,
  num_episodes: int,
) -> Violations:
  """Plays episodes of the expert, and again with a change in the middle.

  After a teleport the agent (`World.body`) is at a place that the world draws
  for a fresh episode, and the same actions go on from there. After a change
  of colour all is as it was but for the colour of the agent, drawn anew for
  every episode.

  Args:
    model: says what it observes, and how many steps a block has.
    world: a JAX world.
    rng_key: of all draws, consumed.
    num_blocks: action blocks of an episode, two or more.
    num_episodes: B.

  Raises:
    ValueError: the model sees proprio that the world has not.
  """
  env = played.make_env(model, world)
  expert = world.policy('expert', env, world.action_noise)
  block, moment = model.action_block, (num_blocks + 1) // 2
  group = _color(world) if 'pixels' in model.observation_spec else None

  def episode(rng_key: jax.Array) -> Any:
    play_key, place_key, color_key = jax.random.split(rng_key, 3)
    states, actions = played.play(
      env, expert, num_blocks * block, play_key, jnp.asarray(False)
    )
    seen = jax.tree.map(lambda leaf: leaf[::block], states)
    before = jax.tree.map(lambda x: x[moment], seen)
    there = world.teleport(env, before, place_key)
    after = played.follow(env, there, actions[moment * block :])
    teleported = jax.tree.map(
      lambda old, now, new: jnp.concatenate(
        [old[:moment], now[None], new[block - 1 :: block]]
      ),
      seen,
      there,
      after,
    )
    painted = None if group is None else variation.vary(env, group, color_key)
    return seen, teleported, painted, actions.reshape(num_blocks, -1)

  @functools.partial(jax.jit, static_argnames='number')
  def all_of_them(rng_key: jax.Array, number: int) -> Any:
    keys = jax.random.split(rng_key, number)
    seen, teleported, painted, actions = jax.vmap(episode)(keys)
    look = functools.partial(_look, model, env)
    pictures = {'plain': look(seen)}
    if painted is not None:
      late = look(
        jax.tree.map(lambda x: x[:, moment:], seen), own_worlds=painted
      )
      pictures['colour'] = jax.tree.map(
        lambda old, new: jnp.concatenate([old[:, :moment], new], 1),
        pictures['plain'],
        late,
      )
    pictures['teleport'] = look(teleported)
    return pictures, actions

  pictures, actions = all_of_them(rng_key, num_episodes)
  # Compiled programs sort names.
  order = [name for name in KINDS if name in pictures]
  return Violations({name: pictures[name] for name in order}, actions, moment)


def _color(world: worlds.World) -> str | None:
  """The group of the agent's colour, or of another; None without any."""
  groups = [x for x in world.variation_groups if x.endswith('_color')]
  return 'agent_color' if 'agent_color' in groups else next(iter(groups), None)


def _look(
  model: diagnostic.Imagines, env: Any, states: Any, own_worlds: Any = None
) -> Observation:
  """Observations `[B, T, ...]` of states `[B, T, ...]`."""
  lead = jax.tree.leaves(states)[0].shape[:2]
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), states)
  if own_worlds is not None:
    own_worlds = jax.tree.map(
      lambda x: jnp.repeat(x, lead[1], axis=0), own_worlds
    )
  seen = observations.observe(model, env, flat, own_worlds)
  return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), seen)
