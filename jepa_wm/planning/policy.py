"""No search at all: whoever proposes acts."""

import dataclasses

import jax
import jax.numpy as jnp

from jepa_wm.planning import faces, following, sampling
from jepa_wm.planning.problem import Diagnostics, WarmStart
from jepa_wm.planning.task import Answer, Start, Task


@faces.register('policy')
@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy(following.Following):
  """Answers the first proposal, without a search.

  So the problem's `proposal_fn` is who acts: a policy that is rolled in the
  model, or anything else that knows what to do. The proposal is moved to where
  the action limits hold; guardrails are priced and reported, no more. Its plan
  leaves nothing to the next one.

  Raises:
    ValueError: without a `proposal_fn`, when it is asked for a plan.
  """

  @property
  def searches(self) -> bool:
    """It never does."""
    return False

  def populations(self) -> list[int]:
    """One candidate, once."""
    return [1]

  def num_keys(self) -> int:
    """One look at the price."""
    return 1

  def begin(self, task: Task, start: Start) -> jax.Array:
    """The proposal, `[B, H, A]`."""
    return task.project(start.given[:, 0])

  def iterate(
    self, task: Task, carry: jax.Array, size: int, iteration: jax.Array
  ) -> tuple[jax.Array, Diagnostics]:
    """Says what it costs."""
    del size
    _, model_keys = task.keys(iteration)
    costs = task.penalize(task.price(jnp.expand_dims(carry, 1), model_keys))
    return carry, sampling.diagnose(costs, costs, jnp.zeros_like(carry))

  def finish(self, task: Task, carry: jax.Array) -> tuple[Answer, jax.Array]:
    """The proposal."""
    searched = jnp.zeros(task.shape[:1], bool)
    answer = Answer(carry, carry, jnp.zeros_like(carry), searched)
    return answer, jnp.zeros((task.shape[0], 0, *task.shape[1:]), jnp.float32)

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """Drops what has been played."""
    return left.shifted(num_played)
