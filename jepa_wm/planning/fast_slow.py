"""Fast and slow: whoever proposes acts; where that will not do, a search."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm.planning import (
  checks,
  faces,
  following,
  keeping,
  moments,
  rollout,
  sampling,
)
from jepa_wm.planning.cem import CEM
from jepa_wm.planning.gaussian import Gaussian
from jepa_wm.planning.problem import Diagnostics, WarmStart
from jepa_wm.planning.task import Answer, Start, Task


class Both(NamedTuple):
  """The search, and who it stands in for.

  Attributes:
    search: of the problems that need one.
    proposal: `[B, H, A]`.
    cost: `[B]`, of that, with penalties.
    slow: `[B]` bool, whose proposal will not do.
  """

  search: sampling.Sampled[Gaussian]
  proposal: jax.Array
  cost: jax.Array
  slow: jax.Array


@faces.register('fast_slow')
@dataclasses.dataclass(frozen=True, kw_only=True)
class FastSlow(following.Following):
  """Follows the first proposal where it is good enough, else searches by CEM.

  It is where the model predicts that it costs `threshold` at most, or saves the
  share `gain` of what standing here costs, unless what is seen surprises. All
  proposals are candidates of the search. Where no problem of a batch needs one,
  its time is saved.

  Attributes:
    threshold: a cost that is good enough, whatever it is now.
    gain: share of the cost now that a proposal must save.
    surprise: distance of the latent that is seen from the one that the last
      plan predicted for it, above which there is a search whatever the proposal
      costs; 0 never looks. In units of the model's own distance, of LeWM the
      squared one: D times the `held_out/prediction_error` of its training is
      what an ordinary block comes to, so ten times that is a bound where one
      block is played between plans (`rollout_error` where several are).
    num_samples: N of the search, see `CEM`, as `num_elites`, `num_iterations`
      and `init_std`.
    num_elites: K.
    num_iterations: I.
    init_std: standard deviation of the first candidates.

  Raises:
    ValueError: a negative threshold, gain or surprise, what `CEM` refuses, and,
      when it is asked for a plan, without a `proposal_fn`, or without what was
      predicted where `surprise` asks for it.
  """

  threshold: float = 1.0
  gain: float = 0.1
  surprise: float = 0.0
  num_samples: int = 32
  num_elites: int = 4
  num_iterations: int = 3
  init_std: float = 1.0

  def __post_init__(self) -> None:
    checks.not_negative(
      threshold=self.threshold, gain=self.gain, surprise=self.surprise
    )
    _ = self._search

  @property
  def _search(self) -> CEM:
    return CEM(
      num_samples=self.num_samples,
      num_elites=self.num_elites,
      num_iterations=self.num_iterations,
      init_std=self.init_std,
    )

  @property
  def keeps(self) -> tuple[str, ...]:
    """What forbids or prices a proposal; multipliers would not."""
    return ('off', 'soft', 'hard')

  @property
  def expects(self) -> bool:
    """Where there is a bound on the surprise."""
    return self.surprise > 0

  def populations(self) -> list[int]:
    """Those of the search."""
    return self._search.populations()

  def num_keys(self) -> int:
    """One more than the search has, for the price of the proposal."""
    return self._search.num_keys() + 1

  def begin(self, task: Task, start: Start) -> Both:
    """Prices the proposal, and says who needs a search."""
    proposal = task.project(start.given[:, 0])
    _, model_keys = task.keys(self._search.num_keys())
    prices = task.price(jnp.expand_dims(proposal, 1), model_keys)
    cost = keeping.rank(task, keeping.start(task), prices)[:, 0]
    now = _cost_now(task)
    is_enough = cost <= self.threshold
    is_enough |= now - cost >= self.gain * jnp.abs(now)
    if self.expects:
      if task.problem.surprise is None:
        raise ValueError(
          f'FastSlow(surprise={self.surprise}) needs to know how far what is '
          'seen is from what was predicted: plan by a BoundPlanner with '
          'expecting, or model.planner(...), which remember it.'
        )
      is_enough &= task.problem.surprise <= self.surprise
    return Both(self._search.begin(task, start), proposal, cost, ~is_enough)

  def iterate(
    self, task: Task, carry: Both, size: int, iteration: jax.Array
  ) -> tuple[Both, Diagnostics]:
    """One iteration of the search, if any problem needs it."""

    def search(
      inner: sampling.Sampled[Gaussian],
    ) -> tuple[sampling.Sampled[Gaussian], Diagnostics]:
      return self._search.iterate(task, inner, size, iteration)

    def skip(
      inner: sampling.Sampled[Gaussian],
    ) -> tuple[sampling.Sampled[Gaussian], Diagnostics]:
      return inner, told

    alone = jnp.expand_dims(carry.cost, 1)
    told = sampling.diagnose(alone, alone, jnp.zeros_like(carry.proposal))
    inner, found = jax.lax.cond(jnp.any(carry.slow), search, skip, carry.search)
    # A problem's record does not depend on those beside it.
    found = jax.tree.map(
      lambda new, old: jnp.where(carry.slow, new, old), found, told
    )
    return carry._replace(search=inner), found

  def finish(self, task: Task, carry: Both) -> tuple[Answer, jax.Array]:
    """The proposal, or what the search says."""
    found, elites = self._search.finish(task, carry.search)
    slow, still = carry.slow.reshape(-1, 1, 1), jnp.zeros_like(carry.proposal)
    answer = Answer(
      jnp.where(slow, found.actions, carry.proposal),
      jnp.where(slow, found.mean, carry.proposal),
      jnp.where(slow, found.std, still),
      carry.slow,
      found.allowed,
    )
    return answer, elites

  def shift(self, left: WarmStart, num_played: int) -> WarmStart:
    """Drops what has been played and pads the end with zeros."""
    return left.shifted(num_played)


def _cost_now(task: Task) -> jax.Array:
  """What it would cost to stay, `[B]`: the state as it is, and no action."""
  problem = task.problem
  state, goal = rollout.broadcast_root(problem.root, 1)
  action = jnp.zeros((task.shape[0], 1, task.shape[2]), jnp.float32)
  moment = moments.Moment(
    state, action, state, jnp.int32(0), jnp.bool_(problem.horizon == 1)
  )
  one_fn = moments.of_one(problem.cost_fn)
  cost = moments.price(one_fn, task.params, moment, goal)[:, 0]
  weights = rollout.weigh(
    problem.step_weights, problem.horizon, problem.cost_fn
  )
  # Of steps that all cost the same, the soonest is any.
  is_soonest = isinstance(problem.cost_fn, moments.Soonest)
  count = jnp.float32(1.0) if is_soonest else jnp.sum(weights)
  return count * cost.astype(jnp.float32)
