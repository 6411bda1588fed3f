"""A world of a user that misbehaves in every way; `--import` this file.

A point that is moved in a square. What goes wrong is a number of its state, so
that starts and goals of problems have it, too; `MISBEHAVES` names one thing
that whoever asks the world in the command's own process gets, or says that
episodes behave and problems do not.
"""

import os
import pathlib
import signal
import time

import numpy as np

from jepa_wm import envs
from jepa_wm.envs import host

OWN = os.environ.get('MISBEHAVES', '')
AT_STEP = 3


def once(name):
  """Whether this is the first process that asks; the folder remembers."""
  try:
    pathlib.Path(os.environ['MARKS'], name).touch(exist_ok=False)
  except FileExistsError:
    return False
  return True


def hang():
  if once('hung'):
    time.sleep(1e6)
  raise RuntimeError('a hang costs a minute, and was tried')


def fail(error):
  raise error


def grow():
  return np.ones((10**7, 10**7))


STEPS = {
  'raises': lambda: fail(RuntimeError('the motor is on fire')),
  'says nothing': lambda: fail(ValueError()),
  'raises lines': lambda: fail(ValueError('one\n' * 50)),
  'leaves': lambda: fail(SystemExit(3)),
  'is interrupted': lambda: fail(KeyboardInterrupt()),
  'dies': lambda: os._exit(3),
  'ends well': lambda: os._exit(0),
  'is killed': lambda: os.kill(os.getpid(), signal.SIGKILL),
  'aborts': os.abort,
  'hangs': hang,
  'is too large': grow,
  'rewards by text': lambda: 'a lot',
  'rewards without end': lambda: float('inf'),
  'rewards an array': lambda: np.zeros(3),
}
"""What a step does in place of its own."""

VECTORS = {
  'nan': lambda vector: vector * np.nan,
  'infinite': lambda vector: vector / 0.0,
  'longer': lambda vector: np.append(vector, [0.0, 0.0]),
  'text': lambda vector: np.array(['x', 'y', 'z']),
  'objects': lambda vector: np.array([None] * 3),
  'nothing': lambda vector: None,
}
"""What becomes of the state."""

PICTURES = {
  'floats': lambda: np.zeros((16, 16, 3)),
  'grey': lambda: np.zeros((16, 16), np.uint8),
  'empty': lambda: np.zeros((0, 16, 3), np.uint8),
  'no picture': lambda: None,
  'a picture that is text': lambda: 'a picture',
}
"""What is seen."""

FEELINGS = {
  'feels nan': lambda: np.full(2, np.nan),
  'feels more': lambda: np.zeros(7),
}

HARMLESS = {
  'prints': lambda: print('x' * 10_000, flush=True),
  'moves': lambda: os.chdir('/'),
  'draws a lot': lambda: None,
  'closes badly': lambda: None,
  'threads': lambda: None,
}
"""What costs nothing."""

KINDS = [
  name
  for both in zip([*STEPS, *VECTORS, *PICTURES, *FEELINGS], [''] * 100)
  for name in both
] + [*HARMLESS]
"""By the number in the state; every second behaves."""

DEADLY = (
  *('leaves', 'is interrupted', 'dies', 'ends well', 'is killed', 'aborts'),
  'hangs',
)
"""What costs a process, seconds to start again: episodes alone do it."""


class Row:
  """One row."""

  def __init__(self):
    self._count, self._place, self._kind = 0, np.zeros(2), ''
    self._is_spared = False

  def reset(self, seed):
    rng = np.random.default_rng(seed)
    self._begin(rng.uniform(1, 29, 2), KINDS[seed % len(KINDS)])
    self._is_spared = OWN == 'only problems'

  def place(self, vector):
    self._is_spared = KINDS[int(vector[2])] in DEADLY
    self._begin(vector[:2], KINDS[round(float(vector[2])) % len(KINDS)])

  def step(self, action):
    self._count += 1
    self._place = np.clip(self._place + action, 0.0, 30.0)
    if not self._is_on:
      return 0.0
    if self._kind in STEPS:
      return STEPS[self._kind]()
    if self._kind in HARMLESS:
      HARMLESS[self._kind]()
    return 0.0

  def render(self):
    if self._is_on and self._kind in PICTURES:
      return PICTURES[self._kind]()
    side = 2048 if self._kind == 'draws a lot' else 16
    return np.full((side, side, 3), int(self._place[0] * 8), np.uint8)

  def vector(self):
    found = np.append(self._place, KINDS.index(self._kind))
    with np.errstate(all='ignore'):
      is_other = self._is_on and self._kind in VECTORS
      return VECTORS[self._kind](found) if is_other else found

  def proprio(self):
    if self._is_on and self._kind in FEELINGS:
      return FEELINGS[self._kind]()
    return self._place

  def close(self):
    if self._kind == 'closes badly':
      raise RuntimeError('closed already')

  @property
  def _is_on(self):
    return self._count == AT_STEP and not self._is_spared

  def _begin(self, place, kind):
    self._count, self._place, self._kind = 0, np.array(place), kind


def distance(vectors, goals):
  found = np.linalg.norm((np.asarray(vectors) - goals)[..., :2], axis=-1)
  return {
    'distance raises': lambda: fail(RuntimeError('no ruler')),
    'distance is one number': lambda: np.float64(1.0),
    'distance is nan': lambda: found * np.nan,
    'distance is text': lambda: 'far',
    'distance is none': lambda: None,
  }.get(OWN, lambda: found)()


def success(vectors, goals):
  found = np.linalg.norm((np.asarray(vectors) - goals)[..., :2], axis=-1) < 0.5
  return {
    'success raises': lambda: fail(KeyError('who knows')),
    'success is none': lambda: None,
    'success is longer': lambda: np.zeros(7, bool),
  }.get(OWN, lambda: found)()


def draw_target(rng, vector):
  found = np.append(30.0 - vector[:2] + rng.normal(size=2), vector[2])
  return {
    'target raises': lambda: fail(TypeError('no target')),
    'target is nan': lambda: found * np.nan,
    'target is short': lambda: found[:1],
    'target is none': lambda: None,
  }.get(OWN, lambda: found)()


def begin(action_noise, wanders, rng, target):
  def act(vector, proprio):
    way = np.clip(target[:2] - vector[:2], -0.3, 0.3)
    way = way + action_noise * rng.normal(size=2)
    return {
      'policy raises': lambda: fail(ZeroDivisionError('division by zero')),
      'policy is nan': lambda: way * np.nan,
      'policy is short': lambda: way[:1],
      'policy is none': lambda: None,
    }.get(OWN, lambda: way)()

  return act


def open_row():
  return {
    'open raises': lambda: fail(OSError('no licence')),
    'open leaves': lambda: os._exit(4),
    'open is none': lambda: None,
  }.get(OWN, Row)()


def make(image_size=16):
  if OWN == 'make raises':
    fail(RuntimeError('no world today'))
  if OWN == 'make is none':
    return None
  return host.HostWorld(
    open=(lambda: Row()) if OWN == 'open is a lambda' else open_row,
    image_size=image_size,
    action_low=np.full(2, -np.nan if OWN == 'bounds are nan' else -1.0),
    action_high=np.full(3 if OWN == 'bounds differ' else 2, 1.0),
    vector_dim=3,
    proprio_dim=2,
    distance=distance,
    success=success,
    draw_target=draw_target,
    gives_reward=True,
  )


WHOLE = (
  *('distance raises', 'distance is one number', 'distance is nan'),
  *('distance is text', 'distance is none', 'success raises'),
  *('success is none', 'success is longer', 'target raises', 'target is nan'),
  *('target is short', 'target is none', 'policy raises', 'policy is nan'),
  *('policy is short', 'policy is none', 'open raises', 'open leaves'),
  *('open is none', 'make raises', 'make is none', 'open is a lambda'),
  *('bounds are nan', 'bounds differ'),
)
"""What `MISBEHAVES` may be."""

envs.register(
  'misbehaving',
  envs.World(
    make=make,
    policies=host.heading(begin),
    place=lambda vectors: vectors[..., :2] / 30.0,
    state_names=('x', 'y', 'kind'),
    unit='steps',
    on_host=True,
  ),
)
