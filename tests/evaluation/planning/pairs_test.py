import dataclasses
import json

import jax
import numpy as np
import pytest

from jepa_wm.data import episodes as episodes_lib
from jepa_wm.envs import rooms, two_room, two_room_expert, worlds
from jepa_wm.evaluation.planning import (
  manifests,
  pair_making,
  pairs,
  protocol,
)

PLAYED = [p for p in protocol.PROTOCOLS.values() if p.origin == 'held-out']


def _positions(found):
  return np.asarray(found.starts.position), np.asarray(found.goals.position)


@pytest.mark.parametrize('named', PLAYED, ids=lambda p: p.name)
def test_shipped_pairs_are_unsolved_independent_and_reachable(named):
  found = pairs.load_pairs(named, pair_making.MANIFEST_PAIRS)
  starts, goals = _positions(found)
  assert len(found) == len(set(found.ids.tolist())) == 200
  distance = np.linalg.norm(starts - goals, axis=-1)
  assert distance.min() >= rooms.SUCCESS_DISTANCE
  assert distance.max() <= named.goal_offset * 5.0 * np.sqrt(2.0)
  # The peers' noisy expert gets about as far as this, and through the door.
  assert 30 < distance.mean() < 120
  crossing = (starts[:, 0] > 112) != (goals[:, 0] > 112)
  assert 0.02 < crossing.mean() < 0.6


def test_the_first_pairs_are_the_same_for_any_number():
  few, many = (pairs.load_pairs(protocol.SHORT, n) for n in (3, 30))
  np.testing.assert_array_equal(few.ids, many.ids[:3])
  np.testing.assert_array_equal(
    _positions(few), np.array(_positions(many))[:, :3]
  )
  assert few.manifest_sha256 == many.manifest_sha256


def _check_same(found, others):
  """Of the same episodes; where a body is, compilers round as they like."""
  for one, other in zip(found, others, strict=True):
    assert (one['episode'], one['start']) == (other['episode'], other['start'])
    for state in ('start_state', 'goal_state'):
      np.testing.assert_allclose(one[state], other[state], atol=1e-2)


@pytest.mark.parametrize(
  'named',
  [
    protocol.SHORT,
    pytest.param(protocol.LONG, marks=pytest.mark.slow),
    protocol.RANDOM_PAIRS,
    pytest.param(protocol.HORIZONS[-1], marks=pytest.mark.slow),
  ],
  ids=lambda p: p.name,
)
def test_generating_again_gives_the_shipped_states(named):
  shipped = json.loads(manifests.shipped_path(named).read_text())
  made = pair_making.generate(named)
  assert made['recipe'] == shipped['recipe']
  for key in ('episodes_played', 'episodes_too_short', 'pairs_solved_at_start'):
    assert made[key] == shipped[key]
  _check_same(made['pairs'], shipped['pairs'])


@pytest.mark.slow
def test_solved_starts_are_dropped_and_nothing_else_is():
  everything = dataclasses.replace(protocol.SHORT, drop_solved=False)
  kept = pair_making.generate(everything, 100)['pairs']
  distances = [
    np.linalg.norm(np.subtract(p['start_state'], p['goal_state'])) for p in kept
  ]
  unsolved = [p for p, d in zip(kept, distances) if d >= 16.0]
  assert 0 < len(kept) - len(unsolved) < 20
  shipped = json.loads(manifests.shipped_path(protocol.SHORT).read_text())[
    'pairs'
  ]
  _check_same(unsolved, shipped[: len(unsolved)])


def test_random_pairs_stand_where_the_world_lets_them():
  found = pairs.load_pairs(protocol.RANDOM_PAIRS, 200)
  starts, goals = _positions(found)
  assert np.linalg.norm(starts - goals, axis=-1).min() >= 16.0
  # A target in the wall has been moved to its face, and out of the border.
  assert np.all((goals >= 21) & (goals <= 203))
  assert np.all((np.abs(goals[:, 0] - 112) >= 12) | (goals[:, 1] < 65))
  crossing = (starts[:, 0] > 112) != (goals[:, 0] > 112)
  assert 0.4 < crossing.mean() < 0.6


def test_goals_of_detours_look_near_and_are_not():
  found = pair_making.generate(protocol.DETOUR, 20)['pairs']
  starts, goals = (
    jax.vmap(two_room.TwoRoom().from_vector)(np.array([p[x] for p in found]))
    for x in ('start_state', 'goal_state')
  )
  way = jax.vmap(two_room_expert.path_length, in_axes=(None, 0, 0))
  lengths = way(two_room.TwoRoom(), starts, goals)
  straight = np.linalg.norm(starts.position - goals.position, axis=-1)
  assert np.all(lengths >= 2 * straight)
  # All of them are through the door.
  crossing = (starts.position[:, 0] > 112) != (goals.position[:, 0] > 112)
  assert np.all(crossing)


@pytest.mark.parametrize(
  ('environment', 'detour', 'message'),
  [
    ('push_t', 2.0, "nobody knows in 'push_t'"),
    ('two_room', 30.0, 'choose a smaller detour'),
  ],
)
def test_detours_that_there_are_none(environment, detour, message):
  named = protocol.get('detour', environment=environment, detour=detour)
  with pytest.raises(ValueError, match=message):
    pair_making.generate(named, 3)


def test_what_does_not_ship_is_made_once_and_kept(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  other = dataclasses.replace(protocol.RANDOM_PAIRS, name='mine', pair_seed=8)
  made = pairs.load_pairs(other, 5)
  (file,) = (tmp_path / 'jepa_wm' / 'manifests').iterdir()
  assert file == manifests.cached_path(other)
  monkeypatch.setattr(pair_making, 'generate', None)
  again = pairs.load_pairs(other, 5)
  assert again.manifest_sha256 == made.manifest_sha256
  np.testing.assert_array_equal(_positions(again), _positions(made))
  moved = dataclasses.replace(other, pair_seed=9)
  assert manifests.cached_path(moved) != file
  # A world whose player is written elsewhere is another world.
  mine = dataclasses.replace(
    worlds.get('two_room'), policies={'expert': lambda env, noise: None}
  )
  monkeypatch.setitem(worlds.WORLDS, 'two_room', mine)
  assert manifests.cached_path(other) != file


LENGTHS = (30, 26, 25, 60, 101, 40, 33)


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
  """Episodes whose state says where it is: episode number, then step."""
  path = tmp_path_factory.mktemp('pairs') / 'archive'

  def play(index, length):
    state = np.stack([np.full(length, 50.0 + index), np.arange(length)], axis=1)
    return episodes_lib.Episode(
      columns={
        'action': np.zeros((length - 1, 2), np.float32),
        'state': state.astype(np.float32),
      }
    )

  episodes_lib.write_episodes(
    path,
    [play(*both) for both in enumerate(LENGTHS)],
    provenance={'environment': 'two_room', 'recipe': {'seed': 3}},
    held_out_fraction=0.4,
  )
  return path


def _states(path, split):
  source = episodes_lib.open_episodes(path, split=split)
  return [episode.columns['state'] for episode in source]


def test_swm_v1_draws_rows_as_the_peer_does(archive):
  """Its script in a few lines: rows of all episodes under one another."""
  rows = [
    (step, len(episode), episode[step], episode)
    for episode in _states(archive, 'train')
    for step in range(len(episode))
  ]
  valid = np.flatnonzero([step <= length - 25 - 1 for step, length, *_ in rows])
  drawn = np.random.default_rng(42).choice(len(valid) - 1, 12, replace=False)
  chosen = np.sort(valid[drawn])
  found = pairs.from_archive(protocol.get('swm-v1', num_pairs=12), archive)
  starts, goals = _positions(found)
  assert found.ids.tolist() == chosen.tolist()
  for row, start, goal in zip(chosen, starts, goals):
    step, _, state, episode = rows[row]
    np.testing.assert_array_equal(start, state)
    np.testing.assert_array_equal(goal, episode[step + 25])


def test_held_out_episodes_give_one_pair_each(archive):
  short = protocol.get('short', num_pairs=2)
  found = pairs.from_archive(short, archive)
  starts, goals = _positions(found)
  held_out = _states(archive, 'held_out')
  assert [len(episode) for episode in held_out] == [30, 25, 40]
  assert found.ids.tolist() == [0, 2]  # One is too short.
  np.testing.assert_array_equal(goals - starts, [[0.0, 25.0]] * 2)
  np.testing.assert_array_equal(
    starts[:, 0], [held_out[i][0, 0] for i in (0, 2)]
  )
  again = pairs.from_archive(short, archive)
  assert again.manifest_sha256 == found.manifest_sha256
  # At 15 steps every start lies within 16 px of its goal.
  near = protocol.get('short', num_pairs=2, goal_offset=15)
  with pytest.raises(ValueError, match='must be at most 0'):
    pairs.from_archive(near, archive)
  counted = dataclasses.replace(near, drop_solved=False)
  assert pairs.from_archive(counted, archive).initially_solved == 1.0


def test_archives_that_do_not_fit(archive):
  many = protocol.get('swm-v1', num_pairs=200)
  with pytest.raises(ValueError, match=r'must be at most 0, .* got 200'):
    pairs.from_archive(many, archive)
  with pytest.raises(ValueError, match='lie on no episode'):
    pairs.from_archive(protocol.RANDOM_PAIRS, archive)
  elsewhere = dataclasses.replace(protocol.SHORT, environment='push_t')
  with pytest.raises(ValueError, match=r"are of 'two_room' .* for 'push_t'"):
    pairs.from_archive(elsewhere, archive)


def test_the_shipped_pairs_of_swm_v1_are_a_draw_of_fifty():
  found = pairs.load_pairs(protocol.SWM_V1)
  assert len(found) == 50 and 0.05 < found.initially_solved < 0.25
  starts, goals = _positions(found)
  solved = np.linalg.norm(starts - goals, axis=-1) < 16.0
  assert solved.mean() == found.initially_solved
  with pytest.raises(ValueError, match=r'num_pairs must be 50, .*other draws'):
    pairs.load_pairs(protocol.SWM_V1, 20)
  other = dataclasses.replace(protocol.SWM_V1, name='swm-v2')
  with pytest.raises(ValueError, match='name the archive with --episodes'):
    pairs.load_pairs(other)


def test_no_collected_episode_is_one_of_the_pairs():
  """A start of the long pairs is a reset, as the start of any episode is."""
  starts, _ = _positions(pairs.load_pairs(protocol.LONG, 200))
  env = two_room.TwoRoom()

  @jax.jit
  def collected(seed):
    def reset(index):
      rng_key = jax.random.fold_in(jax.random.key(seed), index)
      return env.reset(jax.random.split(rng_key, 3)[0]).position

    return jax.vmap(reset)(np.arange(256))

  for seed in (0, protocol.LONG.pair_seed):
    gaps = np.abs(starts[:, None] - np.asarray(collected(seed))[None]).max(-1)
    assert gaps.min() > 1e-3


def test_decimals_read_back_as_the_same_float32(tmp_path):
  values = np.random.default_rng(0).uniform(0, 224, 500).astype(np.float32)
  text = json.dumps(manifests.decimals(values))
  np.testing.assert_array_equal(
    np.asarray(json.loads(text), np.float32), values
  )


def _write(path, change):
  manifest = json.loads(manifests.shipped_path(protocol.SHORT).read_text())
  change(manifest)
  path.write_text(json.dumps(manifest))
  return path


def test_a_changed_manifest_is_refused(tmp_path):
  def move_a_goal(manifest):
    manifest['pairs'][0]['goal_state'][0] += 1.0

  path = _write(tmp_path / 'm.json', move_a_goal)
  with pytest.raises(ValueError, match='does not have the hash'):
    pairs.load_pairs(protocol.SHORT, path=path)


def test_a_cut_off_manifest_is_refused(tmp_path):
  text = manifests.shipped_path(protocol.SHORT).read_text()
  path = tmp_path / 'm.json'
  path.write_text(text[: len(text) // 2])
  with pytest.raises(ValueError, match='may be cut off'):
    pairs.load_pairs(protocol.SHORT, path=path)


def test_a_missing_manifest_and_one_of_another_protocol(tmp_path):
  with pytest.raises(FileNotFoundError, match='manifest of protocol'):
    pairs.load_pairs(protocol.SHORT, path=tmp_path / 'none.json')
  other = dataclasses.replace(protocol.SHORT, action_noise=1.0)
  with pytest.raises(ValueError, match=r"they differ in \['action_noise'\]"):
    pairs.load_pairs(other)


@pytest.mark.parametrize('number', [0, 201])
def test_pairs_that_are_not_there(number):
  with pytest.raises(ValueError, match=r'num_pairs must lie in 1\.\.200'):
    pairs.load_pairs(protocol.SHORT, number)


@pytest.mark.parametrize(
  'path', sorted(manifests.SHIPPED.glob('*.json')), ids=lambda path: path.stem
)
def test_every_shipped_manifest_is_that_of_its_protocol(path):
  """Also where a world's expert has changed since it was made."""
  known = {
    manifests.shipped_path(protocol.get(name, environment=world)): (name, world)
    for name in protocol.PROTOCOLS
    for world in worlds.WORLDS
  }
  name, world = known[path]
  manifests.read(path, protocol.get(name, environment=world))
