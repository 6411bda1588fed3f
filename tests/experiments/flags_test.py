"""Flags belong to the command that is run, not to whoever imports it."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from experiments import command_line

ROOT = pathlib.Path(__file__).parents[2]


def run(code):
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


def test_importing_registers_no_flag_brings_what_is_used_and_helps():
  run(
    'import sys\n'
    'from absl import flags\n'
    'from experiments import plan\n'
    # A second of every start: what draws, reads and saves comes when it must.
    'late = {"matplotlib", "tensorflow_datasets", "grain", "orbax", "av"}\n'
    'late |= {"h5py", "pyarrow", "dm_pix", "tensorboardX"}\n'
    'assert not late & sys.modules.keys(), late & sys.modules.keys()\n'
    'import jepa_wm.recipes\n'
    'from experiments import bring_your_own, collect, convert, plan, probe\n'
    'from experiments import command_line, train\n'
    'modules = flags.FLAGS.flags_by_module_dict()\n'
    'rooms = {name.partition(".")[0] for name in modules}\n'
    'assert not rooms & {"jepa_wm", "experiments"}, modules\n'
    # A training's are made in several modules, and --help has them all.
    'import contextlib, io\n'
    'from absl import app\n'
    'app.define_help_flags()\n'
    'said = io.StringIO()\n'
    'with contextlib.suppress(SystemExit), contextlib.redirect_stdout(said):\n'
    '  train.parse_flags([*sys.argv, "--help"])\n'
    'for name in "config", "workdir", "import", "attention", "compile_cache":\n'
    '  assert f"{name}:" in said.getvalue(), (name, said.getvalue())\n'
  )


def test_importing_touches_no_device():
  """Else no process could join others, nor say how many devices it wants."""
  run(
    'import importlib, pkgutil\n'
    'from jax._src import xla_bridge\n'
    'import experiments, jepa_wm\n'
    'for package in (jepa_wm, experiments):\n'
    '  where = package.__path__, package.__name__ + "."\n'
    '  for module in pkgutil.walk_packages(*where):\n'
    # Its world has arrays for limits.
    '    if module.name != "experiments.bring_your_own":\n'
    '      try:\n'
    '        importlib.import_module(module.name)\n'
    '      except ModuleNotFoundError as error:\n'
    # The worlds of an extra.
    '        assert module.name.startswith("jepa_wm.envs"), error\n'
    '    assert not xla_bridge._backends, module.name\n'
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baking:
  """What is baked.

  Attributes:
    cake: its name,
      in full.
    eggs: how many.
    sugar: in grams; none by default.
    sweet: whether it is.
    on_top: what comes last.
    heats: of the oven.
    oven: any.
  """

  cake: str
  eggs: int = 3
  sugar: float | None = None
  sweet: bool = True
  on_top: tuple[str, ...] = ('cream',)
  heats: tuple[float, ...] = (180.0, 160.0)
  oven: object = None

  def __post_init__(self):
    if self.eggs < 1:
      raise ValueError(f'eggs must be at least 1, got {self.eggs}.')


@pytest.fixture
def own_flags():
  own = flags.FlagValues()
  command_line.define(
    own, Baking, leave_out=['oven'], choices={'cake': ['plum', 'nut']}
  )
  return own


def test_fields_become_flags(own_flags):
  own_flags(
    [
      *('bake', '--cake=nut', '--sugar=2.5', '--on_top=nuts,', '--nosweet'),
      *('--heats=200', '--heats=0'),
    ]
  )
  assert command_line.read(own_flags, Baking, oven='hot') == Baking(
    cake='nut',
    sugar=2.5,
    sweet=False,
    on_top=('nuts',),
    heats=(200.0, 0.0),
    oven='hot',
  )
  assert own_flags['cake'].help.endswith('Its name, in full.')
  assert own_flags['sugar'].help == 'In grams; none by default.'
  assert 'Of the oven; once for each.' in own_flags['heats'].help


def test_their_checks_are_the_dataclass_s(own_flags):
  own_flags(['bake', '--cake=plum', '--eggs=0'])
  with pytest.raises(ValueError, match='eggs must be at least 1'):
    command_line.read(own_flags, Baking)
  with pytest.raises(flags.IllegalFlagValueError, match='plum'):
    own_flags(['bake', '--cake=rum'])
