"""Inverse dynamics with a goal: what to do now to be there in so many steps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import goal_actions
from jepa_wm.types import DynamicsFn, LatentState, Params, Root, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class InverseDynamicsConfig:
  """The settings of `InverseDynamics`.

  Source: GC-IDM, with 512 wide published.

  Attributes:
    width: of the hidden layers.
    depth: residual blocks.
    max_steps: environment steps from a frame to its goal at most.
    horizons: steps to go that are proposed for, each one candidate.
  """

  name: ClassVar[str] = 'inverse_dynamics'
  hindsight: ClassVar[bool] = True
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 3
  max_steps: int = 100
  horizons: tuple[int, ...] = (10, 15, 20, 25, 35, 50, 70, 100)

  def __post_init__(self) -> None:
    fields.check(self)
    if min(self.horizons) < 1:
      raise ValueError(f'horizons must be positive, got {self.horizons}.')

  def build(self, sizes: head.Sizes) -> 'InverseDynamics':
    """See `head.HeadConfig`."""
    if not sizes.action_dim:
      raise ValueError(
        'inverse_dynamics learns actions, and the encoder is of a model '
        'without any; take one that acts, such as lewm.'
      )
    return InverseDynamics(self, sizes)


@dataclasses.dataclass(frozen=True)
class InverseDynamics(head.Plain):
  """Learns the block that was played on the way to a later frame.

  As proposals it is rolled by the model's dynamics, once for every one of
  `horizons`: the block it gives, the latent that the model then sees, the next
  block with fewer steps to go.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(proposal=self.proposal_fn)

  @property
  def _network(self) -> goal_actions.GoalActions:
    return goal_actions.GoalActions(
      self.sizes.action_dim, self.config.width, self.config.depth
    )

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, latent, latent, jnp.ones(1))

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    del rng_key
    latents = batch['latents']
    guesses = self.act(variables, latents[:, 0], latents[:, 1], batch['steps'])
    return head.squared_error(guesses, batch['action'][:, 0])

  def act(
    self, params: Params, latents: jax.Array, goals: jax.Array, steps: jax.Array
  ) -> jax.Array:
    """The first block `[..., A]` from `latents` to `goals` in `steps`.

    Args:
      params: variables of the head.
      latents: `[..., D]`.
      goals: `[..., D]`.
      steps: `[...]`, environment steps to go.
    """
    return head.applied(self._network, params, latents, goals, steps)

  def proposal_fn(
    self,
    dynamics_fn: DynamicsFn,
    read_fn: Callable[[LatentState], jax.Array],
    horizon: int,
    variables: Variables,
  ) -> head.ProposalFn:
    """Candidates of a planner, one for each of `horizons`.

    Args:
      dynamics_fn: the model's.
      read_fn: the newest latent of a state.
      horizon: H, blocks of a plan.
      variables: of the head.

    Returns:
      `(params of the model, rng_keys, root) -> [B, F, H, A]`.
    """
    block, count = self.sizes.action_block, len(self.config.horizons)

    def propose(params: Params, rng_keys: jax.Array, root: Root) -> jax.Array:
      repeat = lambda leaf: jnp.broadcast_to(
        jnp.expand_dims(leaf, 1), (leaf.shape[0], count, *leaf.shape[1:])
      )
      state, goal = jax.tree.map(repeat, (root.state, root.goal))
      steps = jnp.asarray(self.config.horizons, jnp.float32)
      steps = jnp.broadcast_to(steps, goal.shape[:2])
      blocks = []
      # Not a scan: a predictor's state may grow.
      for h in range(horizon):
        left = jnp.maximum(steps - h * block, block)
        blocks.append(self.act(variables, read_fn(state), goal, left))
        if h + 1 < horizon:
          keys = jax.vmap(jax.random.fold_in, (0, None))(rng_keys, h)
          state = dynamics_fn(params, keys, blocks[-1], state)
      return jnp.stack(blocks, axis=2)

    return propose
