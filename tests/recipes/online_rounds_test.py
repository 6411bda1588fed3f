"""What rounds of play came to: rows and a picture, from the log of a run."""

import json

import numpy as np
import pytest
from matplotlib import image

from jepa_wm.recipes import online_rounds


def record(step, success, steps):
  kept = {'success': success, 'low': success - 0.1, 'high': success + 0.1}
  kept |= {'episodes': steps / 50, 'environment_steps': steps}
  kept |= {'floor': 0.2, 'ceiling': 1.0}
  return {'step': step, **{f'real/{name}': x for name, x in kept.items()}}


RECORDS = [
  record(0, 0.1, 0.0),
  {'step': 1, 'train/loss': 2.0},
  record(2, 0.5, 100.0),
]


def test_rounds_are_shown_as_rows_and_as_a_picture(tmp_path):
  rows = online_rounds.show(RECORDS[:1], tmp_path)
  first = (tmp_path / 'success.png').read_bytes()
  rows = online_rounds.show(RECORDS, tmp_path)
  assert rows == json.loads((tmp_path / 'rounds.json').read_text())
  assert [row['step'] for row in rows] == [0, 2]
  assert rows[1]['success'] == 0.5 and rows[1]['environment_steps'] == 100
  assert (tmp_path / 'success.png').read_bytes() != first
  seen = image.imread(tmp_path / 'success.png')
  assert seen.ndim == 3 and np.ptp(seen) > 0.5
  assert '100         2  50 % (40 to 60)' in online_rounds.table(rows)


@pytest.mark.parametrize('records', [[], RECORDS[1:2]])
def test_a_run_without_success_has_no_picture(tmp_path, records):
  assert online_rounds.show(records, tmp_path) == []
  assert not (tmp_path / 'success.png').exists()
