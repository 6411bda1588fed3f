"""A family as what a run trains: all that changes in one tree of variables."""

import dataclasses
from typing import Any, NamedTuple

import jax

from jepa_wm import families
from jepa_wm.types import Params


class Losses(NamedTuple):
  """What a batch costs.

  Attributes:
    loss: scalar.
    metrics: scalars by name.
    batch_stats: the collection of that name after the batch.
  """

  loss: jax.Array
  metrics: dict[str, jax.Array]
  batch_stats: Any


@dataclasses.dataclass(frozen=True)
class Learner:
  """Holds the target encoder as the collection 'target', where there is one.

  Attributes:
    family: what is trained.
  """

  family: Any

  @property
  def name(self) -> str:
    """The family's."""
    return self.family.name

  def init(self, rng_key: jax.Array) -> Params:
    """Fresh variables; consumes the key."""
    variables = self.family.init(rng_key)
    return _with_target(variables, self.family.init_target(variables))

  def losses(self, variables: Params, batch: Any, rng_key: jax.Array) -> Losses:
    """What a batch costs."""
    variables, target = _split(variables)
    loss, (metrics, batch_stats, _) = self.family.loss(
      variables, target, batch, rng_key
    )
    return Losses(loss, metrics, batch_stats)

  def after_update(self, variables: Params, step: jax.Array) -> Params:
    """Moves the target encoder after the parameters."""
    variables, target = _split(variables)
    return _with_target(
      variables, self.family.update_target(target, variables, step)
    )

  def for_inference(self, variables: Params) -> Params:
    """What evaluations see and exports hold."""
    variables, target = _split(variables)
    return families.inference_variables(self.family, variables, target)


def _split(variables: Params) -> tuple[Params, Any]:
  variables = dict(variables)
  return variables, variables.pop('target', None)


def _with_target(variables: Params, target: Any) -> Params:
  return variables if target is None else {**variables, 'target': target}
