"""A new planner is one file: this one, as `docs` shows it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import problem_sets
from problem_sets import PARAMS, A, B, H, make_keys, make_root

from jepa_wm import planning
from jepa_wm.planning import sampling
from jepa_wm.planning.gaussian import Gaussian
from jepa_wm.planning.task import Answer, Start, Task

FAR = 1e3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shrinking(planning.Sampling[Gaussian]):
  """Moves to the mean of the three cheapest, in ever smaller steps."""

  rate: float = 0.8

  @property
  def learns_from(self) -> int:
    return 3

  def init(self, task: Task, start: Start) -> Gaussian:
    return Gaussian(start.mean, jnp.full(task.shape, 2.0))

  def propose(self, task: Task, carry: Gaussian, noise: jax.Array) -> jax.Array:
    return sampling.draw(carry.mean, carry.std, noise)

  def update(
    self, task: Task, carry: Gaussian, elites: jax.Array, costs: jax.Array
  ) -> Gaussian:
    return Gaussian(jnp.mean(elites, axis=1), self.rate * carry.std)

  def answer(self, task: Task, carry: Gaussian) -> Answer:
    return carry.answer


def plan(proposal_fn=None, bound=FAR, **settings):
  planner = Shrinking(num_samples=32, num_iterations=20, **settings)
  problem = planning.Problem(
    make_root(),
    problem_sets.dynamics,
    problem_sets.effort_cost,
    H,
    A,
    limits=planning.Limits(
      planning.ActionBounds(-np.full(A, bound), np.full(A, bound))
    ),
    step_weights=planning.step_weights(H, 'all'),
    proposal_fn=proposal_fn,
  )
  return jax.jit(lambda key: planning.search(planner, PARAMS, key, problem))(
    make_keys()
  )


def test_it_finds_the_optimum():
  _, costs = problem_sets.optima(make_root())
  np.testing.assert_allclose(plan().cost, costs, rtol=0.05)


def test_it_gets_limits_proposals_elites_and_patience_for_free():
  """The optimum is handed in; it lies beyond what is allowed."""
  actions, _ = problem_sets.optima(make_root())
  answer = plan(
    bound=0.5,
    proposal_fn=lambda params, rng_keys, root: jnp.asarray(actions)[:, None],
    num_kept=2,
    patience=1,
    # Steps that stay wide find nothing cheaper for long.
    rate=1.0,
  )
  assert np.max(np.abs(answer.actions)) <= 0.5
  assert answer.elites.shape == (B, 2, H, A)
  handed_in = problem_sets.price(
    np.clip(actions, -0.5, 0.5)[:, None], make_root()
  )
  best = answer.diagnostics.best_cost
  assert np.all(best <= handed_in.T * (1 + 1e-5))
  assert np.all(np.diff(best, axis=0) <= 1e-5)
  # Rows of a problem that was left as it is repeat themselves.
  rows = answer.diagnostics.mean_cost
  assert np.any(rows[-1] == rows[-2])
