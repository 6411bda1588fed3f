"""stable-worldmodel's own Two Room and Push-T, as host worlds.

Their pixels and physics, our protocol: a checkpoint of ours plans in them, on
the pairs of our world of the same name. Needs stable-worldmodel installed.

Source: stable-worldmodel 0.1.1.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jepa_wm.envs import environment, host, worlds
from jepa_wm.envs import push_t as our_push_t
from jepa_wm.envs import two_room as our_two_room

_MODULE = 'stable_worldmodel.envs'
_DECLARED: list[Any] = []


def policy(
  our_policy: Callable[[Any, float], Any],
  our_world: Callable[[], environment.Environment],
) -> Callable[[host.HostWorld, float], host.HostPolicy]:
  """A policy of our world, acting in theirs.

  Args:
    our_policy: `(environment, action_noise) -> policies.Policy`.
    our_world: makes our world.
  """

  def make(world: host.HostWorld, action_noise: float) -> host.HostPolicy:
    del world
    env = our_world()
    acting = our_policy(env, action_noise)
    init, step = jax.jit(acting.init), jax.jit(acting.__call__)
    # Hidden parts of a state are at rest, as `from_vector` has them.
    state_of = jax.jit(
      lambda vector, target: env.from_vector(vector).replace(target=target)
    )

    def begin(rng: np.random.Generator, target: np.ndarray) -> host.Act:
      memory: Any = None

      def act(vector: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        nonlocal memory
        del proprio
        keys = jax.random.split(jax.random.key(int(rng.integers(2**31))))
        state = state_of(np.float32(vector), np.float32(target))
        if memory is None:
          memory = init(keys[0], state)
        action, memory = step(keys[1], state, memory)
        return np.asarray(action, np.float64)

      return act

    return begin

  return make


def import_theirs() -> None:
  """Imports their environments, which ask for torchvision.

  Raises:
    ModuleNotFoundError: stable-worldmodel or what it needs is not installed.
  """
  declare_torchvision()
  importlib.import_module(_MODULE)


def declare_torchvision() -> None:
  """Makes what imports torchvision importable, whatever is beside torch.

  It refuses where its compiled operators do not load, as PyPI's beside a torch
  for CPUs alone. Nobody calls them here, so they are declared and left at that.

  Raises:
    ModuleNotFoundError: torch is not installed.
  """
  import torch

  try:
    importlib.import_module('torchvision')
  except (ImportError, RuntimeError):
    if _DECLARED:
      return
    # They are there for as long as this object is.
    _DECLARED.append(torch.library.Library('torchvision', 'DEF'))
    for name in ('nms', 'qnms'):
      _DECLARED[-1].define(
        f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
      )


@dataclasses.dataclass(frozen=True)
class _Theirs:
  """Makes one of their environments, in whatever process."""

  name: str

  def __call__(self, **kwargs: Any) -> Any:
    from jepa_wm.envs import gymnasium

    import_theirs()
    return gymnasium.open_unwrapped(str(self), **kwargs)

  def __str__(self) -> str:
    return f'{_MODULE}:swm/{self.name}'


def _on_vectors(ours: Any, rule: Callable[..., Any]) -> Callable[..., Any]:
  """A rule about states of our world, as one about vectors `[..., V]`."""

  @jax.jit
  @jax.vmap
  def judge(vector: jax.Array, goal: jax.Array) -> jax.Array:
    return rule(ours.from_vector(vector), ours.from_vector(goal))

  def on_vectors(vectors: np.ndarray, goals: np.ndarray) -> np.ndarray:
    vectors, goals = np.broadcast_arrays(vectors, goals)
    flat = (
      x.reshape(-1, x.shape[-1]).astype(np.float32) for x in (vectors, goals)
    )
    return np.asarray(judge(*flat)).reshape(vectors.shape[:-1])

  return on_vectors


def _draw_target(
  ours: Any, rng: np.random.Generator, vector: np.ndarray
) -> np.ndarray:
  del vector
  state = ours.reset(jax.random.key(int(rng.integers(2**31))))
  return np.asarray(state.target, np.float64)


def _push_t_proprio(env: Any) -> np.ndarray:
  return env._get_obs()[[0, 1, 5, 6]]


def _make(
  name: str, our_world: Any, image_size: int = 224, **methods: Any
) -> host.HostWorld:
  """Their environment under the rules of ours.

  Args:
    name: theirs.
    our_world: makes ours.
    image_size: height and width of the pictures.
    **methods: what reads their proprio and their state.

  Raises:
    ValueError: stable-worldmodel is not installed.
  """
  ours = our_world()
  try:
    from jepa_wm.envs import gymnasium

    return gymnasium.make_world(
      _Theirs(name),
      image_size=image_size,
      distance=_on_vectors(ours, ours.distance),
      success=_on_vectors(ours, ours.success),
      draw_target=functools.partial(_draw_target, ours),
      set_state='_set_state',
      **methods,
    )
  except ModuleNotFoundError as error:
    raise ValueError(
      f'swm/{name} needs stable-worldmodel ({error}); pip install '
      'stable-worldmodel, or plan in our world of the same name.'
    ) from error


two_room = functools.partial(
  _make,
  'TwoRoom-v1',
  our_two_room.TwoRoom,
  get_state='agent_position',
  get_proprio='agent_position',
)
"""`swm/TwoRoom-v1`; vectors are the agent's `(x, y)`."""

push_t = functools.partial(
  _make,
  'PushT-v1',
  our_push_t.PushT,
  get_state='_get_obs',
  get_proprio=_push_t_proprio,
)
"""`swm/PushT-v1`; vectors are its observed states.

Setting a state lets one physics step pass, as theirs does.
"""


for _name, _theirs in {'two_room': two_room, 'push_t': push_t}.items():
  _ours = worlds.get(_name)
  worlds.register(
    f'swm_{_name}',
    dataclasses.replace(
      _ours,
      make=_theirs,
      policies={'expert': policy(_ours.policies['expert'], _ours.make)},
      on_host=True,
      variation_groups={},
      same_as=_name,
    ),
  )
