"""What goals are worth, learnt of what was played: a price for a planner."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax

from jepa_wm import sharding, world_model
from jepa_wm.data import columns, goals
from jepa_wm.data import table as table_lib
from jepa_wm.models import heads
from jepa_wm.training import run as run_lib
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib
from jepa_wm.types import LatentState, Params

_CHUNK = 256
"""Frames that are encoded at once."""

_COLLECTION = 'value'


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Valued(world_model.WorldModel):
  """A model whose planners look for what a head values.

  The head's variables are the collection 'value' of `params`, so that a program
  that plans is compiled once for all of them.

  Attributes:
    head: prices latents in place of the distance to the goal.
  """

  head: heads.Learner | None = None

  @property
  def meaning(self) -> Any:
    """See `WorldModel`; the head is a part of it."""
    assert self.head is not None
    return self.model.config, self.head.config, self.head.sizes

  def cost(
    self, params: Params, state: LatentState, action: jax.Array, goal: jax.Array
  ) -> jax.Array:
    """What the head says of the newest latent; a `CostFn`."""
    del action
    price_fn = None if self.head is None else self.head.roles.cost
    assert price_fn is not None
    return price_fn(params[_COLLECTION], self.latent(state), goal)


class Values:
  """Learns a head of hindsight goals that prices latents, always from nothing.

  What it learns is a function of the model, the episodes and the seed: nobody
  has to keep it, and latents are those of the model as it is. What is learnt
  again is not compiled again.

  Attributes:
    head: what is learnt.
  """

  def __init__(
    self,
    head: heads.Learner,
    *,
    num_steps: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
  ):
    """Says what is learnt and how.

    Args:
      head: of `batches` 'goals', with the role `cost`.
      num_steps: updates.
      batch_size: blocks of a batch.
      learning_rate: of Adam.
      seed: of everything random.

    Raises:
      ValueError: a head that learns of something else, or prices nothing.
    """
    if head.config.batches != 'goals' or head.roles.cost is None:
      raise ValueError(
        f'The head {head.config.name!r} learns no value of goals; take one '
        "that does, such as 'gcivl' or 'gciql'."
      )
    self.head, self._num_steps, self._seed = head, num_steps, seed
    self._batch_size, self._mesh = batch_size, sharding.make_mesh()
    self._optimizer = optax.adam(learning_rate)
    self._encode = jax.jit(
      lambda model, seen: model.encode(model.params, {'pixels': seen})
    )
    self._train_step = jax.jit(
      self._updated,
      donate_argnums=0,
      out_shardings=sharding.replicated(self._mesh),
    )

  def valued(
    self, model: world_model.WorldModel, learnt: Params
  ) -> world_model.WorldModel:
    """The model, whose planners look for what is worth most.

    Args:
      model: plans.
      learnt: what `learn` gave.
    """
    params = {**model.params, _COLLECTION: learnt}
    given = model.model, params, model.units, model.record
    return Valued(*given, head=self.head)

  def learn(
    self, model: world_model.WorldModel, table: table_lib.Table
  ) -> Params:
    """The head's variables for inference, learnt of episodes.

    Args:
      model: encodes; sees pixels alone.
      table: the episodes.

    Raises:
      DivergedError: the loss is no longer a number.
      ValueError: no episode is as long as a block.
    """
    batches = goals.transitions(
      table,
      latents=self._latents(model, table),
      stride=model.action_block,
      odds=goals.odds_of(self.head.config),
      batch_size=self._batch_size,
      seed=self._seed,
      num_threads=0,
    )
    state = state_lib.create(
      self.head,
      self._optimizer,
      jax.random.key(self._seed),
      sharding=sharding.replicated(self._mesh),
    )
    finite = True
    for number in range(self._num_steps):
      batch = sharding.shard_batch(next(batches), self._mesh)
      state, metrics = self._train_step(state, batch, model.units)
      finite = metrics['finite'] & finite
      if number % 100 == 99:
        # Hides the loading, and does not run away from it.
        jax.block_until_ready(finite)
    if not finite:
      raise run_lib.DivergedError(
        f'The value of the head {self.head.config.name!r} diverged: a loss of '
        f'its {self._num_steps} updates is not finite.'
      )
    return self.head.for_inference(state.variables)

  def _updated(
    self, state: state_lib.TrainState, batch: Any, units: Any
  ) -> tuple[state_lib.TrainState, step_lib.Metrics]:
    """One update."""
    update = step_lib.update(
      self.head, self._optimizer, action_statistics=units
    )
    return update(state, batch)

  def _latents(
    self, model: world_model.WorldModel, table: table_lib.Table
  ) -> np.ndarray:
    """Of all frames of the episodes, `[N, D]`."""
    pixels = table.columns[columns.PIXELS]
    found = []
    for first in range(0, table.num_frames, _CHUNK):
      # The last frame is repeated: one shape, one compilation.
      rows = np.minimum(first + np.arange(_CHUNK), table.num_frames - 1)
      found.append(np.asarray(self._encode(model, pixels[rows])))
    return np.concatenate(found)[: table.num_frames]
