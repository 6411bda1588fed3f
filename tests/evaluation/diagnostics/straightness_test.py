import types

import numpy as np
import pytest

from jepa_wm.evaluation.diagnostics import diagnostic, straightness


def test_lines_corners_and_returns():
  times = np.arange(5.0)[:, None]
  line = times * np.array([[3.0, -4.0]])
  back = np.abs(times - 2) * np.array([[1.0, 0.0]])
  square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], float)
  still = np.zeros((5, 2))
  paths = np.stack([line, back, square, still])
  np.testing.assert_allclose(
    straightness.straightness(paths), [1, 1 / 3, 0, 0], atol=1e-12
  )
  # Neither unit nor origin matters.
  np.testing.assert_allclose(
    straightness.straightness(7 + 0.01 * paths[:3]), [1, 1 / 3, 0], atol=1e-9
  )
  with pytest.raises(ValueError, match='three frames or more, got 2'):
    straightness.straightness(paths[:, :2])


def test_every_episode_has_a_row(monkeypatch):
  paths = np.random.default_rng(0).normal(size=(6, 4, 8)).astype(np.float32)
  looked = diagnostic.Looked({}, paths, None, None, None)
  episodes = types.SimpleNamespace(look=lambda *_: looked)
  found = straightness.Straightness()(diagnostic.Question(None, episodes, None))
  assert found.table is not None and len(found.table.rows) == 6
  each = [row[1] for row in found.table.rows]
  np.testing.assert_allclose(np.mean(each), found.scalars['mean_cosine'])
  np.testing.assert_allclose(np.std(each), found.scalars['std'])
  for row, path in zip(found.table.rows, paths):
    assert row[2] >= row[3] > 0
    steps = np.diff(path, axis=0)
    assert row[2] == pytest.approx(np.linalg.norm(steps, axis=1).sum())
  clips = types.SimpleNamespace(
    look=lambda *_: diagnostic.Looked({}, paths[:, 0], None, None, None)
  )
  with pytest.raises(ValueError, match='one latent a clip'):
    straightness.Straightness()(diagnostic.Question(None, clips, None))
