"""The programs that a run spends its time in, with shapes in place of arrays.

Nothing is drawn and nothing is computed: the devices may be those of a machine
that is not there.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jepa_wm
from experiments.configs import vjepa as vjepa_config
from jepa_wm import envs, models, planning, units
from jepa_wm.models import lewm
from jepa_wm.training import optimizers
from jepa_wm.training import state as state_lib
from jepa_wm.training import step as step_lib

_STATISTICS = units.ActionStatistics(
  np.zeros(2, np.float32), np.ones(2, np.float32)
)


class HotPath(NamedTuple):
  """A program before it is traced.

  Attributes:
    function: jitted.
    arguments: `jax.ShapeDtypeStruct`s that lie on `mesh`.
    mesh: of the devices.
    work: what it does, to be written down.
  """

  function: Any
  arguments: tuple[Any, ...]
  mesh: Mesh
  work: Mapping[str, Any]

  def trace(self) -> Any:
    """Traces it, in the company of shapes of devices alone."""
    with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
      return self.function.trace(*self.arguments)


Devices = Sequence[Any]


def lewm_train(
  devices: Devices, *, quick: bool, dtype: str = 'float32'
) -> HotPath:
  """LeWM's training step at full size, 128 clips, as published."""
  batch_size = 2 * len(devices) if quick else 128
  config = lewm.LeWM(dtype=dtype)
  mesh = _mesh(devices, ('data',), (len(devices),))
  batch = {
    'observation': {
      'pixels': jax.ShapeDtypeStruct((batch_size, 4, 224, 224, 3), np.uint8)
    },
    'action': jax.ShapeDtypeStruct((batch_size, 3, 10), np.float32),
  }
  return _train(config.build(), mesh, batch, action_statistics=_STATISTICS)


def vjepa_train(
  devices: Devices, *, quick: bool, clips_a_chip: int = 2
) -> HotPath:
  """V-JEPA 2's training step, ViT-L on 16 frames of 256 px."""
  config = vjepa_config.get_config('vjepa2').model.to_dict()
  if quick:
    config['encoder'] |= {'size': 'tiny', 'num_frames': 4}
  model = models.from_config(config)
  mesh = _mesh(devices, ('data',), (len(devices),))
  return _train(model, mesh, _clips(model, clips_a_chip * len(devices)))


def giant_train(devices: Devices, *, quick: bool) -> HotPath:
  """V-JEPA 2's step with ViT-g, 1 B parameters, split over the chips.

  A clip a chip, the published encoder and predictor; blocks are computed again
  in the backward pass.
  """
  config = vjepa_config.get_config('vjepa2').model.to_dict()
  config['encoder'] |= {'size': 'tiny' if quick else 'giant'}
  if quick:
    config['encoder'] |= {'num_frames': 4}
  model = models.from_config(config)
  mesh = _mesh(devices, ('data',), (len(devices),))
  return _train(
    model, mesh, _clips(model, len(devices)), layout='fsdp', policy='full'
  )


def plan(
  devices: Devices, *, quick: bool, shipped: bool, num_problems: int
) -> HotPath:
  """Plans of 300 candidates and 30 iterations, from frames to actions.

  A few candidates more where chips could not share 300 of them evenly: they
  would all search among all.
  """
  model = _world_model(shipped)
  mesh = _planning_mesh(devices, num_problems)
  budget = _budget(quick)
  budget['num_samples'] += -budget['num_samples'] % mesh.shape['samples']

  @jax.jit
  def plan(params, rng_key, seen, goal):
    return jepa_wm.cem_plan(
      params,
      rng_key,
      model.root(params, seen, goal),
      model.dynamics,
      model.cost,
      action_dim=model.action_dim,
      horizon=5,
      **budget,
    ).actions

  frames = _frames(model, num_problems)
  arguments = (
    *_whole((_shapes(model.params), _key()), mesh),
    *_split((frames, frames), mesh),
  )
  work = {'num_problems': num_problems, 'horizon': 5, **budget}
  return HotPath(plan, arguments, mesh, work)


def closed_loop(
  devices: Devices, *, quick: bool, num_problems: int = 64
) -> HotPath:
  """Ten plans of the shipped model and what is played of them, as one."""
  model = _world_model(shipped=True)
  mesh = _planning_mesh(devices, num_problems)
  world = envs.TwoRoom(image_size=model.image_size)
  budget = _budget(quick)
  plan_fn = planning.BoundPlanner(
    planner=planning.CEM(**budget),
    dynamics_fn=model.dynamics,
    cost_fn=model.cost,
    horizon=5,
    action_dim=model.action_dim,
    limits=planning.Limits(actions=model.action_bounds(-1, 1)),
  )

  def observe_fn(states):
    return {'pixels': jax.vmap(world.render)(states)}

  def root_fn(params, memory, goal):
    seen = jax.tree.map(lambda x: x[:, -1], memory.observations)
    return model.root(params, seen, goal)

  def play_fn(states, blocks):
    raw = model.raw_actions(blocks)
    for t in range(model.action_block):
      states = jax.vmap(world.step)(states, raw[:, t])
    return states, jax.vmap(world.vector)(states)

  num_plans = 2 if quick else 10

  @jax.jit
  def play(params, rng_key, starts, goals):
    _, output = planning.run_mpc(
      params,
      rng_key,
      starts,
      observe_fn(goals),
      observe_fn=observe_fn,
      root_fn=root_fn,
      plan_fn=plan_fn,
      play_fn=play_fn,
      receding_horizon=1,
      num_plans=num_plans,
    )
    return output.played

  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
  keys = jax.ShapeDtypeStruct((num_problems,), keys.dtype)
  states = jax.eval_shape(jax.vmap(world.reset), keys)
  arguments = (
    *_whole((_shapes(model.params), _key()), mesh),
    *_split((states, states), mesh),
  )
  work = {'num_problems': num_problems, 'num_plans': num_plans, **budget}
  return HotPath(play, arguments, mesh, work)


PATHS: Mapping[str, Callable[..., HotPath]] = {
  'plan_shipped_1': functools.partial(plan, shipped=True, num_problems=1),
  'plan_shipped_64': functools.partial(plan, shipped=True, num_problems=64),
  'plan_full_1': functools.partial(plan, shipped=False, num_problems=1),
  'plan_full_64': functools.partial(plan, shipped=False, num_problems=64),
  'closed_loop': closed_loop,
  'lewm_train': lewm_train,
  'lewm_train_bfloat16': functools.partial(lewm_train, dtype='bfloat16'),
  'vjepa_train': vjepa_train,
  'giant_train': giant_train,
}
"""All of them: `(devices, *, quick)` to one; quick ones are small."""


def _train(
  model: Any,
  mesh: Mesh,
  batch: Any,
  *,
  layout: str = 'replicated',
  policy: str = 'none',
  **given: Any,
) -> HotPath:
  """A training step of a model, its state as `sharding.LAYOUTS` have it."""
  optimizer = optimizers.AdamW(num_steps=1000)
  transformation = optimizer.transformation()
  lying = state_lib.layout(model, transformation, mesh, layout)
  step = step_lib.make_train_step(
    model,
    transformation,
    mesh,
    layout=lying,
    policy=policy,
    schedule_fn=optimizer.metrics,
    **given,
  )
  state = state_lib.describe(model, transformation, sharding=lying)
  params = jax.tree.leaves(state.variables['params'])
  work = {
    'batch_size': jax.tree.leaves(batch)[0].shape[0],
    'num_parameters': sum(x.size for x in params),
    'dtype': model.config.dtype,
    'sharding': layout,
    'remat': policy,
  }
  return HotPath(step, (state, *_split((batch,), mesh)), mesh, work)


def _clips(model: Any, batch_size: int) -> Any:
  """Clips and masks of a batch, as shapes."""
  spec = model.observation_spec['pixels']
  drawn = model.draw(np.random.default_rng(0), batch_size)
  size = batch_size, model.num_frames, *spec.shape[-3:]
  pixels = jax.ShapeDtypeStruct(size, np.uint8)
  return {'observation': {'pixels': pixels}, **_shapes(drawn)}


def _world_model(shipped: bool) -> jepa_wm.WorldModel:
  if shipped:
    return jepa_wm.WorldModel.from_checkpoint('two_room_small')
  model = lewm.LeWM().build()
  params = jax.eval_shape(model.init, jax.random.key(0))
  return jepa_wm.WorldModel(model, params, _STATISTICS)


def _budget(quick: bool) -> dict[str, int]:
  if quick:
    return {'num_samples': 32, 'num_elites': 8, 'num_iterations': 2}
  return {'num_samples': 300, 'num_elites': 30, 'num_iterations': 30}


def _frames(model: jepa_wm.WorldModel, num_problems: int) -> Any:
  return {
    name: jax.ShapeDtypeStruct((num_problems, *x.shape), x.dtype)
    for name, x in model.observation_spec.items()
  }


def _key() -> Any:
  return jax.eval_shape(lambda: jax.random.key(0))


def _mesh(devices: Devices, axes: Sequence[str], shape: Sequence[int]) -> Mesh:
  """As `sharding.make_mesh`, of devices that need not be there."""
  grid = np.array(list(devices)).reshape(shape)
  return Mesh(grid, tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def _planning_mesh(devices: Devices, num_problems: int) -> Mesh:
  """As `sharding.planning_mesh`, likewise."""
  data = np.gcd(num_problems, len(devices))
  shape = int(data), len(devices) // int(data)
  return _mesh(devices, ('data', 'samples'), shape)


def _shapes(tree: Any) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _laid(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  laid = NamedSharding(mesh, spec)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=laid), tree
  )


def _whole(tree: Any, mesh: Mesh) -> Any:
  return _laid(tree, mesh, PartitionSpec())


def _split(tree: Any, mesh: Mesh) -> Any:
  return _laid(tree, mesh, PartitionSpec('data'))
