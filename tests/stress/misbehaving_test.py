"""Worlds of users that misbehave: an episode each, or one sentence."""

import json
import pathlib
import random

import pytest

from jepa_wm.data import episodes
from tests.stress import misbehaving

OWN = f'--import={pathlib.Path(misbehaving.__file__)}'
PLAYED = (
  *('--environment=misbehaving', '--image_size=16', '--episode_length=6'),
  *('--min_episode_length=1', '--held_out_fraction=0.25'),
)
PLANNED = (
  *('--checkpoint=model', '--environment=misbehaving', '--diagnostics='),
  *('--num_samples=4', '--num_elites=2', '--num_iterations=1'),
)


@pytest.fixture
def place(things, tmp_path):
  (tmp_path / 'model').symlink_to(things / 'model')
  (tmp_path / 'marks').mkdir()
  return {
    'cwd': tmp_path,
    'timeout': 300,
    'env': {'MARKS': str(tmp_path / 'marks'), 'HOME': str(tmp_path)},
  }


def said(ended):
  """Why episodes broke, without those that share a reason."""
  lines = [x for x in ended.out.splitlines() if ' broke: ' in x]
  return {x.partition(' broke: ')[2] for x in lines}


@pytest.mark.stress
def test_what_a_world_does_costs_its_own_episode(forks, place):
  """Of 120 that are played; every way to misbehave comes once at least."""
  ended = forks.run(
    'experiments.collect', OWN, *PLAYED, '--num_episodes=120', '--out=out',
    **place,
  )  # fmt: skip
  assert ended.code == 0 and not ended.has_traceback, ended.err[-3000:]
  reasons = said(ended)
  for sign in (
    *('motor is on fire', 'exit code 3', 'exit code 0', 'exit code -9'),
    *('exit code -6', 'within 60 s', 'MemoryError', 'could not convert'),
    *('inf', 'nan', 'render must give uint8', 'render gave no picture'),
  ):
    assert any(sign in x for x in reasons), (sign, reasons)
  assert all('\n' not in x and len(x) < 300 for x in reasons)
  split = episodes.open_splits(place['cwd'] / 'out')
  kept = [x for source in split.values() for x in source]
  assert len(kept) == 120
  bad = {*misbehaving.STEPS, *misbehaving.VECTORS}
  for episode in kept:
    kinds = {misbehaving.KINDS[int(x)] for x in episode.columns['state'][:, 2]}
    length = len(episode.columns['action'])
    assert not kinds & bad or length < misbehaving.AT_STEP, (kinds, length)


@pytest.mark.stress
def test_a_problem_that_breaks_is_lost(forks, place):
  """Of twelve, every second of which breaks, in a way of its own."""
  place['env']['MISBEHAVES'] = 'only problems'
  ended = forks.run(
    'experiments.plan', OWN, *PLANNED, '--num_pairs=12', '--out=out', **place
  )
  assert ended.code == 0 and not ended.has_traceback, ended.err[-3000:]
  (result,) = json.loads((place['cwd'] / 'out/results.json').read_text())
  assert 1 <= result['num_failed'] < result['num_pairs'] == 12


@pytest.mark.stress
@pytest.mark.parametrize('door', ['collect', 'plan'])
def test_what_all_of_a_world_does_is_a_sentence(forks, place, door):
  """Of 24 for each; four of planning, which opens the same worlds."""
  argv = {
    'collect': (*PLAYED, '--num_episodes=4', '--out=out'),
    'plan': (*PLANNED, '--num_pairs=2', '--out=out'),
  }[door]
  found = []
  most = {'collect': 12, 'plan': 4}[door]
  for name in random.Random(door).sample(misbehaving.WHOLE, most):
    folder = place['cwd'] / name.replace(' ', '_')
    folder.mkdir()
    (folder / 'model').symlink_to(place['cwd'] / 'model')
    env = {**place['env'], 'MISBEHAVES': name}
    given = {**place, 'cwd': folder, 'env': env}
    ended = forks.run(f'experiments.{door}', OWN, *argv, **given)
    is_one = ended.code == 1 and ended.sentence and not ended.has_traceback
    whole = ended.code == 0 and not ended.has_traceback
    if not (is_one or whole) or len(ended.sentence) > 1000:
      found.append(f'{name}: {ended.code} {ended.err[-1500:]}')
    print(f'{name}: {ended.code} {ended.sentence} ({ended.seconds:.1f} s)')
  assert not found, '\n'.join(found)


def test_a_file_of_ones_own_that_fails_is_named(forks, place):
  """The line of `--import` is said, not a traceback."""
  env = {**place['env'], 'MISBEHAVES': 'make raises'}
  given = {**place, 'env': env}
  ended = forks.run('experiments.collect', OWN, *PLAYED, **given)
  assert ended.code == 1 and not ended.has_traceback, ended.err
  assert 'misbehaving.py, line ' in ended.sentence
  assert ended.sentence.endswith('RuntimeError: no world today.')
