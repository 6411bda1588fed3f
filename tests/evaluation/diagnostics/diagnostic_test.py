"""A new diagnostic is one class; any finding has a place on the page."""

import dataclasses
import io
import json

import numpy as np
import PIL.Image
import pytest

from jepa_wm.evaluation.diagnostics import diagnostic, finding
from jepa_wm.evaluation.report import page_findings


def test_what_is_there():
  assert set(diagnostic.DIAGNOSTICS.names()) >= {
    'errors', 'collapse', 'probe', 'rollout_error', 'straightness', 'surprise',
    'feature_maps', 'masks',
  }  # fmt: skip
  with pytest.raises(ValueError, match="Did you mean 'straightness'"):
    diagnostic.named(['collapse', 'straigtness'])
  names = [ask.name for ask in diagnostic.named(['probe, collapse', 'errors'])]
  assert names == ['probe', 'collapse', 'errors']


@pytest.fixture
def own_diagnostic(monkeypatch):
  """A class as somebody would write it into a file of their own."""
  diagnostic.DIAGNOSTICS.names()
  classes = dict(diagnostic.DIAGNOSTICS._classes)
  monkeypatch.setattr(diagnostic.DIAGNOSTICS, '_classes', classes)

  @diagnostic.DIAGNOSTICS.register
  @dataclasses.dataclass(frozen=True)
  class Brightness:
    name = group = 'brightness'
    scale: float = 1.0

    def __call__(self, question):
      pixels = question.episodes.windows_fn('held_out')[0]['observation'][
        'pixels'
      ]
      mean = float(self.scale * np.mean(pixels))
      return finding.Finding('How <bright> it is', {'mean & more': mean})

  return Brightness


def test_one_class_is_found_asked_and_shown(own_diagnostic):
  (ask,) = diagnostic.named(['brightness'])
  assert ask == own_diagnostic()
  windows = [{'observation': {'pixels': np.full((2, 2, 4, 4, 3), 7)}}]
  episodes = diagnostic.Episodes(lambda split: windows)
  found = ask(diagnostic.Question(None, episodes, None))
  page = page_findings.sections({ask.name: found})
  assert 'How &lt;bright&gt; it is' in page
  assert '<dt>mean &amp; more</dt><dd>7</dd>' in page


def _png(shade):
  stream = io.BytesIO()
  PIL.Image.new('RGB', (4, 4), (shade,) * 3).save(stream, 'PNG')
  return stream.getvalue()


def test_all_that_a_finding_can_hold_is_shown_and_read_back():
  figures = {
    'a.png': _png(255), 'a_dark.png': _png(0), 'b.svg': b'<svg/>',
    'c_dark.png': _png(1),
  }  # fmt: skip
  found = finding.Finding(
    'What', {'x_y': 0.123456}, finding.Table(['<i>', 'n'], [['a', 1.25]] * 13),
    figures, 'well<', 'Because & so.',
  )  # fmt: skip
  page = page_findings.sections({'it': found})
  assert '<b>well&lt;</b>. Because &amp; so.' in page
  assert '<dt>x y</dt><dd>0.1235</dd>' in page
  assert '<th>&lt;i&gt;</th>' in page and page.count('<td>1.25</td>') == 13
  assert '<summary>13 rows</summary>' in page
  # A picture each of a, with another for dark readers, b and c.
  assert page.count('<picture>') == 3 and page.count('<source ') == 1
  assert page.count('data:image/png') == 3
  assert page.count('data:image/svg+xml') == 1
  described = json.loads(json.dumps(found.to_dict()))
  again = finding.from_dict(described, figures)
  assert again.to_dict() == found.to_dict() and again.figures == figures
  with pytest.raises(
    ValueError, match=r"must be one of .png, .svg, got 'x.js'"
  ):
    page_findings.sections({'it': finding.Finding('', figures={'x.js': b''})})
