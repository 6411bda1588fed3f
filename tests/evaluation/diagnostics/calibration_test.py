"""What is said of a distance whose faults are known."""

import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import calibration


def squared(latents, goals):
  return np.sum(np.square(latents - goals), axis=-1)


def test_a_distance_that_says_twice_as_much_and_one_more():
  steps = np.arange(11.0)
  found = calibration.steps_scalars(2 * steps + 1, steps)
  expected = {'spearman': 1.0, 'bias': 6.0, 'off': 6.0, 'slope': 2.0}
  assert found == pytest.approx(expected)
  backwards = calibration.steps_scalars(-steps, steps)
  assert backwards['spearman'] == pytest.approx(-1.0)
  assert backwards['slope'] == pytest.approx(-1.0)


def test_steps_are_compared_by_how_far_they_are():
  # A ring of 40 frames: what is half a turn away is 20 steps off.
  rng = np.random.default_rng(0)
  first, steps = rng.integers(40, size=500), rng.integers(0, 21, size=500)
  place = lambda x: np.stack(
    [np.cos(x * np.pi / 20), np.sin(x * np.pi / 20)], axis=-1
  )
  latents = np.stack([place(first), place(first + steps)], axis=1)
  arc = lambda a, b: np.arccos(np.clip(np.sum(a * b, -1), -1, 1)) * 20 / np.pi
  found = calibration.in_steps(arc, squared, latents, steps)
  assert found.scalars['off'] == pytest.approx(0.0, abs=1e-5)
  assert found.scalars['slope'] == pytest.approx(1.0, abs=1e-5)
  assert found.scalars['spearman_latents'] == pytest.approx(1.0, abs=0.01)
  assert [row[0] for row in found.table.rows][:2] == ['0 to 4', '4 to 8']
  assert sum(row[1] for row in found.table.rows) == 500
  assert found.table.rows[0][3] == pytest.approx(1.5, abs=0.6)
  assert found.figures['calibration.png'].startswith(b'\x89PNG')


def test_the_way_round_is_told_from_the_straight_line():
  # On a line with a wall at 0: to the other side it is 10 farther.
  places = np.random.default_rng(1).uniform(-5, 5, (400, 2, 1))
  straight = np.abs(places[:, 0, 0] - places[:, 1, 0])
  crosses = np.prod(np.sign(places[..., 0]), axis=1) < 0
  paths = straight + 10.0 * crosses
  knows = lambda a, b: np.abs(a - b)[:, 0] + 10.0 * (a * b < 0)[:, 0]
  found = calibration.in_paths(knows, squared, places, paths, straight, 'm')
  assert found.scalars['spearman'] == pytest.approx(1.0)
  assert found.scalars['spearman_latents'] < 0.97
  rows = {row[0]: row[1:] for row in found.table.rows}
  assert rows['round something'][0] == crosses.sum()
  # Within each of the two a straight line ranks as well.
  assert rows['straight'][2] == pytest.approx(1.0)
  assert len(rows) == 6
