"""The rooms of the house, and which way imports may run between them."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'jepa_wm'

# From the ground up. A room imports rooms of lower floors alone; rooms of one
# floor never meet. Floor 0 has steps: those of 0.25 and 0.5 may use those of
# the steps below.
FLOORS = {
  0: (
    'types',
    'sharding',
    'units',
    'renames',
    'pytrees',
    'palette',
    'allocation',
    'bounds',
    'last_words',
    'launchers',
    'joining',
    'lock_file',
  ),
  0.25: ('files',),
  0.5: ('fields', 'provenance', 'processes', 'shares', 'signed'),
  0.75: ('lock',),
  1: ('data', 'networks', 'objectives', 'planning', 'envs'),
  2: ('models',),
  3: ('world_model', 'interop', 'evaluation'),
  3.5: ('artefacts', 'export_folder'),
  4: ('exports', 'onnx_artefacts', 'training'),
  4.5: ('hierarchy', 'groups'),
  5: ('rl',),
  6: ('recipes',),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

# Rooms that see more than they should: (who, whom). An entry goes with its
# last import; none is added.
NOT_YET: set[tuple[str, str]] = set()

# All that a room may see of ours, where that is less than what lies below; it
# sees no Flax either.
SEES_ONLY = {'planning': {'types', 'sharding'}}

# Third parties, and the places that may know them.
THIRD_PARTIES = {
  'flax.linen': {'networks', 'models'},
  'orbax': {'training/checkpoints'},
  'tensorflow_datasets': {'data'},
  'grain': {'data'},
  'array_record': {'data'},
  'h5py': {'data/readers'},
  'hdf5plugin': {'data/readers'},
  'pyarrow': {'data/readers'},
  'av': {'data/readers'},
  'hashlib': {'files'},
  'difflib': {'files'},
  'dm_pix': {'data/augmentation'},
  'ml_collections': set(),
  'absl.flags': set(),
  'gymnasium': {'envs/gymnasium', 'envs/to_gymnasium', 'rl'},
  'mujoco': {'envs/mujoco', 'envs/reacher', 'envs/ogbench_cube'},
  'dm_control': {'envs/reacher'},
  'ogbench': {'envs/ogbench_cube'},
}
NOWHERE = {'pickle', 'dill', 'cloudpickle', 'tensorflow', 'clu'}


def imported_names(path: pathlib.Path) -> list[str]:
  names = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      names += [f'{node.module}.{alias.name}' for alias in node.names]
  return names


def is_or_is_inside(name: str, package: str) -> bool:
  return name == package or name.startswith(package + '.')


def imported_rooms(path: pathlib.Path) -> set[str]:
  """Rooms of ours, other than its own, that a file imports."""
  own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
  names = [name.split('.') for name in imported_names(path)]
  rooms = {name[1] for name in names if name[0] == 'jepa_wm' and name[1:]}
  return rooms & set(FLOOR_OF) - {own}


def is_allowed(room: str, other: str) -> bool:
  if room in SEES_ONLY and other not in SEES_ONLY[room]:
    return False
  return FLOOR_OF[other] < FLOOR_OF[room] or (room, other) in NOT_YET


def renames(path: pathlib.Path) -> list[str]:
  """Calls that put one file in another's place, by line."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
      text = ast.unparse(node.func)
      # `text.replace(a, b)` and `dataclasses.replace(x, y=z)` are others.
      is_path = len(node.args) == 1 and not node.keywords
      moves = text in ('os.rename', 'os.replace', 'os.renames', 'shutil.move')
      if moves or (node.func.attr in ('rename', 'replace') and is_path):
        found.append(f'{path.name}:{node.lineno} calls {text}')
  return found


def violations(path: pathlib.Path) -> list[str]:
  place = path.relative_to(PACKAGE).with_suffix('').as_posix()
  room = place.split('/')[0]
  found = []
  if room in FLOOR_OF:
    found += [
      f'{place} (floor {FLOOR_OF[room]}) imports {other} ({FLOOR_OF[other]})'
      for other in sorted(imported_rooms(path))
      if not is_allowed(room, other)
    ]
  for name in imported_names(path):
    if name.split('.')[0] in ('experiments', 'benchmarks', 'tests'):
      found.append(f'{place} imports {name}')
    if room in SEES_ONLY and is_or_is_inside(name, 'flax'):
      found.append(f'{place} imports {name}')
    for package, places in THIRD_PARTIES.items():
      allowed = any(place == p or place.startswith(p + '/') for p in places)
      if is_or_is_inside(name, package) and not allowed:
        found.append(f'{place} imports {name}, which belongs to {places}')
  return found + (renames(path) if room != 'files' else [])


FILES = sorted(PACKAGE.rglob('*.py'))


def test_every_file_has_a_room():
  rooms = {p.relative_to(PACKAGE).parts[0].removesuffix('.py') for p in FILES}
  assert rooms - {'__init__'} <= set(FLOOR_OF)


@pytest.mark.parametrize(
  'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_only_go_down(path):
  assert violations(path) == []


def test_what_is_not_yet_right_only_shrinks():
  imports = {
    (path.relative_to(PACKAGE).parts[0].removesuffix('.py'), room)
    for path in FILES
    for room in imported_rooms(path)
  }
  assert imports >= NOT_YET


def test_a_violation_would_be_found(monkeypatch, tmp_path):
  monkeypatch.setitem(globals(), 'PACKAGE', tmp_path)
  (tmp_path / 'planning').mkdir()
  path = tmp_path / 'planning' / 'cem.py'
  path.write_text(
    'from flax import linen as nn\nimport jepa_wm.training.loop\n'
    'from jepa_wm import networks\nfrom jepa_wm import types\n'
    'from jepa_wm import files\nimport hashlib\nimport os\n'
    'os.replace(1, 2)\nx.rename(y)\nx.replace(y)\n'
    's.replace("a", "b")\ndataclasses.replace(s, a=b)\n'
  )
  found = violations(path)
  assert [x.split(' ', 1)[1].split(',')[0] for x in found] == [
    *('(floor 1) imports files (0.25)', '(floor 1) imports networks (1)'),
    *('(floor 1) imports training (4)', 'imports flax.linen'),
    *('imports flax.linen', 'imports hashlib'),
    *('calls os.replace', 'calls x.rename', 'calls x.replace'),
  ]


@pytest.mark.parametrize('folder', ['experiments', 'benchmarks'])
def test_outside_too_files_alone_renames_and_hashes(folder):
  for path in (ROOT / folder).rglob('*.py'):
    names = {name.split('.')[0] for name in imported_names(path)}
    assert not names & {'hashlib', 'difflib'}, path
    assert renames(path) == []


def test_nothing_is_unpickled_and_tensorflow_is_never_needed():
  for folder in ('jepa_wm', 'experiments', 'benchmarks', 'tests'):
    for path in (ROOT / folder).rglob('*.py'):
      for name in imported_names(path):
        assert name.split('.')[0] not in NOWHERE, f'{path} imports {name}'


def test_no_room_is_a_drawer():
  banned = {'utils', 'common', 'misc', 'helpers', 'base'}
  assert not [p for p in FILES if p.stem in banned]
