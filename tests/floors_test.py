"""The rooms of the house, and which way imports may run between them."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'jepa_wm'

FLOORS = {
  0: {'types', 'sharding', 'units', 'provenance'},
  1: {'data', 'networks', 'objectives', 'planning', 'envs'},
  2: {'jepa', 'families', 'world_model', 'interop'},
  3: {'training', 'evaluation', 'rl'},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

# Third parties, and the places that may know them.
THIRD_PARTIES = {
  'flax.linen': {'networks', 'jepa'},
  'orbax': {'training/checkpoints'},
  'tensorflow_datasets': {'data'},
  'grain': {'data'},
  'array_record': {'data'},
  'h5py': {'data/readers'},
  'hdf5plugin': {'data/readers'},
  'pyarrow': {'data/readers'},
  'av': {'data/readers'},
  'dm_pix': {'data/augmentation'},
  'ml_collections': set(),
  'absl.flags': set(),
  'gymnasium': {'envs/gymnasium', 'rl'},
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


def violations(path: pathlib.Path) -> list[str]:
  place = path.relative_to(PACKAGE).with_suffix('').as_posix()
  room = place.split('/')[0]
  found = []
  for name in imported_names(path):
    if is_or_is_inside(name, 'experiments'):
      found.append(f'{place} imports {name}')
    if name.startswith('jepa_wm.') and room in FLOOR_OF:
      other = name.split('.')[1]
      if other in FLOOR_OF and other != room:
        same = FLOOR_OF[other] == FLOOR_OF[room]
        if FLOOR_OF[other] > FLOOR_OF[room]:
          found.append(f'{place} imports upwards: {name}')
        elif same and FLOOR_OF[room] == 1:
          found.append(f'{place} meets its sibling {name}')
    for package, places in THIRD_PARTIES.items():
      allowed = any(place == p or place.startswith(p + '/') for p in places)
      if is_or_is_inside(name, package) and not allowed:
        found.append(f'{place} imports {name}, which belongs to {places}')
  return found


FILES = sorted(PACKAGE.rglob('*.py'))


def test_every_file_has_a_room():
  rooms = {p.relative_to(PACKAGE).parts[0].removesuffix('.py') for p in FILES}
  assert rooms - {'__init__'} <= set(FLOOR_OF)


@pytest.mark.parametrize(
  'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_only_go_down(path):
  assert violations(path) == []


def test_a_violation_would_be_found(monkeypatch, tmp_path):
  monkeypatch.setitem(globals(), 'PACKAGE', tmp_path)
  (tmp_path / 'planning').mkdir()
  path = tmp_path / 'planning' / 'cem.py'
  path.write_text(
    'from flax import linen as nn\nimport jepa_wm.training.loop\n'
    'from jepa_wm import networks\nfrom jepa_wm import types\n'
  )
  assert len(violations(path)) == 3


def test_nothing_is_unpickled_and_tensorflow_is_never_needed():
  for folder in ('jepa_wm', 'experiments', 'benchmarks', 'tests'):
    for path in (ROOT / folder).rglob('*.py'):
      for name in imported_names(path):
        assert name.split('.')[0] not in NOWHERE, f'{path} imports {name}'


def test_no_room_is_a_drawer():
  banned = {'utils', 'common', 'misc', 'helpers', 'base'}
  assert not [p for p in FILES if p.stem in banned]
