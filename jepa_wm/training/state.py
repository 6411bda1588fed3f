"""Everything a run needs to go on, in one pytree."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jepa_wm.training import optimizers


@flax.struct.dataclass
class TrainState:
  """What changes from step to step; the data iterator is saved beside it.

  Attributes:
    step: int32 scalar, updates done.
    variables: `{'params': ..., 'batch_stats': ...}` of the Jepa.
    target_variables: the target encoder's, or None where it is shared.
    opt_state: optax state.
    rng_key: key of the run. It never changes: the key of a step is derived
      from it, so a resumed run draws what the uninterrupted one would have.
  """

  step: jax.Array
  variables: Any
  target_variables: Any
  opt_state: Any
  rng_key: jax.Array

  def step_key(self) -> jax.Array:
    """Key of the update that follows `step` finished ones."""
    return jax.random.fold_in(self.rng_key, self.step)


def create(
  family: Any,
  optimizer: optimizers.AdamW,
  rng_key: jax.Array,
  *,
  sharding: jax.sharding.Sharding | None = None,
) -> TrainState:
  """Initialises a run at step 0.

  Args:
    family: what to train (`init`, `init_target`).
    optimizer: its transformation's state is made here.
    rng_key: key of the run, consumed.
    sharding: where every leaf is put; the default device when None.

  Returns:
    The state. No two leaves share a buffer, so all of it can be donated.
  """
  init = functools.partial(_init, family, optimizer)
  return jax.jit(init, out_shardings=sharding)(rng_key)


def describe(
  family: Any,
  optimizer: optimizers.AdamW,
  *,
  sharding: jax.sharding.Sharding | None = None,
) -> TrainState:
  """What `create` would return, as shapes: to restore a checkpoint into.

  Args:
    family: as for `create`.
    optimizer: as for `create`.
    sharding: as for `create`.

  Returns:
    The state with a `jax.ShapeDtypeStruct` for every array.
  """
  init = functools.partial(_init, family, optimizer)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(init, jax.random.key(0)),
  )


def _init(
  family: Any, optimizer: optimizers.AdamW, rng_key: jax.Array
) -> TrainState:
  init_key, run_key = jax.random.split(rng_key)
  variables = family.init(init_key)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    variables=variables,
    target_variables=family.init_target(variables),
    opt_state=optimizer.transformation().init(variables['params']),
    rng_key=run_key,
  )
