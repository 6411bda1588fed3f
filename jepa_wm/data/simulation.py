"""Windows straight from a JAX world rendered on the device: no disk.

Worlds and policies are duck-typed (`envs.environment.Environment` and
`envs.policies.Policy` are what is meant); rooms of one floor never meet.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.data import columns as columns_lib

if TYPE_CHECKING:
  import grain

# Keys are told apart by 32 bits; nobody draws as many batches.
_NUM_BATCHES = 2**32 - 1


def play(
  env: Any, policy: Any, rng_key: jax.Array, *, num_steps: int
) -> tuple[Any, jax.Array, Any]:
  """Plays one episode from a fresh state, without rendering it.

  Args:
    env: a world; its `reset` and `step` are used.
    policy: `policy.init(rng_key, state)` gives its memory,
      `policy(rng_key, state, memory)` an action and the next memory.
    rng_key: consumed; nothing else is random.
    num_steps: actions to take.

  Returns:
    States, leaves `[num_steps + 1, ...]`; actions `[num_steps, A]`; and the
    memory the policy began with.
  """
  reset_key, init_key, act_key = jax.random.split(rng_key, 3)
  state = env.reset(reset_key)
  memory = policy.init(init_key, state)

  def step(carry: Any, t: jax.Array) -> tuple[Any, Any]:
    state, memory = carry
    action, memory = policy(jax.random.fold_in(act_key, t), state, memory)
    next_state = env.step(state, action)
    return (next_state, memory), (next_state, action)

  _, (states, actions) = jax.lax.scan(
    step, (state, memory), jnp.arange(num_steps)
  )
  states = jax.tree.map(
    lambda first, rest: jnp.concatenate([first[None], rest]), state, states
  )
  return states, actions, memory


def episode_length(
  states: Any, done_fn: Callable[[Any], jax.Array] | None
) -> tuple[jax.Array, jax.Array]:
  """Frames up to the first state that is done, and whether there is one.

  Args:
    states: leaves `[T, ...]`.
    done_fn: whether a state ends its episode; None: only the clock does.

  Returns:
    int32 number of frames, 1..T, the done one included; boolean.
  """
  num_frames = jax.tree.leaves(states)[0].shape[0]
  if done_fn is None:
    return jnp.int32(num_frames), jnp.bool_(False)
  done = jax.vmap(done_fn)(states)
  is_done = jnp.any(done)
  length = jnp.where(is_done, jnp.argmax(done) + 1, num_frames)
  return length.astype(jnp.int32), is_done


def simulated_windows(
  env: Any,
  policy: Any,
  *,
  num_frames: int,
  stride: int,
  batch_size: int,
  seed: int,
  num_steps: int = 100,
  columns: Sequence[str] | None = None,
  done_fn: Callable[[Any], jax.Array] | None = None,
  rows: np.ndarray | None = None,
) -> 'grain.DatasetIterator':
  """Endless batches of windows, each from an episode of its own.

  A batch is one jitted function of the seed and the batch's number, which is
  all of the iterator's state (`get_state()`, `set_state(...)` as in
  `windows.cached_windows`). Every episode is played to its end, then only the
  frames of its window are rendered. The window's place is uniform in the
  episode; one that is done sooner than a window is long plays on.

  Args:
    env: a world, as in `play`; also its `render`, `proprio` and `vector` are
      used.
    policy: as in `play`.
    num_frames: frames `T` of a window.
    stride: environment steps from one frame of a window to the next.
    batch_size: windows `B` of a batch.
    seed: of everything random.
    num_steps: steps of an episode at most.
    columns: names of what a batch holds (`data/columns.py`); all that a world
      has by default.
    done_fn: whether a state ends its episode; None: only the clock does.
    rows: as for `windows.cached_windows`.

  Returns:
    Iterator over dicts of device arrays: `observation`, a dict of `pixels`
    uint8 `[B, T, height, width, 3]` and `proprio` float32 `[B, T, S]`; `action`
    float32 `[B, T-1, stride * A]` in raw units; and `state` float32
    `[B, T, V]`.

  Raises:
    ValueError: a count below one, no such column, or episodes shorter than a
      window.
  """
  import grain

  if min(num_frames, stride, batch_size) < 1:
    raise ValueError(
      'num_frames, stride and batch_size must be at least 1, got '
      f'{num_frames}, {stride} and {batch_size}.'
    )
  num_actions = (num_frames - 1) * stride
  if num_steps < num_actions:
    raise ValueError(
      f'num_steps must be at least {num_actions} for {num_frames} frames '
      f'{stride} steps apart, got {num_steps}.'
    )

  looks = {
    columns_lib.PIXELS: env.render,
    columns_lib.PROPRIO: env.proprio,
    'state': env.vector,
  }
  names = columns_lib.chosen(columns, {**looks, 'action': None}, repr(env))
  looks = {name: look for name, look in looks.items() if name in names}

  base_key = jax.random.key(seed)

  def window(rng_key: jax.Array) -> dict[str, Any]:
    play_key, start_key = jax.random.split(rng_key)
    states, actions, _ = play(env, policy, play_key, num_steps=num_steps)
    length, _ = episode_length(states, done_fn)
    num_starts = jnp.maximum(length - num_actions, 1)
    start = jax.random.randint(start_key, (), 0, num_starts)
    frames = start + jnp.arange(num_frames) * stride
    states = jax.tree.map(lambda leaf: leaf[frames], states)
    actions = jax.lax.dynamic_slice_in_dim(actions, start, num_actions)
    seen = {name: jax.vmap(look)(states) for name, look in looks.items()}
    if 'action' in names:
      seen['action'] = actions.reshape(num_frames - 1, stride * env.action_dim)
    return columns_lib.nested(seen)

  # The world is closed over: known while compiling, it is faster.
  @jax.jit
  def draw(index: jax.typing.ArrayLike) -> dict[str, Any]:
    rng_key = jax.random.fold_in(base_key, index)
    keys = jax.random.split(rng_key, batch_size)
    return jax.vmap(window)(keys if rows is None else keys[rows])

  return iter(
    grain.MapDataset.range(_NUM_BATCHES)
    .map(draw)
    .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
  )
