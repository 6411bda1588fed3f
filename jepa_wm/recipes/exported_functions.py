"""What a model does as functions of named arrays, in the units of the world."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import artefacts, exports, planning
from jepa_wm.evaluation.planning import (
  bound_planners,
  planner_settings,
  planning_model,
)
from jepa_wm.models import acting
from jepa_wm.planning import keys
from jepa_wm.types import PolicyFn

Rows = int | str
"""How many: a number, or `artefacts.ROWS` for any."""

_Arrays = dict[str, jax.Array]

_LATENTS = 'latent'
_ACTIONS = 'raw actions, in the units of the world'
_STEPS = artefacts.Array(
  (), 'int32', 'environment steps that may still be played'
)
_GOAL, _STATE, _START = 'goal/', 'state', 'warm_start'


def encode(model: exports.WorldModel, rows: Rows) -> artefacts.Function:
  """What is seen, frames or clips, to `latents` `[B, D]`."""
  length = model.model.clip_length
  lead = (rows,) if length is None else (rows, length)

  def call(params: Any, inputs: _Arrays) -> _Arrays:
    return {'latents': model.encode(params['model'], inputs)}

  return artefacts.Function(
    'encode',
    call,
    {'model': model.params},
    _seen(model, *lead),
    {'latents': _LATENTS},
  )


def start(model: exports.WorldModel, rows: Rows) -> artefacts.Function:
  """The `latents` `[B, D]` of a frame to the state that begins there."""
  names = list(_state(model))

  def call(params: Any, inputs: _Arrays) -> _Arrays:
    latents = jnp.expand_dims(inputs['latents'], 1)
    state = model.start_from(params['model'], latents)
    return dict(zip(names, jax.tree.leaves(state), strict=True))

  return artefacts.Function(
    'start',
    call,
    {'model': model.params},
    {'latents': _latents(model, rows)},
    dict.fromkeys(names, 'opaque, for advance'),
  )


def advance(model: exports.WorldModel, rows: Rows) -> artefacts.Function:
  """A state and `actions` `[B, block, raw]` to the next, and its `latents`."""
  shapes, ground = _state(model), model.levels[0].model
  names, treedef = list(shapes), jax.tree.structure(_state_shapes(model))

  def call(params: Any, inputs: _Arrays) -> _Arrays:
    state = jax.tree.unflatten(treedef, [inputs[name] for name in names])
    block = model.normalize_actions(inputs['actions'])
    state = ground.advance(params['model'], state, block)
    after = dict(zip(names, jax.tree.leaves(state), strict=True))
    return {**after, 'latents': ground.read(state)}

  states = {
    name: artefacts.Array((rows, *x.shape[1:]), str(x.dtype), 'opaque')
    for name, x in shapes.items()
  }
  return artefacts.Function(
    'advance',
    call,
    {'model': model.params},
    {**states, 'actions': _actions(model, rows)},
    {**dict.fromkeys(names, 'opaque, for advance'), 'latents': _LATENTS},
  )


def policy(
  model: exports.WorldModel, policy_fn: PolicyFn, head: Any, rows: Rows
) -> artefacts.Function:
  """What is seen and wanted to the likeliest `actions` `[B, block, raw]`.

  Args:
    model: encodes.
    policy_fn: acts on latents.
    head: variables that it takes; None where those are the model's own.
    rows: B.
  """
  params = {'model': model.params}
  if head is not None:
    params['head'] = head

  def call(params: Any, inputs: _Arrays) -> _Arrays:
    seen, goal = _split(inputs)
    latents, wanted = acting.encode_both(
      model.model,
      params['model'],
      acting.in_time(model.observation_spec, seen),
      goal,
    )
    acts = params['model'] if head is None else params['head']
    steps = inputs['steps_left'].astype(jnp.float32)
    steps = jnp.broadcast_to(steps, wanted.shape[:1])
    block = policy_fn(acts, None, latents[:, -1], wanted, steps)
    return {'actions': model.raw_actions(block)}

  return artefacts.Function(
    'policy',
    call,
    params,
    {**_seen(model, rows), **_goal(model, rows), 'steps_left': _STEPS},
    {'actions': _ACTIONS},
  )


def plan(
  model: exports.WorldModel,
  settings: planner_settings.PlannerSettings,
  *,
  horizon: int,
  receding_horizon: int,
  bounds: tuple[np.ndarray, np.ndarray],
  rows: int,
) -> artefacts.Function:
  """What is seen and wanted to `actions` `[B, H, block, raw]`, by a search.

  Args:
    model: plans.
    settings: of the planner.
    horizon: H.
    receding_horizon: blocks that are played before the next plan.
    bounds: lowest and highest raw action `[raw]`.
    rows: B.

  Raises:
    ValueError: limits that cannot be met, more history than the model has, or
      a planner that begins with something that no single number says.
  """
  planning_model.check_history(model, settings.history)
  plan_fn = bound_planners.bind(model, settings, horizon, bounds)
  first = plan_fn.first(rows)
  treedef = jax.tree.structure(first)
  carried = {
    name: _begun(name, np.asarray(x))
    for name, x in _named(_START, first).items()
  }
  block, history = model.action_block, settings.history

  def call(params: Any, inputs: _Arrays) -> _Arrays:
    seen, goal = _split(inputs)
    past = jnp.zeros((rows, 0, model.action_dim), jnp.float32)
    if history > 1:
      past = model.normalize_actions(inputs['actions'])
    rng_key = jax.random.wrap_key_data(inputs['rng_key'], impl='threefry2x32')
    clock = planning.Clock(0, inputs['steps_left'] // block)
    answer, left = planning.plan_step(
      params['model'],
      keys.problem_keys(rng_key, rows),
      jax.tree.unflatten(treedef, [inputs[name] for name in carried]),
      planning.Memory(acting.in_time(model.observation_spec, seen), past),
      goal,
      root_fn=lambda *args: planning_model.root(model, *args),
      plan_fn=plan_fn,
      receding_horizon=receding_horizon,
      warm_start=settings.warm_start,
      clock=clock,
    )
    return {
      'actions': model.raw_actions(answer.actions),
      'cost': answer.cost,
      **_named(_START, left),
    }

  lead = (rows,) if history == 1 else (rows, history)
  inputs = {
    **_seen(model, *lead),
    **_goal(model, rows),
    'rng_key': artefacts.Array(
      (2,), 'uint32', 'key of threefry2x32, another for every plan'
    ),
    'steps_left': _STEPS,
    **carried,
  }
  if history > 1:
    inputs['actions'] = _actions(model, rows, history - 1)
  outputs = {'actions': _ACTIONS, 'cost': 'predicted; not finite: do not act'}
  after = dict.fromkeys(carried, 'for the next plan')
  return artefacts.Function(
    'plan', call, {'model': model.params}, inputs, {**outputs, **after}
  )


def _seen(
  model: exports.WorldModel, *lead: Rows, prefix: str = ''
) -> dict[str, artefacts.Array]:
  """What the model observes, by name."""
  found = {}
  for name, spec in model.observation_spec.items():
    unit = 'in the units of the world'
    if spec.dtype == np.uint8:
      unit = 'pixels in 0..255, [height, width, channels], RGB'
    found[prefix + name] = artefacts.Array(
      (*lead, *spec.shape), str(np.dtype(spec.dtype)), unit
    )
  return found


def _goal(model: exports.WorldModel, rows: Rows) -> dict[str, artefacts.Array]:
  """The same of what is wanted."""
  return _seen(model, rows, prefix=_GOAL)


def _split(inputs: _Arrays) -> tuple[_Arrays, _Arrays]:
  """Observations of what is seen and of what is wanted, among other inputs."""
  goal = {
    name.removeprefix(_GOAL): x
    for name, x in inputs.items()
    if name.startswith(_GOAL)
  }
  return {name: inputs[name] for name in goal}, goal


def _latents(model: exports.WorldModel, rows: Rows) -> artefacts.Array:
  shape = rows, model.model.latent_dim
  return artefacts.Array(shape, 'float32', _LATENTS)


def _actions(
  model: exports.WorldModel, rows: Rows, *time: int
) -> artefacts.Array:
  block = model.action_block
  raw = model.action_dim // block
  return artefacts.Array((rows, *time, block, raw), 'float32', _ACTIONS)


def _state_shapes(model: exports.WorldModel) -> Any:
  """Shapes of a state of one problem, `[1, ...]`."""
  latents = jax.ShapeDtypeStruct((1, 1, model.model.latent_dim), jnp.float32)
  return jax.eval_shape(model.start_from, model.params, latents)


def _state(model: exports.WorldModel) -> dict[str, Any]:
  """The same by the names of its leaves."""
  return _named(_STATE, _state_shapes(model))


def _named(prefix: str, tree: Any) -> dict[str, Any]:
  """Leaves of a pytree by their paths, in its order."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    '/'.join(
      [prefix, *(jax.tree_util.keystr((key,), simple=True) for key in path)]
    ): leaf
    for path, leaf in flat
  }


def _begun(name: str, array: np.ndarray) -> artefacts.Array:
  """What is handed from plan to plan, as it is before the first."""
  numbers: Mapping[Any, Any] = dict.fromkeys(array.ravel().tolist() or [0.0])
  if len(numbers) != 1:
    raise ValueError(
      f'{name} begins with several numbers, and a manifest says one; export '
      'another planner.'
    )
  (start,) = numbers
  return artefacts.Array(
    array.shape, str(array.dtype), 'of the plan before', float(start)
  )
