import numpy as np
import pytest

from jepa_wm import palette
from jepa_wm.networks import agent_views, conv, tokens


def picture(num_agents, size=8):
  """Agents as half blended squares, one a column of a white picture."""
  drawn = np.full((size, size, 3), 255.0)
  for agent in range(num_agents):
    drawn[2:4, agent] = 0.5 * palette.AGENT_COLORS[agent] + 0.5 * 255
  drawn[6] = 0
  return drawn.astype(np.uint8)


def test_a_view_shows_who_is_me_and_who_is_not():
  """Blended with white, each colour is half its agent's and nobody else's."""
  seen = np.asarray(agent_views.views(picture(8), 8)) / 255
  assert seen.shape == (9, 8, 8, 3)
  mine = np.zeros((9, 8, 8))
  for agent in range(8):
    mine[agent, 2:4, agent] = 0.5
  everybody = mine.sum(0)
  scene = np.ones((8, 8))
  scene[6] = 0
  for view in range(9):
    np.testing.assert_allclose(seen[view, ..., 1], mine[view], atol=0.02)
    others = everybody - mine[view]
    np.testing.assert_allclose(seen[view, ..., 2], others, atol=0.02)
    np.testing.assert_allclose(seen[view, ..., 0], scene, atol=0.02)


def test_others_need_not_be_seen():
  seen = np.asarray(agent_views.views(picture(3), 3, others=False))
  assert not seen[..., 2].any() and seen[0, ..., 1].any()


def test_an_encoder_of_more_than_a_frame_is_refused():
  with pytest.raises(ValueError, match="take one such as 'conv'"):
    agent_views.Views(
      tokens.TokensConfig(encoder=conv.ConvConfig(), proprio_dim=2), 2
    )
