import io
import json

import imageio.v3 as imageio
import numpy as np
import pytest

from jepa_wm.training import metrics


def test_resumed_log_is_one_history(tmp_path):
  log = metrics.MetricsLog(tmp_path, step=0)
  for step in (1, 2, 3):
    log.write(step, {'train/loss': step / 2})
  log.close()
  # A run killed in the middle of a line, resumed from step 2.
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 4, "train/lo')
  log = metrics.MetricsLog(tmp_path, step=2)
  log.write(3, {'train/loss': 9.0})
  log.close()
  records = metrics.read(tmp_path / 'metrics.jsonl')
  assert [r['step'] for r in records] == [1, 2, 3]
  assert [r['train/loss'] for r in records] == [0.5, 1.0, 9.0]
  seconds = [r['seconds'] for r in records]
  assert seconds == sorted(seconds)
  assert log.newest() == {'train/loss': 9.0}
  assert len(list((tmp_path / 'tensorboard').iterdir())) == 2


def test_a_run_that_begins_keeps_nothing_of_another(tmp_path):
  for number in (1, 2):
    log = metrics.MetricsLog(tmp_path, step=0)
    log.write(0, {'held_out/error': number})
    log.close()
  (record,) = metrics.read(tmp_path / 'metrics.jsonl')
  assert record['held_out/error'] == 2
  assert len(list((tmp_path / 'tensorboard').iterdir())) == 1


def test_lines_of_others_are_no_records(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('[1]\n{"step": null}\n{"step": 2, "seconds": "x"}\n7\n')
  assert metrics.read(path) == []


def test_not_a_number_is_null(tmp_path):
  log = metrics.MetricsLog(tmp_path, step=0)
  log.write(1, {'train/loss': float('nan'), 'train/sigreg': float('inf')})
  log.draw()
  log.close()
  text = (tmp_path / 'metrics.jsonl').read_text()
  record = json.loads(text, parse_constant=pytest.fail)
  assert record['train/loss'] is None and record['train/sigreg'] is None
  assert not (tmp_path / 'curves.png').exists()


def test_tensorboard_holds_the_values(tmp_path):
  log = metrics.MetricsLog(tmp_path, step=0)
  log.write(5, {'train/loss': 0.25})
  log.close()
  (file,) = (tmp_path / 'tensorboard').iterdir()
  content = file.read_bytes()
  assert b'train/loss' in content
  assert np.float32(0.25).tobytes() in content


def test_curves_grow_with_what_there_is_to_draw(tmp_path):
  records = [{'step': s, 'train/loss': 1 / s} for s in range(1, 80)]
  metrics.draw_curves(records, tmp_path / 'one.png')
  records.append(
    {'step': 80, 'collapse/effective_rank': 3.0, 'probe/probe_r2': 0.5}
  )
  metrics.draw_curves(records, tmp_path / 'three.png')
  one, three = (
    imageio.imread(tmp_path / f'{name}.png') for name in ('one', 'three')
  )
  assert three.shape == (one.shape[0], 3 * one.shape[1], one.shape[2])
  # Something blue is drawn in the first panel.
  pixels = one.astype(int)
  assert (pixels[..., 2] - pixels[..., 0] > 80).sum() > 50


def test_running_mean_is_of_the_last_values():
  np.testing.assert_allclose(
    metrics._running_mean(np.array([1.0, 3.0, 5.0, 7.0]), width=2),
    [1.0, 2.0, 4.0, 6.0],
  )


def test_progress_prints_a_line_with_rate_and_time_left(monkeypatch):
  clock = iter([100.0, 150.0, 152.0, 154.0])
  monkeypatch.setattr(metrics.time, 'monotonic', lambda: next(clock))
  stream = io.StringIO()
  progress = metrics.Progress(1000, step=100, stream=stream)
  progress.report(150, {'loss': 0.5, 'sigreg': 12.0})
  progress.report(200, {'loss': 0.25})
  progress.report(250, {'loss': 0.125})
  first, second, third = stream.getvalue().splitlines()
  assert first.startswith('step 150/1000 (15%)  1 steps/s  ETA 0:14:10')
  assert 'loss 0.5  sigreg 12' in first
  # The compilation, in the first report, is not extrapolated.
  assert '25 steps/s  ETA 0:00:32' in second
  assert '25 steps/s  ETA 0:00:30' in third


def test_compiling_and_evaluating_do_not_make_the_time_left_longer(monkeypatch):
  clock = iter([0.0, 90.0, 99.8, 130.2])
  monkeypatch.setattr(metrics.time, 'monotonic', lambda: next(clock))
  stream = io.StringIO()
  progress = metrics.Progress(1000, step=0, stream=stream)
  for step in range(1, 51):
    progress.begin(step)  # The first step compiles for 90 s.
  progress.report(50, {'loss': 0.5})
  progress.leave_out(20.2)
  progress.report(101, {'loss': 0.5})
  first, second = stream.getvalue().splitlines()
  assert '5 steps/s  ETA 0:03:10' in first
  assert '5 steps/s  ETA 0:03:00' in second


def test_progress_rewrites_its_line_on_a_terminal(monkeypatch):
  monkeypatch.setenv('COLUMNS', '80')
  stream = io.StringIO()
  stream.isatty = lambda: True
  progress = metrics.Progress(1000, step=100, stream=stream)
  for step in (150, 200):
    progress.report(step, {f'term_{i}': 0.5 for i in range(100)})
  progress.say('Saved.')
  progress.close()
  text = stream.getvalue()
  assert text.count('\r') == 2 and text.endswith('\nSaved.\n')
  assert text.count('\n') == 2
  lines = text.replace('\x1b[K', '').split('\r')[1:]
  assert all(len(line.split('\n')[0]) < 80 for line in lines)
