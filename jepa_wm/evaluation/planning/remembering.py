"""What a closed loop remembers of its worlds: last frames, or a model's state.

Arrays lead with all rows of a wave; those that are no longer looked at keep
whatever is there.
"""

import dataclasses
import time
from typing import Any, Protocol

import jax
import numpy as np
from jax.extend import core

from jepa_wm import planning
from jepa_wm.evaluation.planning import (
  observations,
  planner_settings,
  planning_model,
  programs,
)


class Remembers(Protocol):
  """How what is seen and done becomes what the next plan is given."""

  @property
  def compile_seconds(self) -> float:
    """Time spent in compiling so far."""
    ...

  def first_look(self, receding_horizon: int) -> int:
    """The first block of a plan, from 1 on, before which it must see."""
    ...

  def see(self, memory: Any, rows: np.ndarray, seen: Any) -> Any:
    """The memory with what was seen of some rows, leaves `[n, ...]`."""
    ...

  def play(self, memory: Any, rows: np.ndarray, blocks: np.ndarray) -> Any:
    """The memory with blocks `[n, A]` that were played in some rows."""
    ...

  def settle(self, memory: Any) -> Any:
    """What is kept between two plans."""
    ...


@dataclasses.dataclass(frozen=True)
class Frames:
  """The last frames, a block apart, and the blocks between them.

  Attributes:
    history: frames that a plan is given at most.
  """

  history: int
  compile_seconds: float = 0.0

  def first_look(self, receding_horizon: int) -> int:
    """See `Remembers`: what will be forgotten again is not looked at."""
    return receding_horizon - min(receding_horizon, self.history) + 1

  def see(
    self,
    memory: planning.Memory,
    rows: np.ndarray,
    seen: observations.Observation,
  ) -> planning.Memory:
    """See `Remembers`."""
    append = lambda past, now: np.concatenate(
      [past, _whole(now, rows, len(past))[:, None]], axis=1
    )
    return memory._replace(
      observations=jax.tree.map(append, memory.observations, seen)
    )

  def play(
    self, memory: planning.Memory, rows: np.ndarray, blocks: np.ndarray
  ) -> planning.Memory:
    """See `Remembers`."""
    return _played(memory, rows, blocks)

  def settle(self, memory: planning.Memory) -> planning.Memory:
    """See `Remembers`."""
    keep = self.history - 1
    return jax.tree.map(lambda x: x[:, max(0, x.shape[1] - keep) :], memory)


@dataclasses.dataclass
class Followed:
  """The model's own state, which absorbs every frame once.

  Attributes:
    planner: knows the model, and how its batches lie.
    compile_seconds: see `Remembers`.
  """

  planner: programs.BatchPlanner
  compile_seconds: float = 0.0

  def first_look(self, receding_horizon: int) -> int:
    """See `Remembers`: every block's end is looked at."""
    del receding_horizon
    return 1

  def see(
    self,
    memory: planning.Followed,
    rows: np.ndarray,
    seen: observations.Observation,
  ) -> planning.Followed:
    """See `Remembers`; encodes what is seen, a batch after the other."""
    given = jax.tree.map(lambda x: x[rows], memory)
    began = time.perf_counter()
    see = self.planner.seeing(given, seen)
    self.compile_seconds += time.perf_counter() - began
    size, parts = self.planner.batch_size, []
    for first in range(0, len(rows), size):
      share = slice(first, first + size)
      cut = lambda x, share=share: x[share]
      parts.append(see(*jax.tree.map(cut, (given, seen))))
    found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    number = len(memory.actions)
    if memory.state is None:
      return jax.tree.map(lambda x: _whole(x, rows, number), found)
    state = jax.tree.map(
      lambda x, now: _put(x, rows, now), memory.state, found.state
    )
    return planning.Followed(state, memory.actions[:, :0])

  def play(
    self, memory: planning.Followed, rows: np.ndarray, blocks: np.ndarray
  ) -> planning.Followed:
    """See `Remembers`."""
    return _played(memory, rows, blocks)

  def settle(self, memory: planning.Followed) -> planning.Followed:
    """See `Remembers`: all of it."""
    return memory


def check(
  model: planning_model.PlanningModel,
  settings: planner_settings.PlannerSettings,
) -> None:
  """Makes sure that a model remembers as it is to; computes nothing.

  Args:
    model: the model.
    settings: of its planner.

  Raises:
    ValueError: what the model says about too many frames, or a state that
      remembers nothing.
  """
  planning_model.check_history(model, settings.history)
  if settings.memory != 'state':
    return
  seen = observations.shapes(model, 1)
  block = jax.ShapeDtypeStruct((1, model.action_dim), np.dtype(np.float32))
  following = model.following
  state = jax.eval_shape(following.start_fn, model.params, seen)
  absorbed = jax.make_jaxpr(following.absorb_fn)(
    model.params, state, block, seen
  ).jaxpr
  first = len(jax.tree.leaves(model.params))
  before = absorbed.invars[first : first + len(jax.tree.leaves(state))]
  needed: set[Any] = set(filter(_is_variable, absorbed.outvars))
  for equation in reversed(absorbed.eqns):
    if needed & set(equation.outvars):
      needed |= set(filter(_is_variable, equation.invars))
  if not needed & set(before):
    raise ValueError(
      "memory='state' would do nothing: this model's state is its newest frame "
      'alone, which every plan is given anyway; leave it out, or take a model '
      'that remembers (config.model.predictor).'
    )


def _is_variable(atom: Any) -> bool:
  return not isinstance(atom, core.Literal)


def make(planner: programs.BatchPlanner) -> Remembers:
  """What the settings of a planner say."""
  settings = planner.settings
  if settings.memory == 'state':
    return Followed(planner)
  return Frames(settings.history)


def _played(memory: Any, rows: np.ndarray, blocks: np.ndarray) -> Any:
  done = _whole(blocks.astype(np.float32), rows, len(memory.actions))
  actions = np.concatenate([memory.actions, done[:, None]], axis=1)
  return memory._replace(actions=actions)


def _whole(some: np.ndarray, rows: np.ndarray, number: int) -> np.ndarray:
  """`[number, ...]` with what there is of some rows, zeros of the others."""
  return _put(np.zeros((number, *some.shape[1:]), some.dtype), rows, some)


def _put(whole: np.ndarray, rows: np.ndarray, some: np.ndarray) -> np.ndarray:
  whole = whole.copy()
  whole[rows] = some
  return whole


def put(start: Any, rows: np.ndarray, left: Any) -> Any:
  """Puts what plans left in their rows."""
  return jax.tree.map(lambda whole, some: _put(whole, rows, some), start, left)
