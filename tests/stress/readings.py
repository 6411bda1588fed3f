"""What users hand over, and who reads it: it ends well, or in one sentence."""

import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from experiments import ending
from jepa_wm import exports
from jepa_wm.data import cache, episodes, readers, torch_files
from jepa_wm.evaluation.planning import manifests, pairs, protocol
from jepa_wm.evaluation.statistics import runs
from jepa_wm.interop import state_dicts
from jepa_wm.training import checkpoints, metrics


def _source(path: pathlib.Path, **options: str) -> None:
  reader = readers.open_reader(path, **options)
  for index in range(reader.num_episodes):
    reader[index]


def _archive(path: pathlib.Path) -> None:
  for source in episodes.open_splits(path).values():
    for index in range(len(source)):
      source[index]


def _cache(path: pathlib.Path) -> None:
  for split in ('train', 'held_out'):
    found = cache.open_cache(path, split=split)
    for column in found.columns.values():
      column[0:2]


def _manifest(path: pathlib.Path) -> None:
  chosen = protocol.get('short', environment='two_room', num_pairs=2)
  pairs.load_pairs(chosen, path=path / 'manifest.json')


def _checkpoint(path: pathlib.Path) -> None:
  found = checkpoints.latest(path / 'checkpoints')
  if found is not None:
    checkpoints.read_record(found)
  metrics.read(path / 'metrics.jsonl')


READINGS: dict[str, Callable[[pathlib.Path], object]] = {
  'model': exports.WorldModel.from_checkpoint,
  'heads/policy': exports.TrainedHead.load,
  'heads/decoder': _checkpoint,
  'walks': _archive,
  'walks+cache': _cache,
  'swm.h5': _source,
  'lerobot': lambda path: _source(path, pixels='observation.images.top'),
  'lerobot_v21': lambda path: _source(path, pixels='observation.images.top'),
  'rlds': _source,
  'minari': _source,
  'dino_wm': _source,
  'manifests': _manifest,
  'finished': runs.load,
  'tensors': lambda path: torch_files.read(path / 'states.pth'),
  'released': lambda path: state_dicts.read(path / 'weights.pt'),
}
"""By the name of the file or folder in `things`."""


def places(things: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
  """The files of a thing that may be damaged, from its folder."""
  root = things / name.partition('+')[0]
  if root.is_file():
    yield pathlib.Path()
    return
  for path in sorted(root.rglob('*')):
    inside = path.relative_to(root)
    is_cache = 'cache' in inside.parts
    skipped = name.startswith('walks') and is_cache != ('+' in name)
    if path.is_file() and not skipped and 'tensorboard' not in inside.parts:
      yield inside


def read(name: str, path: str) -> None:
  """Reads a thing as its commands do; a child's whole work."""
  with ending.one_sentence('Interrupted.'):
    READINGS[name](pathlib.Path(path))


def read_all(name: str, folder: str) -> None:
  """Reads every copy in a folder, one child of `read` in each would cost more.

  Not used where a reading may end the process.
  """
  for path in sorted(os.listdir(folder)):
    read(name, os.path.join(folder, path))


def copy(things: pathlib.Path, name: str, to: pathlib.Path) -> pathlib.Path:
  """A copy of a thing."""
  root = things / name.partition('+')[0]
  to = to / root.name
  if root.is_file():
    shutil.copy(root, to)
  else:
    shutil.copytree(root, to)
  return to


def cached_manifest() -> pathlib.Path:
  """One that ships."""
  chosen = protocol.get('short', environment='two_room')
  return manifests.shipped_path(chosen)
