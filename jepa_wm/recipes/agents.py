"""Trains an agent in the imagination of a model, as one trains a head."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import exports, fields, files, lock, processes, rl
from jepa_wm.data import config as data_config
from jepa_wm.data import simulation
from jepa_wm.data import table as table_lib
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import observations
from jepa_wm.models import heads
from jepa_wm.recipes import (
  planning_groups,
  planning_heads,
  sources,
  training,
  training_fields,
)
from jepa_wm.rl import actor_critic, imagination, reach, rewards, starts
from jepa_wm.training import hooks, optimizers

FRAMES = ('played', 'episodes', 'resets')
"""Where starts and goals come from: random play in the world, recorded
episodes, or first frames of episodes."""

_EVAL_SEED = 1_000_000_009
_NUM_EVAL = 256
_PLAYED_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Imagining:
  """How an agent learns without the world; the section `agent` of a config.

  Attributes:
    environment: world to act in; that of the checkpoint by default.
    frames: whence starts and goals come, one of `FRAMES`. Of 'played' and
      'episodes' the true state is never asked; of 'resets' it decides the
      radius of success.
    num_frames: of those, at least.
    reach_by: folder of a head that prices latents, such as temporal_distance,
      in whose distance success counts; in the model's own where empty.
    goals: of 'episodes': any of the frames ('dataset'), later ones of the same
      episode ('future'), or first ones ('resets').
    reward: 'reached', softly, or 'shaped': besides what a step comes nearer,
      for goals so far that the first has no gradient.
    reach: radius of success in that distance; 0 fits it.
    reach_steps: environment steps between the frames whose distance it then is,
      of 'played' and 'episodes'.
    discount: what a block later counts.
    softness: of the radius, see `rewards.reached`.
    max_steps: blocks of an episode that is evaluated.
    horizon: see `actor_critic.Imagination`.
    mix: as there.
    target_rate: as there.

  Raises:
    ValueError: a field out of its range.
  """

  environment: str = ''
  frames: str = 'played'
  num_frames: int = 4096
  reach_by: str = ''
  goals: str = 'dataset'
  reward: str = 'reached'
  reach: float = 0.0
  reach_steps: int = 5
  discount: float = 0.97
  softness: float = 0.3
  max_steps: int = 30
  horizon: int = 8
  mix: float = 0.95
  target_rate: float = 0.02

  def __post_init__(self) -> None:
    fields.check(
      self,
      choices={
        'frames': FRAMES,
        'environment': ('', *worlds.WORLDS),
        'reach_by': (self.reach_by,),
        'goals': starts.GOALS,
        'reward': ('reached', 'shaped'),
      },
      shares=('discount',),
      most={'num_frames': 2**24, 'max_steps': 10_000},
    )
    if self.goals != 'dataset' and self.frames != 'episodes':
      raise ValueError(
        f'config.agent.goals={self.goals!r} would do nothing: of '
        f'config.agent.frames={self.frames!r} any frame is a goal; take '
        'config.agent.frames=episodes, or leave it out.'
      )
    _ = self.imagination

  @property
  def imagination(self) -> actor_critic.Imagination:
    """The part that says how it learns."""
    return actor_critic.Imagination(self.horizon, self.mix, self.target_rate)


@dataclasses.dataclass(frozen=True)
class AgentTraining:
  """What to train, and on what.

  Attributes:
    agent: how it learns.
    settings: of the head, `{'name': 'actor_critic', **fields}`.
    encoder: as for `WorldModel.from_checkpoint`; the model to learn in.
    data: where recorded episodes are, and the batch size.
    optimizer: how.
    intervals: how often what happens.
    seed: of all draws.

  Raises:
    ValueError: a field that would do nothing.
  """

  agent: Imagining
  settings: Mapping[str, Any]
  encoder: str
  data: data_config.DataConfig
  optimizer: optimizers.AdamW
  intervals: hooks.Intervals
  seed: int

  def __post_init__(self) -> None:
    self.data.check_unused('num_frames', 'an agent learns in single steps')
    if self.agent.frames != 'episodes':
      self.data.check_unused(
        'path',
        f'config.agent.frames={self.agent.frames!r} plays in the world; for '
        'recorded episodes say config.agent.frames=episodes',
      )


def read_agent_config(config: Mapping[str, Any]) -> AgentTraining:
  """Reads what `config` says.

  Args:
    config: as for `train_agent`.

  Raises:
    ValueError: a field there is not, or out of its range.
  """
  agent = training_fields.build(Imagining, 'config.agent', config['agent'])
  settings = config.get('head', {'name': 'actor_critic'})
  fields.from_dict(heads.HEADS, settings, where='config.head')
  fields.check_choice(
    'config.head.name', settings['name'], ('actor_critic',), is_open=False
  )
  if not (encoder := config.get('frozen_encoder', '')):
    raise ValueError(
      'config.frozen_encoder must be set: the agent learns in the imagination '
      'of a trained model, such as two_room_small, which ships.'
    )
  shared = training_fields.read_shared(config, ('head', 'agent'))
  return AgentTraining(agent, settings, encoder, **shared)


def train_agent(
  config: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
  """Trains what `config` says, in `workdir`.

  It leaves what `train_head` leaves; its `export/` is a head that acts.

  Args:
    config: plain nested dict: that of `train_head` with `agent` (fields of
      `Imagining`) beside `head`.
    workdir: folder of the run.

  Raises:
    ValueError: a field, the model or the data does not fit.
    OSError: no model, no dataset, a folder that cannot be read or written, or
      another process trains in it.
    DivergedError: a NaN or an infinity.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
  """
  plan = read_agent_config(config)
  with lock.hold(workdir):
    _train(plan, files.expand(workdir))


def _train(plan: AgentTraining, workdir: pathlib.Path) -> None:
  """Takes the steps that are left, then exports."""
  model = exports.WorldModel.from_checkpoint(plan.encoder)
  environment = plan.agent.environment
  if not environment:
    environment = planning_groups.environment_of(plan.encoder)
  _check_world(plan.encoder, model, environment)
  measure = measure_of(plan, model)
  env, params, described = _environment(plan, model, environment, measure)
  head: Any = heads.from_config(plan.settings, env.sizes)
  learner: Any = rl.ImaginedActorCritic(
    env, params, head, plan.agent.imagination
  )
  fingerprint = exports.encoder_fingerprint(model)
  variables, record = training.take_steps(
    plan,
    workdir,
    learner,
    rl.numbers(plan.data.batch_size),
    _evaluator(learner),
    config={
      'agent': {
        **vars(plan.agent),
        'environment': environment,
        'reach_by': measure.name if plan.agent.reach_by else '',
      },
      'head': fields.to_dict(head.config),
      'frozen_encoder': fingerprint,
      'data': {'batch_size': plan.data.batch_size, **described},
      'optimizer': dataclasses.asdict(plan.optimizer),
    },
  )
  record['reach'] = dataclasses.asdict(env.reach)
  trained = exports.TrainedHead(
    head, variables, plan.encoder, fingerprint, record
  )
  processes.by_first(lambda: trained.save(workdir / 'export'))


def _check_world(
  encoder: str, model: exports.WorldModel, environment: str
) -> None:
  """Refuses a world that the model was not trained in, where it says so."""
  data = model.record.get('config', {}).get('data', {})
  trained = data.get('environment')
  if worlds.find(trained) and not worlds.are_alike(trained, environment):
    raise ValueError(
      f'config.agent.environment={environment}: the model {encoder} was '
      f'trained in {trained!r}, which is another world; leave the flag out, or '
      f'give a model of {environment!r} with --config.frozen_encoder.'
    )


def measure_of(
  plan: AgentTraining, model: exports.WorldModel
) -> rewards.Measure:
  """How far latents are from a goal: as a head says, else as the model does.

  Raises:
    OSError: no head.
    ValueError: a broken one, a head of another encoder, or one that prices
      nothing.
  """
  path = plan.agent.reach_by
  if not path:
    own = model.levels[0].model.distance
    return rewards.Measure(lambda params, *latents: own(*latents))
  folder = planning_heads.folder_of('--config.agent.reach_by', path)
  found = exports.TrainedHead.load(folder, model=model, where=plan.encoder)
  if (cost_fn := found.head.roles.cost) is None:
    raise ValueError(
      f'config.agent.reach_by={path}: the head {found.name!r} prices nothing; '
      "name one that does, such as 'temporal_distance'."
    )
  name = f'{found.name} {found.digest[:16]}'
  return rewards.Measure(cost_fn, found.params, name)


def _environment(
  plan: AgentTraining,
  model: exports.WorldModel,
  environment: str,
  measure: rewards.Measure,
) -> tuple[rl.LatentEnvironment, rl.EnvironmentParams, dict[str, Any]]:
  """The environment that is imagined, and what decides it in JSON's types."""
  agent, world = plan.agent, worlds.get(environment)
  reward_fn = rewards.reached(
    softness=agent.softness, distance_fn=measure.distance_fn
  )
  if agent.reward == 'shaped':
    reward_fn = rewards.shaped(reward_fn)
  given: dict[str, Any] = {
    'reward_fn': reward_fn,
    'measure': measure,
    'discount': agent.discount,
    'max_steps': agent.max_steps,
  }
  if agent.reach:
    given['reach'] = reach.given(agent.reach, measure)
  if agent.frames == 'episodes':
    source = sources.Episodes(plan.data, model.model)
    with world.stage() as stage:
      low, high = (np.asarray(x) for x in (stage.action_low, stage.action_high))
    made = rl.from_episodes(
      model,
      source.split('train'),
      low=low,
      high=high,
      goals=agent.goals,
      num=agent.num_frames,
      reach_steps=agent.reach_steps,
      **given,
    )
    return *made, source.identity
  if world.on_host:
    raise ValueError(
      f'config.agent.frames={agent.frames!r} draws in worlds written in JAX, '
      f'and {environment!r} is on the host; give recorded episodes: '
      '--config.agent.frames=episodes --config.data.path=FOLDER.'
    )
  env = world.make(image_size=model.image_size)
  if agent.frames == 'resets':
    key = jax.random.key(plan.seed)
    made = rl.from_world(model, env, num=agent.num_frames, rng_key=key, **given)
  else:
    played = _played(env, world, model, agent.num_frames, plan.seed)
    low, high = (np.asarray(x) for x in (env.action_low, env.action_high))
    made = rl.from_episodes(
      model,
      played,
      low=low,
      high=high,
      goals='dataset',
      num=agent.num_frames,
      reach_steps=agent.reach_steps,
      **given,
    )
  return *made, {}


def _played(
  env: Any,
  world: worlds.World,
  model: exports.WorldModel,
  num_frames: int,
  seed: int,
) -> table_lib.Table:
  """Episodes of random play in a JAX world: what was seen and done."""
  policy = world.policy('smooth', env)
  length = _PLAYED_STEPS + 1
  count = -(-num_frames // length)

  @jax.jit
  @jax.vmap
  def play(key: jax.Array) -> Any:
    states, actions, _ = simulation.play(
      env, policy, key, num_steps=_PLAYED_STEPS
    )
    return observations.observe(model, env, states), actions

  seen, played = play(jax.random.split(jax.random.key(seed), count))
  # Nothing was done after the last frame of an episode.
  padding = ((0, 0), (0, 1), (0, 0))
  actions = np.pad(played, padding, constant_values=np.nan)
  rows = lambda x: np.asarray(x).reshape(count * length, *x.shape[2:])
  columns = {f'observation/{name}': rows(x) for name, x in seen.items()}
  return table_lib.Table(
    where='random play',
    columns={**columns, 'action': rows(actions)},
    offsets=np.arange(count) * length,
    lengths=np.full(count, length),
  )


def _evaluator(
  learner: rl.ImaginedActorCritic,
) -> Callable[[Any, Any], Mapping[str, float | str]]:
  """Plays the likeliest actions in imagination, from the same starts always."""
  env, horizon = learner.env, int(learner.env_params.max_steps)

  @jax.jit
  def play(variables: Any, params: rl.EnvironmentParams) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(_EVAL_SEED), _NUM_EVAL)
    _, state = jax.vmap(env.reset, (0, None))(keys, params)
    imagined = imagination.imagine(
      env.model,
      params.model,
      learner.head.act,
      variables,
      None,
      state.latent,
      state.goal,
      horizon=horizon,
    )
    goals = state.goal[None]
    distances = env.distance(params, imagined.latents, goals)
    there = distances < params.reach
    blocks = jnp.where(there.any(axis=0), jnp.argmax(there, axis=0), horizon)
    return {'reached': there.any(axis=0).mean(), 'blocks': blocks.mean()}

  def evaluate(variables: Any, records: Any) -> dict[str, float | str]:
    del records
    found = jax.device_get(play(variables, learner.env_params))
    return {f'imagined/{name}': float(x) for name, x in found.items()}

  return evaluate
