"""Steps a second of our worlds, with and without pixels, beside the peer's.

  python -m benchmarks.env_throughput [--world=both] [--quick] [--peer]

Prints one JSON line a measurement. `--peer` runs stable-worldmodel's world in
the same process, one environment, which is also the speed of its pools
(`docs/benchmarks.md` says how to install it beside us). Lines whose
`config.load_average` exceeds what the benchmark itself causes, one per core,
come from a busy machine and are worthless.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import records
from jepa_wm.envs import worlds

_QUICK = flags.DEFINE_bool('quick', False, 'Shorter runs, for a smoke test.')
_PEER = flags.DEFINE_bool(
  'peer', False, 'Also measure stable-worldmodel, which must be installed.'
)
_WORLD = flags.DEFINE_enum(
  'world', 'both', ['two_room', 'push_t', 'both'], 'What is measured.'
)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 256, 'Worlds side by side.')

_PEER_NAMES = {'two_room': 'TwoRoomEnv', 'push_t': 'PushT'}
_NUM_STEPS = {'two_room': 2000, 'push_t': 100}


def _seconds(run: Callable[[], object], repeats: int) -> list[float]:
  run()
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
  return times


def _start(world: Any, num_steps: int) -> tuple[Any, jax.Array]:
  """A batch of states and uniform actions `[num_steps, B, 2]`."""
  keys = jax.random.split(jax.random.key(0), _BATCH_SIZE.value)
  shape = (num_steps, _BATCH_SIZE.value, 2)
  actions = jax.random.uniform(jax.random.key(1), shape, minval=-1, maxval=1)
  return jax.jit(jax.vmap(world.reset))(keys), actions


def measure_steps(name: str, num_steps: int, repeats: int) -> list[float]:
  """Seconds of `num_steps` steps of the batch, no pixels."""
  world = worlds.get(name).make()
  state, actions = _start(world, num_steps)

  @jax.jit
  def play(state, actions):
    def step(state, action):
      state = jax.vmap(world.step)(state, action)
      return state, jax.vmap(world.vector)(state)

    return jax.lax.scan(step, state, actions)

  return _seconds(lambda: jax.block_until_ready(play(state, actions)), repeats)


def measure_frames(
  name: str,
  image_size: int,
  num_steps: int,
  repeats: int,
  *,
  different_worlds: bool,
) -> list[float]:
  """Seconds of `num_steps` steps of the batch, every frame of it in memory.

  All frames lie in one returned buffer, `[num_steps, B, size, size, 3]`, used
  again by each run, so that the kernel's zeroing of fresh pages is not what is
  measured. The last frames are compared with `render` of the last states.
  """
  world: Any = worlds.get(name).make(image_size=image_size)
  state, actions = _start(world, num_steps)
  different = None
  if different_worlds:
    keys = jax.random.split(jax.random.key(2), _BATCH_SIZE.value)
    sample = lambda key: type(world).sample_variation(
      key, image_size=image_size
    )
    different = jax.jit(jax.vmap(sample))(keys)

  def render(different, state):
    if different is None:
      return jax.vmap(world.render)(state)
    return jax.vmap(lambda world, state: world.render(state))(different, state)

  def advance(different, state, action):
    if different is None:
      return jax.vmap(world.step)(state, action)
    return jax.vmap(lambda world, state, action: world.step(state, action))(
      different, state, action
    )

  @jax.jit(donate_argnames='frames')
  def play(different, state, actions, frames):
    def step(carry, inputs):
      state, frames = carry
      index, action = inputs
      state = advance(different, state, action)
      frames = jax.lax.dynamic_update_index_in_dim(
        frames, render(different, state), index, 0
      )
      return (state, frames), None

    indices = jnp.arange(num_steps)
    return jax.lax.scan(step, (state, frames), (indices, actions))[0]

  shape = (num_steps, _BATCH_SIZE.value, image_size, image_size, 3)
  buffer = [jnp.zeros(shape, jnp.uint8)]
  last = [state]

  def run():
    last[0], buffer[0] = jax.block_until_ready(
      play(different, state, actions, buffer[0])
    )

  times = _seconds(run, repeats)
  np.testing.assert_array_equal(
    buffer[0][-1], jax.jit(render)(different, last[0])
  )
  return times


def measure_peer(
  name: str, num_steps: int, repeats: int, *, rendered: bool
) -> list[float]:
  """Seconds of `num_steps` steps of the peer's environment."""
  from benchmarks import peer

  torch = peer.torch
  if name == 'push_t':
    from stable_worldmodel.envs.pusht import env as push_t

    env = push_t.PushT()
  else:
    env = peer.two_room.TwoRoomEnv()
  env.reset(seed=0)
  actions = np.random.default_rng(0).uniform(-1, 1, [num_steps, 2])
  actions = actions.astype(np.float32)

  def play(actions):
    for action in actions:
      env.step(action)
      if rendered:
        env.render()

  def trial(num_threads):
    torch.set_num_threads(num_threads)
    return min(_seconds(lambda: play(actions[:5]), 2))

  torch.set_num_threads(min({1, os.cpu_count() or 1}, key=trial))
  return _seconds(lambda: play(actions), repeats)


def _rate(times: list[float], steps: int) -> float:
  return steps / statistics.median(times)


def _line(
  world: str,
  name: str,
  times: list[float],
  num_steps: int,
  peer: float | None,
  compared_with: str,
  **config: object,
) -> str:
  steps = num_steps * _BATCH_SIZE.value
  value = _rate(times, steps)
  return json.dumps(
    records.line(
      f'env_throughput/{world}/{name}',
      round(value),
      'steps/s',
      {
        'batch_size': _BATCH_SIZE.value,
        'steps': num_steps,
        'slowest': round(steps / max(times)),
        'fastest': round(steps / min(times)),
        'compared_with': None if peer is None else compared_with,
        **config,
      },
      peer=None if peer is None else round(peer),
      ratio=None if peer is None else round(value / peer, 1),
    )
  )


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  if _BATCH_SIZE.value < 1:
    raise ValueError(f'--batch_size={_BATCH_SIZE.value} must be positive.')
  chosen = ['two_room', 'push_t'] if _WORLD.value == 'both' else [_WORLD.value]
  for world in chosen:
    _measure(world)


def _measure(world: str) -> None:
  repeats = 2 if _QUICK.value else 9
  share = 10 if _QUICK.value else 1
  peer_steps = peer_frames = None
  if _PEER.value:
    try:
      count = 1000 // share
      times = measure_peer(world, count, repeats, rendered=False)
      peer_steps = _rate(times, count)
      count = 200 // share
      times = measure_peer(world, count, repeats, rendered=True)
      peer_frames = _rate(times, count)
    except ImportError as error:
      raise ValueError(
        f'--peer needs stable-worldmodel ({error}); docs/benchmarks.md says '
        'how to install it.'
      ) from error

  peer_name = f'stable-worldmodel {_PEER_NAMES[world]}, 1 environment'
  count = _NUM_STEPS[world] // share
  print(
    _line(
      world,
      'step',
      measure_steps(world, count, repeats),
      count,
      peer_steps,
      compared_with=f'{peer_name}, env.step',
    ),
    flush=True,
  )
  for name, image_size, count, different_worlds in (
    ('render_224', 224, 8, False),
    ('render_64', 64, 64, False),
    ('render_64_different_worlds', 64, 64, True),
  ):
    if _QUICK.value:
      count //= 4
    times = measure_frames(
      world, image_size, count, repeats, different_worlds=different_worlds
    )
    print(
      _line(
        world,
        name,
        times,
        count,
        peer_frames,
        image_size=image_size,
        compared_with=f'{peer_name}, env.step and env.render at 224 px',
      ),
      flush=True,
    )


if __name__ == '__main__':
  records.run(main)
