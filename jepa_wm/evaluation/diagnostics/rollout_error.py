"""How far imagination drifts from the world, in the world's own unit."""

import dataclasses
import zlib
from typing import Any
from typing import Protocol as TypingProtocol

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.envs import environment, worlds
from jepa_wm.evaluation.diagnostics import probing
from jepa_wm.evaluation.planning import observations
from jepa_wm.types import LatentState, Params

_STREAM = zlib.crc32(b'jepa_wm.evaluation.rollout_error')


class ImaginingModel(TypingProtocol):
  """What is asked of a world model; `jepa_wm.WorldModel` is one.

  Its latent states hold their newest latent at `state.latents[..., -1, :]`.
  One that sees the body's own state says so by `proprio_dim` above 0; `encode`
  then takes `proprio` `[..., S]` and `initial_state` `[B, T, S]`.
  """

  @property
  def params(self) -> Params: ...

  @property
  def image_size(self) -> int: ...

  @property
  def action_block(self) -> int: ...

  def encode(self, params: Params, pixels: jax.Array) -> jax.Array:
    """Latents `[..., D]` of uint8 pixels `[..., height, width, 3]`."""
    ...

  def initial_state(self, params: Params, pixels: jax.Array) -> LatentState:
    """A state from frames `[B, T, height, width, 3]`."""
    ...

  def dynamics(
    self,
    params: Params,
    rng_key: jax.Array,
    action: jax.Array,
    state: LatentState,
  ) -> LatentState:
    """A `DynamicsFn`."""
    ...

  def normalize_actions(self, actions: jax.Array) -> jax.Array:
    """Raw actions `[..., action_block, raw]` as blocks `[..., A]`."""
    ...


@dataclasses.dataclass(frozen=True)
class RolloutError:
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


def measure(
  model: ImaginingModel,
  world: worlds.World,
  *,
  horizon: int = 5,
  action_noise: float | None = None,
  num_probe_frames: int = 512,
  num_rollouts: int = 128,
  seed: int = 0,
) -> RolloutError:
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
    seed: of all draws, apart from those of training data and pairs.

  Returns:
    Mean errors after each block.

  Raises:
    ValueError: the model sees proprio that the world has not.
  """
  env = world.make(image_size=model.image_size)
  observations.check_proprio(
    model, type(env).__name__, environment.proprio_dim(env)
  )
  if action_noise is None:
    action_noise = world.action_noise
  expert = world.policy('expert', env, action_noise)
  num_steps = horizon * model.action_block

  def play(rng_key: jax.Array, pushes: jax.Array) -> tuple[Any, jax.Array]:
    """States `[num_steps + 1]` of one episode and its actions."""
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

  @jax.jit
  def fit_probe(params: Params, rng_keys: jax.Array) -> probing.LinearProbe:
    states = jax.vmap(env.reset)(rng_keys)
    seen: Any = observations.observe(model, env, states)
    latents = model.encode(params, **seen)
    return probing.fit(latents, jax.vmap(env.vector)(states))

  @jax.jit
  def errors(
    params: Params,
    probe: probing.LinearProbe,
    rng_keys: jax.Array,
    pushes: jax.Array,
  ) -> jax.Array:
    states, actions = jax.vmap(play, (0, None))(rng_keys, pushes)
    blocks = actions.reshape(
      num_rollouts, horizon, model.action_block, actions.shape[-1]
    )
    first = jax.tree.map(lambda leaf: leaf[:, 0], states)
    seen: Any = observations.observe(model, env, first)
    root = model.initial_state(
      params, **jax.tree.map(lambda x: jnp.expand_dims(x, 1), seen)
    )
    path = planning.rollout_path(
      params,
      rng_keys,
      root,
      model.normalize_actions(blocks),
      model.dynamics,
      read_fn=lambda state: state.latents[..., -1, :],
    )
    latents = jnp.concatenate([root.latents[:, -1:], path], axis=1)
    believed = probe(latents)
    truth = jax.tree.map(lambda leaf: leaf[:, :: model.action_block], states)

    def distance(vector: jax.Array, state: Any) -> jax.Array:
      return env.distance(env.from_vector(vector), state)

    return jnp.mean(jax.vmap(jax.vmap(distance))(believed, truth), axis=0)

  key = jax.random.fold_in(jax.random.key(seed), _STREAM)
  probe_key, rollout_key = jax.random.split(key)
  probe = fit_probe(model.params, jax.random.split(probe_key, num_probe_frames))
  rollout_keys = jax.random.split(rollout_key, num_rollouts)
  recorded, pushed = (
    np.asarray(errors(model.params, probe, rollout_keys, kind)).tolist()
    for kind in (False, True)
  )
  steps = [h * model.action_block for h in range(horizon + 1)]
  return RolloutError(steps, recorded, pushed, world.unit)
