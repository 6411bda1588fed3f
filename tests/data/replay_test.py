import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jepa_wm.data import cache as cache_lib
from jepa_wm.data import episodes as episodes_lib
from jepa_wm.data import replay as replay_lib
from jepa_wm.data import windows

SHAPE = {'num_frames': 3, 'stride': 2}


def stream(replay, **options):
  return replay.windows(**SHAPE, batch_size=16, seed=0, **options)


def seen(batch):
  """Numbers of the episodes in a batch."""
  return set(batch['observation']['pixels'][:, 0, 0, 0, 0].tolist())


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_windows_are_those_of_a_cache_of_the_same_episodes(
  tmp_path, episodes, archive
):
  cache_lib.build_cache(archive)
  table = cache_lib.open_cache(archive)
  replay = replay_lib.Replay(tmp_path / 'replay')
  for index in (1, 2, 3, 4, 6, 7, 8, 9):
    replay.append(episodes[index])
  starts = windows.window_starts(table, **SHAPE)
  np.testing.assert_array_equal(
    windows.window_starts(replay.table(), **SHAPE), starts
  )
  names = (*table.columns, 'is_last')
  ours, theirs = (
    windows.Gather(t, **SHAPE, batch_size=len(starts), columns=names)(t, starts)
    for t in (replay.table(), table)
  )
  same(ours, theirs)


def test_what_is_appended_is_read_by_whoever_reads(tmp_path, make_episode):
  writer, reader = (replay_lib.Replay(tmp_path) for _ in range(2))
  batches = stream(reader, columns=('observation/pixels',))
  with pytest.raises(ValueError, match=r'no episodes at .* yet'):
    next(batches)
  assert [writer.append(make_episode(i)) for i in range(2)] == [0, 1]
  assert seen(next(batches)) == {0, 1}
  writer.append(make_episode(2))
  assert seen(next(batches)) == {0, 1, 2}
  assert reader.num_frames == 36


def test_the_oldest_are_dropped(tmp_path, make_episode):
  replay = replay_lib.Replay(tmp_path, max_frames=30)
  reader = replay_lib.Replay(tmp_path)
  batches = stream(reader)
  for index in range(4):
    replay.append(make_episode(index))
    # Open arrays of what is dropped stay readable until they are let go.
    assert max(seen(next(batches))) <= index
  assert seen(next(batches)) == {2, 3} and reader.num_frames == 24
  assert replay.append(make_episode(4, num_frames=99)) == 4
  assert seen(next(batches)) == {4}


def test_resumed_is_uninterrupted(tmp_path, make_episode):
  def run(replay, batches, steps):
    taken = []
    for step in steps:
      if step % 2 == 0:
        replay.append(make_episode(step))
      taken.append(next(batches))
    return taken

  replay = replay_lib.Replay(tmp_path / 'one')
  batches = stream(replay)
  run(replay, batches, range(5))
  state = json.loads(json.dumps(batches.get_state()))
  expected = run(replay, batches, range(5, 11))
  again = replay_lib.Replay(tmp_path / 'one')
  again.rewind(state['end'])
  resumed = stream(again)
  resumed.set_state(state)
  for ours, theirs in zip(
    run(again, resumed, range(5, 11)), expected, strict=True
  ):
    same(ours, theirs)
  with pytest.raises(ValueError, match='ends at episode 0, before episode 3'):
    stream(replay_lib.Replay(tmp_path / 'other')).set_state(state)


_APPEND = """
import sys, numpy as np
from jepa_wm.data import episodes, replay
writer, index = replay.Replay(sys.argv[1]), 0
while True:
  pixels = np.full((40, 64, 64, 3), index, np.uint8)
  action = np.full((39, 2), index, np.float32)
  columns = {'observation/pixels': pixels, 'action': action}
  writer.append(episodes.Episode(columns=columns))
  print(index, flush=True)
  index += 1
"""


@pytest.mark.slow
def test_a_kill_loses_the_unfinished_episode_at_most(tmp_path):
  command = [sys.executable, '-c', _APPEND, os.fspath(tmp_path)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout is not None
    for _ in range(5):
      last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    last = max([last, *map(int, process.stdout.read().split())])
  replay = replay_lib.Replay(tmp_path)
  # The kill may come between the last episode and the word of it.
  assert replay.end in (last + 1, last + 2)
  table = replay.table()
  assert (table.lengths == 40).all() and len(table.lengths) == replay.end
  for number, first in enumerate(table.offsets):
    rows = np.arange(first, first + 40)
    assert (table.columns['observation/pixels'][rows] == number).all()
    assert (table.columns['action'][rows[:-1]] == number).all()
  # What was half there is no episode, and in nobody's way.
  half = tmp_path / f'.{replay.end:08d}.writing'
  half.mkdir(exist_ok=True)
  (half / 'action.npy').write_bytes(b'half')
  end = replay.end
  assert replay.append(_like(table)) == end
  assert next(stream(replay))['action'].shape == (16, 2, 4)


def _like(table):
  rows = np.arange(40)
  return episodes_lib.Episode(
    columns={
      'observation/pixels': table.columns['observation/pixels'][rows],
      'action': table.columns['action'][rows[:-1]],
    }
  )


def test_refusals(tmp_path, make_episode, episodes):
  replay = replay_lib.Replay(tmp_path / 'replay')
  replay.append(make_episode(0))
  blind = episodes_lib.Episode(columns={'action': episodes[0].actions})
  with pytest.raises(ValueError, match='same columns of the same sizes'):
    replay.append(blind)
  with pytest.raises(ValueError, match=r'span 41 frames, the longest .* 12'):
    next(replay.windows(num_frames=9, stride=5, batch_size=1, seed=0))
  with pytest.raises(ValueError, match='batch_size must be'):
    replay.windows(**SHAPE, batch_size=0, seed=0)
  with pytest.raises(ValueError, match='max_frames must be'):
    replay_lib.Replay(tmp_path, max_frames=0)
  (tmp_path / 'replay' / '00000000' / 'action.npy').write_bytes(b'')
  with pytest.raises(ValueError, match='00000000 is cut off or damaged'):
    replay_lib.Replay(tmp_path / 'replay').table()


@pytest.mark.parametrize(
  'wrong',
  [
    *({name: 2.5} for name in ('num_frames', 'stride', 'batch_size', 'seed')),
    *({name: True} for name in ('num_frames', 'stride', 'batch_size')),
    *({name: '2'} for name in ('num_frames', 'batch_size')),
    {'seed': None},
  ],
)
def test_counts_are_whole_numbers(tmp_path, make_episode, wrong):
  replay = replay_lib.Replay(tmp_path)
  replay.append(make_episode(0))
  good = SHAPE | {'batch_size': np.int64(2), 'seed': 0, 'stride': np.int64(2)}
  next(replay.windows(**good))
  with pytest.raises(ValueError, match='whole numbers, got'):
    next(replay.windows(**good | wrong))
  with pytest.raises(ValueError, match='max_frames must be a whole number'):
    replay_lib.Replay(tmp_path, max_frames=2.5)


def test_nothing_before_the_first_episode_is_forgotten(tmp_path, make_episode):
  replay = replay_lib.Replay(tmp_path)
  replay.append(make_episode(0))
  with pytest.raises(ValueError, match='end must be a number of an episode'):
    replay.rewind(-1)
  assert replay.end == 1


@pytest.mark.parametrize(
  'damage',
  [
    *(
      lambda folder, x=x: (folder / 'episode.json').write_text(x)
      for x in ('', '[]', 'null', '{"columns": 5}', '[' * 100_000)
    ),
    *(
      lambda folder, x=x: (folder / 'action.npy').write_bytes(x)
      for x in (b'', b'\x93NUMPY')
    ),
    lambda folder: (folder / 'episode.json').unlink(),
    lambda folder: (folder / 'action.npy').unlink(),
    lambda folder: np.save(folder / 'action.npy', np.zeros((99, 2), 'f4')),
    lambda folder: np.save(folder / 'action.npy', np.array([{}], object)),
  ],
)
def test_damage_is_named(tmp_path, make_episode, damage):
  replay_lib.Replay(tmp_path).append(make_episode(0))
  damage(tmp_path / '00000000')
  with pytest.raises(ValueError, match='00000000 is cut off or damaged'):
    replay_lib.Replay(tmp_path).table()


def test_episodes_that_are_not_of_one_replay(tmp_path, make_episode):
  replay = replay_lib.Replay(tmp_path / 'whole')
  for number in range(3):
    replay.append(make_episode(number))
  state = stream(replay).get_state()
  (replay.path / 'notes²').mkdir()  # Not ours.
  shutil.rmtree(replay.path / '00000001')
  with pytest.raises(ValueError, match='00000001 is missing, an episode betw'):
    stream(replay_lib.Replay(replay.path)).set_state(state)
  action = np.load(replay.path / '00000002' / 'action.npy')
  wide = np.concatenate([action, action], axis=1)
  np.save(replay.path / '00000002' / 'action.npy', wide)
  described = json.loads((replay.path / '00000002/episode.json').read_text())
  described['columns']['action'][0] = [wide.shape[1]]
  (replay.path / '00000002/episode.json').write_text(json.dumps(described))
  with pytest.raises(ValueError, match=r'00000002 has .* of one world'):
    replay_lib.Replay(replay.path).table()
