"""What a head is: it reads latents, and is learnt on them alone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.types import (
  DynamicsFn,
  LatentState,
  Params,
  PolicyFn,
  Root,
  Variables,
)

HEADS = fields.Registry('head', 'jepa_wm.models.heads')
"""Heads by name: frozen dataclasses whose `build` gives a head."""

ProposalFn = Callable[[Params, jax.Array, Root], jax.Array]
"""`(params, rng_keys [B], root) -> actions [B, F, H, A]`, as planners take."""

BATCHES = (
  'frames',
  'blocks',
  'paths',
  'pairs',
  'legs',
  'gaps',
  'goals',
  'episodes',
  'imagination',
)
"""What a head may learn of; all in latents, and actions normalised.

  'frames': frames one by one, `latents` `[B, 1, D]`;
  'blocks': before and after a block, `latents` `[B, 2, D]`, and the block,
    `action` `[B, 1, A]`;
  'paths': the same of the config's `num_blocks` blocks in a row, `latents`
    `[B, 1 + num_blocks, D]` and `action` `[B, num_blocks, A]`;
  'pairs': a frame and a later one of its episode, `latents` `[B, 2, D]`, the
    block that followed the first, `action` `[B, 1, A]`, and `steps` `[B]`
    between the two, at most the config's `max_steps`;
  'legs': 'pairs', and the frame that is the config's `stride` blocks on, or the
    later one where that comes before, `after` `[B, D]`;
  'gaps': two frames of an episode, `latents` `[B, 2, D]`, the later one last,
    and `steps` `[B]` between them, at most the config's `max_steps`;
  'goals': 'blocks' and, as the config's `GoalSampling` says, goals for the
    'value' and for the 'actor': each a dict of `goal` `[B, D]`, `reward` `[B]`,
    -1 a block and 0 at the goal, and `mask` `[B]`, 0 at the goal and 1
    elsewhere;
  'episodes': of all frames at once, without gradients, see `Fits`;
  'imagination': of none, an agent learns it in a model.
"""

PictureFn = Callable[[Params, jax.Array], jax.Array]
"""`(params, latents [..., D]) -> pixels uint8 [..., height, width, C]`."""


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What a head must know of its encoder and its data to be built.

  Attributes:
    latent_dim: size `D` of a latent.
    action_dim: size `A` of an action block; 0 of a model without actions.
    action_block: environment steps of a block.
    image_size: side of the frames; 0 of a model that sees none.
    state_mean: of each number of the true state, for heads that read it.
    state_std: their deviations, above 0.
    action_low: lower bounds `[A]` of a block, normalised; a policy keeps to
      them.
    action_high: upper bounds `[A]`.
    action_mean: of the raw actions, by which blocks are normalised; empty where
      nobody said.
    action_std: their deviations.
  """

  latent_dim: int
  action_dim: int = 0
  action_block: int = 1
  image_size: int = 0
  state_mean: tuple[float, ...] = ()
  state_std: tuple[float, ...] = ()
  action_low: tuple[float, ...] = ()
  action_high: tuple[float, ...] = ()
  action_mean: tuple[float, ...] = ()
  action_std: tuple[float, ...] = ()


class HeadLosses(NamedTuple):
  """What a batch costs a head.

  Attributes:
    loss: scalar.
    metrics: scalars to report.
    batch_stats: what a head keeps besides, mostly nothing.
  """

  loss: jax.Array
  metrics: dict[str, jax.Array]
  batch_stats: Any


class UpperLevel(NamedTuple):
  """A level above the model's, in its latents.

  Attributes:
    step: `(params, macro-actions [..., M], latents [..., D])` to the latents
      that they lead to.
    recorded: `params` to macro-actions `[R, W, M]` that were played, W of them
      one after another.
    macro_dim: M.
    stride: blocks that a macro-action spans.
  """

  step: Callable[[Params, jax.Array, jax.Array], jax.Array]
  recorded: Callable[[Params], jax.Array]
  macro_dim: int
  stride: int


class GuardrailRole(NamedTuple):
  """What says how unsafe a latent is, and how much of that is allowed.

  Attributes:
    price: `(params, latents [..., D])` to a price `[...]`, lower is safer.
    bounds: `(params, delta)` to what it must stay below, `[1 + H]`: first for
      encoded latents, then for those predicted 1 and more blocks ahead. Of
      unsafe ones a share of delta passes; minus infinity where nobody knows.
  """

  price: Callable[[Params, jax.Array], jax.Array]
  bounds: Callable[[Params, float], np.ndarray]


class Roles(NamedTuple):
  """What a head is good for; None where it is not.

  Attributes:
    proposal: makes the `ProposalFn` of a planner: called with the dynamics,
      what reads the newest latent of a state, and the horizon `H`.
    picture: draws latents.
    reading: `(params, latents [..., D])` to numbers `[..., V]` in their unit.
    policy: acts; its first argument are the head's variables.
    cost: `(params, latents [..., D], goal [..., D])` to a price `[...]` of
      being there, lower is better.
    reward: `(params, latents, action [..., A], next_latents, goal)` to what a
      step earns, `[...]`.
    level: plans far ahead, for whom a planner is bound to.
    subgoals: `(params, latents [..., D], goal [..., D])` to latents `[..., D]`
      that are to be reached first; the goal itself where nothing lies between.
      Heads with this role have a `stride` in their settings: about how many
      blocks ahead those are.
    guardrail: says which latents must not be passed.
  """

  proposal: (
    Callable[
      [DynamicsFn, Callable[[LatentState], jax.Array], int, Variables],
      ProposalFn,
    ]
    | None
  ) = None
  picture: PictureFn | None = None
  reading: Callable[[Params, jax.Array], jax.Array] | None = None
  policy: PolicyFn | None = None
  cost: Callable[[Params, jax.Array, jax.Array], jax.Array] | None = None
  reward: (
    Callable[[Params, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    | None
  ) = None
  level: UpperLevel | None = None
  subgoals: Callable[[Params, jax.Array, jax.Array], jax.Array] | None = None
  guardrail: GuardrailRole | None = None


class HeadConfig(fields.Named, Protocol):
  """The settings of a head.

  Attributes:
    batches: what it learns of, one of `BATCHES`.
    columns: what a batch has besides, as the dataset names it.
  """

  batches: ClassVar[str]
  columns: ClassVar[tuple[str, ...]]

  def build(self, sizes: Sizes) -> 'Head':
    """Builds the head for an encoder's latents.

    Raises:
      ValueError: the encoder or its data lack what the head needs.
    """
    ...


class Head(Protocol):
  """A head: others use its roles. How it learns is said by `config.batches`."""

  @property
  def config(self) -> Any:
    """The settings that the head was built from, see `HeadConfig`."""
    ...

  @property
  def sizes(self) -> Sizes:
    """Of the latents that it reads."""
    ...

  @property
  def roles(self) -> Roles:
    """What it is good for."""
    ...

  def init(self, rng_key: jax.Array) -> Variables:
    """Fresh variables `{'params', 'batch_stats'}`; consumes the key."""
    ...

  def for_inference(self, variables: Variables) -> Variables:
    """What is saved: `{'params'}`."""
    ...


class Learner(Head, Protocol):
  """A head that a run can train by gradients (`training.run.Run`)."""

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> HeadLosses:
    """What a batch costs; see `HeadConfig.batches`."""
    ...

  def after_update(self, variables: Variables, step: jax.Array) -> Variables:
    """The variables as they are: nothing follows the parameters."""
    ...


class Fits(Head, Protocol):
  """A head that is fitted in one pass over all episodes, without gradients."""

  def fit(
    self, latents: jax.Array, after: jax.Array, rng_key: jax.Array
  ) -> tuple[Variables, dict[str, jax.Array]]:
    """Fits it; may be jitted.

    Args:
      latents: `[N, D]`, of all frames.
      after: int32 `[N]`, the row of the frame a block on; a frame's own where
        its episode ends before.
      rng_key: of what is drawn, consumed.

    Returns:
      The variables as `for_inference` gives them, and scalars to report.
    """
    ...


@dataclasses.dataclass(frozen=True)
class Plain:
  """What all heads do alike that learn parameters by gradient alone.

  Attributes:
    config: its settings.
    sizes: of the latents, and what else it reads.
  """

  config: Any
  sizes: Sizes

  def after_update(self, variables: Variables, step: jax.Array) -> Variables:
    """See `Head`."""
    del step
    return variables

  def for_inference(self, variables: Variables) -> Variables:
    """See `Head`."""
    return {'params': variables['params']}


def fresh(module: Any, rng_key: jax.Array, *inputs: Any) -> Variables:
  """Variables of a Linen module, with the collection that a run asks for."""
  found: Variables = module.init(rng_key, *inputs)
  return {'params': found['params'], 'batch_stats': {}}


def applied(module: Any, variables: Variables, *inputs: jax.Array) -> jax.Array:
  """What a Linen module gives for its parameters and inputs."""
  found: jax.Array = module.apply({'params': variables['params']}, *inputs)
  return found


def squared_error(guesses: jax.Array, truth: jax.Array) -> HeadLosses:
  """The mean squared error, with `explained`, its share of the variance.

  Args:
    guesses: any shape.
    truth: the same.
  """
  loss = jnp.mean(jnp.square(guesses - truth))
  mean = jnp.mean(truth, axis=0, keepdims=True)
  variance = jnp.mean(jnp.square(truth - mean))
  explained = 1.0 - loss / jnp.maximum(variance, 1e-12)
  return HeadLosses(loss, {'explained': explained}, {})
