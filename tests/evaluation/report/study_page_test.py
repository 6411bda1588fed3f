import pytest

from jepa_wm.evaluation.report import study_page
from jepa_wm.evaluation.statistics import ablations


def _line(row, **given):
  settings = {
    'is_reference': False,
    'published': '96 (3 seeds)',
    'source': 'Table 1',
    'estimate': ablations.Estimate(50.0, 40.0, 60.0),
    'rates': (45.0, 55.0),
    'floor': 18.0,
    'ceiling': 100.0,
    'published_difference': -10.0,
    'difference': ablations.Estimate(-5.0, -9.0, -1.0),
    'p_value': 0.01,
    'verdict': 'same direction',
    'metrics': {'probe/r2': 0.5},
    'sentences': (),
  }
  return study_page.Line(row=row, **{**settings, **given})


@pytest.fixture(scope='module')
def page():
  nothing = _line(
    'later',
    estimate=None,
    rates=(),
    floor=None,
    ceiling=None,
    difference=None,
    p_value=None,
    verdict='not measured',
    metrics={'probe/r2': float('nan')},
  )
  curve = study_page.Curve('<b>', 0, [0, 10], [1.0, 0.001])
  return study_page.build(
    title='a/b',
    question='Does it?',
    source='Paper, Table 1',
    differs='All of it.',
    lines=[_line('<b>', sentences=('seed 0: it <fell>',)), nothing],
    curves={'train/loss': [curve]},
    command='python -m x',
    failures=['a/b later seed 0: no disk'],
    about={'python': '3.11'},
  )


def test_the_page_tells_all_of_a_row(page):
  for told in (
    '96 (3 seeds)',
    '50.0',
    '40.0 \u2013 60.0',
    '45.0 55.0',
    '18.0',
    '-10.0',
    '-9.0 \u2013 -1.0',
    '0.0100',
    'same direction',
    'All of it.',
    'no disk',
    'n/a',
    'expert 100.0 %',
    'train/loss',
  ):
    assert told in page, told


def test_what_users_name_is_escaped(page):
  assert '<b>' not in page and '&lt;b&gt;' in page and '&lt;fell&gt;' in page


def test_rows_line_up_under_their_heading():
  cells = study_page.cells([_line('a'), _line('b', floor=None)])
  assert {len(row) for row in cells} == {len(cells[0])}
