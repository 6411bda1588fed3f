"""The commands, and where the work of each begins."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

from absl import flags

from tests.stress import bad_values

_TRAINING = ('jepa_wm.training.state._drawn',)


@dataclasses.dataclass(frozen=True)
class Door:
  """A command line that works, in the folder of `things.make`.

  Attributes:
    module: of the command.
    argv: its arguments.
    stop_at: where its work begins.
    config: module, variant, of the config whose fields are flags; empty where
      flags are the command's own.
  """

  module: str
  argv: tuple[str, ...] = ()
  stop_at: tuple[str, ...] = ()
  config: tuple[str, ...] = ()

  def bad(self) -> Iterator[tuple[str, str, list[str]]]:
    """Flags with values to be refused: name, kind of value, arguments."""
    for name, held in self._flags().items():
      for kind, value in bad_values.VALUES[held].items():
        yield name, kind, [f'--{name}={value}']
      yield (
        bad_values.misspelt(name),
        'misspelt',
        [f'--{bad_values.misspelt(name)}=1'],
      )

  def _flags(self) -> dict[str, str]:
    """Types of all flags, by name."""
    if self.config:
      module = importlib.import_module(self.config[0])
      config = module.get_config(*self.config[1:]).to_dict()
      own = {'workdir': 'text', 'attention': 'text', 'config': 'text'}
      return {**own, **dict(_leaves(config, 'config'))}
    own: flags.FlagValues = importlib.import_module(self.module).FLAGS
    return {
      name: bad_values.type_of_flag(own[name])
      for name in own
      if name not in ('import', 'compile_cache')
    }


def _leaves(config: Any, prefix: str) -> Iterator[tuple[str, str]]:
  for name, value in config.items():
    if isinstance(value, dict):
      yield from _leaves(value, f'{prefix}.{name}')
    else:
      yield f'{prefix}.{name}', bad_values.type_of_value(value)


def _trained(
  command: str, file: str, variant: str, *more: str, **given: Any
) -> Door:
  """A training of a config of ours, on the walks."""
  first = f'--config=experiments/configs/{file}.py:{variant}'
  if command == 'train_agent':
    first = f'--agent={variant}'
  return Door(
    f'experiments.{command}',
    (first, '--workdir=run', *more),
    config=(f'experiments.configs.{file}', variant),
    **{'stop_at': _TRAINING, **given},
  )


_PLANNING = (
  'jepa_wm.recipes.planning_report.run',
  'jepa_wm.recipes.tuning.tune',
)
_ON_WALKS = '--config.data.path=walks', '--config.data.batch_size=4'
_OF_MODEL = ('--config.frozen_encoder=model',)

DOORS = {
  'plan': Door(
    'experiments.plan',
    ('--checkpoint=model', '--num_pairs=2'),
    _PLANNING,
  ),
  'plan_by_others': Door(
    'experiments.plan',
    (
      '--checkpoint=model', '--num_pairs=2', '--planner=icem,gradient,grasp',
      '--horizon=2', '--receding_horizon=1', '--memory=state',
    ),
    _PLANNING,
  ),
  'plan_through': Door(
    'experiments.plan',
    (
      '--checkpoint=model', '--num_pairs=2', '--upper=heads/waypoints',
      '--guardrail=heads/safety', '--proposals=heads/policy',
      '--cost_head=heads/temporal_distance', '--decoder=heads/decoder',
    ),
    _PLANNING,
  ),
  'plan_agents': Door(
    'experiments.plan',
    ('--checkpoint=agents', '--num_pairs=2', '--agents_plan=coordinate'),
    _PLANNING,
  ),
  'collect_agents': Door(
    'experiments.collect',
    ('--environment=two_room_agents', '--num_agents=3', '--out=out'),
    ('jepa_wm.recipes.collecting._write',),
  ),
  'collect': Door(
    'experiments.collect',
    ('--out=out',),
    ('jepa_wm.recipes.collecting._write',),
  ),
  'convert': Door(
    'experiments.convert',
    ('--source=swm.h5', '--out=out'),
    ('jepa_wm.recipes.converting._convert',),
  ),
  'probe': Door(
    'experiments.probe',
    ('--checkpoint=model',),
    ('jepa_wm.recipes.probe_data._take',),
  ),
  'diagnose': Door(
    'experiments.probe',
    ('--checkpoint=model', '--diagnostics=collapse'),
    ('jepa_wm.recipes.diagnosing._ask',),
  ),
  'export': Door(
    'experiments.export',
    ('--checkpoint=model',),
    ('jepa_wm.artefacts.stablehlo', 'jepa_wm.onnx_artefacts.onnx'),
  ),
  'export_policy': Door(
    'experiments.export',
    ('--checkpoint=model', '--what=policy,advance', '--head=heads/policy'),
    ('jepa_wm.artefacts.stablehlo', 'jepa_wm.onnx_artefacts.onnx'),
  ),
  'export_plan': Door(
    'experiments.export',
    (
      '--checkpoint=model', '--what=plan', '--upper=heads/waypoints',
      '--proposals=heads/policy', '--planner=icem', '--horizon=2',
    ),
    ('jepa_wm.artefacts.stablehlo', 'jepa_wm.onnx_artefacts.onnx'),
  ),
  'ablate_study': Door(
    'experiments.ablate',
    ('--study=lewm/dropout', '--data=episodes'),
    ('jepa_wm.recipes.is_done',),
  ),
  'ablate': Door(
    'experiments.ablate',
    (
      '--config=lewm.py:two_room_tiny',
      '--grid=model.predictor.dropout=0.0,0.1',
      '--data=episodes',
    ),
    ('jepa_wm.recipes.is_done',),
  ),
  'train': _trained(
    'train', 'lewm', 'two_room_tiny', *_ON_WALKS,
    '--config.model.encoder.image_size=16',
  ),
  'train_masked': _trained('train', 'vjepa', 'digits_tiny'),
  'train_head': _trained(
    'train', 'heads', 'gcivl_tiny', *_ON_WALKS, *_OF_MODEL
  ),
  'train_pixels': _trained(
    'train_agent', 'rl', 'gcbc_pixels_tiny', *_ON_WALKS,
    '--config.model.encoder.image_size=16',
  ),
  'train_agent': _trained(
    'train_agent', 'rl', 'imagination_tiny', *_OF_MODEL,
    stop_at=('jepa_wm.recipes.agents._environment',),
  ),
  'train_online': _trained(
    'train_agent', 'rl', 'online_tiny',
    stop_at=('jepa_wm.recipes.online._begin',),
  ),
}  # fmt: skip
"""Every command, and every kind of training, by name."""
