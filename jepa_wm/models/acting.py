"""What is done with any model that actions move."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import pytrees
from jepa_wm.models import model
from jepa_wm.types import (
  ActionSpec,
  LatentState,
  Observation,
  ObservationSpec,
  Variables,
)

# Frames up to which a program with every step in it is still compiled soon.
_MOST_UNROLLED = 32


class Windowed(model.Advances, Protocol):
  """A model that actions move and that learns of windows of frames."""

  @property
  def num_frames(self) -> int:
    """See `model.Learns`."""
    ...


def start(
  acting: model.Advances,
  variables: Variables,
  latents: jax.Array,
  actions: jax.Array | None,
  *,
  grows: bool = False,
) -> LatentState:
  """Starts a state from latents, and checks what goes into it.

  Args:
    acting: the model.
    variables: of it.
    latents: `[..., T, D]`, `T` from 1 to `history`, newest last.
    actions: `[..., T - 1, A]` between them; may be left out for `T = 1`.
    grows: see `model.Advances.start`.

  Raises:
    ValueError: more latents than `history`, or actions that do not fit them.
  """
  if jnp.ndim(latents) < 2:
    raise ValueError(
      'latents: expected [..., T, D] of T frames up to now, newest last, got '
      f'{list(jnp.shape(latents))}; a single frame has T = 1.'
    )
  length = latents.shape[-2]
  if not 1 <= length <= acting.history:
    raise ValueError(
      f'latents: expected 1 to {acting.history} frames (history), got {length}.'
    )
  expected = (*latents.shape[:-2], length - 1, acting.action_spec.size)
  if actions is None and length == 1:
    actions = jnp.zeros(expected, latents.dtype)
  if actions is None or jnp.shape(actions) != expected:
    got = None if actions is None else list(jnp.shape(actions))
    raise ValueError(
      f'actions: expected {list(expected)}, one normalised block between each '
      f'two frames, got {got}.'
    )
  return acting.start(variables, latents, jnp.asarray(actions), grows=grows)


def is_single(spec: ObservationSpec, observation: Observation) -> bool:
  """Whether an observation is of one problem, its arrays `[*shape]`."""
  return any(
    jnp.ndim(x) == len(spec[name].shape)
    for name, x in observation.items()
    if name in spec
  )


def in_time(spec: ObservationSpec, observation: Observation) -> Observation:
  """Frames without time, `[*shape]` or `[B, *shape]`, as the newest of T = 1.

  Args:
    spec: of a frame.
    observation: histories `[..., B, T, *shape]` stay as they are.
  """

  def lift(name: str, array: jax.Array) -> jax.Array:
    number = jnp.ndim(array) - len(spec[name].shape)
    return jnp.expand_dims(array, number) if number in (0, 1) else array

  return {
    name: lift(name, x) if name in spec else x
    for name, x in observation.items()
  }


def encode_both(
  encoding: model.Encodes,
  variables: Variables,
  seen: Observation,
  wanted: Observation,
) -> tuple[jax.Array, jax.Array]:
  """Latents `[B, T, D]` and `[B, D]` of frames and goals.

  In one pass where they are alike: half the program to compile, and larger
  products.

  Args:
    encoding: the model.
    variables: of it.
    seen: arrays `[B, T, *shape]`.
    wanted: arrays `[B, *shape]`.
  """
  goals = {name: jnp.expand_dims(x, 1) for name, x in wanted.items()}
  look = lambda x: {
    name: (a.shape[0], *a.shape[2:], a.dtype) for name, a in x.items()
  }
  if look(seen) != look(goals):
    return (
      encoding.encode(variables, seen),
      encoding.encode(variables, wanted),
    )
  both = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), dict(seen), goals)
  latents = encoding.encode(variables, both)
  return latents[:, :-1], latents[:, -1]


def prediction_errors(
  acting: model.Advances, variables: Variables, batch: model.Batch
) -> tuple[dict[str, jax.Array], jax.Array]:
  """How far a model's predictions are from what came, in eval mode.

  Args:
    acting: steps latents by actions.
    variables: of it.
    batch: `observation` `[B, T, ...]` and `action` `[B, T - 1, A]`.

  Returns:
    Mean squared errors per latent dimension, `prediction_error` of one step
    after true latents and `rollout_error` of the last step after a rollout from
    the first frame alone; and the latents `[B, T, D]` of the batch.
  """
  observation, actions = batch['observation'], batch['action']
  seen = {name: observation[name] for name in acting.observation_spec}
  latents = acting.encode(variables, seen)
  if latents.shape[1] > _MOST_UNROLLED:
    return _long_errors(acting, variables, latents, actions), latents
  rolled = acting.start(variables, latents[:, :1], actions[:, :0], grows=True)
  errors = []
  for t in range(1, latents.shape[1]):
    first = max(0, t - acting.history)
    state = acting.start(
      variables, latents[:, first:t], actions[:, first : t - 1], grows=True
    )
    state, rolled = (
      acting.advance(variables, x, actions[:, t - 1]) for x in (state, rolled)
    )
    errors.append(acting.read(state) - latents[:, t])
  rollout_error = acting.read(rolled) - latents[:, -1]
  metrics = {
    'prediction_error': jnp.mean(jnp.square(jnp.stack(errors))),
    'rollout_error': jnp.mean(jnp.square(rollout_error)),
  }
  return metrics, latents


def _long_errors(
  acting: model.Advances,
  variables: Variables,
  latents: jax.Array,
  actions: jax.Array,
) -> dict[str, jax.Array]:
  """The metrics of `prediction_errors`, to rounding, as one scan over time."""

  def step(states: Any, token: Any) -> Any:
    action, latent = token
    ahead, rolled = (acting.advance(variables, x, action) for x in states)
    error = jnp.mean(jnp.square(acting.read(ahead) - latent))
    seen = acting.absorb(variables, states[0], action, latent)
    return (seen, rolled), error

  first = acting.start(variables, latents[:, :1], actions[:, :0])
  in_time = lambda x: jnp.moveaxis(x, 1, 0)
  (_, rolled), errors = jax.lax.scan(
    step, (first, first), (in_time(actions), in_time(latents[:, 1:]))
  )
  rollout_error = acting.read(rolled) - latents[:, -1]
  return {
    'prediction_error': jnp.mean(errors),
    'rollout_error': jnp.mean(jnp.square(rollout_error)),
  }


def describe(learns: model.Learns, variables: Variables) -> str:
  """A model in a line: what it sees, its sizes, its parameters."""
  sizes = [f'{x} {list(y.shape)}' for x, y in learns.observation_spec.items()]
  sizes.append(f'latent {learns.latent_dim}')
  if (acts := learns.acting) is not None:
    block, dim = acts.action_spec.block, acts.action_spec.dim
    sizes += [f'action {block} x {dim}', f'history {acts.history}']
  number = pytrees.count_parameters(variables)
  said = f'{learns.config.name}: {", ".join(sizes)}'
  return f'{said}; {number:,} parameters'


def check_block(name: str, action: Any, spec: ActionSpec) -> None:
  """Refuses a block of another size.

  Args:
    name: of the argument.
    action: `[..., A]`.
    spec: of what is expected.

  Raises:
    ValueError: it is one.
  """
  size = (*np.shape(action)[-1:], 0)[0]
  if size != spec.size:
    raise ValueError(
      f'{name}: expected size {spec.size} ({spec.block} raw actions of '
      f'{spec.dim}), got {size}.'
    )


def check_goal(
  encoding: model.Encodes, goal: jax.Array | None, num_problems: int
) -> None:
  """Refuses what is neither no goal nor a latent of each problem.

  Raises:
    ValueError: it is that.
  """
  expected = num_problems, encoding.latent_dim
  if goal is not None and jnp.shape(goal) != expected:
    raise ValueError(
      f'goal: expected an observation or its latents {list(expected)}, got '
      f'{list(jnp.shape(goal))}.'
    )


def check_windows(
  learns: Windowed, size: int, name: str, frames: Any, actions: Any
) -> None:
  """Refuses windows of frames and actions that do not fit each other.

  Args:
    learns: the model.
    size: of its features, which may stand in the place of frames.
    name: 'latents', or what is observed.
    frames: `[B, T, *shape]`.
    actions: `[B, T - 1, A]`.

  Raises:
    ValueError: they do not, or not the model.
  """
  shape: tuple[int, ...] = (size,)
  if name != 'latents':
    shape = learns.observation_spec[name].shape
  if frames.ndim != 2 + len(shape) or (
    frames.shape[1] < learns.num_frames or frames.shape[2:] != shape
  ):
    sizes = ', '.join(map(str, shape))
    raise ValueError(
      f'{name} must be [B, T, {sizes}] with T at least {learns.num_frames} '
      f'(predictor.history={learns.history} and the steps of the first term), '
      f'got shape {frames.shape}.'
    )
  num_samples, num_frames = frames.shape[:2]
  expected = (num_samples, num_frames - 1, learns.action_spec.size)
  if actions.shape != expected:
    raise ValueError(
      f'action must be {list(expected)}: one block of '
      f'action_block={learns.action_spec.block} actions of '
      f'action_dim={learns.action_spec.dim} between any two frames, got shape '
      f'{actions.shape}.'
    )
