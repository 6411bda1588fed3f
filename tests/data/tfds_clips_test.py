import io
import json
import os
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jepa_wm.data import tfds_clips

features = tfds.features


def _png(value, size=(20, 30), mode='RGB'):
  stream = io.BytesIO()
  PIL.Image.new(mode, size[::-1], value).save(stream, 'png')
  return stream.getvalue()


def _write(root, name, described, splits, version='1.0.0'):
  """A prepared dataset; videos are written as what TFDS stores them as."""
  path = root / name / version
  path.mkdir(parents=True)
  info = tfds.core.DatasetInfo(
    builder=tfds.core.DatasetIdentity(
      name=name.split('/')[0],
      version=tfds.core.Version(version),
      data_dir=os.fspath(path),
      module_name=__name__,
    ),
    description='',
    features=features.FeaturesDict(described),
  )
  writer = tfds.core.SequentialWriter(
    info, max_examples_per_shard=4, file_format='array_record'
  )
  writer.initialize_splits(list(splits))
  for split, examples in splits.items():
    writer.add_examples({split: examples})
  writer.close_all()
  return path


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  """Videos of 9 to 11 frames; frame t of video i has the colour (i, t, 0)."""
  root = tmp_path_factory.mktemp('tfds')
  frames = features.Sequence(features.Image(shape=(20, 30, 3)))
  path = _write(
    root,
    'walks',
    {'clip': frames, 'kind': features.ClassLabel(num_classes=5)},
    {
      split: [
        {
          'clip': [_png((first + i, 10 * t, 0)) for t in range(9 + i % 3)],
          'kind': i % 5,
        }
        for i in range(count)
      ]
      for split, first, count in (('train', 0, 10), ('test', 100, 6))
    },
  )
  file = path / 'features.json'
  described = json.loads(file.read_text())
  described['featuresDict']['features']['clip'] = {
    'pythonClassName': 'tensorflow_datasets.core.features.video_feature.Video',
    'video': {'shape': {'dimensions': ['-1', '20', '30', '3']}},
  }
  file.write_text(json.dumps(described))
  return root


@pytest.fixture
def dataset(videos, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(videos))
  return tfds_clips.find('walks')


def _clips(dataset, **options):
  options = {
    'split': 'train', 'image_size': 8, 'num_frames': 3, 'frame_stride': 2,
    'batch_size': 3, 'seed': 0, 'num_threads': 0,
  } | options  # fmt: skip
  return tfds_clips.tfds_clips(dataset, **options)


def test_a_clip_is_of_one_video_and_in_order(dataset):
  assert dataset.pixels == 'clip' and dataset.label == 'kind'
  assert dataset.num_classes == 5
  batches = _clips(dataset)
  seen, starts = [], set()
  for _ in range(30):
    batch = next(batches)
    pixels = np.asarray(batch['observation']['pixels'])
    assert pixels.shape == (3, 3, 8, 8, 3) and pixels.dtype == np.uint8
    assert batch['label'].dtype == np.int32
    which = pixels[:, :, 0, 0, 0]
    np.testing.assert_array_equal(np.ptp(which, axis=1), 0)
    np.testing.assert_array_equal(batch['label'], which[:, 0] % 5)
    times = pixels[..., 4, 4, 1].astype(int) // 10
    np.testing.assert_array_equal(np.diff(times, axis=1), 2)
    seen += list(which[:, 0])
    starts |= set(times[:, 0])
  # Every video of the first nine tenths once per epoch, at every place.
  assert sorted(seen[:9]) == sorted(seen[9:18]) == list(range(9))
  assert starts == set(range(7))
  assert 'tensorflow' not in sys.modules


def test_splits_share_no_video(dataset):
  of = lambda split, **options: {
    int(value)
    for _, batch in zip(range(8), _clips(dataset, split=split, **options))
    for value in np.asarray(batch['observation']['pixels'])[:, 0, 0, 0, 0]
  }
  assert of('validation', batch_size=1) == {9}
  assert of('held_out') == set(range(100, 106))


def test_resumed_is_uninterrupted(dataset, resumed):
  first, second = resumed(lambda: _clips(dataset))
  assert not np.array_equal(
    first['observation']['pixels'], second['observation']['pixels']
  )


def test_each_process_reads_its_rows(dataset, shared_out):
  shared_out(lambda **own: _clips(dataset, **own), 3)


def test_short_videos_hold_their_last_frame(dataset):
  times = np.asarray(
    next(_clips(dataset, num_frames=8))['observation']['pixels']
  )[..., 0, 0, 1]
  for clip in times.astype(int) // 10:
    assert list(clip[:5]) == [0, 2, 4, 6, 8] and np.ptp(clip[5:]) == 0


def test_grey_images_of_one_split_stand_still_in_three_colours(tmp_path):
  """The square in the middle: the left and right sixths are cut off."""
  frame = np.zeros((20, 30, 1), np.uint8)
  frame[:, 5:25] = 200
  stream = io.BytesIO()
  PIL.Image.fromarray(frame[..., 0]).save(stream, 'png')
  described = {'image': features.Image(shape=(20, 30, 1))}
  for version in ('2.0.0', '10.0.0'):
    path = _write(
      tmp_path,
      'stills',
      described,
      {'all': [{'image': stream.getvalue()}] * 10},
      version,
    )
  dataset = tfds_clips.find(str(tmp_path / 'stills'))
  assert dataset.path == path and dataset.label is None
  batch = next(_clips(dataset, split='held_out', batch_size=1))
  assert list(batch) == ['observation']
  np.testing.assert_array_equal(
    batch['observation']['pixels'], np.full((1, 3, 8, 8, 3), 200)
  )


def test_doors(dataset, tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r'dataset .nowhere. at .*prepare'
  ):
    tfds_clips.find('nowhere')
  with pytest.raises(ValueError, match='must be at least 1'):
    _clips(dataset, num_frames=0)
  with pytest.raises(ValueError, match=r'no examples for .validation'):
    _clips(
      tfds_clips.TfdsDataset(
        dataset.path, 'clip', None, 0, {'validation': ('train', 0.0, 0.01)}
      ),
      split='validation',
    )
  described = {'words': features.Text()}
  path = _write(tmp_path, 'words', described, {'train': [{'words': 'a'}]})
  with pytest.raises(ValueError, match='neither a Video nor an Image'):
    tfds_clips.find(str(path))
  (path / 'features.json').write_text('{')
  with pytest.raises(ValueError, match=r'features\.json is cut off'):
    tfds_clips.find(str(path))
