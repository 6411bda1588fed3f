"""DINO-WM's folders of tensors; nothing in them is unpickled.

  states.pth         `[E, T, V]`, padded to the longest episode
  rel_actions.pth or actions.pth            `[E, T, A]`
  velocities.pth     `[E, T, 2]`, of Push-T
  rewards.pth        `[E, T]`, of the row's action, where somebody added them
  seq_lengths.pkl or seq_lengths.pth        `[E]`; all are of length T without
  obses/episode_000.mp4 or episode_000.pth  frames, `[T, ...]`

with `train` and `val` above for Push-T. As its own loader does
(gaoyuezhou/dino_wm, `datasets/pusht_dset.py`), Push-T's actions are divided by
100, velocities belong to the state, and position and velocity of the agent are
what the body feels.
"""

import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from jepa_wm import files
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import torch_files
from jepa_wm.data.readers import columns, frames, reader, video

_ACTIONS = ('rel_actions', 'actions', 'abs_actions')
_SPLITS = ('train', 'val')
# Pixels of Push-T to the units of its actions.
_PUSH_T_SCALE = 100.0


def looks_like(path: pathlib.Path) -> bool:
  """Whether `path` is such a folder, or the one above `train` and `val`."""
  return bool(_folders(path))


class DinoWm:
  """The episodes of one folder, or of its splits; see `reader.Reader`."""

  def __init__(self, path: pathlib.Path, options: reader.Options) -> None:
    """Opens a folder.

    Args:
      path: that `states.pth` is in, or the one above `train` and `val`.
      options: what to read; `pixels` has no choice here.

    Raises:
      FileNotFoundError: it is no such folder.
      ValueError: a file that holds anything but tensors, is cut off, or does
        not fit the others.
    """
    self.path = path
    self.warnings: list[str] = []
    self._options = options
    options.refuse(path, pixels='has one camera')
    folders = _folders(path)
    if not folders:
      raise FileNotFoundError(
        f'{path} has no states.pth, nor train/states.pth.'
      )
    if options.split is not None:
      if options.split not in folders:
        raise ValueError(
          f'{path} has no split {options.split!r}, only '
          f'{", ".join(filter(None, folders)) or "one folder"}.'
        )
      folders = {options.split: folders[options.split]}
    self._parts = [
      _Folder(folder, options, self.warnings) for folder in folders.values()
    ]
    self._ends = np.cumsum([len(part.lengths) for part in self._parts])
    self.num_episodes = int(self._ends[-1])
    if not self.num_episodes:
      raise ValueError(f'{path} holds no episodes.')
    floats = itertools.chain.from_iterable(
      part.floats() for part in self._parts
    )
    # 255 where there are none, which is then of no use.
    self._scale = frames.scale_of(path, 'obses', floats)
    self.provenance: dict[str, Any] = {
      'format': 'DINO-WM',
      'folder': path.name,
      'splits': [name for name in folders if name],
      'columns': self._parts[0].choice.to_dict(),
      'action_scale': self._parts[0].scale,
    }

  def __getitem__(self, index: int) -> episodes_lib.Episode:
    reader.check_index(self, index)
    number = int(np.searchsorted(self._ends, index, side='right'))
    part = self._parts[number]
    own = index - int(self._ends[number]) + len(part.lengths)
    return columns.episode(
      f'{part.path}, episode {own},',
      part.columns(own),
      part.choice,
      self._options,
      provenance={'index': index, 'folder': part.path.name, 'episode': own},
      scale=self._scale,
    )


class _Folder:
  """Tensors of one folder, memory-mapped."""

  def __init__(
    self, path: pathlib.Path, options: reader.Options, warnings: list[str]
  ) -> None:
    self.path = path
    tensors = {
      file.stem: torch_files.read(file)
      for file in sorted(files.visible(path.glob('*.pth')))
      if file.stem != 'seq_lengths'
    }
    self._tensors = {
      name: tensor
      for name, tensor in tensors.items()
      if isinstance(tensor, np.ndarray) and tensor.ndim >= 2
    }
    num_episodes, num_rows = self._tensors['states'].shape[:2]
    ragged = {
      name: list(tensor.shape)
      for name, tensor in self._tensors.items()
      if len(tensor) != num_episodes
    }
    if ragged:
      raise ValueError(
        f'{path} has tensors of different lengths, {num_episodes} episodes in '
        'states.pth and shapes '
        + ', '.join(f'{name} {shape}' for name, shape in ragged.items())
        + '; copy it again.'
      )
    is_push_t = 'velocities' in self._tensors and 'rel_actions' in self._tensors
    self.scale = _PUSH_T_SCALE if is_push_t else 1.0
    if is_push_t:
      # The agent's own, without the block's.
      self._tensors['position'] = self._tensors['states'][..., :2]
    action = next((name for name in _ACTIONS if name in self._tensors), None)
    if action is None and options.action is None:
      raise ValueError(
        f'{path} has no actions, neither of {", ".join(_ACTIONS)} is among '
        f'{", ".join(sorted(self._tensors))}.'
      )
    proprio: tuple[str, ...] = ('states',)
    state: tuple[str, ...] = ('states',)
    if is_push_t:
      proprio, state = ('position', 'velocities'), ('states', 'velocities')
    self._files = _frame_files(path, num_episodes)
    self.lengths = self._lengths(num_episodes, num_rows, warnings)
    low, high = self.lengths.min(), self.lengths.max()
    if len(self.lengths) != num_episodes or low < 1 or high > num_rows:
      raise ValueError(
        f'{path} has {len(self.lengths)} seq_lengths up to {high} for states '
        f'of {num_episodes} episodes of {num_rows} rows; copy it again.'
      )
    self.choice = columns.choose(
      path,
      reader.Options(
        action=options.action or (str(action),),
        proprio=proprio if options.proprio is None else options.proprio,
        state=state if options.state is None else options.state,
      ),
      images=['obses'],
      vectors=sorted(self._tensors),
      steps=self._reward(warnings),
    )

  def columns(self, index: int) -> dict[str, Any]:
    """What `columns.episode` takes."""
    length = int(self.lengths[index])
    found: dict[str, Any] = {
      name: np.asarray(self._tensors[name][index, :length])
      for name in self.choice.vectors
    }
    for name in self.choice.action:
      found[name] = found[name] / self.scale
    file = self._files[index]
    if file.suffix == '.mp4':
      found['obses'] = video.read_frames(file, num_frames=length)
    else:
      found['obses'] = _pictures(file)[:length]
    return found

  def _reward(self, warnings: list[str]) -> dict[str, str]:
    """Where rewards are, if anywhere."""
    if 'rewards' not in self._tensors:
      return {}
    rewards = self._tensors['rewards']
    steps = np.arange(rewards.shape[1])
    # The last row's action leads nowhere.
    used = (steps < self.lengths[:, None] - 1).ravel()
    flat = rewards.reshape(used.size, -1)
    return columns.reward_of(self.path, 'rewards', flat, used, warnings)

  def floats(self) -> Iterator[np.ndarray]:
    """Frames that are floats, an episode at a time, without damaged ones."""
    for file in self._files:
      try:
        found = _pictures(file) if file.suffix == '.pth' else np.zeros(0, int)
      except ValueError:
        # Whoever reads the episode meets it again.
        continue
      if found.dtype.kind != 'f':
        return
      yield found

  def _lengths(
    self, num_episodes: int, num_rows: int, warnings: list[str]
  ) -> np.ndarray:
    """Frames of each episode, from the videos where the file says nothing."""
    if (self.path / 'seq_lengths.pth').is_file():
      found = torch_files.read(self.path / 'seq_lengths.pth')
      return np.asarray(found).astype(np.int64).reshape(-1)
    pickled = self.path / 'seq_lengths.pkl'
    if not pickled.is_file():
      return np.full(num_episodes, num_rows)
    try:
      values = torch_files.read_plain(pickled)
      if not all(isinstance(value, int) for value in values):
        raise ValueError(f'{pickled} holds other things than numbers.')
      return np.array(values, np.int64)
    except (ValueError, TypeError) as error:
      warnings.append(
        f'{error} The lengths of its episodes are counted in the videos.'
      )
      return np.array([video.count_frames(file) for file in self._files])


def _pictures(file: pathlib.Path) -> np.ndarray:
  found = torch_files.read(file)
  if not isinstance(found, np.ndarray):
    raise ValueError(
      f'{file} holds a {type(found).__name__}, where a tensor of frames is '
      'expected.'
    )
  return found


def _folders(path: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders with tensors in them, by split."""
  if (path / 'states.pth').is_file():
    return {'': path}
  return {
    split: path / split
    for split in _SPLITS
    if (path / split / 'states.pth').is_file()
  }


def _frame_files(path: pathlib.Path, num_episodes: int) -> list[pathlib.Path]:
  """The file of each episode's frames; numbers have leading zeros or not."""
  found = {}
  for file in files.visible((path / 'obses').glob('episode_*')):
    match = re.fullmatch(r'episode_(\d+)\.(mp4|pth)', file.name)
    if match:
      found[int(match[1])] = file
  missing = sorted(set(range(num_episodes)) - set(found))
  if missing:
    raise ValueError(
      f'{path / "obses"} lacks the frames of {len(missing)} of {num_episodes} '
      f'episodes, first episode_{missing[0]:03d}; copy it again.'
    )
  return [found[index] for index in range(num_episodes)]
