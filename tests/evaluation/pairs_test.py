import dataclasses
import json

import jax
import numpy as np
import pytest

from jepa_wm.envs import two_room
from jepa_wm.evaluation import pairs, protocol

PROTOCOLS = list(protocol.PROTOCOLS.values())


def _positions(found):
  return np.asarray(found.starts.position), np.asarray(found.goals.position)


@pytest.mark.parametrize('named', PROTOCOLS, ids=lambda p: p.name)
def test_shipped_pairs_are_unsolved_independent_and_reachable(named):
  found = pairs.load_pairs(named, pairs.MANIFEST_PAIRS)
  starts, goals = _positions(found)
  assert len(found) == len(set(found.ids.tolist())) == 200
  distance = np.linalg.norm(starts - goals, axis=-1)
  assert distance.min() >= two_room.SUCCESS_DISTANCE
  assert distance.max() <= named.goal_offset * 5.0 * np.sqrt(2.0)
  # The peers' noisy expert gets about as far as this, and through the door.
  assert 30 < distance.mean() < 110
  crossing = (starts[:, 0] > 112) != (goals[:, 0] > 112)
  assert 0.1 < crossing.mean() < 0.6


def test_the_first_pairs_are_the_same_for_any_number():
  few, many = (pairs.load_pairs(protocol.SHORT, n) for n in (3, 30))
  np.testing.assert_array_equal(few.ids, many.ids[:3])
  np.testing.assert_array_equal(
    _positions(few), np.array(_positions(many))[:, :3]
  )
  assert few.manifest_sha256 == many.manifest_sha256


@pytest.mark.parametrize(
  'named',
  [
    protocol.SHORT,
    pytest.param(protocol.LONG, marks=pytest.mark.slow),
  ],
  ids=lambda p: p.name,
)
def test_generating_again_gives_the_shipped_states(named):
  shipped = json.loads(pairs.manifest_path(named).read_text())
  made = pairs.generate(named)
  assert made['recipe'] == shipped['recipe']
  for key in ('episodes_played', 'episodes_too_short', 'pairs_solved_at_start'):
    assert made[key] == shipped[key]
  for one, other in zip(made['pairs'], shipped['pairs'], strict=True):
    assert (one['episode'], one['start']) == (other['episode'], other['start'])
    for state in ('start_state', 'goal_state'):
      np.testing.assert_allclose(one[state], other[state], atol=1e-2)


@pytest.mark.slow
def test_solved_starts_are_dropped_and_nothing_else_is():
  everything = dataclasses.replace(protocol.SHORT, drop_solved=False)
  kept = pairs.generate(everything, 100)['pairs']
  distances = [
    np.linalg.norm(np.subtract(p['start_state'], p['goal_state'])) for p in kept
  ]
  unsolved = [p for p, d in zip(kept, distances) if d >= 16.0]
  assert 0 < len(kept) - len(unsolved) < 20
  shipped = json.loads(pairs.manifest_path(protocol.SHORT).read_text())['pairs']
  assert unsolved == shipped[: len(unsolved)]


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
  text = json.dumps(pairs._decimals(values))
  np.testing.assert_array_equal(
    np.asarray(json.loads(text), np.float32), values
  )


def _write(path, change):
  manifest = json.loads(pairs.manifest_path(protocol.SHORT).read_text())
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
  text = pairs.manifest_path(protocol.SHORT).read_text()
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
