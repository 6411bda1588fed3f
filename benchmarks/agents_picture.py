"""The picture of `agents`: what steps and plans cost by how many there are."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker

from benchmarks import panels as panels_lib
from jepa_wm.evaluation.report import figures

_THEME = figures.LIGHT

# Okabe and Ito's colours, which the colour-blind can tell apart.
_MARKS = {
  'hubs': ('#0072b2', 'o'),
  'dense': ('#d55e00', 's'),
  'joint': ('#009e73', '^'),
  'coordinate': ('#cc79a7', 'D'),
}


def draw(lines: Sequence[dict[str, Any]]) -> bytes:
  """Draws operations of steps and of plans, and the memory of both; a PNG.

  Args:
    lines: what was measured.
  """
  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(12.5, 4.4), dpi=160, facecolor=_THEME.background
  )
  panels = figure.subplots(1, 3)
  titles = (
    'a step of 64 candidates, million operations',
    'its temporary memory, MiB',
    'a plan, million operations',
  )
  for axes, title in zip(panels, titles):
    what = 'plan' if title.startswith('a plan') else 'step'
    for name, (color, marker) in _MARKS.items():
      own = [x for x in lines if x['name'] == f'agents/{what}/{name}']
      if own:
        axes.plot(
          [x['config']['num_agents'] for x in own],
          [
            x['config']['temporary_bytes'] / 2**20
            if 'MiB' in title
            else x['config']['operations'] / 1e6
            for x in own
          ],
          color=color,
          marker=marker,
          markersize=7,
          markeredgecolor=_THEME.background,
          linewidth=1.8,
          label=name,
        )
    _decorate(axes, title)
    axes.legend(frameon=False, labelcolor=_THEME.ink, fontsize=9.5)
  figure.subplots_adjust(left=0.05, right=0.98, top=0.88, bottom=0.14)
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=_THEME.background)
  return stream.getvalue()


def _decorate(axes: matplotlib.axes.Axes, title: str) -> None:
  """Scales, labels and a grid."""
  axes.set_ylim(bottom=0)
  axes.yaxis.set_major_formatter('{x:,g}')
  axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  panels_lib.dress(axes, title, 'agents')
