"""Places and speeds that are forbidden: by a world's name for them, or numbers.

A zone is written `disc:x,y,radius`, `box:x_low,y_low,x_high,y_high` (both
forbidden inside), `outside:x_low,y_low,x_high,y_high` (forbidden outside, a
workspace), `speed:limit`, or in a world of several agents `apart:distance`
(forbidden to any two that are nearer), in the units of the world's state; or it
is one of the names that the world has for such (`worlds.World.zones`).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jepa_wm.envs import multi_agent, worlds

_PLACES = ('x', 'y'), ('agent_x', 'agent_y')
_SPEEDS = ('vx', 'vy'), ('agent_vx', 'agent_vy')
_FORMS = {
  'disc': ('x', 'y', 'radius'),
  'box': ('x_low', 'y_low', 'x_high', 'y_high'),
  'outside': ('x_low', 'y_low', 'x_high', 'y_high'),
  'speed': ('limit',),
  'apart': ('distance',),
}
_NUM_CORNERS = 48


@dataclasses.dataclass(frozen=True)
class Zone:
  """What is forbidden in a world.

  Attributes:
    spec: as it is written, `disc:75,100,25`.
    kind: 'disc', 'box', 'outside', 'speed' or 'apart'.
    numbers: as many as the kind has.
    columns: which numbers of a state it is about, two, or two of each agent.
  """

  spec: str
  kind: str
  numbers: tuple[float, ...]
  columns: tuple[int, ...]

  def margin(self, vectors: np.ndarray) -> np.ndarray:
    """How deep true states are in what is forbidden; negative outside.

    Args:
      vectors: `[..., V]`.

    Returns:
      float32 `[...]`, in the unit of the numbers.
    """
    both = np.asarray(vectors, np.float32)[..., list(self.columns)]
    if self.kind == 'speed':
      return np.linalg.norm(both, axis=-1) - np.float32(self.numbers[0])
    if self.kind == 'apart':
      places = both.reshape(*both.shape[:-1], -1, 2)
      first, second = np.triu_indices(places.shape[-2], 1)
      ways = places[..., first, :] - places[..., second, :]
      nearest = np.min(np.linalg.norm(ways, axis=-1), axis=-1)
      return np.float32(self.numbers[0]) - nearest
    if self.kind == 'disc':
      middle = np.asarray(self.numbers[:2], np.float32)
      away = np.linalg.norm(both - middle, axis=-1)
      return np.float32(self.numbers[2]) - away
    low, high = np.asarray(self.numbers, np.float32).reshape(2, 2)
    inside = np.min(np.minimum(both - low, high - both), axis=-1)
    return inside if self.kind == 'box' else -inside

  def outline(self, vector: np.ndarray) -> np.ndarray | None:
    """States along the edge of a place, `[n, V]`; None of anything else.

    Args:
      vector: `[V]`, what the numbers that do not matter are.
    """
    if self.kind in ('speed', 'apart'):
      return None
    if self.kind == 'disc':
      turn = np.linspace(0, 2 * np.pi, _NUM_CORNERS, endpoint=False)
      x, y, radius = self.numbers
      both = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)
    else:
      left, top, right, bottom = self.numbers
      both = np.array(
        [[left, top], [right, top], [right, bottom], [left, bottom]]
      )
    found = np.repeat(np.asarray(vector, np.float32)[None], len(both), axis=0)
    found[:, list(self.columns)] = both
    return found


def parse(spec: str, environment: str) -> Zone:
  """The zone that a flag names.

  Args:
    spec: `disc:75,100,25` and the like, or a name that the world has for it.
    environment: name of the world.

  Raises:
    ValueError: no such world, no such zone, numbers that bound nothing, or a
      world whose state has no such numbers.
  """
  world = worlds.get(environment)
  written = world.zones.get(spec, spec)
  kind, _, text = written.partition(':')
  if kind not in _FORMS:
    forms = [f'{name}:{",".join(parts)}' for name, parts in _FORMS.items()]
    raise ValueError(
      f'zone must be one of {", ".join([*world.zones, *forms])} in '
      f'{environment!r}, got {spec!r}.'
    )
  wanted = f'zone must be {kind}:{",".join(_FORMS[kind])} with'
  try:
    numbers = tuple(float(part) for part in text.split(','))
  except ValueError:
    numbers = ()
  if len(numbers) != len(_FORMS[kind]) or not np.all(np.isfinite(numbers)):
    raise ValueError(f'{wanted} a number for each, got {spec!r}.')
  if not _bounds_something(kind, numbers):
    larger = 'each high above its low' if len(numbers) == 4 else 'above 0'
    raise ValueError(f'{wanted} {larger}, got {spec!r}.')
  if kind == 'apart':
    return Zone(written, kind, numbers, _agents(spec, environment))
  pairs = _SPEEDS if kind == 'speed' else _PLACES
  return Zone(written, kind, numbers, _columns(spec, environment, pairs))


def _bounds_something(kind: str, numbers: Sequence[float]) -> bool:
  """Whether there is anything inside."""
  if kind in ('disc', 'speed', 'apart'):
    return numbers[-1] > 0
  left, top, right, bottom = numbers
  return left < right and top < bottom


def _columns(
  spec: str, environment: str, pairs: Sequence[tuple[str, str]]
) -> tuple[int, int]:
  """Where the two numbers are in a state of the world."""
  names = worlds.get(environment).state_names
  for first, second in pairs:
    if first in names and second in names:
      return names.index(first), names.index(second)
  either = ' or '.join(', '.join(pair) for pair in pairs)
  raise ValueError(
    f'zone={spec}: a state of {environment!r} has no {either} to forbid; it is '
    f'{", ".join(names)}.'
  )


def _agents(spec: str, environment: str) -> tuple[int, ...]:
  """Where the places of all agents are in a state of the world.

  Raises:
    ValueError: there are not two.
  """
  world = worlds.get(environment)
  number = world.num_agents or 1
  if number < 2:
    raise ValueError(
      f'zone={spec}: there is one agent in {environment!r}, and nobody to keep '
      'apart from; choose a world of two or more, such as two_room_agents.'
    )
  names = multi_agent.state_names(number)
  return tuple(world.state_names.index(name) for name in names)
