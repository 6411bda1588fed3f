import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from jepa_wm.evaluation import (
  animation,
  charts,
  figures,
  report,
  rollout_error,
)

ERRORS = rollout_error.RolloutError([0, 5], [1.25, 2.5], [1.25, 7.75], 'px')


@pytest.fixture(scope='module')
def written(short_result, tmp_path_factory):
  out = tmp_path_factory.mktemp('report') / 'new' / 'folder'
  paths = report.write(
    short_result, out, command='python -m x --y="<1>"', errors=ERRORS
  )
  assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in paths)
  return out


class _Checker(html.parser.HTMLParser):
  """Every tag closed, and every address one that needs no network or file."""

  def __init__(self):
    super().__init__()
    self.stack, self.addresses, self.text = [], [], ''

  def handle_starttag(self, tag, attributes):
    self.addresses += [
      v for k, v in attributes if k in ('src', 'href', 'srcset')
    ]
    if tag not in ('meta', 'img', 'source', 'br'):
      self.stack.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.addresses += [v for k, v in attributes if k in ('src', 'href')]

  def handle_endtag(self, tag):
    assert self.stack.pop() == tag

  def handle_data(self, data):
    self.text += data


def test_page_is_whole_and_self_contained(written, short_result):
  source = (written / 'report.html').read_text()
  checker = _Checker()
  checker.feed(source)
  assert checker.stack == []
  assert len(checker.addresses) == 4  # GIF, search twice, map.
  assert all(a.startswith('data:image/') for a in checker.addresses)
  assert not re.search(r'https?://|@import|url\((?!#)', source)
  record = short_result.record
  for words in (
    f'{record["num_successes"]} of 12 goals reached',
    'python -m x --y="<1>"',
    '7.8',
    record['manifest_sha256'][:16],
  ):
    assert words in checker.text
  for episode in short_result.episodes:
    assert charts.tell(episode, 'px') in checker.text
  assert source.count('marker-end') == 12
  assert '$' not in checker.text


def test_results_are_a_list_of_records(written, short_result):
  stored = json.loads((written / 'results.json').read_text())
  assert stored == [short_result.record]


def test_animation_plays_to_the_last_success_or_the_end(written, short_result):
  assert (written / 'episodes.gif').stat().st_size < 3e6
  with Image.open(written / 'episodes.gif') as gif:
    rows = animation.choose(short_result)
    steps = [short_result.episodes[row].first_success_step for row in rows]
    assert gif.n_frames == 1 + max(50 if s is None else s for s in steps)
    frames = []
    for number in (0, gif.n_frames - 1):
      gif.seek(number)
      frames.append(np.asarray(gif.convert('RGB')))
  # Planned paths at the start, frames in the colour of success at the end.
  assert _has(frames[0], figures.PLAN) and not _has(frames[0], figures.SUCCESS)
  assert _has(frames[1], figures.SUCCESS)


def _has(picture, color):
  wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
  near = np.abs(picture.astype(int) - wanted).max(-1) < 12
  return near.sum() > 200


def test_search_picture_is_drawn_for_both_kinds_of_readers(short_result):
  pictures = [
    np.asarray(Image.open(io.BytesIO(figures.draw_search(d, theme))))
    for d in (short_result.diagnostics,)
    for theme in (figures.LIGHT, figures.DARK)
  ]
  assert pictures[0].shape == pictures[1].shape
  assert pictures[0][0, 0, 0] == 255 and pictures[1][0, 0, 0] < 40


def test_search_picture_of_one_iteration_and_infinite_costs(short_result):
  one = type(short_result.diagnostics)(
    *(np.array(leaf[:1]) for leaf in short_result.diagnostics[:5])
  )
  one.elite_cost[0, 0] = np.inf
  assert len(figures.draw_search(one)) > 1000


def test_failures_are_shown_last_and_never_hidden(short_result):
  class Fake:
    def __init__(self, outcomes):
      self.episodes = [
        type('Episode', (), {'success': bool(o)})() for o in outcomes
      ]

  assert animation.choose(Fake([1] * 20)) == list(range(9))
  assert animation.choose(Fake([0, 1] * 10)) == [1, 3, 5, 7, 9, 11, 0, 2, 4]
  assert animation.choose(Fake([0] * 5 + [1])) == [5, 0, 1, 2, 3, 4]
  assert animation.choose(Fake([0, 1])) == [1, 0]


def test_table(short_result):
  record = {
    **short_result.record,
    'num_pairs': 200,
    'success_rate': 0.955,
    'interval_95': [0.917, 0.976],
    'random_floor': 0.2063,
    'expert_ceiling': 1.0,
    'ms_per_plan': 1234.5,
  }
  lines = report.table([record, record]).splitlines()
  assert len(lines) == 4
  assert len({len(line) for line in lines}) == 1
  assert lines[2].split() == [
    *('short', 'cem', '200', '95.5%', '91.7%', '\u2013', '97.6%'),
    *('20.6%', '100.0%', '1,234.5'),
  ]
