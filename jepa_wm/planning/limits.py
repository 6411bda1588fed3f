"""What actions are allowed, and which latents must not be passed.

An action constraint is obeyed: whatever a planner tries is projected onto it.
A guardrail is a price: passing it costs, and what is left is reported.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.planning import checks, constraints
from jepa_wm.types import CostFn

FORMS = ('off', 'soft', 'hard', 'lagrangian')
"""How a guardrail can be kept, see `keeping`."""


@constraints.pytree('cost_fn', 'form')
class Guardrail:
  """A price that must stay below a bound at every step of a plan.

  By default a planner that samples adds `penalty` times the excess, summed
  over steps, to a candidate's cost; one that follows gradients uses an
  augmented Lagrangian, whose first stiffness is `penalty`. Either may fail: the
  excess is in the `Plan`.

  Attributes:
    cost_fn: a `CostFn`, or a `timed` one; what it returns must stay below
      `bound`.
    bound: a number.
    penalty: what a unit of excess costs.
    form: how it is kept, one of `FORMS`: 'soft' by the penalty, 'lagrangian' by
      multipliers, 'hard' by leaving out what passes it, until nothing is left
      (`Limits.stop`), 'off' not at all, but for what is reported. The
      planner's own way where None; a planner refuses what it cannot do.
  """

  cost_fn: CostFn
  bound: jax.Array | float = 0.0
  penalty: jax.Array | float = 100.0
  form: str | None = None

  def check(self) -> None:
    """Makes sure that bound and penalty are numbers.

    Raises:
      ValueError: an array, a bound that is NaN, a penalty that is negative or
        not finite, or no such form.
    """
    for name, value in (('bound', self.bound), ('penalty', self.penalty)):
      if np.ndim(value) or isinstance(value, str):
        raise ValueError(
          f'{name} of a Guardrail must be one number, got {value!r}.'
        )
    checks.not_negative(penalty=self.penalty)
    if self.form is not None and self.form not in FORMS:
      raise ValueError(
        f'form of a Guardrail must be one of {", ".join(FORMS)}, got '
        f'{self.form!r}.'
      )
    if not constraints.is_traced(self.bound) and np.isnan(self.bound):
      raise ValueError('bound of a Guardrail must be a number, got NaN.')


@constraints.pytree()
class Limits:
  """What a plan must keep to; a pytree of its numbers.

  Attributes:
    actions: one constraint or several, in the planner's units: whatever is
      tried is projected onto them.
    guardrails: prices of latents that must stay below a bound at every step.
    allowed: bool `[A]`, which actions a planner of one-hot rows may choose;
      all by default.
    stop: `[A]`, the block that stands still: it is planned for all steps where
      a hard guardrail allows nothing that was looked at. Without it such a
      plan passes the guardrails as little as it can.
  """

  actions: (
    constraints.ActionConstraint | Sequence[constraints.ActionConstraint]
  ) = ()
  guardrails: Sequence[Guardrail] = ()
  allowed: jax.Array | np.ndarray | None = None
  stop: jax.Array | np.ndarray | None = None

  def checked(self, action_dim: int) -> 'Limits':
    """The same, its sequences as tuples.

    Raises:
      ValueError: a constraint that is empty or of another size, something
        that is no constraint, constraints that no action satisfies, or no
        action that is allowed.
    """
    if not isinstance(self.guardrails, Sequence):
      raise ValueError(
        'guardrails must be a sequence of Guardrail, got a '
        f'{type(self.guardrails).__name__}.'
      )
    for guardrail in self.guardrails:
      guardrail.check()
    if self.stop is not None and np.shape(self.stop) != (action_dim,):
      raise ValueError(
        f'stop must be one block, [A] = [{action_dim}], got shape '
        f'{list(np.shape(self.stop))}.'
      )
    allowed = self.allowed
    if allowed is not None:
      if np.shape(allowed) != (action_dim,):
        raise ValueError(
          f'allowed must say of each of the {action_dim} actions whether it may'
          f' be chosen, got shape {list(np.shape(allowed))}.'
        )
      if not constraints.is_traced(allowed) and not np.any(np.asarray(allowed)):
        raise ValueError('allowed must leave at least one action to choose.')
    return dataclasses.replace(
      self,
      actions=constraints.as_tuple(self.actions, action_dim),
      guardrails=tuple(self.guardrails),
    )

  def project(self, actions: jax.Array) -> jax.Array:
    """Moves sequences `[B, ..., H, A]` to where the constraints hold.

    Of rows over actions to choose from, those not allowed are left out; a row
    of nothing else becomes the first that is allowed.
    """
    if self.allowed is not None:
      allowed = constraints.row(jnp.asarray(self.allowed, bool), actions, bool)
      left = jnp.where(allowed, actions, 0.0)
      first = jnp.argmax(jnp.asarray(self.allowed))
      instead = constraints.row(
        jax.nn.one_hot(first, actions.shape[-1]), actions
      )
      some = jnp.any(left != 0.0, axis=-1, keepdims=True)
      actions = jnp.where(some, left, instead)
    return constraints.project(constraints.sequence(self.actions), actions)

  def following(self, previous: jax.Array) -> 'Limits':
    """The limits of what may come after the action `previous` `[B, A]`."""
    after = [
      one.following(previous) for one in constraints.sequence(self.actions)
    ]
    return dataclasses.replace(self, actions=tuple(after))


NO_LIMITS = Limits()
"""Whatever is tried may be done."""
