"""A trained model as pure functions to act with: encode, start, step, price.

`WorldModel` is the door for people who bring their own training loop, planner
or RL code. Its methods take the parameters as their first argument, so they
compose with `jit`, `vmap`, `grad` and ensembles, and they have the signatures
that `jepa_wm.planning` asks for. `exports` saves and loads it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models, planning, pytrees
from jepa_wm.models import absorbing, acting, blocks, groups, hierarchical
from jepa_wm.types import (
  CostFn,
  LatentState,
  Observation,
  ObservationSpec,
  Params,
  Root,
)
from jepa_wm.units import ActionStatistics

_CEM = planning.CEM()

_as_pytree = pytrees.register(
  'params', 'units', 'above', meaning=lambda world: world.meaning
)


@_as_pytree
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WorldModel:
  """A model, its parameters, and the units its actions were trained in.

  A pytree: `params`, `units` and `above` are its leaves, and two models of
  equal settings are of one kind, so that a jitted function of a model compiles
  once for both, and `jax.tree.map(stack, one, other)` is an ensemble for
  `vmap`.

  Attributes:
    model: a published system as it was configured (`jepa_wm.models`).
    params: pytree of its variables, first argument of most methods below.
    units: mean and deviation that normalise raw actions, a pytree; None of a
      model without actions.
    record: how it was trained, as saved with it (may be empty).
    above: trained heads of the levels above, see `hierarchy.with_level`.
  """

  model: models.Learns
  params: Params
  units: ActionStatistics | None
  record: dict[str, Any] = dataclasses.field(default_factory=dict)
  above: tuple[Any, ...] = ()

  def __init_subclass__(cls) -> None:
    """What is derived from it is a pytree, too."""
    super().__init_subclass__()
    _as_pytree(cls)

  def __repr__(self) -> str:
    return f'WorldModel({acting.describe(self.model, self.params)})'

  @property
  def meaning(self) -> Any:
    """What two models agree in that share a program, compared by `==`."""
    return self.model.config

  @property
  def observation_spec(self) -> ObservationSpec:
    """Shape and dtype of every array that `encode` takes of a frame."""
    return self.model.observation_spec

  @property
  def image_size(self) -> int:
    """Height and width in pixels of the frames that `encode` expects.

    64 of a model that sees none, for those who watch it.
    """
    pixels = self.observation_spec.get('pixels')
    return 64 if pixels is None else int(pixels.shape[0])

  @property
  def levels(self) -> tuple[models.Level, ...]:
    """Timescales, finest first; none of a model without actions."""
    if (model := self.model.acting) is None:
      return ()
    ground = models.Level(model, self.units, self.action_block, self.params)
    return hierarchical.stack(ground, self.above)

  @property
  def action_block(self) -> int:
    """Environment steps that one latent step spans."""
    return self._acting.action_spec.block

  @property
  def action_dim(self) -> int:
    """Size `A` of one action block: `action_block` raw actions, flattened."""
    return self._acting.action_spec.size

  @property
  def history(self) -> int:
    """Most frames that a state can be started from."""
    return self._acting.history

  def encode(
    self, params: Params, observation: Observation, *, tokens: bool = False
  ) -> jax.Array:
    """Encodes what is seen: frames, or clips where the model encodes clips.

    Args:
      params: the model's variables.
      observation: named arrays with any leading dims, as `observation_spec`
        has them: `{'pixels': uint8 [..., height, width, 3], ...}`. Of a model
        of clips the last leading dim is time.
      tokens: whether tokens are asked for.

    Returns:
      Latents `[..., D]`, or tokens `[..., P, F]`.

    Raises:
      ValueError: an array is missing, of another dtype or size, or the model
        has no tokens.
    """
    return self.model.encode(params, observation, tokens=tokens)

  def start(
    self,
    params: Params,
    observation: Observation,
    actions: jax.Array | None = None,
    *,
    grows: bool = False,
  ) -> LatentState:
    """Starts a latent state, for `dynamics`, from what was seen so far.

    However little that is, the state has one shape from then on: it can be
    scanned over, kept in a buffer and chosen by a mask.

    Args:
      params: the model's variables.
      observation: as `root` takes them, arrays `[B, *shape]`, the frame now, or
        `[*shape]` of one problem; or `[..., B, T, *shape]`, `T` from 1 to
        `history` frames, `action_block` environment steps apart, newest last.
      actions: `[..., T - 1, A]` normalised blocks played between them; may be
        left out for `T = 1`.
      grows: whether its shapes may change until it holds `history` frames, as
        planners unroll; their rollouts then cost less where that is above 1.

    Raises:
      ValueError: more frames than `history`, or actions that do not fit them.
    """
    _ = self._acting
    if isinstance(observation, Mapping):
      observation = acting.in_time(self.observation_spec, observation)
    latents = self.encode(params, observation)
    return self.start_from(params, latents, actions, grows=grows)

  def start_from(
    self,
    params: Params,
    latents: jax.Array,
    actions: jax.Array | None = None,
    *,
    grows: bool = False,
  ) -> LatentState:
    """As `start`, from the latents `[..., T, D]` of those frames."""
    return acting.start(self._acting, params, latents, actions, grows=grows)

  def root(
    self,
    params: Params,
    observation: Observation,
    goal: Observation | jax.Array | None = None,
    actions: jax.Array | None = None,
  ) -> Root:
    """Turns what is seen and one goal per problem into problems.

    The states are for planners, which is to say that they grow, see `start`.

    Args:
      params: the model's variables.
      observation: arrays `[B, *shape]`, the frame now, or `[B, T, *shape]`, the
        frames up to now (see `start`); `[*shape]` of one problem without `[B]`,
        as `vmap` hands it in.
      goal: arrays `[B, *shape]`, which become a latent `[B, D]`; or that
        latent, encoded before; None where the cost looks at no goal.
      actions: `[B, T - 1, A]` normalised blocks played between the frames.

    Raises:
      ValueError: what `encode` and `start` refuse, or a goal that is neither.
    """
    _ = self._acting
    if not isinstance(observation, Mapping):
      self.encode(params, observation)  # Says what was expected.
    if acting.is_single(self.observation_spec, observation):
      lift = lambda tree: jax.tree.map(lambda x: jnp.expand_dims(x, 0), tree)
      root = self.root(params, *map(lift, (observation, goal, actions)))
      return jax.tree.map(lambda leaf: leaf[0], root)
    seen = acting.in_time(self.observation_spec, observation)
    if isinstance(goal, Mapping):
      latents, goal = acting.encode_both(self.model, params, seen, goal)
    else:
      latents = self.encode(params, seen)
      acting.check_goal(self.model, goal, latents.shape[0])
    state = self.start_from(params, latents, actions, grows=True)
    return Root(state, goal)

  def dynamics(
    self,
    params: Params,
    rng_key: jax.Array,
    action: jax.Array,
    state: LatentState,
  ) -> LatentState:
    """Steps `state` by one normalised action block; a `DynamicsFn`.

    What a state holds is the predictor's own; `latent` reads it. Models here
    are deterministic and draw nothing from `rng_key`.

    Raises:
      ValueError: an action that is not `[..., A]`, one for each latent.
    """
    del rng_key
    acting.check_block('action', action, self._acting.action_spec)
    lead = jnp.shape(self.latent(state))[:-1]
    if jnp.shape(action)[:-1] != lead:
      raise ValueError(
        f'action: expected {[*lead, self.action_dim]}, a block for each latent '
        f'of the state, got {list(jnp.shape(action))}.'
      )
    return self._acting.advance(params, state, action)

  def absorb(
    self,
    params: Params,
    state: LatentState,
    action: jax.Array,
    seen: Observation | jax.Array,
  ) -> LatentState:
    """Steps `state` by what an action block led to, as it was seen.

    So a model follows an episode of any length, each frame encoded once, and
    is planned with from the state (`Root`) whenever that is wanted.

    Args:
      params: the model's variables.
      state: what `start`, `dynamics` or `absorb` returned.
      action: `[..., A]`, the normalised block that was played in it.
      seen: arrays `[..., *shape]` of `observation_spec`, or latents `[..., D]`.

    Raises:
      ValueError: what `encode` refuses, or the state of another model.
    """
    _ = self._acting
    if isinstance(seen, Mapping):
      absorbing.check_seen(self.observation_spec, action, seen)
      seen = self.encode(params, seen)
    return absorbing.absorb(self._acting, params, state, action, seen)

  def latent(self, state: LatentState) -> jax.Array:
    """The newest latent `[..., D]` of a state, for costs over latents."""
    return self._acting.read(state)

  def cost(
    self, params: Params, state: LatentState, action: jax.Array, goal: jax.Array
  ) -> jax.Array:
    """The model's distance of the newest latent to `goal`; a `CostFn`."""
    del params, action
    if goal is None:
      raise ValueError(
        'goal: the cost of a model is the distance to one, got None; give the '
        'planner a cost_fn that looks at no goal.'
      )
    return self._acting.distance(self.latent(state), goal)

  @property
  def agents(self) -> planning.Agents:
    """Whose each number of a block is, and what a step costs each agent."""
    return groups.agents_of(self._acting)

  @property
  def expecting(self) -> planning.Expecting:
    """What planners that may be surprised compare: latents, by `cost`."""
    model = self._acting
    return planning.Expecting(self.latent, model.distance, model.latent_dim)

  @property
  def following(self) -> planning.Following:
    """How closed loops carry this model's own state, see `absorb`."""

    def root(params: Params, state: LatentState, goal: Any) -> Root:
      if isinstance(goal, Mapping):
        goal = self.encode(params, goal)
      return Root(state, goal)

    return planning.Following(self.start, self.absorb, root)

  def planner(
    self,
    planner: planning.Planner[Any] = _CEM,
    *,
    horizon: int,
    limits: planning.Limits = planning.NO_LIMITS,
    cost_fn: CostFn | None = None,
    step_weights: np.ndarray | jax.Array | None = None,
    proposal_fn: planning.ProposalFn | None = None,
  ) -> planning.CompiledPlanner:
    """A planner of this model, compiled once, to be called in a loop.

    `planner(rng_key, observation, goal)` encodes and plans.

    Args:
      planner: who searches and how, such as `jepa_wm.CEM()`.
      horizon: H, blocks to look ahead.
      limits: what actions and latents must keep to, such as
        `jepa_wm.Limits(model.action_bounds(-1, 1))`.
      cost_fn: the price of a step; `cost` by default.
      step_weights: see `planning.Problem`, as `proposal_fn`.
      proposal_fn: gives candidates of the first iteration.

    Raises:
      ValueError: limits that cannot be met; when it is called, what encoding
        and `planning.search` refuse.
    """
    plan_fn = planning.BoundPlanner(
      planner=planner,
      dynamics_fn=self.dynamics,
      cost_fn=self.cost if cost_fn is None else cost_fn,
      horizon=horizon,
      action_dim=self.action_dim,
      limits=limits,
      step_weights=step_weights,
      proposal_fn=proposal_fn,
      expecting=self.expecting,
      agents=self.agents,
    )
    return planning.CompiledPlanner(plan_fn, self.root, self.params)

  def in_raw_units(
    self, constraint: planning.ActionConstraint
  ) -> planning.RawUnits:
    """A constraint on raw actions `[..., time, raw]`, as one on blocks."""
    return planning.RawUnits(
      constraint,
      to_raw=self.raw_actions,
      from_raw=self.normalize_actions,
      raw_dim=self._acting.action_spec.dim,
    )

  def normalize_actions(self, actions: jax.Array) -> jax.Array:
    """Raw actions `[..., action_block, raw]` to blocks `[..., A]`.

    Raises:
      ValueError: other actions, or another number of them.
    """
    return blocks.normalize(self._acting.action_spec, self._units, actions)

  def raw_actions(self, actions: jax.Array) -> jax.Array:
    """Blocks `[..., A]` to raw actions `[..., action_block, raw]`.

    Raises:
      ValueError: blocks of another size.
    """
    return blocks.raw(self._acting.action_spec, self._units, actions)

  def action_bounds(
    self, low: np.ndarray | float, high: np.ndarray | float
  ) -> planning.ActionBounds:
    """Raw bounds, scalar or `[raw]`, as a planner's box `[A]` on a block.

    Raises:
      ValueError: bounds of another number of actions.
    """
    spec = self._acting.action_spec
    return blocks.bounds(spec, self._units, low, high)

  @property
  def _acting(self) -> models.Advances:
    """The model, if it has dynamics."""
    if (model := self.model.acting) is not None:
      return model
    raise ValueError(
      f'The model {self.model.config.name!r} encodes and has no dynamics: it '
      'predicts what is hidden and takes no actions. Use encode of it, or a '
      'model that acts, such as lewm.'
    )

  @property
  def _units(self) -> ActionStatistics:
    """The action statistics, which a model with dynamics has."""
    _ = self._acting
    if self.units is None:
      raise ValueError('The model has no units: give it action statistics.')
    return self.units
