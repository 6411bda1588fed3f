import types

import numpy as np
import pytest

from jepa_wm.data import config as data_config
from jepa_wm.data import episodes
from jepa_wm.recipes import clips, sources


def _source(**fields):
  pixels = types.SimpleNamespace(shape=(16, 16, 3))
  model = types.SimpleNamespace(
    acting=None, observation_spec={'pixels': pixels}, stride=1
  )
  data = data_config.DataConfig(
    num_frames=2, batch_size=4, num_eval_windows=6, **fields
  )
  return sources.open_source(data, model)


def test_digits_are_a_source():
  source = _source(source='digits', num_digits=2, background='noise')
  first, second = source.some_batches('train', 3)
  assert first['observation']['pixels'].shape == (4, 2, 16, 16, 3)
  assert first['state'].shape == (4, 2, 4)
  stream = source.batches('train', 3)
  next(stream)
  np.testing.assert_array_equal(
    next(stream)['observation']['pixels'], second['observation']['pixels']
  )
  held_out = source.some_batches('held_out', 3)[0]
  assert not np.array_equal(held_out['state'], first['state'])


def test_doors(monkeypatch, tmp_path):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  with pytest.raises(FileNotFoundError, match=r"'absent' at .*TFDS_DATA_DIR"):
    _source(source='tfds:absent')
  config = types.SimpleNamespace(name='acts')
  model = types.SimpleNamespace(acting=True, config=config)
  with pytest.raises(ValueError, match='has no actions, and acts learns from'):
    clips.check_no_actions('digits', model)
  with pytest.raises(ValueError, match="tfds:NAME, got 'tfds'"):
    data_config.DataConfig(source='tfds')


def test_what_the_model_does_not_look_at_is_not_read(tmp_path):
  """A second camera, proprioception and the state lie beside the pixels."""
  rng = np.random.default_rng(0)
  episode = episodes.Episode(
    columns={
      'observation/pixels': rng.integers(0, 256, (5, 16, 16, 3), np.uint8),
      'observation/pixels_wrist': np.zeros((5, 16, 16, 3), np.uint8),
      'observation/proprio': np.zeros((5, 3), np.float32),
      'action': rng.normal(size=(4, 2)).astype(np.float32),
      'reward': np.zeros(4, np.float32),
      'state': np.zeros((5, 2), np.float32),
    }
  )
  path = tmp_path / 'data'
  episodes.write_episodes(
    path, [episode] * 8, provenance={}, held_out_fraction=0.5
  )
  source = _source(source='cache', path=str(path))
  batch = next(source.batches('train', 0))
  assert set(batch) == {'observation', 'action', 'reward'}
  assert set(batch['observation']) == {'pixels'}
  assert 'state' in source.some_batches('train', 0)[0]
