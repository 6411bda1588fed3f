import dataclasses
import math

import jax
import numpy as np
import pytest

from jepa_wm import envs
from jepa_wm.data import cache as cache_lib
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.recipes import collecting, making

RECIPE = collecting.Collecting(
  num_episodes=10,
  episode_length=12,
  min_episode_length=5,
  image_size=16,
  policy='mixture',
  mixture={'expert': 1.0, 'smooth': 2.0},
  seed=7,
)


@pytest.fixture(scope='module')
def out(tmp_path_factory):
  path = tmp_path_factory.mktemp('collect') / 'two_room'
  counts = collecting.collect(
    RECIPE, path, held_out_fraction=0.2, progress=False
  )
  assert counts == {'train': 8, 'held_out': 2}
  return path


def test_episodes_are_plays_of_the_world(out):
  world = envs.TwoRoom(image_size=16)
  step, render = jax.jit(world.step), jax.jit(world.render)
  policies = set()
  for source in episodes_lib.open_splits(out).values():
    for episode in source:
      assert 6 <= len(episode.pixels) <= 13
      assert episode.is_terminal or len(episode.pixels) == 13
      assert np.abs(episode.actions).max() <= 1.0
      policies.add(episode.provenance['policy'])
      state = world.reset(jax.random.key(0))
      state = dataclasses.replace(state, position=episode.columns['state'][0])
      np.testing.assert_array_equal(episode.pixels[0], render(state))
      for t, action in enumerate(episode.actions):
        state = step(state, action)
        np.testing.assert_allclose(
          episode.columns['state'][t + 1], state.position, atol=1e-3
        )
      difference = episode.pixels[-1].astype(int) - render(state)
      assert np.abs(difference).max() <= 1
  assert policies == {'expert', 'smooth'}


def test_the_cache_is_that_of_the_episodes(out, tmp_path):
  collected = {
    split: cache_lib.open_cache(out, split=split)
    for split in ('train', 'held_out')
  }
  before = {
    name: cache.columns['observation/pixels'][:].copy()
    for name, cache in collected.items()
  }
  cache_lib.build_cache(out)
  for split, cache in collected.items():
    again = cache_lib.open_cache(out, split=split)
    np.testing.assert_array_equal(
      again.columns['observation/pixels'], before[split]
    )
    np.testing.assert_array_equal(
      again.columns['action'], cache.columns['action']
    )
    np.testing.assert_array_equal(
      again.action_statistics.std, cache.action_statistics.std
    )


def test_provenance_says_how_to_play_it_again(out):
  provenance = episodes_lib.open_episodes(out).provenance
  assert provenance['environment'] == 'two_room'
  assert provenance['environment_parameters']['wall_thickness'] == 10
  assert provenance['environment_parameters']['image_size'] == 16
  assert collecting.Collecting(**provenance['recipe']) == RECIPE
  assert cache_lib.open_cache(out).provenance == provenance


@pytest.mark.slow
def test_the_batch_size_changes_no_episode(monkeypatch):
  whole = list(collecting.played_episodes(RECIPE))
  monkeypatch.setattr(collecting, '_BATCH_BYTES', 3 * 13 * 16 * 16 * 3)
  parts = list(collecting.played_episodes(RECIPE))
  assert len(whole) == len(parts) == 10
  for a, b in zip(whole, parts, strict=True):
    assert a.provenance == b.provenance
    assert a.is_terminal == b.is_terminal
    np.testing.assert_array_equal(a.actions, b.actions)
    np.testing.assert_array_equal(a.pixels, b.pixels)
  assert len({episode.provenance['index'] for episode in whole}) == 10


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
  def interrupted(recipe):
    yield from list(played(recipe))[:3]
    raise KeyboardInterrupt

  played = collecting.played_episodes
  monkeypatch.setattr(collecting, 'played_episodes', interrupted)
  with pytest.raises(KeyboardInterrupt):
    collecting.collect(RECIPE, tmp_path / 'x', progress=False)
  assert list(tmp_path.iterdir()) == []


def killed(*arguments):
  raise SystemExit  # Whose clean-up is what a kill leaves out.


def test_what_has_come_there_in_between_stays(tmp_path):
  few = dataclasses.replace(RECIPE, num_episodes=4)
  theirs = tmp_path / 'out' / 'of_others'
  come = lambda: theirs.mkdir(parents=True, exist_ok=True)
  with pytest.raises(FileExistsError, match='is there already'):
    collecting.collect(few, tmp_path / 'out', progress=False, check_fn=come)
  assert sorted(tmp_path.rglob('*')) == [tmp_path / 'out', theirs]


@pytest.mark.parametrize('placed', [False, True])
def test_a_collection_that_was_killed_at_its_end_goes_on(
  tmp_path, monkeypatch, placed
):
  few = dataclasses.replace(RECIPE, num_episodes=4)
  out = tmp_path / 'out'
  put_folder = making.files.put_folder

  def put(source, destination):
    if not placed:
      killed()
    put_folder(source, destination)

  with monkeypatch.context() as patched:
    patched.setattr(making.files, 'put_folder', put)
    patched.setattr(
      making.Making, 'clear', lambda made: killed() if out.exists() else None
    )
    with pytest.raises(SystemExit):
      collecting.collect(few, out, progress=False)
  assert (tmp_path / '.out.collect.json').exists() and placed == out.exists()
  with monkeypatch.context() as patched:
    patched.setattr(collecting, 'played_episodes', killed)
    counts = collecting.collect(few, out, progress=False)
  assert counts == {'train': 3, 'held_out': 1}
  assert cache_lib.open_cache(out)
  assert [x.name for x in tmp_path.iterdir()] == ['out']
  with pytest.raises(FileExistsError, match='is there already'):
    collecting.collect(few, out, progress=False)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'policy': 'mixtur'}, "random, smooth, mixture, .* mean 'mixture'"),
    (
      {'policy': 'mixture', 'mixture': {'experts': 1.0}},
      "mixture must be one of expert, random, smooth, .* mean 'expert'",
    ),
    (
      {'policy': 'expert', 'mixture': {'smooth': 1.0}},
      "means nothing for policy 'expert'",
    ),
    ({'environment': 'three_room'}, "one of .*two_room.*, got 'three_room'"),
    (
      {'policy': 'mixture', 'mixture': {'expert': 0.0}},
      'positive, finite odds, got expert=0',
    ),
    ({'policy': 'mixture', 'mixture': {}}, 'at least one policy'),
    ({'min_episode_length': 13}, 'min_episode_length is 13'),
    ({'num_episodes': 0}, 'num_episodes must be at least 1, got 0'),
    ({'action_noise': -1.0}, 'action_noise must be at least 0 and at most'),
    ({'action_noise': math.inf}, 'action_noise must be at least 0'),
    (
      {'policy': 'mixture', 'mixture': {'expert': math.inf}},
      'finite odds, got expert=inf',
    ),
    ({'num_episodes': 2.5}, 'num_episodes must be a whole number, got 2.5'),
    ({'seed': 2**63}, r'seed must be at most 9223372036854775807'),
  ],
)
def test_recipe_refuses(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(RECIPE, **fields)


def test_noise_that_nobody_has_is_refused():
  with pytest.raises(ValueError, match='action_noise=3 would do nothing'):
    collecting.Collecting(policy='random', action_noise=3)
  plain = collecting.Collecting(policy='random')
  assert dataclasses.replace(plain, seed=1).action_noise is not None
