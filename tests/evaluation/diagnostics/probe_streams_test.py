import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import (
  probe_streams,
  probe_training,
  representations,
)
from jepa_wm.networks import probes
from jepa_wm.recipes import probe_data


def _mapped(tmp_path, array):
  path = tmp_path / f'{len([*tmp_path.iterdir()])}.npy'
  np.save(path, array)
  return np.load(path, mmap_mode='r')


def test_probes_learn_the_same_off_a_disk(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  splits = {}
  for name, count in (('train', 300), ('validation', 40), ('held_out', 40)):
    tokens = 3 + rng.normal(size=(count, 2, 5)).astype(np.float32)
    states = tokens.mean(1) @ np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    splits[name] = tokens, jnp.asarray(states)
  # A chunk holds three batches: the steps are cut to fit.
  monkeypatch.setattr(probe_streams, '_CHUNK_BYTES', 3 * 16 * 2 * 5 * 4)
  outcomes = []
  for place in (jnp.asarray, lambda x: _mapped(tmp_path, x)):
    outcomes.append(
      probe_training.train(
        probes.PooledProbe(features=1),
        {
          name: probe_training.Examples(place(tokens), states)
          for name, (tokens, states) in splits.items()
        },
        target_names=('x',),
        training=probe_training.Training(
          learning_rates=(1e-2,),
          weight_decays=(0.0,),
          num_steps=70,
          batch_size=16,
        ),
      )
    )
  one, other = outcomes
  assert one.scores['x']['r2'] > 0.5
  for name, score in one.scores['x'].items():
    assert other.scores['x'][name] == pytest.approx(score, rel=1e-3)
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, one.params, other.params)


def test_no_more_is_read_at_once_than_asked_for(tmp_path, monkeypatch):
  tokens = _mapped(tmp_path, np.arange(40.0, dtype=np.float32)[:, None, None])
  monkeypatch.setattr(probe_streams, '_CHUNK_BYTES', 2 * 8 * 4)
  key, targets = jax.random.key(1), jnp.arange(40)
  found = [
    *probe_streams.parts(
      tokens, targets, key, num_steps=5, batch_size=8, num_chunks=1
    )
  ]
  assert [(first, end) for first, end, _, _ in found] == [
    (0, 1),
    (1, 3),
    (3, 5),
  ]
  for first, end, held, wanted in found:
    assert len(held) == 16
    np.testing.assert_array_equal(held[:, 0, 0], wanted)
    for number in range(end - first):
      rows = probe_streams.rows_of(key, first + number, 8, 40)
      np.testing.assert_array_equal(wanted[8 * number : 8 * number + 8], rows)


def test_statistics_and_faults_are_found_block_by_block(tmp_path):
  rng = np.random.default_rng(0)
  tokens = 100 + rng.normal(size=(600, 2, 3)).astype(np.float32)
  tokens[..., 1] = 7.0
  wanted = probe_streams.statistics_of(jnp.asarray(tokens))
  found = probe_streams.statistics_of(_mapped(tmp_path, tokens))
  for one, other in zip(found, wanted):
    assert one.shape == other.shape == (1, 1, 3)
    np.testing.assert_allclose(one, other, rtol=1e-4)
  assert found[1][0, 0, 1] == 1.0
  tokens[599, 1, 2] = np.nan
  with pytest.raises(ValueError, match='tokens must be finite'):
    probe_training.Examples(_mapped(tmp_path, tokens), jnp.zeros((600, 1)))


def test_many_tokens_are_written_and_mapped(tmp_path, monkeypatch):
  clips = {'pixels': np.arange(5 * 4 * 3.0, dtype=np.float32).reshape(5, 4, 3)}
  collect = lambda file: representations.collect(
    lambda seen: seen['pixels'], clips, batch_size=2, file=file
  )
  file = tmp_path / 'tokens.npy'
  assert isinstance(collect(file), jax.Array) and not file.exists()
  monkeypatch.setattr(representations, 'IN_MEMORY', 100)
  found = collect(file)
  assert isinstance(found, np.memmap)
  np.testing.assert_array_equal(found, clips['pixels'])
  monkeypatch.setattr(
    representations.shutil,
    'disk_usage',
    lambda path: type('Usage', (), {'free': 10}),
  )
  with pytest.raises(OSError, match='tokens of 5 clips take'):
    collect(tmp_path / 'other.npy')


def test_more_clips_than_memory_are_refused_before_any_is_made():
  with pytest.raises(
    ValueError, match=r'num_train=99,999,999,999 clips of 1 frames of 64 pixels'
  ):
    probe_data.load(
      'two_room',
      {'train': 99_999_999_999, 'validation': 2, 'held_out': 2},
      image_size=64,
      num_frames=1,
      frame_stride=1,
      seed=0,
    )
