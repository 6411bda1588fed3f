import dataclasses
import html.parser
import io
import json
import re
import types

import numpy as np
import pytest
from PIL import Image

from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import (
  animation,
  charts,
  figures,
  page_sections,
  report,
)
from jepa_wm.evaluation.statistics import runs


@pytest.fixture(scope='module')
def written(drawn_run, tmp_path_factory):
  out = tmp_path_factory.mktemp('report') / 'new' / 'folder'
  paths = report.write(
    [drawn_run],
    out,
    command='python -m x --y="<1>"',
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
  assert len(checker.addresses) == 4  # Successes, search twice, map.
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
  assert 'first that were reached' in checker.text
  assert 'missed in' not in checker.text


def _missed(result, seed):
  """As `result`, but every third goal was missed."""
  episodes = [
    dataclasses.replace(
      e, success=False, success_at_end=False, first_success_step=None
    )
    if number % 3 == 0
    else e
    for number, e in enumerate(result.episodes)
  ]
  summary = planning_benchmark.summarize(episodes, result.protocol)
  planner = {**result.record['planner'], 'name': '<i>cem'}
  record = {**result.record, **summary, 'seed': seed, 'planner': planner}
  return dataclasses.replace(result, episodes=episodes, record=record)


def test_page_of_several_runs(short_result, drawn_run, tmp_path):
  worse = report.draw(_missed(short_result, 0))
  again = dataclasses.replace(worse, record={**worse.record, 'seed': 1})
  finished = [drawn_run, worse, again]
  report.write(
    finished, tmp_path, command='python', failures=['c: it <broke>.']
  )
  source = (tmp_path / 'report.html').read_text()
  checker = _Checker()
  checker.feed(source)
  assert checker.stack == []
  assert all(a.startswith('data:image/') for a in checker.addresses)
  for words in (
    '3 runs compared',
    'Best: cem, 100.0%',
    'c: it <broke>.',
    'On the same pairs',
    '+33.3',
    '<i>cem, seed 1: 8 of 12',
    'first that were missed',
  ):
    assert words in checker.text
  markers = re.findall(r'<marker id="([^"]+)"', source)
  assert len(markers) == 6 and len(set(markers)) >= 4
  for used in re.findall(r'url\(#([^)]+)\)', source):
    assert used in markers
  assert len(json.loads((tmp_path / 'results.json').read_text())) == 3
  lines = (tmp_path / 'episodes.csv').read_text().splitlines()
  assert len(lines) == 1 + 3 * 12
  table = report.table(finished).splitlines()
  assert len(table) == 4
  assert table[3].split()[:5] == ['short', '<i>cem', '12', '66.7%', '66.7']


def test_results_are_a_list_of_records(written, short_result):
  stored = json.loads((written / 'results.json').read_text())
  drift = {'probe': 1.25, 'recorded': 2.5, 'pushes': 7.75}
  assert stored == [
    {
      **short_result.record,
      'findings': {'rollout_error': drift},
      'episodes': 'episodes.csv',
    }
  ]
  lines = (written / 'episodes.csv').read_text().splitlines()
  assert len(lines) == 13 and lines[1].startswith('perfect,cem,short,,0,0,1,')


def test_animation_plays_to_the_last_success_or_the_end(short_result):
  content = animation.draw_episodes(short_result)
  assert len(content) < 3e6
  with Image.open(io.BytesIO(content)) as gif:
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


def test_a_map_has_a_ground_where_all_problems_share_a_world(short_result):
  assert '<image' in charts.episode_map(short_result)
  # What no episode changes, and is another in every problem, is a layout.
  many = short_result.vectors.copy()
  many[..., 1] = np.arange(20.0, 20 + 5 * len(many), 5)[:, None]
  differ = dataclasses.replace(short_result, vectors=many)
  assert '<image' not in charts.episode_map(differ)
  # A layout that all of them share is one world.
  many[..., 1] = 20
  alike = dataclasses.replace(short_result, vectors=many)
  assert '<image' in charts.episode_map(alike)


def test_distances_are_told_as_finely_as_their_unit_asks(short_result):
  episode = dataclasses.replace(
    short_result.episodes[0],
    pair=7,
    success=False,
    start_distance=1.234,
    final_distance=0.0712,
  )
  told = charts.tell(episode, 'rad')
  assert told == 'pair 7: goal 1.23 rad away, missed by 0.07 rad'
  far = dataclasses.replace(episode, start_distance=123.4)
  assert 'goal 123 px away' in charts.tell(far, 'px')
  run = types.SimpleNamespace(
    record={'protocol': {'environment': 'reacher'}}, episodes=[episode]
  )
  assert '<td>0.07</td>' in page_sections._episodes(run)


def test_table(short_result):
  record = {
    **short_result.record,
    'num_pairs': 200,
    'num_successes': 191,
    'success_rate': 0.955,
    'success_at_end': 0.915,
    'random_floor': 0.2063,
    'expert_ceiling': 1.0,
    'ms_per_plan': 1234.5,
  }
  run = runs.Run(record, short_result.episodes, {})
  other = {**record, 'checkpoint': 'other', 'num_failed': 2}
  lines = report.table([run]).splitlines()
  assert len(lines) == 3
  assert len({len(line) for line in lines}) == 1
  steps = np.median([e.first_success_step for e in short_result.episodes])
  numbers = ['95.5%', '91.7%', '\u2013', '97.6%', '91.5%', f'{steps:.0f}']
  numbers += ['20.6%', '100.0%', '1,234.5']
  assert lines[2].split() == ['short', 'cem', '200', *numbers]
  lines = report.table([run, dataclasses.replace(run, record=other)])
  lines = lines.splitlines()
  assert lines[0].startswith('checkpoint') and lines[0].endswith('failed')
  assert lines[3].split() == ['other', 'short', 'cem', '200', *numbers, '2']


def test_levels_are_shown_by_name():
  levels = [{'name': 'way 01', 'horizon': 3, 'every': 1}, {'name': 'graph 02'}]
  shown = 'way 01 (horizon 3, every 1); graph 02'
  assert page_sections.in_words(levels) == shown
  assert page_sections.in_words(True) == 'yes'
  assert page_sections.in_words([1, 2]) == [1, 2]
