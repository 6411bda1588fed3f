"""A model that acts, for robots and servers; its state goes in and out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import planning, world_model
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
    latents: `[B, T, D]`, of the last frames, oldest first, fewer than the
      history that it looks back.
    actions: `[B, T, A]`, the blocks played after them, normalised.
    left: what the last plan left.
  """

  rng_keys: jax.Array
  number: jax.Array
  num_left: jax.Array
  goal: jax.Array
  latents: jax.Array
  actions: jax.Array
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
  up to `history`.
  """

  def __init__(
    self,
    model: world_model.WorldModel,
    planner: planning.CompiledPlanner,
    *,
    history: int = 1,
  ):
    """Compiles nothing yet.

    Args:
      model: encodes what is seen.
      planner: plans for it, see `WorldModel.planner`.
      history: frames that it looks back, a block apart, with the one now.

    Raises:
      ValueError: more frames than the model can start from, or fewer than one.
    """
    if not 1 <= history <= model.history:
      raise ValueError(
        f'history must lie in 1..{model.history}, the frames that the model '
        f'can start from, got {history}.'
      )
    self._model, self._plan_fn = model, planner.plan_fn
    self._history = history
    self._start: Any = jax.jit(self._begin)
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
    return AgentState(
      keys.problem_keys(rng_key, count),
      jnp.int32(0),
      num_blocks,
      latents,
      jnp.zeros((count, 0, latents.shape[-1]), latents.dtype),
      jnp.zeros((count, 0, size), jnp.float32),
      self._plan_fn.first(count),
    )

  def _look_and_plan(
    self, params: Params, state: AgentState, observation: Observation
  ) -> Acted:
    model, plan_fn = self._model, self._plan_fn
    now = jnp.expand_dims(model.encode(params, observation), 1)
    if now.shape[0] != state.goal.shape[0]:
      raise ValueError(
        f'observation: expected arrays [{state.goal.shape[0]}, *shape], one '
        f'for each goal, got {now.shape[0]}.'
      )
    latents = mpc_state.append(state.latents, now)
    start = model.start_from(params, latents, state.actions, grows=True)
    plan, left = plan_fn.plan(
      params,
      keys.fold_keys(state.rng_keys, state.number),
      Root(start, state.goal),
      state.left,
      planning.Clock(state.number, state.num_left),
    )
    played = plan.actions[:, :1]
    actions = mpc_state.append(state.actions, played)
    past = self._history - 1
    return Acted(
      model.raw_actions(played[:, 0]),
      state._replace(
        number=state.number + 1,
        num_left=state.num_left - 1,
        latents=mpc_state.newest(latents, past),
        actions=mpc_state.newest(actions, past),
        left=plan_fn.shift(left, played),
      ),
      plan,
    )
