import pathlib

import numpy as np
import pytest

from jepa_wm import models, recipes
from jepa_wm.data import config
from jepa_wm.recipes import frame_latents, sources
from tests import small_model


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp('latents') / 'episodes'
  recipe = recipes.Collecting(num_episodes=12, episode_length=30, image_size=16)
  recipes.collect(recipe, path, progress=False)
  return sources.Episodes(
    config.DataConfig(path=str(path)), models.from_config(small_model.CONFIG)
  )


@pytest.fixture
def encode():
  """Means of the channels, and how often it was asked."""
  calls = []

  def encode(seen):
    calls.append(len(seen['pixels']))
    return seen['pixels'].mean(axis=(1, 2)).astype(np.float32)

  encode.calls = calls
  return encode


def test_frames_are_encoded_once_and_lie_beside_the_episodes(source, encode):
  found = frame_latents.of_frames(source, 'train', encode, ['a'])
  pixels = source.split('train').columns['observation/pixels']
  frames = np.arange(len(found))
  np.testing.assert_allclose(found, pixels[frames].mean(axis=(1, 2)), rtol=1e-6)
  count = len(encode.calls)
  again = frame_latents.of_frames(source, 'train', encode, ['a'])
  assert len(encode.calls) == count
  assert isinstance(again, np.memmap) and np.array_equal(again, found)
  # Another encoder, and another split, are others.
  frame_latents.of_frames(source, 'train', encode, ['b'])
  frame_latents.of_frames(source, 'held_out', encode, ['a'])
  folder = pathlib.Path(source.path) / 'latents'
  assert len(list(folder.iterdir())) == 3


def test_a_killed_encoding_leaves_nothing(source, encode):
  def stops(seen):
    encode(seen)
    raise KeyboardInterrupt

  folder = pathlib.Path(source.path) / 'latents'
  folder.mkdir(exist_ok=True)
  before = sorted(folder.iterdir())
  with pytest.raises(KeyboardInterrupt):
    frame_latents.of_frames(source, 'train', stops, ['c'])
  assert sorted(folder.iterdir()) == before


def test_episodes_that_cannot_be_written_beside_are_encoded_in_memory(
  source, encode, monkeypatch
):
  monkeypatch.setattr(frame_latents.os, 'access', lambda path, mode: False)
  found = frame_latents.of_frames(source, 'train', encode, ['d'])
  assert not isinstance(found, np.memmap)
  assert len(found) == source.split('train').num_frames


def test_latents_that_are_cut_off_are_named(source, encode):
  frame_latents.of_frames(source, 'train', encode, ['e'])
  folder = pathlib.Path(source.path) / 'latents'
  newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
  file = newest / 'latents.npy'
  file.write_bytes(file.read_bytes()[:-8])
  with pytest.raises(ValueError, match=r'is damaged .*; remove it, and'):
    frame_latents.of_frames(source, 'train', encode, ['e'])
