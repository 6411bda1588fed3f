"""The worlds by name: what collecting, training and benchmarks ask of each."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jepa_wm import fields
from jepa_wm.envs import (
  device_stage,
  host_stage,
  multi_agent,
  stage,
  teleport,
  variation,
)
from jepa_wm.envs import policies as policies_lib

MakePolicy = Callable[[Any, float], Any]
"""`(environment, action_noise) -> policies.Policy`, or `host.HostPolicy`."""

_RANDOM: Mapping[bool, Mapping[str, MakePolicy]] = {
  False: {
    'random': lambda env, noise: policies_lib.UniformPolicy(
      env.action_low, env.action_high
    ),
    'smooth': lambda env, noise: policies_lib.SmoothRandomPolicy(
      env.action_low, env.action_high
    ),
  },
  True: {
    'random': policies_lib.host_uniform,
    'smooth': policies_lib.host_smooth,
  },
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
    body: those of `state_names` that a teleport moves, where the agent is or
      what it handles; all of them where empty.
    action_noise: of the expert, where nobody says otherwise.
    on_host: whether `make` gives a `host.HostWorld`.
    reward: `(world, state, action [A], next state) -> scalar` of a JAX world;
      None where it gives none. A world on the host says so itself.
    path_length: `(world, state, goal) -> scalar` of a JAX world, how far it is
      from one to the other past what is in the way, in `unit`; None where
      nobody can say.
    variation_groups: of a JAX world that is a `variation.VariedWorld`, its own;
      empty of any other, which cannot be shifted.
    same_as: name of a world whose vectors and pairs are this one's too.
    zones: what may be forbidden here, by name, as `zones.parse` reads it.
    kin: name of a world whose models and heads serve here too; vectors are
      alike, pairs are not.
    recording: fields of `evaluation.protocol.Protocol` that say how episodes
      are recorded here, where it is not by an expert who stops at its target,
      and what else its problems need, whatever the protocol.
    num_agents: how many act in a world of several agents, one of the family
      `kin`, which has a world for every number; None where one agent acts.

  Raises:
    ValueError: no expert.
  """

  make: Callable[..., Any]
  policies: Mapping[str, MakePolicy]
  place: Callable[[np.ndarray], np.ndarray]
  state_names: tuple[str, ...]
  unit: str
  body: tuple[str, ...] = ()
  action_noise: float = 0.0
  on_host: bool = False
  reward: device_stage.RewardFn | None = None
  path_length: Callable[[Any, Any, Any], jax.Array] | None = None
  variation_groups: variation.Groups = dataclasses.field(default_factory=dict)
  same_as: str | None = None
  zones: Mapping[str, str] = dataclasses.field(default_factory=dict)
  kin: str | None = None
  recording: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  num_agents: int | None = None

  def __post_init__(self) -> None:
    if 'expert' not in self.policies:
      raise ValueError(
        "policies must hold an 'expert', which heads for the target of its "
        f'state, got {", ".join(self.policies) or "none"}.'
      )
    both = {**_RANDOM[self.on_host], **self.policies}
    object.__setattr__(self, 'policies', both)

  @property
  def teleport(self) -> teleport.Teleport:
    """What moves `body` elsewhere, in a JAX world."""
    names = self.body or self.state_names
    is_body = tuple(name in names for name in self.state_names)
    return teleport.Teleport(is_body, bool(self.variation_groups))

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
    fields.check_choice('policy', name, sorted(self.policies))
    return self.policies[name](env, action_noise)

  def stage(self, env: Any = None, *, image_size: int | None = None) -> Any:
    """Opens a `stage.Stage` of the world; use it as a context.

    Args:
      env: the environment; one with default factors of variation if left out.
      image_size: height and width of its pictures, the environment's if left
        out.
    """
    env = self.make() if env is None else env
    if not dataclasses.is_dataclass(env) or isinstance(env, type):
      raise ValueError(
        f'make of a world must give an environment, a dataclass, got {env!r}.'
      )
    if image_size is not None:
      env = dataclasses.replace(env, image_size=image_size)
    if self.on_host:
      return host_stage.HostStage(env, self.policy)
    return device_stage.DeviceStage(
      env, self.policy, reward_fn=self.reward, teleport=self.teleport
    )


WORLDS: dict[str, World] = {}
"""The worlds by name; `register` adds one."""

_FAMILIES: dict[str, Callable[[int], World]] = {}


def register(name: str, world: World) -> None:
  """Adds a world to `WORLDS`, for commands and benchmarks to find.

  Raises:
    ValueError: there is one of that name.
  """
  if name in WORLDS:
    raise ValueError(f'There is a world named {name!r} already.')
  WORLDS[name] = world


def register_family(name: str, make_fn: Callable[[int], World]) -> None:
  """Adds a world for every number: `t_maze_100` of family `t_maze`.

  Args:
    name: of all of them, but for `_` and the number.
    make_fn: makes one of its number, or says in a ValueError that there is
      none.

  Raises:
    ValueError: there is a family of that name.
  """
  if name in _FAMILIES:
    raise ValueError(f'There is a family of worlds named {name!r} already.')
  _FAMILIES[name] = make_fn


def find(name: str | None) -> World | None:
  """Looks up a world as `get` does; None where there is none of that name."""
  if name is None:
    return None
  family, _, number = name.rpartition('_')
  if name not in WORLDS and family in _FAMILIES and number.isdecimal():
    WORLDS[name] = _FAMILIES[family](int(number))
  return WORLDS.get(name)


def get(name: str) -> World:
  """Looks up a world by its name, or by that of its family and its number.

  Raises:
    ValueError: there is none of that name.
  """
  world = find(name)
  family, _, number = name.rpartition('_')
  if world is None and family in _FAMILIES:
    raise ValueError(
      f'A world of {family!r} ends in a whole number, as in {family}_5, got '
      f'{number!r} in {name!r}.'
    )
  if world is None:
    fields.check_choice('environment', name, sorted(WORLDS), is_open=True)
    return WORLDS[name]
  return world


def with_num_agents(name: str, num_agents: int | None) -> str:
  """The name of a world with so many agents.

  Args:
    name: of a world, whatever the number of its agents.
    num_agents: `G`, 1 to 8; None for as many as `name` has.

  Returns:
    What `get` knows the world by; `name` itself where nothing is asked.

  Raises:
    ValueError: there is no such world, one agent acts in it, its name has
      another number, or nobody can act with so many.
  """
  if num_agents is None:
    return name
  world = get(name)
  if world.num_agents is None or world.kin is None:
    several = sorted({str(x.kin) for x in WORLDS.values() if x.num_agents})
    raise ValueError(
      f'num_agents={num_agents} would do nothing in {name!r}, where one agent '
      f'acts; leave it out, or choose one of {", ".join(several)} with '
      '--environment.'
    )
  multi_agent.check_num_agents(num_agents)
  if name != world.kin and num_agents != world.num_agents:
    raise ValueError(
      f'num_agents={num_agents} contradicts {name!r}, in which '
      f'{world.num_agents} act: leave one of the two out.'
    )
  if num_agents == get(world.kin).num_agents:
    return world.kin
  return f'{world.kin}_{num_agents}'


def are_alike(world: str, other: str) -> bool:
  """Whether models and heads of one world serve in the other too."""
  found = [(name, get(name)) for name in (world, other)]
  names = [one.same_as or one.kin or name for name, one in found]
  return names[0] == names[1]


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


@contextlib.contextmanager
def on_stage(
  opened: stage.Stage | None, name: str, *, image_size: int | None = None
) -> Iterator[stage.Stage]:
  """The stage that is open, or one opened for as long as the context lasts.

  Args:
    opened: a stage, which stays open.
    name: else whose.
    image_size: of that, see `World.stage`.
  """
  if opened is not None:
    yield opened
    return
  with get(name).stage(image_size=image_size) as fresh:
    yield fresh
