"""Where the windows of a training come from."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tqdm

from jepa_wm import bounds, files, lock, models, processes, units
from jepa_wm.data import (
  cache,
  columns,
  config,
  digits,
  episodes,
  simulation,
  windows,
)
from jepa_wm.envs import worlds
from jepa_wm.recipes import clips

# Episodes whose actions are measured; training takes small seeds.
_STATISTICS_SEED = 1_000_000_009
_FRAMES_AT_ONCE = 512


class Episodes:
  """Batches of one model from episodes, on disk or played as needed.

  Attributes:
    path: of the episodes, where they lie on disk.
    action_statistics: normalise the actions.
    identity: what makes this data this data, beside the fields of the config.
    repeats: whether frames are shown again, so that what is made of them can be
      kept.
    world: where they were played, None where that is not known or not in JAX.
  """

  def __init__(self, data: config.DataConfig, model: models.Learns):
    """Opens what `data` names.

    Args:
      data: with `source` 'cache' or 'simulation'.
      model: what is to be trained.

    Raises:
      ValueError: its frames or actions are not those of the data.
      FileNotFoundError: there are no episodes.
    """
    check_windows(data, model)
    self._data, self._model = data, model
    self.path = data.path
    self.repeats = data.source == 'cache'
    self._window: dict[str, Any] = {
      'num_frames': data.num_frames,
      'stride': model.stride,
      'batch_size': data.batch_size,
    }
    if data.source == 'cache':
      self._splits = {
        split: self._in_own_units(table)
        for split, table in open_episodes(data.path, data.num_episodes).items()
      }
      train = self._splits['train']
      self._check(
        train.columns['action'].shape[1], train.columns[columns.PIXELS].shape[1]
      )
      self.action_statistics = train.action_statistics
      self.identity = {
        'fingerprint': episodes.fingerprint(data.path),
        # Of the episodes, whatever the config says.
        'environment': train.provenance.get('environment', ''),
      }
      found = worlds.find(self.identity['environment'])
      self.world: worlds.World | None = found
      if found is not None and found.on_host:
        self.world = None
    else:
      world = worlds.get_simulated(data.environment)
      self.world = world
      self._world = world.make(image_size=image_size(model) or 64)
      self._policy = world.policy('expert', self._world, data.action_noise)
      self._check(self._world.action_dim)
      number = self._check_agents(world)
      self.action_statistics = _simulated_statistics(
        self._world, self._policy, data.episode_length
      ).of_agents(number, number)
      self.identity = {}

  def batches(
    self,
    split: str,
    seed: int,
    latents: np.ndarray | None = None,
    *,
    with_state: bool = False,
    rows: np.ndarray | None = None,
  ) -> Any:
    """Endless batches of `split` in the order of `seed`.

    Of what was observed on disk the model's own alone is read.

    Args:
      split: 'train' or 'held_out'.
      seed: of the order.
      latents: what `encoded` returned, to be read in place of pixels.
      with_state: whether the true state is in them, where it is on disk.
      rows: of every batch, those that are read; all by default.
    """
    if self._data.source == 'cache':
      table = self._splits[split]
      names = columns.seeing(table.columns, self._model.observation_spec)
      return windows.cached_windows(
        table,
        seed=seed,
        latents=latents,
        columns=[x for x in names if with_state or x != 'state'],
        rows=rows,
        **self._window,
      )
    return simulation.simulated_windows(
      self._world,
      self._policy,
      seed=seed,
      num_steps=self._data.episode_length,
      rows=rows,
      **self._window,
    )

  def split(self, name: str) -> cache.Cache:
    """The episodes of a split, as they lie on disk.

    Raises:
      ValueError: the episodes are played anew all the time.
    """
    if not self.repeats:
      raise ValueError(
        f'config.data.source is {self._data.source!r}, whose frames are never '
        'seen twice.'
      )
    return self._splits[name]

  def encoded(
    self,
    split: str,
    encode_fn: Callable[[Mapping[str, np.ndarray]], jax.Array],
  ) -> Iterator[np.ndarray]:
    """What is made of all frames of `split`, each computed once.

    Args:
      split: 'train' or 'held_out'.
      encode_fn: an observation, arrays `[M, *shape]`, to latents `[M, D]`.

    Yields:
      float32 `[M, D]`, block after block of frames in order.

    Raises:
      ValueError: the episodes are played anew all the time.
    """
    table = self.split(split)
    seen = {
      name: table.columns[f'observation/{name}']
      for name in self._model.observation_spec
    }
    num_frames = table.num_frames
    with tqdm.tqdm(
      desc=f'encoding {split}', total=num_frames, unit=' frames'
    ) as bar:
      for start in range(0, num_frames, _FRAMES_AT_ONCE):
        # The last frame fills up, rather than to compile for what is left.
        frames = np.arange(start, start + _FRAMES_AT_ONCE)
        frames = np.minimum(frames, num_frames - 1)
        latents = encode_fn({name: x[frames] for name, x in seen.items()})
        yield np.asarray(latents)[: num_frames - start]
        bar.update(min(_FRAMES_AT_ONCE, num_frames - start))

  def some_batches(self, split: str, seed: int) -> list[Mapping[str, Any]]:
    """The windows that evaluations look at."""
    count = -(-self._data.num_eval_windows // self._data.batch_size)
    batches = self.batches(split, seed, with_state=True)
    return list(itertools.islice(batches, count))

  def _in_own_units(self, table: cache.Cache) -> cache.Cache:
    """Episodes whose actions are in the units of the model."""
    self._check(table.columns['action'].shape[1])
    number = self._check_agents(
      worlds.find(table.provenance.get('environment'))
    )
    statistics = table.action_statistics.of_agents(number, number)
    return dataclasses.replace(table, action_statistics=statistics)

  def _check_agents(self, world: worlds.World | None) -> int:
    """How many act in the model.

    Raises:
      ValueError: more or fewer do in the world.
    """
    acting = self._model.acting
    number = 1 if acting is None else acting.num_agents
    there = number if world is None else world.num_agents or 1
    if number not in (1, there):
      raise ValueError(
        f'config.model.num_agents is {number} and the data has {there}; change '
        'it and action_dim, which is that of all agents, or collect other '
        'episodes.'
      )
    return number

  def _check(self, action_dim: int, size: int | None = None) -> None:
    """Compares the model with the data's actions, and its frames if on disk."""
    acting = self._model.acting
    for what, wanted, found in (
      ('image_size', image_size(self._model), size),
      ('action_dim', acting and acting.action_spec.dim, action_dim),
    ):
      if None not in (wanted, found) and wanted != found:
        where = 'encoder.image_size' if what == 'image_size' else what
        raise ValueError(
          f'config.model.{where} is {wanted} and the data has {found}; change '
          'it, or collect other episodes.'
        )


def image_size(model: models.Learns) -> int | None:
  """Side of the frames that a model sees; None where it sees none."""
  pixels = model.observation_spec.get('pixels')
  return None if pixels is None else int(pixels.shape[0])


def check_windows(data: config.DataConfig, model: models.Learns) -> None:
  """Refuses batches, and windows to evaluate on, that no memory holds.

  Raises:
    ValueError: there is less.
  """
  length = max(data.num_frames, 1)
  for name, copies in (('batch_size', 1), ('num_eval_windows', 2)):
    number = copies * getattr(data, name)
    bounds.check_memory(
      f'config.data.{name}={getattr(data, name)} windows of {length} frames',
      3 * number * length * (image_size(model) or 0) ** 2,
    )


def open_source(data: config.DataConfig, model: models.Learns) -> Any:
  """Opens what `data` says that the batches of `model` come from.

  Args:
    data: the fields of a config.
    model: what is to be trained.

  Returns:
    An object with `batches`, `some_batches`, `action_statistics`, `identity`.

  Raises:
    ValueError: the model does not fit the data.
    OSError: no dataset.
  """
  if data.source in ('cache', 'simulation'):
    return Episodes(data, model)
  clips.check_no_actions(data.source, model)
  check_windows(data, model)
  sizes = {
    'batch_size': data.batch_size,
    'num_eval_windows': data.num_eval_windows,
  }
  parts = [_clips(part, data, model, sizes) for part in data.parts]
  if len(parts) == 1:
    return parts[0]
  return clips.mixed(parts, data.weights, **sizes)


def _clips(
  part: str,
  data: config.DataConfig,
  model: models.Learns,
  sizes: Mapping[str, int],
) -> clips.Clips:
  """One part of a mixture."""
  image_size = model.observation_spec['pixels'].shape[0]
  if part.startswith(config.TFDS):
    return clips.tfds(
      part,
      image_size=image_size,
      frame_stride=model.stride,
      num_frames=data.num_frames,
      **sizes,
    )
  look = digits.MovingDigits(
    image_size=image_size,
    num_digits=data.num_digits,
    background=part.partition(':')[2] or data.background,
  )
  return clips.moving_digits(look, data.num_frames, **sizes)


def open_episodes(
  path: files.Path,
  num_episodes: int = 0,
  *,
  field: str = 'config.data.path',
) -> dict[str, cache.Cache]:
  """Both splits, decoded first where nobody has done so yet.

  Args:
    path: of the episodes.
    num_episodes: how many there are to train on, 0 for all.
    field: what says where they are, for the message.

  Raises:
    FileNotFoundError: there are none.
    ValueError: fewer than `num_episodes`.
  """
  path = files.expand(path)
  if not path.exists():
    raise FileNotFoundError(
      f'There is no dataset at {path}; make one with `python -m '
      f'experiments.collect --policy=mixture --out={path}`, or set '
      f'--{field}.'
    )
  processes.by_first(lambda: decode(path))
  splits = {
    split: cache.open_cache(path, split=split)
    for split in ('train', 'held_out')
  }
  if num_episodes:
    splits['train'] = _first(splits['train'], num_episodes)
  return splits


def decode(path: pathlib.Path) -> None:
  """Makes the cache of episodes where there is none.

  Raises:
    OSError: it cannot be written.
    ValueError: the episodes are damaged, or none are there to train on.
  """
  if (path / 'cache').exists():
    lock.tidy(path)
  else:
    # Who makes the episodes anew, or their cache, is waited for.
    with lock.wait(path, lock.hold_place):
      if not (path / 'cache').exists():
        cache.build_cache(path, progress=True)


def _first(train: cache.Cache, num_episodes: int) -> cache.Cache:
  """The first episodes, with the action statistics of these alone.

  Raises:
    ValueError: there are fewer.
  """
  if num_episodes > len(train.lengths):
    raise ValueError(
      f'config.data.num_episodes is {num_episodes}, and {train.where} has '
      f'{len(train.lengths)} episodes; collect more, or ask for fewer.'
    )
  few = train.episodes(slice(num_episodes))
  end = few.offsets[-1] + few.lengths[-1]
  return dataclasses.replace(
    few, action_statistics=units.fit(few.columns['action'][:end])
  )


def _simulated_statistics(
  world: Any, policy: Any, num_steps: int
) -> units.ActionStatistics:
  """Action statistics of 256 episodes, which no training window is from."""
  keys = jax.random.split(jax.random.key(_STATISTICS_SEED), 256)
  play = lambda key: simulation.play(world, policy, key, num_steps=num_steps)
  _, actions, _ = jax.jit(jax.vmap(play))(keys)
  return units.fit(np.asarray(actions))
