"""GRASP: actions and the states between them, optimised side by side."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from jepa_wm.planning import (
  checks,
  descent,
  lagrangian,
  lifted_descent,
  lifting,
)
from jepa_wm.planning.problem import Diagnostics
from jepa_wm.planning.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRASP(descent.Descent):
  """Optimises actions together with the states between them.

  The states `s_h` that a plan passes are variables like its actions `a_h`.
  With `F` a step of the dynamics, `c` the cost and `w` the step weights, both
  descend on the sum over steps of

    |F(s_h, a_h) - s_h+1|^2 + (w_h + goal_weight) c(F(s_h, a_h))

  in which no gradient passes through the `s_h` that a step starts from, and
  nothing holds the last state. So no gradient runs through a chain of steps,
  where it would vanish or explode over a long horizon, and noise on the
  states, which fades out over the iterations, leads off ridges and out of
  local minima. Before every `sync_period` iterations the states are put to
  where a true rollout passes; after them the actions descend for
  `num_sync_steps` on their true cost, through the whole rollout, because the
  sum above is greedy: each of its steps looks one step ahead. Optimisers
  start afresh each time.

  Candidates are optimised independently of each other. Only sequences that
  were rolled out can become the plan; guardrails are kept as by
  `gradient.Gradient`, multipliers are updated when states are.

  By default all floating-point leaves of a state are optimised and the steps
  are one call of `dynamics_fn`, with N times H candidates, which may then not
  rely on all candidates being at the same step. Where a state grows, or holds
  more than the newest latent, name the latent with `read_fn` and `write_fn`.
  The steps are then taken in turn, each from the state that the one before
  left behind, its latent replaced by the virtual one; gradients still end
  where a step begins.

  The cost's scale matters: it is weighed against squared gaps between states.
  The diagnostics have one row per rollout of the states: what the actions
  cost then, and the gradient by them of the sum above, in the last iteration
  that followed.

  Attributes:
    num_samples: see `descent.Descent`, as `num_kept`, `patience`, `init_std`
      and `tolerance`.
    num_iterations: updates of actions and states together, a multiple of
      `sync_period`.
    sync_period: how many of them before the states are rolled out again.
    num_sync_steps: updates of the actions through the whole rollout between
      them; may be none.
    goal_weight: what the cost counts at every step, beside `step_weights`.
    noise_std: standard deviation of the noise that is added to the states in
      the first iteration.
    optimizer: of the actions, `optax.adam(0.01)` by default.
    latent_optimizer: of the states, `optax.sgd(0.1)` by default: a squared
      gap has the same curvature for every model, and a rate of 0.5 would put
      a state where the step before it ends.
    sync_optimizer: of the actions through the whole rollout,
      `optax.adam(0.05)` by default.
    read_fn: picks from a state the latent that is optimised, leaves
      `[B, N, ...]`, of one shape at every step.
    write_fn: gives a state another latent; `write_fn(state, read_fn(state))`
      is `state`.

  Raises:
    ValueError: numbers that are too small, iterations that are no multiple of
      `sync_period`, and what `descent.Descent` refuses; when the search
      begins, one of `read_fn` and `write_fn` without the other, a state that
      changes its shape without them, a latent that is not floating point or
      does not fit back into its state.
    TypeError: an optimiser that is none.

  Source: Psenka et al., Parallel stochastic gradient-based planning for world
    models (arXiv 2602.00475). There the last state is the goal itself: for a
    squared distance and the default `step_weights` that is the same sum. In
    its authors' code states start between root and goal and stay as they are
    when the actions descend on their true cost.
  """

  num_samples: int = 1
  num_iterations: int = 200
  sync_period: int = 50
  num_sync_steps: int = 10
  goal_weight: float = 1.0
  noise_std: float = 0.01
  optimizer: optax.GradientTransformation | None = None
  latent_optimizer: optax.GradientTransformation | None = None
  sync_optimizer: optax.GradientTransformation | None = None
  read_fn: lifting.ReadFn | None = None
  write_fn: lifting.WriteFn | None = None

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.at_least(
      sync_period=(self.sync_period, 1),
      num_sync_steps=(self.num_sync_steps, 0),
    )
    checks.not_negative(goal_weight=self.goal_weight, noise_std=self.noise_std)
    if self.num_iterations % self.sync_period:
      raise ValueError(
        'num_iterations must be a multiple of sync_period, got'
        f' {self.num_iterations} and {self.sync_period}.'
      )
    _ = self.optimizers

  @property
  def optimizers(self) -> tuple[optax.GradientTransformationExtraArgs, ...]:
    """Of one candidate's actions, its states, and its actions alone."""
    names = 'optimizer', 'latent_optimizer', 'sync_optimizer'
    given = self.optimizer, self.latent_optimizer, self.sync_optimizer
    defaults = optax.adam(0.01), optax.sgd(0.1), optax.adam(0.05)
    return tuple(map(descent.check_optimizer, names, given, defaults))

  @property
  def descending(self) -> optax.GradientTransformationExtraArgs:
    """The optimiser of the actions alone."""
    return self.optimizers[2]

  def populations(self) -> list[int]:
    """An iteration of the driver is a rollout and what follows it."""
    return [self.num_samples] * (self.num_iterations // self.sync_period)

  def num_keys(self) -> int:
    """The keys after those of the updates are for what is rolled out whole."""
    num_whole = len(self.populations()) * (self.num_sync_steps + 1)
    return self.num_iterations + num_whole + 1

  def iterate(
    self, task: Task, carry: descent.Iterates, size: int, iteration: jax.Array
  ) -> tuple[descent.Iterates, Diagnostics]:
    """Rolls out, descends on actions and states, then on actions alone."""
    actions = carry.actions
    first_key = self.num_iterations + iteration * (self.num_sync_steps + 1)
    _, model_keys = task.keys(first_key)
    prices = task.price(actions, model_keys)
    best = descent.keep_better(carry.best, actions, prices, self.tolerance)
    multipliers = lagrangian.tighten(task, carry.multipliers, prices.excess)
    lift = lifting.make_lift(
      task, self.read_fn, self.write_fn, self.goal_weight
    )
    numbers = iteration * self.sync_period + jnp.arange(self.sync_period)
    share = numbers.astype(jnp.float32) / self.num_iterations
    after, told = lifted_descent.descend(
      task,
      lift,
      self.optimizers[:2],
      actions,
      multipliers,
      model_keys,
      numbers=numbers,
      noise_stds=self.noise_std * (1.0 - share),
    )
    diagnostics = descent.diagnose(task, actions, prices, *told)

    def synchronise(
      iterates: descent.Iterates, number: jax.Array
    ) -> tuple[descent.Iterates, None]:
      _, model_keys = task.keys(first_key + 1 + number)
      iterates, *_ = descent.step(
        task, self.descending, iterates, model_keys, tolerance=self.tolerance
      )
      return iterates, None

    # Optimisers start afresh each time.
    state = descent.init_each(self.descending, after)
    iterates = descent.Iterates(after, state, multipliers, best)
    iterates, _ = jax.lax.scan(
      synchronise, iterates, jnp.arange(self.num_sync_steps)
    )
    return iterates, diagnostics
