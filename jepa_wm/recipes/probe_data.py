"""Clips with something to read off them, in three splits."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jepa_wm import bounds, files, world_model
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import columns, digits, simulation, windows
from jepa_wm.data import config as data_config
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics import probe_training
from jepa_wm.recipes import sources

_BATCH_SIZE = 32
_POSITION = ('x', 'y')


@dataclasses.dataclass(frozen=True)
class Clips:
  """A split.

  Attributes:
    observation: what was seen, arrays `[N, T, ...]`, `pixels` uint8 among
      them; of `load` with several clips of a video `[N * num_clips, T, ...]`,
      those of a video one after another.
    targets: under its name, what there is to read: `state` float32 `[N, S]`,
      the mean over the frames of a clip, angles as cosine and sine, or `label`
      int32 `[N]`.
  """

  observation: dict[str, np.ndarray]
  targets: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Dataset:
  """All splits, and what the targets are called.

  Attributes:
    splits: one for each of `probe_training.SPLITS`; no scan, episode or seed is
      in two of them.
    state_names: of the columns of `state`.
    num_classes: of `label`, 0 without labels.
  """

  splits: dict[str, Clips]
  state_names: tuple[str, ...]
  num_classes: int


def named(
  asked: str | None, model: world_model.WorldModel, checkpoint: str
) -> str:
  """Name of the data that is asked for, or a model was trained on, for `load`.

  Args:
    asked: what is asked for, None for what it was trained on.
    model: what was trained.
    checkpoint: where it is from, for messages.

  Raises:
    ValueError: its record does not say, or it is a world that must be recorded.
  """
  if asked is not None:
    return asked
  trained = model.record.get('config', {}).get('data', {})
  source = trained.get('source', 'cache')
  if source not in ('cache', 'simulation'):
    return source
  name = trained.get('environment')
  found = worlds.find(name)
  if found is not None and not found.on_host:
    return name
  raise ValueError(
    f'{checkpoint} was trained on data of the world {name!r}, which '
    'cannot be simulated here; name a folder of its episodes with --data.'
    if name
    else f'{checkpoint} does not say what it was trained on; name it '
    "with --data, a world such as 'two_room' or a folder of episodes."
  )


def background_of(
  model: world_model.WorldModel, data: str, asked: str | None
) -> str | None:
  """What is behind the digits; None where there are none.

  Args:
    model: trained on digits or on something else.
    data: name of the data, as for `load`.
    asked: what is asked for; by default what the model was trained with.

  Raises:
    ValueError: one was asked for that no digits will stand before.
  """
  if data != 'digits':
    if asked is not None:
      raise ValueError(
        f'background={asked!r} is for --data=digits, and the data '
        f'is {data!r}; leave one of the two out.'
      )
    return None
  trained = model.record.get('config', {}).get('data', {})
  return asked or trained.get('background', 'none')


def load(
  name: str,
  counts: Mapping[str, int],
  *,
  image_size: int,
  num_frames: int,
  frame_stride: int,
  seed: int,
  background: str = 'none',
  observed: Sequence[str] = ('pixels',),
  num_clips: int = 1,
) -> Dataset:
  """Clips of a dataset.

  Args:
    name: 'digits', a world such as 'two_room' (simulated), 'tfds:NAME' (see
      `tfds_clips.find`), or the folder of episodes that `experiments.collect`
      wrote.
    counts: clips of each split.
    image_size: side of the frames in pixels.
    num_frames: frames `T` of a clip.
    frame_stride: steps of an episode from one frame to the next.
    seed: of everything random.
    background: what is behind digits, one of `digits.BACKGROUNDS`.
    observed: what is read of the observations of recorded episodes.
    num_clips: clips of each held-out video; a video is as long as they are.

  Raises:
    ValueError: no such dataset, frames of another size, or more clips than the
      memory holds.
    OSError: episodes that cannot be read.
  """
  clip = {'batch_size': _BATCH_SIZE, 'seed': seed}
  _check_room(counts, image_size, num_frames, num_clips)
  lengths = {
    split: num_frames * (num_clips if split == 'held_out' else 1)
    for split in probe_training.SPLITS
  }
  if name == 'digits':
    look = digits.MovingDigits(image_size=image_size, background=background)
    source = _digits(look, clip, lengths)
  elif name.startswith(data_config.TFDS):
    clip |= {'frame_stride': frame_stride}
    source = _tfds(name, clip, lengths, image_size)
  elif worlds.find(name):
    clip |= {'stride': frame_stride}
    source = _simulated(name, clip, lengths, image_size)
  else:
    clip |= {'stride': frame_stride}
    source = _recorded(name, clip, lengths, image_size, observed)
  splits = {
    split: _take(source.streams[split], counts[split], source.state_names)
    for split in probe_training.SPLITS
  }
  splits['held_out'] = _cut(splits['held_out'], num_frames)
  read = [part for name in source.state_names for part in _parts(name)]
  return Dataset(splits, tuple(read), source.num_classes)


class _Source(NamedTuple):
  """Batches of each split, and what is in them."""

  streams: dict[str, Iterable[Mapping[str, Any]]]
  state_names: tuple[str, ...] = _POSITION
  num_classes: int = 0


def _check_room(
  counts: Mapping[str, int], image_size: int, num_frames: int, num_clips: int
) -> None:
  """Refuses clips that this machine's memory cannot hold.

  Raises:
    ValueError: names the split of most bytes.
  """
  clip = 3 * num_frames * image_size**2
  sizes = {
    split: count * clip * (num_clips if split == 'held_out' else 1)
    for split, count in counts.items()
  }
  most = max(sizes, key=lambda split: sizes[split])
  field = {'held_out': 'num_test'}.get(most, f'num_{most}')
  bounds.check_memory(
    f'{field}={counts[most]:,} clips of {num_frames} frames of {image_size} '
    'pixels, and those of the other splits,',
    sum(sizes.values()),
  )


def _cut(videos: Clips, num_frames: int) -> Clips:
  """Videos as clips of so many frames."""
  seen = {
    name: x.reshape(-1, num_frames, *x.shape[2:])
    for name, x in videos.observation.items()
  }
  return Clips(seen, videos.targets)


def _digits(
  look: digits.MovingDigits, clip: Mapping[str, Any], lengths: Mapping[str, int]
) -> _Source:
  streams = {
    split: digits.moving_digits(look, split=split, num_frames=length, **clip)
    for split, length in lengths.items()
  }
  return _Source(streams, look.state_names, num_classes=10)


def _tfds(
  name: str,
  clip: Mapping[str, Any],
  lengths: Mapping[str, int],
  image_size: int,
) -> _Source:
  from jepa_wm.data import tfds_clips

  dataset = tfds_clips.find(name.removeprefix(data_config.TFDS))
  if dataset.label is None:
    raise ValueError(
      f'data: {name} has no ClassLabel, so there is nothing to probe for.'
    )
  streams = {
    split: tfds_clips.tfds_clips(
      dataset, split=split, image_size=image_size, num_frames=length, **clip
    )
    for split, length in lengths.items()
  }
  return _Source(streams, num_classes=dataset.num_classes)


def _simulated(
  name: str,
  clip: Mapping[str, Any],
  lengths: Mapping[str, int],
  image_size: int,
) -> _Source:
  world = worlds.get_simulated(name)
  env = world.make(image_size=image_size)
  policy = world.policy('expert', env, world.action_noise)
  streams = {
    split: simulation.simulated_windows(
      env,
      policy,
      num_frames=length,
      **{**clip, 'seed': 3 * clip['seed'] + number},
    )
    for number, (split, length) in enumerate(lengths.items())
  }
  return _Source(streams, world.state_names)


def _recorded(
  name: str,
  clip: Mapping[str, Any],
  lengths: Mapping[str, int],
  image_size: int,
  observed: Sequence[str],
) -> _Source:
  caches = open_cache(files.expand(name), image_size)
  state = caches['train'].columns.get('state')
  size = 0 if state is None else state.shape[1]
  made_in = str(caches['train'].provenance.get('environment'))
  names: tuple[str, ...] = _POSITION
  found = worlds.find(made_in)
  if found is not None:
    names = found.state_names
  if len(names) != size:
    names = tuple(f's{i}' for i in range(size))
  streams = {
    split: windows.cached_windows(
      cache,
      num_threads=0,
      skip_short_episodes=True,
      columns=columns.seeing(cache.columns, observed),
      num_frames=lengths[split],
      **clip,
    )
    for split, cache in caches.items()
  }
  return _Source(streams, names)


def _parts(name: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
  """What is read of a column: of an angle, which has a turn, two parts."""
  if name.endswith('angle'):
    return {f'cos {name}': np.cos, f'sin {name}': np.sin}
  return {name: lambda column: column}


def _take(
  batches: Iterable[Mapping[str, Any]], count: int, state_names: Sequence[str]
) -> Clips:
  """The first `count` clips of a stream of batches."""
  taken = list(itertools.islice(batches, -(-count // _BATCH_SIZE)))

  def column(read_fn: Callable[[Mapping[str, Any]], Any]) -> np.ndarray:
    rows = [np.asarray(read_fn(batch)) for batch in taken]
    return np.concatenate(rows)[:count]

  targets = {}
  if 'label' in taken[0]:
    targets['label'] = column(lambda batch: batch['label'])
  if 'state' in taken[0]:
    state = np.moveaxis(column(lambda batch: batch['state']), -1, 0)
    columns = [
      part(values)
      for name, values in zip(state_names, state, strict=True)
      for part in _parts(name).values()
    ]
    targets['state'] = np.stack(columns, axis=-1).mean(axis=1)

  def observed(name: str) -> Any:
    return column(lambda batch: batch['observation'][name])

  seen = {name: observed(name) for name in taken[0]['observation']}
  return Clips(seen, targets)


def open_cache(
  path: pathlib.Path, image_size: int
) -> dict[str, cache_lib.Cache]:
  """The three splits of a dataset on disk; held-out episodes make two.

  Args:
    path: the folder.
    image_size: side that its frames must have, in pixels.

  Raises:
    FileNotFoundError: no such folder.
    ValueError: frames of another size, or too few episodes.
  """
  if not path.is_dir():
    raise FileNotFoundError(
      f"data: {str(path)!r} is neither 'digits' nor a world "
      f'({", ".join(worlds.WORLDS)}) nor tfds:NAME nor a folder of episodes; '
      'make one with `python -m '
      f'experiments.collect --out={path}`.'
      + files.nearest(path, ['digits', *worlds.WORLDS])
    )
  sources.decode(path)
  train = cache_lib.open_cache(path, split='train')
  held_out = cache_lib.open_cache(path, split='held_out')
  found = train.columns[columns.PIXELS].shape[1]
  if found != image_size:
    raise ValueError(
      f'data: the frames at {path} are {found} pixels wide, the model takes '
      f'{image_size}; collect episodes with --image_size={image_size}.'
    )
  half = len(held_out.lengths) // 3
  if half < 1:
    raise ValueError(
      f'data: {path} holds out {len(held_out.lengths)} episodes, and a probe '
      'needs three, one to be chosen on and two to be scored on; collect more.'
    )

  return {
    'train': train,
    'validation': held_out.episodes(slice(half)),
    'held_out': held_out.episodes(slice(half, None)),
  }
