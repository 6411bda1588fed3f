"""What heads that act share: an actor, its likelihood, draws and proposals."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jepa_wm.models.heads import head, rolling
from jepa_wm.networks import actors
from jepa_wm.types import DynamicsFn, LatentState, Params


@dataclasses.dataclass(frozen=True)
class Actor:
  """A policy of a latent and a goal, part of a head.

  All functions take the parameters of the network as their first argument, a
  part of the head's.

  Attributes:
    sizes: of the latents, and the box of the actions.
    width: see `networks.mlp.MLP`, as `depth`.
    depth: hidden layers.
    std: deviation of the draws, as a share of half the box; 0 learns it.
  """

  sizes: head.Sizes
  width: int
  depth: int
  std: float

  @property
  def _network(self) -> actors.Actor:
    return actors.Actor(
      self.sizes.action_low,
      self.sizes.action_high,
      self.width,
      self.depth,
      self.std,
    )

  def init(self, rng_key: jax.Array) -> Any:
    """Fresh parameters; consumes the key."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    return head.fresh(self._network, rng_key, latent, latent)['params']

  def distribution(
    self, params: Any, latents: jax.Array, goals: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation of the block, `[..., A]`, see `actors.Actor`."""
    found: Any = self._network.apply({'params': params}, latents, goals)
    mean, std = found
    return mean, std

  def act(
    self,
    params: Any,
    rng_key: jax.Array | None,
    latents: jax.Array,
    goals: jax.Array,
  ) -> jax.Array:
    """The likeliest block `[..., A]`, or one that is drawn, in the box.

    Args:
      params: of the network.
      rng_key: None for the likeliest.
      latents: `[..., D]`.
      goals: `[..., D]`.
    """
    mean, std = self.distribution(params, latents, goals)
    if rng_key is None:
      return mean
    return self.in_box(mean + std * jax.random.normal(rng_key, mean.shape))

  def in_box(self, actions: jax.Array) -> jax.Array:
    """Clips blocks `[..., A]` to the box, as the world does."""
    shape = (1,) * (actions.ndim - 1) + (-1,)
    low = jnp.asarray(self.sizes.action_low).reshape(shape)
    high = jnp.asarray(self.sizes.action_high).reshape(shape)
    return jnp.clip(actions, low, high)

  def imitation(
    self,
    params: Any,
    latents: jax.Array,
    goals: jax.Array,
    actions: jax.Array,
    weights: jax.Array | float = 1.0,
  ) -> head.HeadLosses:
    """What it costs not to act as somebody did.

    The squared error of a deviation that is fixed, else the negative log
    likelihood; means over the batch and the actions.

    Args:
      params: of the network.
      latents: `[B, D]`.
      goals: `[B, D]`.
      actions: `[B, A]`, clipped to the box first.
      weights: `[B]`, what each example counts.
    """
    actions = self.in_box(actions)
    mean, std = self.distribution(params, latents, goals)
    loss, metrics, _ = head.squared_error(mean, actions)
    error = jnp.square(mean - actions)
    if not self.std:
      error = 0.5 * error / jnp.square(std) + jnp.log(std)
    loss = jnp.mean(weights * jnp.mean(error, axis=-1))
    return head.HeadLosses(loss, metrics, {})


@dataclasses.dataclass(frozen=True)
class Acts(head.Plain):
  """What heads do alike that have an actor.

  Its parameters are `variables['params']['actor']`; of the settings it needs
  `width`, `depth`, `std` and `num_proposals`.
  """

  @property
  def actor(self) -> Actor:
    """The network's functions."""
    settings = self.config
    return Actor(self.sizes, settings.width, settings.depth, settings.std)

  def act(
    self,
    params: Params,
    rng_key: jax.Array | None,
    latents: jax.Array,
    goals: jax.Array,
    steps: jax.Array,
  ) -> jax.Array:
    """A block `[..., A]`, whatever time is left; a `PolicyFn`."""
    del steps
    return self.actor.act(params['params']['actor'], rng_key, latents, goals)

  def proposal_fn(
    self,
    dynamics_fn: DynamicsFn,
    read_fn: Callable[[LatentState], jax.Array],
    horizon: int,
    variables: Params,
  ) -> head.ProposalFn:
    """`num_proposals` candidates, see `rolling.rolled`."""
    block, count = self.sizes.action_block, self.config.num_proposals
    return rolling.rolled(
      self.act,
      variables,
      dynamics_fn,
      read_fn,
      horizon,
      block=block,
      steps=(horizon * block,) * count,
      num_drawn=count - 1,
    )


def check_acts(name: str, sizes: head.Sizes) -> None:
  """Refuses an encoder or data that tell too little for a head to act.

  Raises:
    ValueError: no actions, or no box of their size.
  """
  if not sizes.action_dim:
    raise ValueError(
      f'{name} learns actions, and the encoder is of a model without any; take '
      'one that acts, such as lewm.'
    )
  low, high = sizes.action_low, sizes.action_high
  if not len(low) == len(high) == sizes.action_dim:
    raise ValueError(
      f'{name} acts between action_low and action_high, which must have '
      f'{sizes.action_dim} numbers each, got {len(low)} and {len(high)}.'
    )
  if not all(a < b for a, b in zip(low, high)):
    raise ValueError(
      f'{name}: action_low must lie below action_high everywhere, got {low} '
      f'and {high}.'
    )
