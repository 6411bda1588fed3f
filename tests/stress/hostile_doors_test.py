"""Hostile things given to commands, wherever a flag or field takes a path."""

import os
import pathlib
import random
import shutil
import socket

import pytest

from tests.stress import damage, hostile_test, readings
from tests.stress import doors as doors_lib
from tests.stress import forks as forks_lib

PLACES = {
  'convert': ('convert', ['--source={}'], 'swm.h5'),
  'convert lerobot': ('convert', ['--source={}'], 'lerobot'),
  'convert rlds': ('convert', ['--source={}'], 'rlds'),
  'convert minari': ('convert', ['--source={}'], 'minari'),
  'convert dino_wm': ('convert', ['--source={}'], 'dino_wm'),
  'plan': ('plan', ['--checkpoint={}'], 'model'),
  'plan proposals': ('plan', ['--proposals={}'], 'heads/policy'),
  'plan cost': ('plan', ['--cost_head={}'], 'heads/temporal_distance'),
  'plan decoder': ('plan', ['--decoder={}'], 'heads/decoder'),
  'plan upper': ('plan', ['--upper={}'], 'heads/policy'),
  'plan guardrail': ('plan', ['--guardrail={}'], 'heads/policy'),
  'plan episodes': (
    'plan', ['--protocol=training', '--episodes={}'], 'walks',
  ),
  'probe': ('probe', ['--checkpoint={}'], 'model'),
  'probe data': ('probe', ['--data={}'], 'walks'),
  'diagnose': ('diagnose', ['--checkpoint={}'], 'model'),
  'export': ('export', ['--checkpoint={}'], 'model'),
  'export head': ('export', ['--what=policy', '--head={}'], 'heads/policy'),
  'train from': ('train', ['--config.initialise_from={}'], 'model'),
  'train on': ('train', ['--config.data.path={}'], 'walks'),
  'train head of': ('train_head', ['--config.frozen_encoder={}'], 'model'),
  'agent of': ('train_agent', ['--config.frozen_encoder={}'], 'model'),
  'agent reaches by': (
    'train_agent', ['--config.agent.reach_by={}'], 'heads/temporal_distance',
  ),
  'ablate on': ('ablate', ['--data={}'], 'episodes'),
}  # fmt: skip
"""Door, its arguments with a place for the path, and what would be right."""

MP4 = next((forks_lib.ROOT / 'tests').rglob('*.mp4'))
PARQUET = next((forks_lib.ROOT / 'tests').rglob('*.parquet'))


def _folder_of(make):
  """The right thing, each file of which is something else."""

  def changed(things, name, path):
    shutil.copytree(things / name, path, dirs_exist_ok=True)
    for file in [x for x in path.rglob('*') if x.is_file()]:
      file.unlink()
      make(file)

  return changed


def _largest_of(make):
  """The right thing, the largest file of which is something else."""

  def changed(things, name, path):
    shutil.copytree(things / name, path, dirs_exist_ok=True)
    found = [x for x in path.rglob('*') if x.is_file()]
    file = max(found, key=lambda x: (x.stat().st_size, str(x)))
    file.unlink()
    make(file)

  return changed


def _alone(make):
  return lambda things, name, path: make(path)


def _socket(path):
  with socket.socket(socket.AF_UNIX) as made:
    before = os.getcwd()
    os.chdir(path.parent)
    try:
      made.bind(path.name[:50])
    finally:
      os.chdir(before)


def _link(target):
  return lambda path: path.symlink_to(target)


def _itself(path):
  path.symlink_to(path.name)


THINGS = {
  'an mp4': _alone(lambda path: shutil.copy(MP4, path)),
  'a parquet file': _alone(lambda path: shutil.copy(PARQUET, path)),
  'an empty file': _alone(lambda path: path.touch()),
  'an empty folder': _alone(lambda path: path.mkdir()),
  'a fifo': _alone(os.mkfifo),
  'a socket': _alone(_socket),
  'a device': _alone(_link('/dev/zero')),
  'a terminal': _alone(_link('/dev/tty')),
  'a link to itself': _alone(_itself),
  'a link to nothing': _alone(_link('nothing')),
  'all files': _alone(_link('/')),
  'the system': _alone(_link('/proc/self')),
  'fifos': _folder_of(os.mkfifo),
  'devices': _folder_of(_link('/dev/zero')),
  'sockets': _folder_of(_socket),
  'links out': _folder_of(_link('/etc/passwd')),
  'links to themselves': _folder_of(_itself),
  'folders': _folder_of(lambda path: path.mkdir()),
  'a fifo inside': _largest_of(os.mkfifo),
  'a device inside': _largest_of(_link('/dev/zero')),
  'a link out inside': _largest_of(_link('/etc/passwd')),
}
"""Things, and who makes one at a path."""


def fault(where, ended):
  """What is wrong with how a command ended that was given something."""
  if ended.code == forks_lib.BEGAN:
    return ''  # It was not needed, or it is checked when it is read.
  return hostile_test.fault(where, ended, pathlib.Path('/nonexistent'))


def try_one(forks, things, folder, place, title):
  """The fault of one thing in one place."""
  door_name, arguments, right = PLACES[place]
  door = doors_lib.DOORS[door_name]
  folder.mkdir()
  for name in things.iterdir():
    (folder / name.name).symlink_to(name)
  path = folder / 'given'
  if (things / right).is_file():
    right = 'lerobot'  # Of which there are folders.
  THINGS[title](things, right, path)
  ended = forks.run(
    door.module,
    *door.argv,
    *(x.format('given') for x in arguments),
    cwd=folder,
    stop_at=door.stop_at,
    timeout=30,
  )
  shutil.rmtree(folder)
  return fault(f'{place}: {title}', ended)


def try_damaged(forks, things, folder, place, inside, title):
  """The fault of one damaged file of what would be right."""
  door_name, arguments, right = PLACES[place]
  door = doors_lib.DOORS[door_name]
  folder.mkdir()
  for name in things.iterdir():
    (folder / name.name).symlink_to(name)
  shutil.copytree(things / right, folder / 'given')
  file = folder / 'given' / inside
  rng = random.Random(f'{place} {inside} {title}')
  file.write_bytes(damage.of(file.name, 99)[title](file.read_bytes(), rng))
  ended = forks.run(
    door.module,
    *door.argv,
    *(x.format('given') for x in arguments),
    cwd=folder,
    stop_at=door.stop_at,
    timeout=30,
  )
  where = f'{place}: {inside} with {title}'
  pwned = list(folder.rglob(damage.PWNED))
  shutil.rmtree(folder)
  return f'{where} ran code' if pwned else fault(where, ended)


@pytest.fixture(scope='module')
def whole(things):
  """Configs are named as in the repository."""
  link = things / 'experiments'
  if not link.exists():
    link.symlink_to(forks_lib.ROOT / 'experiments')
  return things


def damages(things, place, most):
  """Files of what would be right and how they are damaged, so many."""
  right = PLACES[place][2]
  found = [
    (inside, title)
    for inside in readings.places(things, right)
    for title in damage.of(inside.name, 6)
  ]
  return random.Random(place).sample(found, min(most, len(found)))


@pytest.mark.stress
@pytest.mark.parametrize('place', PLACES)
def test_no_thing_hangs_or_breaks_a_command(forks, whole, tmp_path, place):
  found = [
    try_one(forks, whole, tmp_path / str(number), place, title)
    for number, title in enumerate(THINGS)
  ]
  print(f'{place}: {len(THINGS)} things')
  assert not any(found), '\n'.join(filter(None, found))


CHECKPOINTS = [x for x in PLACES if PLACES[x][2].startswith(('model', 'heads'))]


@pytest.mark.stress
@pytest.mark.parametrize('place', CHECKPOINTS)
def test_a_damaged_checkpoint_is_one_sentence(forks, whole, tmp_path, place):
  tried = damages(whole, place, 8)
  found = [
    try_damaged(forks, whole, tmp_path / str(number), place, *case)
    for number, case in enumerate(tried)
  ]
  print(f'{place}: {len(tried)} damaged checkpoints')
  assert not any(found), '\n'.join(filter(None, found))


def test_some_things_for_a_checkpoint(forks, whole, tmp_path):
  found = [
    try_one(forks, whole, tmp_path / str(number), 'plan', title)
    for number, title in enumerate(['a fifo', 'fifos', 'a device inside'])
  ]
  assert not any(found), '\n'.join(filter(None, found))
