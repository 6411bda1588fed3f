"""Columns of others to the arrays of an episode."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm import files
from jepa_wm.data import columns as columns_lib
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data.readers import frames, reader

# In order of preference; '.' and '/' separate alike.
_NAMES = ('pixels', 'image', 'rgb')
_PIXELS = (*_NAMES, *(f'observation/{name}' for name in _NAMES))
_ACTION = ('action', 'actions')
_PROPRIO = ('proprio', 'observation/proprio', 'observation/state')
_STATE = ('state', 'observation/environment_state', 'observation/state')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """Which columns make an episode."""

  pixels: str
  action: tuple[str, ...]
  proprio: tuple[str, ...]
  state: tuple[str, ...]
  reward: tuple[str, ...] = ()
  discount: tuple[str, ...] = ()

  @property
  def vectors(self) -> tuple[str, ...]:
    """Every column but the frames, once."""
    names = (*self.action, *self.proprio, *self.state)
    return tuple(dict.fromkeys((*names, *self.reward, *self.discount)))

  def to_dict(self) -> dict[str, Any]:
    """For the provenance, JSON-able."""
    return json.loads(json.dumps(dataclasses.asdict(self)))


def choose(
  where: Any,
  options: reader.Options,
  *,
  images: Sequence[str],
  vectors: Sequence[str],
  steps: Mapping[str, str] | None = None,
) -> Choice:
  """Chooses columns by name, by what was asked for or by what is usual.

  Args:
    where: the source, for messages.
    options: what was asked for.
    images: names of the columns that hold frames.
    vectors: names of the columns that hold numbers.
    steps: where `reward` and `discount` of a row's action are, if anywhere.

  Raises:
    ValueError: a column is missing, or there are several cameras and none of
      a usual name; the message names what is there.
  """
  pixels = options.pixels
  if pixels is None:
    if not images:
      raise ValueError(
        f'{where} has no images, only {_listed(vectors)}; a world model from '
        'pixels cannot be trained on it.'
      )
    pixels = images[0] if len(images) == 1 else _usual(_PIXELS, images)
    if pixels is None:
      raise ValueError(
        f'{where} has several cameras, {_listed(images)}; choose one with '
        '--pixels.'
      )
  elif pixels not in images:
    raise ValueError(
      f'{where} has no images {pixels!r}, only {_listed(images)}; choose one '
      f'of them with --pixels.{files.nearest(pixels, images)}'
    )
  action = options.action
  if action is None:
    name = _usual(_ACTION, vectors)
    if name is None:
      raise ValueError(
        f'{where} has no column "action", only {_listed(vectors)}; name one, '
        'or several to be joined, with --action.'
      )
    action = (name,)
  if not action:
    raise ValueError(
      f'--action names no column; {where} has {_listed(vectors)}.'
    )
  chosen = {'action': action}
  for role, usual in (('proprio', _PROPRIO), ('state', _STATE)):
    names = getattr(options, role)
    if names is None:
      taken = {name for other in chosen.values() for name in other}
      name = _usual(usual, [name for name in vectors if name not in taken])
      names = () if name is None else (name,)
    chosen[role] = names
  for role, names in chosen.items():
    for name in names:
      if name not in vectors:
        raise ValueError(
          f'{where} has no column {name!r}, only {_listed(vectors)}; choose '
          f'among them with --{role}.{files.nearest(name, vectors)}'
        )
  rest = {role: (name,) for role, name in (steps or {}).items()}
  return Choice(pixels=pixels, **chosen, **rest)


def episode(
  where: str,
  columns: Mapping[str, Any],
  choice: Choice,
  options: reader.Options,
  *,
  alignment: str | None = None,
  reward_alignment: str | None = None,
  provenance: Mapping[str, Any],
  is_terminal: bool = False,
  scale: float | None = None,
) -> episodes_lib.Episode:
  """Makes an episode of columns with one row per frame.

  Args:
    where: source and episode, for messages.
    columns: at least those of `choice`: frames as `frames.to_levels` takes
      them, the rest `T` rows each, actions `T` or `T - 1`.
    choice: their roles.
    options: what was asked for.
    alignment: what a row's action did, for `T` rows; that of `options` if left
      out, where 'auto' is 'after'.
    reward_alignment: the same of a row's reward and discount; that of the
      actions if left out.
    provenance: what is particular to this episode.
    is_terminal: the last frame ended the task.
    scale: see `frames.to_levels`.

  Raises:
    ValueError: columns of different lengths or unreadable types, or a number
      that is not finite.
  """
  pixels = frames.to_levels(
    where, columns[choice.pixels], choice.pixels, options, scale=scale
  )
  rows = len(pixels)
  lengths = {choice.pixels: rows}
  lengths |= {name: len(columns[name]) for name in choice.vectors}
  allowed = {name: {rows} for name in lengths}
  for name in (*choice.action, *choice.reward, *choice.discount):
    allowed[name] |= {rows - 1}
  ragged = [name for name in lengths if lengths[name] not in allowed[name]]
  joined = {lengths[name] for name in choice.action}
  if ragged or len(joined) > 1:
    raise ValueError(
      f'{where} has columns of different lengths, '
      + ', '.join(f'{name} {length}' for name, length in lengths.items())
      + '; one row per frame is expected, write the episode again.'
    )
  if alignment is None:
    asked = options.alignment
    alignment = 'after' if asked == 'auto' else asked
  actions = _actions(where, columns, choice.action, options)
  if len(actions) == rows:
    actions = aligned(actions, alignment)
  numbers = {'action': actions}
  for role in ('proprio', 'state'):
    numbers[role] = _joined(where, columns, getattr(choice, role), rows)
  for role in ('reward', 'discount'):
    for name in getattr(choice, role):
      array = vectors(where, columns[name], name)
      of_rows = len(array) == rows
      led = reward_alignment or alignment
      numbers[role] = aligned(array, led) if of_rows else array
  for role, array in numbers.items():
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
      raise ValueError(
        f'{where} has NaN or infinity in {role}, {len(bad)} of {len(array)} '
        f'rows and first in row {bad[0]}; mend or leave out the episode '
        '(--skip_damaged).'
      )
  return episodes_lib.Episode(
    columns={
      **columns_lib.known(
        {
          'observation/pixels': pixels,
          'observation/proprio': numbers['proprio'],
          'action': numbers['action'],
          'state': numbers['state'],
        }
      ),
      **{x: numbers[x][:, 0] for x in ('reward', 'discount') if x in numbers},
    },
    provenance=dict(provenance),
    is_terminal=is_terminal,
  )


def aligned(actions: np.ndarray, alignment: str) -> np.ndarray:
  """`[T - 1, ...]` actions that lead from each frame to the next.

  Args:
    actions: `[T, ...]`, one a row.
    alignment: 'after', 'before' or 'rotated'; see `reader.Options`.
  """
  if alignment == 'before':
    return actions[1:]
  if alignment == 'rotated':
    actions = np.roll(actions, 1, axis=0)
  return actions[:-1]


def reward_of(
  where: Any,
  name: str,
  rewards: np.ndarray,
  used: np.ndarray,
  warnings: list[str],
) -> dict[str, str]:
  """The `steps` of `choose` for a column of rewards that a source may have.

  Args:
    where: the source, for the warning.
    name: of the column.
    rewards: all of it, `[N, ...]`.
    used: bools or indices of the rows that episodes take.
    warnings: told where it is left out.
  """
  if rewards.size != len(rewards) or rewards.dtype.kind not in 'fiub':
    warnings.append(
      f'{where}: {name} is {rewards.dtype} {list(rewards.shape)}, where one '
      'number a row is expected; episodes are read without rewards.'
    )
    return {}
  if not np.isfinite(rewards[used]).all():
    warnings.append(
      f'{where}: {name} holds NaN or infinity; episodes are read without '
      'rewards.'
    )
    return {}
  return {'reward': name}


def vectors(where: str, array: np.ndarray, name: str) -> np.ndarray:
  """Numbers, one row a frame, as float32 `[T, size]`.

  Raises:
    ValueError: what the column holds are no numbers.
  """
  array = np.asarray(array)
  if array.dtype.kind not in 'fiub' or not array.ndim:
    raise ValueError(
      f'{where} has {array.dtype} in the column {name!r}, where numbers are '
      'expected; choose other columns.'
    )
  with np.errstate(over='ignore'):
    # What float32 cannot hold becomes infinite, which is refused.
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    return flat.astype(np.float32)


def _joined(
  where: str, columns: Mapping[str, np.ndarray], names: Sequence[str], rows: int
) -> np.ndarray:
  """Columns side by side, `[rows, 0]` where there are none."""
  parts = [vectors(where, columns[name], name) for name in names]
  return np.concatenate(parts or [np.zeros((rows, 0), np.float32)], axis=1)


def _actions(
  where: str,
  columns: Mapping[str, np.ndarray],
  names: Sequence[str],
  options: reader.Options,
) -> np.ndarray:
  """Actions side by side, numbered ones as one-hot rows."""
  if options.num_discrete is not None:
    if len(names) > 1:
      raise ValueError(
        f'--num_discrete is about one column of actions, got {_listed(names)}.'
      )
    return _one_hot(where, columns[names[0]], names[0], options)
  first = columns[names[0]]
  # Several columns are joined by someone who knows that they are numbers.
  if len(names) == 1 and first.dtype.kind in 'iu':
    raise ValueError(
      f'{where} has discrete actions, {first.dtype} {list(first.shape)} in '
      f'{names[0]!r}, where floats are expected; set --num_discrete to how '
      'many actions there are, if one number a row tells which was taken.'
    )
  return _joined(where, columns, names, len(first))


def _one_hot(
  where: str, array: np.ndarray, name: str, options: reader.Options
) -> np.ndarray:
  """Numbered actions as one-hot rows, which discrete planners choose from."""
  count, start = int(options.num_discrete or 0), options.discrete_start
  numbers = array.reshape(len(array), -1)
  if numbers.shape[1] != 1 or numbers.dtype.kind not in 'iuf':
    valid = np.zeros(1, bool)
  else:
    # Not in the column's own type, which may have no negative numbers.
    numbers = numbers.astype(np.float64) - start
    valid = (numbers >= 0) & (numbers < count) & (numbers % 1 == 0)
  if not valid.all():
    raise ValueError(
      f'{where} has actions {array.dtype} {list(array.shape)} in {name!r}, '
      f'where one number of {start}..{start + count - 1} a row is expected; '
      'set --num_discrete to how many actions there are.'
    )
  return np.eye(count, dtype=np.float32)[numbers[:, 0].astype(int)]


def _usual(usual: Sequence[str], names: Sequence[str]) -> str | None:
  """The first usual name that is there."""
  plain = {name.replace('.', '/'): name for name in names}
  return next((plain[name] for name in usual if name in plain), None)


def _listed(names: Sequence[str]) -> str:
  return ', '.join(sorted(names)) or 'nothing'
