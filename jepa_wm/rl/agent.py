"""A model that acts, for robots and servers; its state goes in and out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import fields, planning, world_model
from jepa_wm.models import acting
from jepa_wm.planning import keys, mpc_state
from jepa_wm.types import Observation, Params, Root

_NO_END = 2**31 - 1


class AgentState(NamedTuple):
  """All that an agent knows between two looks at its worlds.

  Attributes:
    rng_keys: `[B]`.
    number: int32, blocks played so far.
    num_left: int32, blocks that may still be played.
    goal: `[B, D]`, encoded once.
    memory: of the last frames their latents `[B, T, D]`, oldest first, fewer
      than the history that it looks back, and the blocks `[B, T, A]` played
      after them, normalised; or what the model has `Followed`.
    left: what the last plan left.
  """

  rng_keys: jax.Array
  number: jax.Array
  num_left: jax.Array
  goal: jax.Array
  memory: planning.Memory | planning.Followed
  left: Any


class Acted(NamedTuple):
  """What an agent does next.

  Attributes:
    actions: `[B, block, raw]`, raw actions to play one after another; `[block,
      raw]` of one world.
    state: for the next call.
    plan: whence they come. A `cost` that is NaN or infinite says that the
      model could not price it: do not play it.
  """

  actions: jax.Array
  state: AgentState
  plan: planning.Plan


class Agent:
  """Looks, plans and says what to do, for B worlds at once or for one.

  It keeps nothing itself: a server holds one agent, and a state for every
  client; a state can be copied, saved and mapped over like any pytree.

    planner = model.planner(jepa_wm.ICEM(num_samples=32), horizon=5)
    agent = rl.Agent(model, planner)
    state = agent.start(jax.random.key(0), goal)
    while True:
      actions, state, plan = agent.act(state, observation)
      ...  # Play the raw actions, look again.

  A call is one program. It is compiled once, or once for each number of frames
  up to `history`. With `memory='state'` the model's own state absorbs what is
  seen, a small program before it.
  """

  def __init__(
    self,
    model: world_model.WorldModel,
    planner: planning.CompiledPlanner,
    *,
    history: int = 1,
    memory: str = 'frames',
  ):
    """Compiles nothing yet.

    Args:
      model: encodes what is seen.
      planner: plans for it, see `WorldModel.planner`.
      history: frames that it looks back, a block apart, with the one now.
      memory: 'frames', or 'state': the model's own, which every frame is
        absorbed into, however many there are (`WorldModel.absorb`).

    Raises:
      ValueError: more frames than the model can start from, fewer than one, or
        several beside a state.
    """
    fields.check_choice('memory', memory, ('frames', 'state'))
    if memory == 'state' and history > 1:
      raise ValueError(
        f"history={history} would do nothing beside memory='state': the "
        "model's own state remembers what it can; leave one of the two out."
      )
    if not 1 <= history <= model.history:
      raise ValueError(
        f'history must lie in 1..{model.history}, the frames that the model '
        f'can start from, got {history}.'
      )
    self._model, self._plan_fn = model, planner.plan_fn
    self._history, self._follows = history, memory == 'state'
    self._start: Any = jax.jit(self._begin)
    self._see: Any = jax.jit(model.following.see)
    self._act: Any = jax.jit(self._look_and_plan)

  def start(
    self,
    rng_key: jax.Array,
    goal: Observation,
    *,
    num_blocks: int = _NO_END,
  ) -> AgentState:
    """The state before the first look: a goal, and nothing seen.

    Args:
      rng_key: one key, or `[B]` keys, one for each world; consumed.
      goal: arrays `[B, *shape]`, or `[*shape]` of one world.
      num_blocks: blocks that may be played.

    Raises:
      ValueError: what `WorldModel.encode` refuses.
    """
    state: AgentState = self._start(
      self._model.params, rng_key, self._batch(goal), jnp.int32(num_blocks)
    )
    return state

  def act(
    self,
    state: AgentState,
    observation: Observation,
    *,
    params: Params | None = None,
  ) -> Acted:
    """What to do now, a block at a time.

    Args:
      state: from `start`, or from the call before.
      observation: arrays `[B, *shape]`, or `[*shape]` of one world: what is
        seen now that the actions before have been played.
      params: in place of the model's, of the same shapes.

    Raises:
      ValueError: what encoding and planning refuse, or another number of
        worlds than `state` has.
    """
    single = acting.is_single(self._model.observation_spec, observation)
    seen = self._batch(observation)
    if single and state.goal.shape[0] != 1:
      raise ValueError(
        f'observation: expected arrays [{state.goal.shape[0]}, *shape], one '
        'for each goal, got those of one world.'
      )
    params = self._model.params if params is None else params
    if self._follows:
      _check_count(state, jax.tree.leaves(seen)[0].shape[0])
      memory = self._see(params, state.memory, seen)
      state, seen = state._replace(memory=memory), {}
    found: Acted = self._act(params, state, seen)
    return found._replace(actions=found.actions[0]) if single else found

  def _batch(self, observation: Observation) -> Observation:
    """Arrays with the axis of worlds."""
    if not acting.is_single(self._model.observation_spec, observation):
      return observation
    return {name: jnp.expand_dims(x, 0) for name, x in observation.items()}

  def _begin(
    self,
    params: Params,
    rng_key: jax.Array,
    goal: Observation,
    num_blocks: jax.Array,
  ) -> AgentState:
    latents = self._model.encode(params, goal)
    count, size = latents.shape[0], self._plan_fn.action_dim
    actions = jnp.zeros((count, 0, size), jnp.float32)
    none = jnp.zeros((count, 0, latents.shape[-1]), latents.dtype)
    return AgentState(
      keys.problem_keys(rng_key, count),
      jnp.int32(0),
      num_blocks,
      latents,
      planning.Followed(None, actions)
      if self._follows
      else planning.Memory(none, actions),
      self._plan_fn.first(count),
    )

  def _look_and_plan(
    self, params: Params, state: AgentState, observation: Observation
  ) -> Acted:
    model, plan_fn = self._model, self._plan_fn
    memory: Any = state.memory
    if self._follows:
      start = memory.state
    else:
      now = jnp.expand_dims(model.encode(params, observation), 1)
      _check_count(state, now.shape[0])
      latents = mpc_state.append(memory.observations, now)
      memory = planning.Memory(latents, memory.actions)
      start = model.start_from(params, latents, memory.actions, grows=True)
    plan, left = plan_fn.plan(
      params,
      keys.fold_keys(state.rng_keys, state.number),
      Root(start, state.goal),
      state.left,
      planning.Clock(state.number, state.num_left),
    )
    played = plan.actions[:, :1]
    memory = memory._replace(actions=mpc_state.append(memory.actions, played))
    if not self._follows:
      memory = mpc_state.newest(memory, self._history - 1)
    return Acted(
      model.raw_actions(played[:, 0]),
      state._replace(
        number=state.number + 1,
        num_left=state.num_left - 1,
        memory=memory,
        left=plan_fn.shift(left, played),
      ),
      plan,
    )


def _check_count(state: AgentState, number: int) -> None:
  """Refuses what is seen of another number of worlds."""
  expected = state.goal.shape[0]
  if number != expected:
    raise ValueError(
      f'observation: expected arrays [{expected}, *shape], one for each goal, '
      f'got {number}.'
    )
