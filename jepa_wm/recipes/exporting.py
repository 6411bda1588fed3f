"""Writes what a model does as files that run without this package."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

from jepa_wm import (
  artefacts,
  exports,
  fields,
  files,
  lock,
  onnx_artefacts,
  provenance,
)
from jepa_wm.evaluation.planning import planner_settings
from jepa_wm.recipes import (
  export_bounds,
  exported_functions,
  identity,
  planning,
  planning_heads,
)

WHAT = 'encode', 'advance', 'policy', 'plan'
"""What can be exported; 'advance' brings `start`, which begins its states."""

FORMATS = 'stablehlo', 'onnx'
"""What it can be exported as."""

WEIGHTS = 'inside', 'beside'
"""Where the weights are."""

SYMBOLIC = 'symbolic'
"""In place of a number of rows: any."""

_OF_PLANNING = (
  *('options', 'cost', 'distance', 'history', 'cost_head', 'proposals'),
  *('upper', 'upper_horizon', 'subgoal_every'),
)
_OF_PLANS = (
  *(*_OF_PLANNING, 'planner', 'horizon', 'receding_horizon'),
  *('environment', 'action_low', 'action_high'),
)
_SETTINGS = planner_settings.PlannerSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exporting:
  """What of a model is written, and how.

  Attributes:
    checkpoint: folder of a training run or an export, or the name of a shipped
      checkpoint.
    what: functions to write: encode, advance (with start), policy, plan; or a
      list of such.
    platforms: that StableHLO is lowered for, all in one file: cpu, cuda, rocm,
      tpu.
    format: of the files: stablehlo, onnx, which holds no plan; or both.
    batch: rows of every array, a number, or 'symbolic' for any, which a plan
      cannot have.
    weights: 'inside' the files, or 'beside' them, in weights.safetensors,
      where they are more than 2 GB.
    head: folder of a trained head that acts, for 'policy'; the model's own
      policy by default.
    environment: world whose actions bound a plan; by default the one that the
      checkpoint was trained in.
    action_low: lowest raw actions of a plan, one for all or one for each; by
      default those of the world.
    action_high: the highest.
    planner: who searches for actions: cem, icem, mppi, ...
      (`planning.PLANNERS`).
    options: of the planner, by name; the default of each that is left out.
    cost: steps of a rollout whose distance to the goal counts: the 'last' one,
      'all', their mean, 'linear', later ones more, or 'soonest', the nearest.
    distance: of a latent from the goal's.
    horizon: blocks in a plan.
    receding_horizon: blocks played before the next plan, whose warm start
      begins there.
    history: frames that a plan sees, the one now and those an action block
      apart before it; not more than the model was trained with.
    cost_head: folder of a trained head that prices latents in place of a
      distance.
    proposals: folder of a trained head that acts, whose actions a search looks
      at first, and which the planners policy and fast_slow follow.
    upper: folder of a trained head that says what to reach first; several make
      as many levels, the lowest first.
    upper_horizon: macro-actions that a level above looks ahead which searches
      such; 3 by default.
    subgoal_every: blocks for which a subgoal is kept; 1 by default.
    out: folder for the files, which is not there or empty.
    overwrite: whether an export that is there is replaced.

  Raises:
    ValueError: no such function, format or platform, a field that would do
      nothing, or one out of its range.
  """

  checkpoint: str = 'two_room_small'
  what: tuple[str, ...] = ('encode', 'plan')
  platforms: tuple[str, ...] = ('cpu', 'cuda', 'tpu')
  format: tuple[str, ...] = ('stablehlo',)
  batch: str = '1'
  weights: str = 'inside'
  head: str | None = None
  environment: str | None = None
  action_low: tuple[float, ...] = ()
  action_high: tuple[float, ...] = ()
  planner: str = _SETTINGS.name
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  cost: str = _SETTINGS.cost
  distance: str = _SETTINGS.distance
  horizon: int = 5
  receding_horizon: int = 1
  history: int = _SETTINGS.history
  cost_head: str | None = None
  proposals: str | None = None
  upper: tuple[str, ...] = ()
  upper_horizon: int | None = None
  subgoal_every: int | None = None
  out: str = 'outputs/export'
  overwrite: bool = False

  def __post_init__(self) -> None:
    """Checks what can be checked without a model."""
    known = {'what': WHAT, 'platforms': artefacts.PLATFORMS, 'format': FORMATS}
    for name, choices in known.items():
      if isinstance(value := getattr(self, name), str):
        object.__setattr__(self, name, value := (value,))
      if not value:
        raise ValueError(f'{name} must name one at least of {choices}.')
      for one in value:
        fields.check_choice(name, one, choices)
    fields.check_choice('weights', self.weights, WEIGHTS)
    counts = {'horizon': 1, 'receding_horizon': 1, 'history': 1}
    fields.check_counts(self, counts)
    if self.receding_horizon > self.horizon:
      raise ValueError(
        f'receding_horizon must lie in 1..horizon = 1..{self.horizon}, got '
        f'{self.receding_horizon}: a plan cannot be played beyond its end.'
      )
    if bool(self.action_low) != bool(self.action_high):
      raise ValueError(
        'action_low and action_high go together; give both or none.'
      )
    if self.rows == artefacts.ROWS and 'plan' in self.what:
      raise ValueError(
        'batch=symbolic cannot be had of a plan, whose random draws are made '
        'for a number of problems; say how many with --batch, or export the '
        'plan apart.'
      )
    if 'plan' in self.what and 'stablehlo' not in self.format:
      raise ValueError(
        'format=onnx holds no plan, whose draws and loops it has no words for; '
        'add stablehlo to --format, or leave the plan out.'
      )
    self._check_effects()

  def _check_effects(self) -> None:
    """Refuses what would do nothing.

    Raises:
      ValueError: a field without an effect on what is exported.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(self)}
    idle = {name: 'plan' for name in _OF_PLANS} | {'head': 'policy'}
    for name, what in idle.items():
      value = getattr(self, name)
      if what not in self.what and value not in (defaults[name], {}):
        raise ValueError(
          f'{name}={value} would do nothing: {what!r} is not in '
          f'what={",".join(self.what)}; add it, or leave {name} out.'
        )
    for name in ('platforms', 'weights'):
      value = getattr(self, name)
      if 'stablehlo' not in self.format and value != defaults[name]:
        raise ValueError(
          f'{name}={value} would do nothing: files of ONNX run wherever an '
          'ONNX runtime does, with their weights inside; leave it out.'
        )
    if self.environment is not None and self.action_low:
      raise ValueError(
        f'environment={self.environment} would do nothing beside action_low '
        'and action_high; leave it out, or those two.'
      )

  @property
  def rows(self) -> exported_functions.Rows:
    """Rows of every array.

    Raises:
      ValueError: `batch` is no number above 0, and not 'symbolic'.
    """
    if self.batch == SYMBOLIC:
      return artefacts.ROWS
    if not self.batch.isdecimal() or not 0 < int(self.batch) < 2**31:
      raise ValueError(
        f'batch must be a number of rows or {SYMBOLIC!r}, got {self.batch!r}.'
      )
    return int(self.batch)


def export(exporting: Exporting, *, command: str = '') -> dict[str, Any]:
  """Writes the files; compiles nothing, and needs none of the platforms.

  Args:
    exporting: what is written.
    command: how to do it again, for the manifest.

  Returns:
    The manifest, as it is in `manifest.json`.

  Raises:
    ImportError: a package of the extra `export` is not installed.
    OSError: no checkpoint, or a folder that is not empty or cannot be written.
    ValueError: a broken checkpoint, a model or head without what is asked for,
      one that calls back to Python, or fields that contradict each other.
  """
  artefacts.check_place(exporting.out, overwrite=exporting.overwrite)
  _check_is_model(exporting.checkpoint)
  model = exports.WorldModel.from_checkpoint(exporting.checkpoint)
  found, about = functions(exporting, model)
  about = {
    'checkpoint': exporting.checkpoint,
    'model': model.model.config.name,
    'digest': identity.of_model(model),
    **about,
    'command': command or f'recipes.export({exporting})',
    'versions': provenance.versions(),
    'commit': provenance.commit(),
  }
  with contextlib.ExitStack() as stack:
    stack.enter_context(lock.hold_place(exporting.out))
    written = [
      one for function in found for one in _written(exporting, function)
    ]
    # Who is killed once the folder is in its place leaves nothing beside it.
    return artefacts.write(
      files.expand(exporting.out),
      written,
      about,
      overwrite=exporting.overwrite,
      before_fn=stack.close,
    )


def _written(
  exporting: Exporting, function: artefacts.Function
) -> list[artefacts.Written]:
  """A function in every format that is asked for and can hold it."""
  function, found = artefacts.trimmed(function), []
  if 'stablehlo' in exporting.format:
    beside = exporting.weights == 'beside'
    found.append(
      artefacts.stablehlo(function, exporting.platforms, beside=beside)
    )
  if 'onnx' in exporting.format and function.name != 'plan':
    found.append(onnx_artefacts.onnx(function))
  return found


def _check_is_model(checkpoint: str) -> None:
  """Refuses a head where a model is wanted."""
  encoder = exports.encoder_of(checkpoint)
  if encoder is not None:
    raise ValueError(
      f'--checkpoint={checkpoint} is a head, which reads the latents of '
      f'{encoder}; pass --checkpoint={encoder} --what=policy '
      f'--head={checkpoint}.'
    )


def functions(
  exporting: Exporting, model: exports.WorldModel
) -> tuple[list[artefacts.Function], dict[str, Any]]:
  """What is asked for, and what the manifest says of it."""
  if model.model.acting is None and (others := {*exporting.what} - {'encode'}):
    raise ValueError(
      f'{exporting.checkpoint} encodes and takes no actions, so there is no '
      f'{" and no ".join(sorted(others))} of it; export --what=encode.'
    )
  found: list[artefacts.Function] = []
  about: dict[str, Any] = {}
  for what in dict.fromkeys(exporting.what):
    if what == 'encode':
      found.append(exported_functions.encode(model, exporting.rows))
    elif what == 'advance':
      found += [
        exported_functions.start(model, exporting.rows),
        exported_functions.advance(model, exporting.rows),
      ]
    elif what == 'policy':
      function, about['policy'] = _policy(exporting, model)
      found.append(function)
    else:
      function, about['planner'] = _plan(exporting, model)
      found.append(function)
  return found, about


def _policy(
  exporting: Exporting, model: exports.WorldModel
) -> tuple[artefacts.Function, dict[str, Any]]:
  """Who acts without a search, and what is said of it."""
  if exporting.head is None:
    policy_fn = model.levels[0].model.policy
    if policy_fn is None:
      raise ValueError(
        f'{exporting.checkpoint} has no policy of its own; name with --head '
        'the folder of a trained head that acts, such as policy (GCBC), '
        'inverse_dynamics (GC-IDM) or gcivl.'
      )
    function = exported_functions.policy(model, policy_fn, None, exporting.rows)
    return function, {'name': model.model.config.name}
  folder = planning_heads.folder_of('--head', exporting.head)
  head = exports.TrainedHead.load(
    folder, model=model, where=exporting.checkpoint
  )
  policy_fn = head.head.roles.policy
  if policy_fn is None:
    raise ValueError(
      f'--head={exporting.head}: the head {head.name!r} does not act; pass one '
      "that does, such as 'policy', 'inverse_dynamics' or 'gcivl'."
    )
  function = exported_functions.policy(
    model, policy_fn, head.params, exporting.rows
  )
  about = {'name': head.name, 'head': exporting.head, 'digest': head.digest}
  return function, about


def _plan(
  exporting: Exporting, model: exports.WorldModel
) -> tuple[artefacts.Function, dict[str, Any]]:
  """Who plans, and what is said of it."""
  environment = export_bounds.world_of(exporting, model)
  bounds = export_bounds.of(exporting, model, environment)
  asked = planning.Planning(
    checkpoint=(exporting.checkpoint,),
    planner=(exporting.planner,),
    **{name: getattr(exporting, name) for name in _OF_PLANNING},
  )
  (settings,) = asked.planners()
  _, acts = planning_heads.who_plans(
    exporting.checkpoint, exporting.proposals, [settings]
  )
  settings = dataclasses.replace(
    settings, **asked.by_heads(exporting.checkpoint, environment, acts)
  )
  settings.dry_run(exporting.horizon)
  rows = exporting.rows
  assert isinstance(rows, int), rows
  function = exported_functions.plan(
    model,
    settings,
    horizon=exporting.horizon,
    receding_horizon=exporting.receding_horizon,
    bounds=bounds,
    rows=rows,
  )
  about = {
    **settings.to_dict(),
    'horizon': exporting.horizon,
    'receding_horizon': exporting.receding_horizon,
    'action_block': model.action_block,
    'action_low': bounds[0].tolist(),
    'action_high': bounds[1].tolist(),
  }
  return function, about
