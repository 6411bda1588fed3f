"""States that absorb what is seen, and such as are of another model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.models import acting as acting_lib
from jepa_wm.models import model
from jepa_wm.types import (
  LatentState,
  Observation,
  ObservationSpec,
  Variables,
)


def absorb(
  acting: model.Advances,
  variables: Variables,
  state: LatentState,
  action: jax.Array,
  latent: jax.Array,
) -> LatentState:
  """Steps a state by what was seen, and checks what goes into it.

  Args:
    acting: the model.
    variables: of it.
    state: what it started or stepped.
    action: `[..., A]`, normalised, played in that state.
    latent: `[..., D]`, of what that led to.

  Raises:
    ValueError: an action or a latent of another size, or a state of another
      model.
  """
  acting_lib.check_block('action', action, acting.action_spec)
  lead = np.shape(action)[:-1]
  expected = (*lead, acting.latent_dim)
  if np.shape(latent) != expected:
    raise ValueError(
      f'latent: expected {list(expected)}, what each block of the action led '
      f'to, got {list(np.shape(latent))}.'
    )
  check_state(acting, variables, state, lead)
  return acting.absorb(
    variables, state, jnp.asarray(action), jnp.asarray(latent)
  )


def check_seen(
  spec: ObservationSpec, action: jax.Array, seen: Observation
) -> None:
  """Refuses what was seen of other problems than an action is of.

  Args:
    spec: of what the model sees.
    action: `[..., A]`.
    seen: arrays `[..., *shape]`; `encode` says what else may be wrong.

  Raises:
    ValueError: the leading dims differ.
  """
  lead = list(np.shape(action)[:-1])
  for name in spec.keys() & seen.keys():
    wanted = spec[name]
    shape, own = list(np.shape(seen[name])), list(wanted.shape)
    before = len(shape) - len(own)
    if shape[before:] == own and before >= 0 and shape[:before] != lead:
      raise ValueError(
        f'seen: {name} must be {[*lead, *own]}, one for each block of the '
        f'action {list(np.shape(action))}, got {shape}.'
      )


def check_state(
  acting: model.Advances,
  variables: Variables,
  state: LatentState,
  lead: tuple[int, ...],
) -> None:
  """Refuses the state of another model; nothing is computed for it.

  Args:
    acting: the model.
    variables: of it.
    state: of one shape, or one that grows.
    lead: dims `[...]` of what it is stepped by.

  Raises:
    ValueError: it is one, or leads with other dims.
  """
  action = jax.ShapeDtypeStruct((*lead, acting.action_spec.size), jnp.float32)

  def make(length: int, grows: bool, steps: int = 0) -> LatentState:
    shapes = (length, acting.latent_dim), (length - 1, action.shape[-1])
    past = [jax.ShapeDtypeStruct((*lead, *x), jnp.float32) for x in shapes]

    def run(latents: jax.Array, actions: jax.Array, action: jax.Array) -> Any:
      state = acting.start(variables, latents, actions, grows=grows)
      for _ in range(steps):
        state = acting.advance(variables, state, action)
      return state

    return jax.eval_shape(run, *past, action)

  fixed = make(1, False)
  if _look(state) == _look(fixed):
    return
  # How many tokens a growing one holds is its own matter.
  loosely = lambda tree: _look(tree, len(lead) + 2)
  length = acting.history
  if loosely(state) in (
    loosely(make(min(length, 2), True)),
    loosely(make(length, True, 1)),
  ):
    return
  name = lambda tree: ', '.join(
    f'{jax.tree_util.keystr(path) or "latent"} {list(np.shape(leaf))}'
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)[:4]
  )
  raise ValueError(
    'state: a memory state handed to another model, or of another batch: for '
    f'{list(lead)} problems this one carries {name(fixed)}, got '
    f'{name(state) or "nothing"}; start one by this model.'
  )


def _look(tree: Any, token_ndim: int | None = None) -> Any:
  """Structure, shapes and dtypes; without numbers of tokens, if asked.

  Args:
    tree: of arrays.
    token_ndim: dims from which on the last but one counts tokens.
  """

  def look(leaf: Any) -> Any:
    shape = np.shape(leaf)
    if token_ndim is not None and len(shape) >= token_ndim:
      shape = (*shape[:-2], shape[-1])
    return shape, jnp.result_type(leaf)

  return jax.tree.structure(tree), [look(x) for x in jax.tree.leaves(tree)]
