"""Trains a model while it acts in its world, and says how far it gets."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jepa_wm import exports, fields, files, lock, planning, processes, rl, units
from jepa_wm.data import cache, columns, episodes
from jepa_wm.data import replay as replay_lib
from jepa_wm.envs import stage as stage_lib
from jepa_wm.envs import variation, worlds
from jepa_wm.evaluation.planning import (
  pairs,
  protocol,
)
from jepa_wm.models import heads
from jepa_wm.recipes import (
  frozen_encoders,
  online_rounds,
  sources,
  training,
  training_fields,
)
from jepa_wm.rl import playing
from jepa_wm.training import checkpoints, draws, metrics

_PLANNER = planning.ICEM(
  num_samples=32, num_elites=4, num_iterations=3, num_kept=2
)


VALUES = ('gcivl', 'gciql')
"""Heads that learn what goals are worth, and price latents by it."""


@dataclasses.dataclass(frozen=True)
class Online:
  """How a model learns while it acts; the section `online` of a config.

  Attributes:
    environment: world to act in.
    shift: a group of its factors of variation that is drawn anew, so that the
      world is another than the one a model knows; none where empty.
    shift_seed: of that draw.
    steps_per_round: updates between two rounds of play.
    episodes_per_round: episodes of a round.
    episode_length: environment steps of an episode.
    episodes: archive of recorded episodes that it begins with; none where
      empty.
    first_policy: who plays the first round, before any update; nobody where
      empty, which needs `episodes`.
    only_failed: whether episodes that came to their target are dropped: search
      first, learn where it fails.
    noise: deviation of what is added to actions, as a share of half their
      range.
    value: head that learns, anew after every round, what goals are worth by the
      episodes so far, one of `VALUES`; plans then look for that, and for the
      goal itself where it is empty, and before the first update.
    value_steps: updates of it.
    horizon: blocks that a plan of iCEM, 32 candidates three times, looks ahead.
    protocol: what is measured after every round.
    num_pairs: problems of it.

  Raises:
    ValueError: a field out of its range.
  """

  environment: str = 'two_room'
  shift: str = ''
  shift_seed: int = 0
  steps_per_round: int = 120
  episodes_per_round: int = 24
  episode_length: int = 100
  episodes: str = ''
  first_policy: str = 'smooth'
  only_failed: bool = False
  noise: float = 0.0
  value: str = ''
  value_steps: int = 1000
  horizon: int = 5
  protocol: str = 'short'
  num_pairs: int = 100

  def __post_init__(self) -> None:
    world = worlds.get(self.environment)
    fields.check(
      self,
      choices={
        'environment': tuple(worlds.WORLDS),
        'shift': ('', *world.variation_groups),
        'first_policy': ('', *world.policies),
        'protocol': tuple(protocol.PROTOCOLS),
        'episodes': (self.episodes,),
        'value': ('', *VALUES),
      },
      may_be_zero=('shift_seed',),
      most={
        'episodes_per_round': 10_000,
        'episode_length': 10_000,
        'value_steps': 10**6,
      },
    )
    if not self.value and self.value_steps != type(self).value_steps:
      raise ValueError(
        f'config.online.value_steps={self.value_steps} would do nothing: no '
        'value is learnt; name its head, config.online.value=gcivl.'
      )
    if self.shift_seed and not self.shift:
      raise ValueError(
        f'config.online.shift_seed={self.shift_seed} would do nothing: no '
        'factor of variation is drawn anew; name one, config.online.shift.'
      )
    if not (self.first_policy or self.episodes):
      raise ValueError(
        'config.online.first_policy is empty, so there is nothing to learn '
        'from before the first update: name one, such as smooth, or an '
        'archive, config.online.episodes.'
      )

  def world(self) -> Any:
    """The environment, with what is drawn anew of it."""
    env = worlds.get(self.environment).make()
    if not self.shift:
      return env
    return variation.vary(env, self.shift, jax.random.key(self.shift_seed))


def train_online(
  config: Mapping[str, Any], workdir: str | os.PathLike[str]
) -> None:
  """Trains what `config` says while it acts, in `workdir`.

  It leaves what `train` leaves, the episodes in `replay/`, the head that plans
  look for, if any, in `value/`, and success against environment steps, written
  after every round: `rounds.json`, `success.png`.

  Args:
    config: plain nested dict: that of `train` with `online` (fields of
      `Online`); of `data` the batch and its windows alone are read.
    workdir: folder of the run.

  Raises:
    ValueError: a field or the world does not fit.
    OSError: a folder that cannot be read or written, or another process trains
      in it.
    DivergedError: a NaN or an infinity.
    Interrupted: SIGTERM or Ctrl-C came; a checkpoint was written.
  """
  config = dict(config)
  settings = training_fields.build(
    Online, 'config.online', config.pop('online')
  )
  plan = training.read_config(config)
  processes.check_alone('config.online')
  plan.memory.check_default('config.online, whose model plans while it learns')
  _check_played(plan, settings)
  with lock.hold(workdir):
    folder = files.expand(workdir)
    size = plan.model.observation_spec['pixels'].shape[0]
    opened = worlds.get(settings.environment).stage(
      settings.world(), image_size=size
    )
    with opened as stage:
      statistics = _units(stage, config.get('initialise_from'))
      model = exports.WorldModel(plan.model, None, statistics)
      _train(plan, settings, stage, model, folder)


def _check_played(plan: training.Plan, settings: Online) -> None:
  """Refuses episodes that nobody can play or learn from, before any is.

  Raises:
    ValueError: what a model sees, or how long an episode is.
  """
  playing.check(
    exports.WorldModel(plan.model, None, None), settings.episode_length
  )
  span = (plan.data.num_frames - 1) * plan.model.stride
  if settings.episode_length < span:
    raise ValueError(
      f'config.online.episode_length must be at least {span}, the steps of a '
      f'window of {plan.data.num_frames} frames {plan.model.stride} apart, got '
      f'{settings.episode_length}.'
    )


def _train(
  plan: training.Plan,
  settings: Online,
  stage: stage_lib.Stage,
  model: exports.WorldModel,
  workdir: pathlib.Path,
) -> None:
  """Takes the steps that are left, then exports."""
  archive = _archive(settings)
  replay = replay_lib.Replay(workdir / 'replay')
  if not checkpoints.steps(workdir / 'checkpoints'):
    # What another run played that was killed before its first checkpoint.
    replay.rewind(0)
  num_before, before = _begin(replay, archive, settings.episodes)
  values = _values(plan, settings, stage, model)
  act = _act(plan, settings, stage, model, replay, num_before, values)
  batches = rl.Batches(
    replay,
    num_frames=plan.data.num_frames,
    stride=plan.model.stride,
    batch_size=plan.data.batch_size,
    seed=plan.seed,
    columns=['observation/pixels', 'action'],
  )
  # The archive may move; what is in it may not change.
  described = dataclasses.asdict(settings) | before
  begins: dict[str, Any] = {}
  if plan.start is not None:
    begins['initialise_from'] = frozen_encoders.fingerprint(plan.start)
  variables, record = training.take_steps(
    plan,
    workdir,
    training.lasting(plan),
    draws.DrawnBatches(batches, plan.model, seed=plan.seed),
    _evaluator(settings, stage, act, workdir),
    first_hooks=[act],
    action_statistics=model.units,
    augment_fn=plan.augmentation,
    start=plan.start or {},
    config={
      'model': fields.to_dict(plan.model.config),
      'online': described,
      'data': {
        'environment': settings.environment,
        'batch_size': plan.data.batch_size,
        'num_frames': plan.data.num_frames,
      },
      'optimizer': dataclasses.asdict(plan.optimizer),
      **begins,
    },
  )
  trained = dataclasses.replace(model, params=variables, record=record)
  trained.save(workdir / 'export')
  if values is not None:
    found = exports.TrainedHead(
      values.head,
      act.value(variables),
      str(workdir),
      exports.encoder_fingerprint(trained),
      record,
    )
    found.save(workdir / 'value')
  rows = online_rounds.show(metrics.read(workdir / 'metrics.jsonl'), workdir)
  print(online_rounds.table(rows), flush=True)


def _act(
  plan: training.Plan,
  settings: Online,
  stage: stage_lib.Stage,
  model: exports.WorldModel,
  replay: replay_lib.Replay,
  num_before: int,
  values: rl.Values | None,
) -> rl.Act:
  """Who plays between the steps."""
  return rl.Act(
    replay,
    stage,
    rl.Actor(
      _PLANNER,
      horizon=settings.horizon,
      num_episodes=settings.episodes_per_round,
      num_steps=settings.episode_length,
      noise=settings.noise,
    ),
    lambda variables: dataclasses.replace(model, params=variables),
    every=settings.steps_per_round,
    seed=plan.seed,
    first_policy=settings.first_policy,
    only_failed=settings.only_failed,
    num_before=num_before,
    values=values,
  )


def _values(
  plan: training.Plan,
  settings: Online,
  stage: stage_lib.Stage,
  model: exports.WorldModel,
) -> rl.Values | None:
  """Who learns what plans look for, if it is not the goal itself."""
  if not settings.value:
    return None
  low, high = (np.asarray(x) for x in (stage.action_low, stage.action_high))
  sizes = exports.head_sizes(model, low, high)
  head = heads.from_config({'name': settings.value}, sizes)
  return rl.Values(head, num_steps=settings.value_steps, seed=plan.seed)


def _archive(settings: Online) -> cache.Cache | None:
  """Recorded episodes to begin with, if any.

  Raises:
    FileNotFoundError: they are not there.
    ValueError: they are of another world.
  """
  path = settings.episodes
  if not path:
    return None
  table = sources.open_episodes(path, field='config.online.episodes')['train']
  played = table.provenance.get('environment', '')
  if worlds.find(played) and not worlds.are_alike(played, settings.environment):
    raise ValueError(
      f'config.online.episodes={path} was recorded in {played!r}, and '
      f'config.online.environment is {settings.environment!r}; a model learns '
      'in one world.'
    )
  return table


def _begin(
  replay: replay_lib.Replay, archive: cache.Cache | None, path: str
) -> tuple[int, dict[str, str]]:
  """Copies an archive into a replay, the episodes that are not there yet.

  Args:
    replay: of the run.
    archive: what `_archive` found.
    path: of it.

  Returns:
    How many there are, and what says which they are.
  """
  if archive is None:
    return 0, {}
  for number in range(replay.end, len(archive.lengths)):
    first, length = archive.offsets[number], archive.lengths[number]
    rows = np.arange(first, first + length)
    actions = archive.columns['action'][rows[:-1]]
    replay.append(
      episodes.Episode(
        columns={
          columns.PIXELS: archive.columns[columns.PIXELS][rows],
          'action': np.asarray(actions, np.float32),
        },
        provenance={'index': number},
      )
    )
  return len(archive.lengths), {'episodes': episodes.fingerprint(path)}


def _evaluator(
  settings: Online,
  stage: stage_lib.Stage,
  act: rl.Act,
  workdir: pathlib.Path,
) -> Any:
  """Plans the problems that can be in the world, see `online_rounds`."""
  chosen = protocol.get(
    settings.protocol,
    environment=settings.environment,
    horizon=settings.horizon,
    receding_horizon=1,
  )
  problems = pairs.load_pairs(chosen, settings.num_pairs)
  if settings.shift:
    env: Any = settings.world()
    allowed = jax.vmap(lambda start, goal: env.allows(start) & env.allows(goal))
    rows = np.flatnonzero(allowed(problems.starts, problems.goals))
    problems = problems.take(rows)
  return online_rounds.evaluator(
    act, _PLANNER, chosen, problems, stage, workdir
  )


def _units(
  stage: stage_lib.Stage, start: str | None
) -> units.ActionStatistics | None:
  """Those of the model it starts from, or of uniform actions."""
  if start:
    return exports.WorldModel.from_checkpoint(start).units
  low, high = (
    np.asarray(x, np.float32) for x in (stage.action_low, stage.action_high)
  )
  return units.ActionStatistics((low + high) / 2, (high - low) / 12**0.5)
