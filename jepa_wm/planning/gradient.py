"""Gradient descent on action sequences, from many starts at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from jepa_wm.planning import checks, descent, lagrangian, named_optimizers
from jepa_wm.planning.problem import Diagnostics
from jepa_wm.planning.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gradient(descent.Descent):
  """Follows the gradient of the cost through the rollout.

  Candidates are optimised independently of each other: every one has an
  optimiser of its own, so that one that clips by a global norm couples
  neither candidates nor problems.

  Action constraints are kept by projecting after every update. Guardrails are
  kept by an augmented Lagrangian, with a multiplier for every candidate, step
  and guardrail: its minimum is where the guardrail just holds, without the
  large penalty that a plain one needs.

  A stochastic `dynamics_fn` draws anew for every iteration, so that the best
  is partly the luckiest. All that a step computes is kept for its gradient;
  `jax.checkpoint` around `dynamics_fn` keeps one state per step and computes
  the rest again.

  Attributes:
    num_samples: see `descent.Descent`, as `num_iterations`, `num_kept`,
      `patience`, `init_std` and `tolerance`.
    optimizer: 'adam', 'sgd' or 'rmsprop', or any optax optimiser that needs
      gradient, parameters and value only.
    learning_rate: of an optimiser by name, 0.1 by default.
    momentum: of 'sgd' and 'rmsprop', see `named_optimizers.make`.
    decay: of 'rmsprop', see there.
    multiplier_period: updates of the actions per update of the multipliers.

  Raises:
    ValueError: no multiplier period, no such optimiser, a number that it does
      not have, and what `descent.Descent` refuses.
    TypeError: `optimizer` is no optax optimiser.

  Source: Nocedal and Wright, Numerical optimization (2006), section 17.3 for
    the augmented Lagrangian.
  """

  num_samples: int = 10
  num_iterations: int = 100
  optimizer: optax.GradientTransformation | str = 'adam'
  learning_rate: float | None = None
  momentum: float | None = None
  decay: float | None = None
  multiplier_period: int = 10

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.at_least(multiplier_period=(self.multiplier_period, 1))
    _ = self.descending

  @property
  def descending(self) -> optax.GradientTransformationExtraArgs:
    """The optimiser of one candidate."""
    numbers = {
      'learning_rate': self.learning_rate,
      'momentum': self.momentum,
      'decay': self.decay,
    }
    optimizer = self.optimizer
    if isinstance(optimizer, str):
      optimizer = named_optimizers.make(optimizer, **numbers)
    elif given := [name for name, x in numbers.items() if x is not None]:
      raise ValueError(
        f'{given[0]} would do nothing: it is of an optimizer by name, and this '
        'one has its own.'
      )
    return descent.check_optimizer('optimizer', optimizer, optimizer)

  def num_keys(self) -> int:
    """One for every iteration, and one for where it ends."""
    return self.num_iterations + 1

  def iterate(
    self, task: Task, carry: descent.Iterates, size: int, iteration: jax.Array
  ) -> tuple[descent.Iterates, Diagnostics]:
    """Moves all candidates once, and multipliers when it is their turn."""
    _, model_keys = task.keys(iteration)
    iterates, prices, diagnostics = descent.step(
      task, self.descending, carry, model_keys, tolerance=self.tolerance
    )
    due = (iteration + 1) % self.multiplier_period == 0
    multipliers = jax.tree.map(
      functools.partial(jnp.where, due),
      lagrangian.tighten(task, iterates.multipliers, prices.excess),
      iterates.multipliers,
    )
    return iterates._replace(multipliers=multipliers), diagnostics
