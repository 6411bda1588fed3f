"""Whether the model ranks plans as the world does."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import planning
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import diagnostic, played
from jepa_wm.evaluation.diagnostics.finding import Finding, Table
from jepa_wm.evaluation.planning import observations
from jepa_wm.evaluation.report import plots
from jepa_wm.evaluation.statistics import ranks
from jepa_wm.planning import rollout, sampling
from jepa_wm.types import Params, Root

KINDS = ('random', 'middle', 'elite')
_RANKS = 0.5  # A correlation that is worth following.


class _Problems(NamedTuple):
  """Starts that an expert left, and what is seen of where it came to."""

  starts: Any
  goals: Any
  root: Root


class _Tried(NamedTuple):
  """What candidates `[B, N]` come to.

  Attributes:
    predicted: cost by the model.
    shown: cost of the latent of the frame that they really lead to.
    true: distance from the goal, in the world's unit.
  """

  predicted: Any
  shown: Any
  true: Any


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class PlanRanking:
  """Rank correlation of what candidates of a CEM cost and where they lead.

  Goals are where an expert came to within the horizon. Candidates are drawn
  from the distribution that the search begins with, from that of half of its
  iterations, and from its last; all are played. Where the model ranks them as
  the world does and plans fail, the planner is at fault; where frames that are
  seen are ranked well and imagined ones are not, the dynamics are.

  Attributes:
    num_problems: B.
    num_candidates: N, of every kind.
    num_iterations: of the search.
    num_samples: candidates of an iteration.
    num_elites: of these are learnt from.
  """

  name = group = 'plan_ranking'
  num_problems: int = 16
  num_candidates: int = 64
  num_iterations: int = 10
  num_samples: int = 200
  num_elites: int = 20

  def __call__(self, question: diagnostic.Question) -> Finding:
    question.acting(self.name)
    world = question.world(self.name)
    tried, answer = self._try(question, world)
    labels = [
      [ranks.spearman(*pair) for pair in zip(x, y)]
      for kind in tried.values()
      for x, y in (
        (kind.predicted, kind.true),
        (kind.predicted, kind.shown),
        (kind.shown, kind.true),
      )
    ]
    means = np.array([_mean(x) for x in labels]).reshape(len(tried), 3)
    everyone = _Tried(
      *(np.concatenate(x, axis=1) for x in zip(*tried.values()))
    )
    picked = np.argmin(everyone.predicted, axis=1)[:, None]
    scalars = {
      **{f'spearman_{kind}': float(row[0]) for kind, row in zip(tried, means)},
      'best': float(everyone.true.min(1).mean()),
      'picked': float(np.take_along_axis(everyone.true, picked, 1).mean()),
      'plan': float(answer.true.mean()),
    }
    cloud = functools.partial(
      plots.points,
      {
        kind: (x.true.ravel(), x.predicted.ravel()) for kind, x in tried.items()
      },
      title='What candidates cost, and where they lead',
      labels=(f'true distance from the goal ({world.unit})', 'predicted cost'),
    )
    return Finding(
      title='Whether plans rank as they turn out',
      scalars=scalars,
      table=Table(
        [
          'candidates', 'predicted, true', 'predicted, seen', 'seen, true',
          'best', 'mean',
        ],
        [
          [kind, *map(float, row), float(x.true.min(1).mean()),
           float(x.true.mean())]
          for (kind, x), row in zip(tried.items(), means)
        ],
      ),
      figures=plots.both('plan_ranking', cloud),
      verdict='ranks' if means[0, 0] > _RANKS else 'misranks',
      sentence='Spearman correlation, a mean over '
      f'{self.num_problems} problems, of the predicted cost with the true '
      f'distance ({world.unit}), with the cost of the frame that is then seen '
      '(what dynamics get wrong), and of that with the true distance (what the '
      'cost gets wrong). best is the nearest of all candidates, picked the one '
      'that the model thinks cheapest: picked far above best is a failure of '
      'the model. plan is the answer of the search: plan far above picked is '
      'one of the planner.',
    )  # fmt: skip

  def _try(
    self, question: diagnostic.Question, world: worlds.World
  ) -> tuple[dict[str, _Tried], _Tried]:
    """Candidates by kind, and the plan as the only candidate."""
    model, horizon = question.model, question.episodes.horizon
    env = played.make_env(model, world)
    start_key, plan_key, draw_key = jax.random.split(question.rng_key, 3)
    problems = _problems(model, env, world, horizon, start_key, self)
    bounds = model.action_bounds(env.action_low, env.action_high)
    problem = planning.Problem(
      problems.root,
      model.dynamics,
      model.cost,
      horizon,
      model.action_dim,
      planning.Limits(actions=(bounds,)),
    )
    first = self._planner(1)
    shape = self.num_problems, horizon, model.action_dim
    spread = jnp.full(shape, first.init_std, jnp.float32)
    at = [(jnp.zeros(shape, jnp.float32), spread)]
    plan = None
    for number in (max(1, self.num_iterations // 2), self.num_iterations):
      plan = jax.jit(
        lambda params, key, number=number: planning.search(
          self._planner(number), params, key, problem
        )
      )(model.params, plan_key)
      at.append((plan.mean, plan.std))
    assert plan is not None
    tries = functools.partial(_tries(model, env, problems), model.params)
    tried = {}
    for number, (kind, (mean, std)) in enumerate(zip(KINDS, at)):
      noise = jax.random.normal(
        jax.random.fold_in(draw_key, number),
        (self.num_problems, self.num_candidates, *shape[1:]),
      )
      drawn = bounds.project(sampling.draw(mean, std, noise))
      tried[kind] = _Tried(*map(np.asarray, tries(drawn)))
    answer = tries(jnp.expand_dims(plan.actions, 1))
    return tried, _Tried(*map(np.asarray, answer))

  def _planner(self, num_iterations: int) -> planning.CEM:
    return planning.CEM(
      num_samples=self.num_samples,
      num_elites=self.num_elites,
      num_iterations=num_iterations,
    )


def _problems(
  model: diagnostic.Examined,
  env: Any,
  world: worlds.World,
  horizon: int,
  rng_key: jax.Array,
  sizes: PlanRanking,
) -> _Problems:
  """Starts and goals of an expert's episodes, one horizon apart."""
  expert = world.policy('expert', env, world.action_noise)

  @jax.jit
  def make(params: Params, rng_keys: jax.Array) -> _Problems:
    states, _ = jax.vmap(
      functools.partial(played.play, env, expert, horizon * model.action_block),
      (0, None),
    )(rng_keys, jnp.asarray(False))
    starts, goals = (
      jax.tree.map(lambda leaf, t=t: leaf[:, t], states) for t in (0, -1)
    )
    root = model.root(
      params,
      observations.observe(model, env, starts),
      observations.observe(model, env, goals),
    )
    return _Problems(starts, goals, root)

  return make(model.params, jax.random.split(rng_key, sizes.num_problems))


def _tries(model: diagnostic.Examined, env: Any, problems: _Problems) -> Any:
  """Prices candidates `[B, N, H, A]` by the model, and plays them."""

  def play(given: tuple[Any, Any, jax.Array]) -> tuple[Any, jax.Array]:
    start, goal, raw = given

    def one(actions: jax.Array) -> tuple[Any, jax.Array]:
      states = played.follow(env, start, actions)
      last = jax.tree.map(lambda leaf: leaf[-1], states)
      return last, env.distance(last, goal)

    return jax.vmap(one)(raw)

  @jax.jit
  def tries(params: Params, actions: jax.Array) -> _Tried:
    state, goal = rollout.broadcast_root(problems.root, actions.shape[1])
    keys = jax.random.split(jax.random.key(0), len(actions))
    predicted = rollout.rollout(
      params, keys, state, actions, goal, model.dynamics, model.cost
    ).cost
    raw = model.raw_actions(actions)
    raw = raw.reshape(*raw.shape[:2], -1, raw.shape[-1])
    last, true = jax.vmap(lambda *x: play(x))(
      problems.starts, problems.goals, raw
    )
    # One problem after another: its pictures are many.
    shown = jax.lax.map(
      lambda row: _price(model, params, env, *row),
      (last, jax.tree.map(lambda x: x[:, 0], goal), actions[:, :, -1]),
    )
    return _Tried(predicted, shown, true)

  return tries


def _price(
  model: diagnostic.Examined,
  params: Params,
  env: Any,
  states: Any,
  goal: Any,
  action: jax.Array,
) -> jax.Array:
  """What the model's cost says of frames `[N]` that are seen."""
  seen = observations.observe(model, env, states)
  state = model.start(params, jax.tree.map(lambda x: x[None, :, None], seen))
  goal = jax.tree.map(lambda leaf: leaf[None, None], goal)
  return model.cost(params, state, action[None], goal)[0]


def _mean(values: list[float]) -> float:
  """Of those problems whose candidates differ at all."""
  known = [x for x in values if np.isfinite(x)]
  return float(np.mean(known)) if known else float('nan')
