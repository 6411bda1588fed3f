"""Writes lerobot_v21 and lerobot_v30 as LeRobot's own writer lays them out.

  python tests/golden/readers/make_lerobot.py [FOLDER]      # pyarrow, av

The lerobot package wants another Python and torch, hence by hand, from its
`src/lerobot/datasets/utils.py` (paths, info.json, the columns of
meta/episodes) and published datasets' info.json. Frame t of episode e is grey
of level 16 + 40 e + 8 t; its action is (e, t), its state (t, e, 1).
"""

import json
import pathlib
import sys

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).parent
LENGTHS = (5, 4, 6)
FPS = 10


def frames(episode):
  times = np.arange(LENGTHS[episode])
  levels = (16 + 40 * episode + 8 * times).astype(np.uint8)
  return np.broadcast_to(levels[:, None, None, None], (len(times), 16, 24, 3))


def write_video(path, pixels):
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=FPS)
    stream.height, stream.width = pixels.shape[1:3]
    stream.pix_fmt = 'yuv420p'
    # LeRobot's own choice: every second frame is a key frame.
    stream.options = {'g': '2', 'crf': '10'}
    for frame in pixels:
      image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), 'rgb24')
      container.mux(stream.encode(image))
    container.mux(stream.encode())


def png(frame):
  import io

  import PIL.Image

  file = io.BytesIO()
  PIL.Image.fromarray(np.ascontiguousarray(frame)).save(file, 'PNG')
  return {'bytes': file.getvalue(), 'path': None}


def table(episodes):
  """Rows of some episodes; `wrist` is a camera inside the table."""
  columns = {
    'action': [],
    'observation.state': [],
    'observation.images.wrist': [],
    'timestamp': [],
    'frame_index': [],
    'episode_index': [],
    'index': [],
    'task_index': [],
  }
  for episode in episodes:
    begin = sum(LENGTHS[:episode])
    for t, frame in enumerate(frames(episode)):
      columns['action'].append([float(episode), float(t)])
      columns['observation.state'].append([float(t), float(episode), 1.0])
      columns['observation.images.wrist'].append(png(255 - frame[:4, :4]))
      columns['timestamp'].append(t / FPS)
      columns['frame_index'].append(t)
      columns['episode_index'].append(episode)
      columns['index'].append(begin + t)
      columns['task_index'].append(0)
  types = {
    'action': pa.list_(pa.float32(), 2),
    'observation.state': pa.list_(pa.float32()),
    'observation.images.wrist': pa.struct(
      [('bytes', pa.binary()), ('path', pa.string())]
    ),
    'timestamp': pa.float32(),
  }
  return pa.table(
    {
      name: pa.array(values, types.get(name, pa.int64()))
      for name, values in columns.items()
    }
  )


def info(version, **paths):
  number = lambda dtype, *shape: {'dtype': dtype, 'shape': shape, 'names': None}
  return {
    'codebase_version': version,
    'robot_type': 'made_up',
    'total_episodes': len(LENGTHS),
    'total_frames': sum(LENGTHS),
    'total_tasks': 1,
    'chunks_size': 2,
    'fps': FPS,
    'splits': {'train': f'0:{len(LENGTHS)}'},
    **paths,
    'features': {
      'observation.images.top': number('video', 16, 24, 3),
      'observation.images.wrist': number('image', 4, 4, 3),
      'observation.state': number('float32', 3),
      'action': number('float32', 2),
      'timestamp': number('float32', 1),
      'frame_index': number('int64', 1),
      'episode_index': number('int64', 1),
      'index': number('int64', 1),
      'task_index': number('int64', 1),
    },
  }


def write_v21(folder):
  meta = folder / 'meta'
  meta.mkdir(parents=True, exist_ok=True)
  data_path = (
    'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet'
  )
  video_path = (
    'videos/chunk-{episode_chunk:03d}/{video_key}/'
    'episode_{episode_index:06d}.mp4'
  )
  paths = {'data_path': data_path, 'video_path': video_path}
  (meta / 'info.json').write_text(json.dumps(info('v2.1', **paths), indent=1))
  lines = []
  for episode, length in enumerate(LENGTHS):
    place = {'episode_chunk': episode // 2, 'episode_index': episode}
    file = folder / data_path.format(**place)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table([episode]), file, compression='snappy')
    write_video(
      folder / video_path.format(**place, video_key='observation.images.top'),
      frames(episode),
    )
    lines.append(
      {'episode_index': episode, 'tasks': ['push it'], 'length': length}
    )
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (meta / 'episodes.jsonl').write_text(text)


def write_v30(folder):
  meta = folder / 'meta'
  data_path = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
  video_path = (
    'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
  )
  paths = {'data_path': data_path, 'video_path': video_path}
  (meta / 'episodes' / 'chunk-000').mkdir(parents=True, exist_ok=True)
  (meta / 'info.json').write_text(json.dumps(info('v3.0', **paths), indent=1))
  rows = []
  # The first two episodes share their files.
  for file_index, episodes in enumerate(([0, 1], [2])):
    place = {'chunk_index': 0, 'file_index': file_index}
    file = folder / data_path.format(**place)
    file.parent.mkdir(parents=True, exist_ok=True)
    # A row group holds rows of two episodes.
    pq.write_table(table(episodes), file, row_group_size=3)
    write_video(
      folder / video_path.format(**place, video_key='observation.images.top'),
      np.concatenate([frames(episode) for episode in episodes]),
    )
    shown = 0
    for episode in episodes:
      begin = sum(LENGTHS[:episode])
      camera = 'videos/observation.images.top'
      rows.append(
        {
          'episode_index': episode,
          'tasks': ['push it'],
          'length': LENGTHS[episode],
          'data/chunk_index': 0,
          'data/file_index': file_index,
          'dataset_from_index': begin,
          'dataset_to_index': begin + LENGTHS[episode],
          f'{camera}/chunk_index': 0,
          f'{camera}/file_index': file_index,
          f'{camera}/from_timestamp': shown / FPS,
          f'{camera}/to_timestamp': (shown + LENGTHS[episode]) / FPS,
        }
      )
      shown += LENGTHS[episode]
  pq.write_table(
    pa.Table.from_pylist(rows),
    meta / 'episodes' / 'chunk-000' / 'file-000.parquet',
  )


if __name__ == '__main__':
  out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
  write_v21(out / 'lerobot_v21')
  write_v30(out / 'lerobot_v30')
