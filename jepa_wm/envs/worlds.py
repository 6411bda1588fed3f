"""The worlds by name: what collecting, training and benchmarks ask of each."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jepa_wm.envs import (
  host,
  maze,
  maze_expert,
  ogbench_cube,
  push_t,
  push_t_expert,
  reacher,
  stable_worldmodel,
  two_room,
)
from jepa_wm.envs import policies as policies_lib

MakePolicy = Callable[[Any, float], Any]
"""`(environment, action_noise) -> policies.Policy`, or `host.HostPolicy`."""

_RANDOM: dict[str, MakePolicy] = {
  'random': lambda env, noise: policies_lib.UniformPolicy(
    env.action_low, env.action_high
  ),
  'smooth': lambda env, noise: policies_lib.SmoothRandomPolicy(
    env.action_low, env.action_high
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
  """What must be known of a world besides its `Environment` face.

  Attributes:
    make: builds the environment with its default factors of variation, an
      `environment.Environment` or a `host.HostWorld`; `image_size` may be
      given.
    policies: name of a way to act to what makes it; 'expert' is among them and
      heads for its state's target. 'random' and 'smooth' are added where they
      are missing.
    place: where vectors `[..., V]` are in the picture: `(x, y)` `[..., 2]` as
      fractions of its width and height, from the upper left.
    state_names: what the `V` numbers of a vector are.
    unit: what `distance` is measured in.
    action_noise: of the expert, where nobody says otherwise.
    on_host: whether `make` gives a `host.HostWorld`.
    same_as: name of a world whose vectors and pairs are this one's too.
    recording: fields of `evaluation.protocol.Protocol` that say how episodes
      are recorded here, where it is not by an expert who stops at its target.

  Raises:
    ValueError: no expert.
  """

  make: Callable[..., Any]
  policies: Mapping[str, MakePolicy]
  place: Callable[[np.ndarray], np.ndarray]
  state_names: tuple[str, ...]
  unit: str
  action_noise: float = 0.0
  on_host: bool = False
  same_as: str | None = None
  recording: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    if 'expert' not in self.policies:
      raise ValueError(
        "policies must hold an 'expert', which heads for the target of its "
        f'state, got {", ".join(self.policies) or "none"}.'
      )
    object.__setattr__(self, 'policies', {**_RANDOM, **self.policies})

  def policy(self, name: str, env: Any, action_noise: float = 0.0) -> Any:
    """Makes one of `policies`.

    Args:
      name: its key.
      env: the world it acts in.
      action_noise: standard deviation of noise on its actions, where it takes
        any.

    Raises:
      ValueError: no such policy.
    """
    if name not in self.policies:
      raise ValueError(
        f'policy must be one of {", ".join(sorted(self.policies))}, got '
        f'{name!r}.'
      )
    return self.policies[name](env, action_noise)


WORLDS: dict[str, World] = {}
"""The worlds by name; `register` adds one."""


def register(name: str, world: World) -> None:
  """Adds a world to `WORLDS`, for commands and benchmarks to find.

  Raises:
    ValueError: there is one of that name.
  """
  if name in WORLDS:
    raise ValueError(f'There is a world named {name!r} already.')
  WORLDS[name] = world


def get(name: str) -> World:
  """Looks up a world by its name.

  Raises:
    ValueError: there is none of that name.
  """
  if name not in WORLDS:
    raise ValueError(
      f'environment must be one of {", ".join(sorted(WORLDS))}, got {name!r}.'
    )
  return WORLDS[name]


def get_simulated(name: str) -> World:
  """Looks up a world that JAX can step.

  Raises:
    ValueError: there is none of that name, or it steps on the host.
  """
  world = get(name)
  if world.on_host:
    raise ValueError(
      f'{name!r} steps outside JAX, so it cannot be simulated on the device; '
      f'collect episodes (python -m experiments.collect --environment={name}) '
      'and read those.'
    )
  return world


register(
  'two_room',
  World(
    make=two_room.TwoRoom,
    policies={'expert': two_room.TwoRoomExpert},
    place=lambda vectors: (np.asarray(vectors) + 0.5) / two_room.WORLD_SIZE,
    state_names=('x', 'y'),
    unit='px',
    # The peers' data collector: most of it clipped away.
    action_noise=2.0,
  ),
)
register(
  'push_t',
  World(
    make=push_t.PushT,
    policies={
      'expert': push_t_expert.PushTExpert,
      'weak': push_t_expert.PushTWeak,
    },
    place=lambda vectors: np.asarray(vectors)[..., :2] / push_t.WORLD_SIZE,
    state_names=push_t.STATE_NAMES,
    unit='px',
    # Enough to see what happens beside the way, little enough to arrive.
    action_noise=0.1,
  ),
)


_MAZES: dict[str, Callable[..., maze.Maze]] = {
  'point_maze': maze.Maze,
  # PLDM's 40 layouts, and all of those that are held out.
  'diverse_maze': maze.Maze.diverse,
  'diverse_maze_held_out': functools.partial(
    maze.Maze.diverse, layouts='held_out', num_layouts=None
  ),
}

for _name, _make in _MAZES.items():
  register(
    _name,
    World(
      make=_make,
      policies={
        'expert': maze_expert.MazeExpert,
        'wanderer': lambda env, noise: maze_expert.MazeWanderer(
          maze_expert.MazeExpert(env, noise)
        ),
      },
      place=functools.partial(maze.place, size=_make().size),
      state_names=_make().state_names,
      unit='cells',
      action_noise=0.5,
    ),
  )
register(
  'reacher',
  World(
    make=reacher.make,
    policies={
      'expert': reacher.expert,
      'wanderer': reacher.wanderer,
      'random': host.uniform_policy,
      'smooth': host.smooth_policy,
    },
    place=reacher.place,
    state_names=reacher.STATE_NAMES,
    unit='rad',
    action_noise=0.5,
    on_host=True,
    recording={'policy': 'wanderer', 'ends_at_success': False},
  ),
)
register(
  'cube',
  World(
    make=ogbench_cube.make,
    policies={
      'expert': ogbench_cube.expert,
      'wanderer': ogbench_cube.wanderer,
      'random': host.uniform_policy,
      'smooth': host.smooth_policy,
    },
    place=ogbench_cube.place,
    state_names=ogbench_cube.STATE_NAMES,
    unit='m',
    action_noise=0.1,
    on_host=True,
    recording={'policy': 'wanderer', 'ends_at_success': False},
  ),
)
for _name, _theirs in {
  'two_room': stable_worldmodel.two_room,
  'push_t': stable_worldmodel.push_t,
}.items():
  _ours = WORLDS[_name]
  register(
    f'swm_{_name}',
    dataclasses.replace(
      _ours,
      make=_theirs,
      policies={
        'random': host.uniform_policy,
        'smooth': host.smooth_policy,
        'expert': stable_worldmodel.policy(
          _ours.policies['expert'], _ours.make
        ),
      },
      on_host=True,
      same_as=_name,
    ),
  )
