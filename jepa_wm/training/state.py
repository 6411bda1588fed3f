"""Everything a run needs to go on, in one pytree."""

import functools
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jepa_wm import bounds
from jepa_wm import sharding as sharding_lib
from jepa_wm.types import Params


class Learner(Protocol):
  """What can be trained: `jepa_wm.models.model.Learns` has this and more."""

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables; consumes the key.

    Returns:
      `{'params': ..., 'batch_stats': ...}` and what else the model has; the
      optimiser changes 'params' alone.
    """
    ...

  def losses(self, variables: Params, batch: Any, rng_key: jax.Array) -> Any:
    """What a batch costs.

    Returns:
      A tuple with the attributes `loss`, a scalar, `metrics`, scalars by name,
      and `batch_stats`, the collection of that name after the batch.
    """
    ...

  def after_update(self, variables: Params, step: jax.Array) -> Params:
    """Variables after an update of 'params', `step` updates before it."""
    ...

  def for_inference(self, variables: Params) -> Params:
    """What evaluations see."""
    ...


@flax.struct.dataclass
class TrainState:
  """What changes from step to step; the data iterator is saved beside it.

  Attributes:
    step: int32 scalar, updates done.
    variables: all of the learner's: what is learnt, statistics, a target.
    opt_state: optax state.
    rng_key: key of the run. It never changes: the key of a step is derived
      from it, so a resumed run draws what the uninterrupted one would have.
  """

  step: jax.Array
  variables: Any
  opt_state: Any
  rng_key: jax.Array

  def step_key(self) -> jax.Array:
    """Key of the update that follows `step` finished ones."""
    return jax.random.fold_in(self.rng_key, self.step)


Layout = TrainState
"""A state of shardings, one for each of its leaves or for a part of them."""

Where = jax.sharding.Sharding | Layout
"""One sharding for all of a state, or a layout."""


def create(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  rng_key: jax.Array,
  *,
  sharding: Where | None = None,
) -> TrainState:
  """Initialises a run at step 0.

  Args:
    learner: what to train.
    optimizer: its state is made here.
    rng_key: key of the run, consumed.
    sharding: where every leaf is put; the default device when None. What lies
      split is drawn in its parts.

  Returns:
    The state. No two leaves share a buffer, so all of it can be donated.

  Raises:
    ValueError: a CPU's memory cannot hold it.
  """
  init = jax.jit(
    functools.partial(_init, learner, optimizer), out_shardings=sharding
  )
  if jax.default_backend() == 'cpu':
    # Elsewhere XLA says so at once; here the system would end the process.
    made = jax.tree.leaves(init.trace(rng_key).out_info)
    sizes = [x.size * x.dtype.itemsize for x in made]
    bounds.check_memory("The model's and the optimizer's numbers", sum(sizes))
  return _drawn(init, rng_key)


def _drawn(init: Any, rng_key: jax.Array) -> TrainState:
  """Draws a state, all of which fits."""
  state: TrainState = init(rng_key)
  return state


def describe(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  *,
  sharding: Where | None = None,
) -> TrainState:
  """What `create` would return, as shapes: to restore a checkpoint into.

  Args:
    learner: as for `create`.
    optimizer: as for `create`.
    sharding: as for `create`.

  Returns:
    The state with a `jax.ShapeDtypeStruct` for every array.
  """
  init = functools.partial(_init, learner, optimizer)
  shapes: TrainState = jax.eval_shape(init, jax.random.key(0))

  if sharding is None:
    return shapes

  def put(where: jax.sharding.Sharding, part: Any) -> Any:
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), part
    )

  described: TrainState = jax.tree.map(put, sharding, shapes)
  return described


def layout(
  learner: Learner,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  how: str,
) -> Layout:
  """How a state lies on the devices of `mesh`.

  Args:
    learner: as for `create`.
    optimizer: as for `create`.
    mesh: has an axis `data`.
    how: one of `sharding.LAYOUTS`.
  """
  if how == 'fsdp':
    found: Layout = sharding_lib.layout(describe(learner, optimizer), mesh)
    return found
  everywhere: Any = sharding_lib.replicated(mesh)
  return TrainState(everywhere, everywhere, everywhere, everywhere)


def _init(
  learner: Learner, optimizer: optax.GradientTransformation, rng_key: jax.Array
) -> TrainState:
  init_key, run_key = jax.random.split(rng_key)
  variables = learner.init(init_key)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    variables=variables,
    opt_state=optimizer.init(variables['params']),
    rng_key=run_key,
  )
