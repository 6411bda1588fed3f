"""What encodes the latents to be predicted: shared, ema or frozen.

  shared: the encoder itself, with gradient;
  ema:    an exponential moving average of it, without;
  frozen: the encoder itself, which nothing trains; latents may be cached.

These words mean this everywhere. A target that stays what the encoder was at
the start is an average of momentum 1.
"""

import dataclasses
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.types import Variables

TARGETS = fields.Registry('target', 'jepa_wm.models')

MASKED_TARGETS = fields.Registry('target', 'jepa_wm.models')
"""Those of models that predict what a mask hides."""

ENCODING = ('encoder', 'projector')
"""The modules that a latent depends on, and nothing else does."""

_COLLECTIONS = ('params', 'batch_stats')


class Target(fields.Named, Protocol):
  """What encodes the targets, and which collection of variables it is.

  Attributes:
    is_frozen: whether nothing that encodes is trained.
  """

  is_frozen: ClassVar[bool]

  def split(self, variables: Variables) -> Variables:
    """Fresh `{'params', 'batch_stats'}` with this target's collection."""
    ...

  def after_update(
    self, variables: Variables, step: jax.Array | int
  ) -> Variables:
    """Variables after an update of 'params'."""
    ...

  def lasting(self, num_steps: int) -> 'Target':
    """The same target, in a run of so many updates."""
    ...


class Still:
  """The part of a target that no update moves."""

  def lasting(self, num_steps: int) -> Any:
    """See `Target`: the same."""
    del num_steps
    return self

  def after_update(
    self, variables: Variables, step: jax.Array | int
  ) -> Variables:
    """See `Target`."""
    del step
    return variables


@TARGETS.register
@dataclasses.dataclass(frozen=True)
class Shared(Still):
  """The encoder itself, with gradient."""

  name: ClassVar[str] = 'shared'
  is_frozen: ClassVar[bool] = False

  def split(self, variables: Variables) -> Variables:
    """See `Target`."""
    return variables


@TARGETS.register
@MASKED_TARGETS.register
@dataclasses.dataclass(frozen=True)
class EMA:
  """An exponential moving average of the encoder, in the collection 'target'.

  After every update each parameter and running statistic of it becomes
  `momentum * target + (1 - momentum) * online`. The momentum goes linearly from
  `momentum` to `momentum_end` over `momentum_steps` updates, and stays there.

  Attributes:
    momentum: share of the old target, at the start.
    momentum_end: and at the end.
    momentum_steps: updates from the one to the other; 0 for `stretch` times
      those of the run.
    stretch: above 1 the run stops before the momentum is at its end, as V-JEPA
      1's does.
  """

  name: ClassVar[str] = 'ema'
  is_frozen: ClassVar[bool] = False

  momentum: float = 0.996
  momentum_end: float = 0.996
  momentum_steps: int = 0
  stretch: float = 1.0

  def __post_init__(self) -> None:
    fields.check(
      self, may_be_zero=('momentum_steps',), shares=('momentum', 'momentum_end')
    )
    if not self.stretch or (self.momentum_steps and self.stretch != 1):
      raise ValueError(
        'target.stretch must be above 0, and 1 where target.momentum_steps is '
        f'set; got {self.stretch} and {self.momentum_steps}.'
      )

  def lasting(self, num_steps: int) -> 'EMA':
    """See `Target`: with the steps that it takes, if it moves."""
    if self.momentum_steps or self.momentum == self.momentum_end:
      return self
    steps = max(1, round(self.stretch * num_steps))
    return dataclasses.replace(self, momentum_steps=steps, stretch=1.0)

  def split(self, variables: Variables) -> Variables:
    """See `Target`."""
    target = jax.tree.map(jnp.copy, encoding_part(variables))
    return {**variables, 'target': target}

  def after_update(
    self, variables: Variables, step: jax.Array | int
  ) -> Variables:
    """See `Target`."""
    momentum: float | jax.Array = self.momentum
    if self.momentum_steps:
      progress = jnp.minimum(step / self.momentum_steps, 1.0)
      momentum = momentum + progress * (self.momentum_end - self.momentum)
    elif self.momentum_end != self.momentum:
      raise ValueError(
        f'target.momentum_end={self.momentum_end} is reached with the run, of '
        'which nothing is known: set target.momentum_steps, or call lasting.'
      )
    target = jax.tree.map(
      # This form keeps a target that equals the encoder exactly equal to it.
      lambda target, online: target + (1 - momentum) * (online - target),
      variables['target'],
      encoding_part(variables),
    )
    return {**variables, 'target': target}


@TARGETS.register
@dataclasses.dataclass(frozen=True)
class Frozen(Still):
  """The encoder itself, in the collection 'frozen', which nothing trains."""

  name: ClassVar[str] = 'frozen'
  is_frozen: ClassVar[bool] = True

  def split(self, variables: Variables) -> Variables:
    """See `Target`."""
    return {**learnt_part(variables), 'frozen': encoding_part(variables)}


def encoding_part(variables: Variables) -> Variables:
  """Encoder and projector out of 'params' and 'batch_stats'."""
  return _part(variables, encodes=True)


def learnt_part(variables: Variables) -> Variables:
  """All but encoder and projector of 'params' and 'batch_stats'."""
  return _part(variables, encodes=False)


def merged(variables: Variables) -> Variables:
  """`{'params', 'batch_stats'}` of all modules, whatever is frozen."""
  frozen: dict[str, Any] = variables.get('frozen', {})
  return {
    name: {**variables.get(name, {}), **frozen.get(name, {})}
    for name in _COLLECTIONS
  }


def _part(variables: Variables, *, encodes: bool) -> Variables:
  return {
    collection: {
      name: module
      for name, module in variables[collection].items()
      if (name in ENCODING) == encodes
    }
    for collection in _COLLECTIONS
    if collection in variables
  }
