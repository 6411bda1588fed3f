"""Settings of heads that learn of goals in hindsight, and how they learn."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields


@dataclasses.dataclass(frozen=True)
class GoalSampling:
  """What goals a head is given, in OGBench's words, and its discount.

  Distances and the discount count action blocks.

  Attributes:
    discount: of a block, also where distances to goals are geometric.
    value_p_curgoal: odds that a value's goal is the frame itself.
    value_p_trajgoal: a later frame of its episode.
    value_p_randomgoal: any frame.
    value_geom_sample: whether later frames are a geometric number of blocks
      away, or every one is as likely.
    actor_p_curgoal: odds that an actor's goal is the frame itself.
    actor_p_trajgoal: a later frame of its episode.
    actor_p_randomgoal: any frame.
    actor_geom_sample: as `value_geom_sample`.

  Source: OGBench (arXiv 2410.20092); its defaults of GCIVL and GCIQL, but for
    the discount, 0.99 of a step there.
  """

  choices: ClassVar[Mapping[str, Sequence[str]]] = {}
  """What fields of text may be, of the settings that have some."""

  discount: float = 0.97
  value_p_curgoal: float = 0.2
  value_p_trajgoal: float = 0.5
  value_p_randomgoal: float = 0.3
  value_geom_sample: bool = True
  actor_p_curgoal: float = 0.0
  actor_p_trajgoal: float = 1.0
  actor_p_randomgoal: float = 0.0
  actor_geom_sample: bool = False

  def __post_init__(self) -> None:
    shares = [n for n in vars(self) if n.startswith(('value_p', 'actor_p'))]
    bounded = 'discount', 'expectile', 'target_rate', *shares
    fields.check(self, self.choices, shares=bounded)
    for who in ('value', 'actor'):
      names = [name for name in shares if name.startswith(who)]
      total = sum(getattr(self, name) for name in names)
      if abs(total - 1.0) > 1e-6:
        raise ValueError(f'{", ".join(names)} must sum to 1, got {total:g}.')


def expectile_loss(
  error: jax.Array, advantage: jax.Array, expectile: float
) -> jax.Array:
  """Mean squared error, of which what is better than expected counts more.

  Args:
    error: any shape.
    advantage: the same; above 0 an error counts `expectile`, else one less it.
    expectile: 0..1.

  Source: implicit Q-learning (arXiv 2110.06169), equation 5.
  """
  weight = jnp.where(advantage > 0, expectile, 1.0 - expectile)
  return jnp.mean(weight * jnp.square(error))


def advantage_weights(advantage: jax.Array, alpha: float) -> jax.Array:
  """`exp(alpha * advantage)` up to 100, through which no gradient goes.

  Source: advantage-weighted regression (arXiv 1910.00177), capped as by IQL.
  """
  weights = jnp.minimum(jnp.exp(alpha * advantage), 100.0)
  return jax.lax.stop_gradient(weights)


def followed(target: Any, online: Any, rate: float) -> Any:
  """Parameters `rate` nearer to those they follow."""
  move = lambda old, new: old + rate * (new - old)
  return jax.tree.map(move, target, online)
