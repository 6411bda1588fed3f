"""What bounds of a forbidden zone need, and when they are of no use."""

import numpy as np
import pytest

from jepa_wm.data import table
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.recipes import safety_calibration


def _table(*margins):
  """Episodes of such margins."""
  lengths = np.array([len(x) for x in margins])
  return table.Table(
    columns={'margin': np.concatenate(margins).astype(np.float32)},
    offsets=np.cumsum(lengths) - lengths,
    lengths=lengths,
    where='data/nowhere',
  )


INSIDE, OUTSIDE = [-1.0, 0.5, -1.0], [-1.0, -0.5]


def test_both_halves_must_go_inside():
  safety_calibration.check_halves(_table(OUTSIDE, INSIDE, INSIDE), 'pond')
  for some in ((INSIDE, OUTSIDE, INSIDE), (OUTSIDE, INSIDE), (INSIDE,)):
    with pytest.raises(
      ValueError, match=r'bounds of pond .* one half never goes inside'
    ):
      safety_calibration.check_halves(_table(*some), 'pond')


def test_bounds_that_let_nothing_pass_are_told():
  bounds = lambda refused: Finding('', scalars={'refused': refused})
  assert not safety_calibration.warn(bounds(0.01))
  said = safety_calibration.warn(bounds(1.0))
  assert said.startswith('The bounds refuse 100% of safe latents')
