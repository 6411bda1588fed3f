"""The colours of agents: who is who in a picture of several."""

import numpy as np

AGENT_COLORS = np.array(
  [
    [255, 0, 0],
    [0, 64, 255],
    [0, 255, 64],
    [255, 191, 0],
    [255, 0, 191],
    [0, 255, 255],
    [128, 0, 255],
    [128, 255, 0],
  ],
  np.float32,
)
"""Agent i is drawn in row i, RGB in 0..255, `[8, 3]`.

Eight hues an eighth of the colour circle apart, the first few furthest: any two
differ by 140 at least, and each from any grey by 180. Seen from
white, with which the rim of a dot is blended, they differ by 26 degrees.
"""

MAX_AGENTS = len(AGENT_COLORS)
"""Agents that a world can hold."""
