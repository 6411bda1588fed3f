"""The picture of `memory`: what a step, a plan and a state cost by history."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure

from benchmarks import panels as panels_lib
from jepa_wm.evaluation.report import figures

_THEME = figures.LIGHT

# Okabe and Ito's colours, which the colour-blind can tell apart.
_MARKS = {
  'window': ('#8c8c8c', 'X'),
  'gru': ('#cc79a7', 'D'),
  'banks': ('#e69f00', 'v'),
  'deltanet': ('#0072b2', 'o'),
  'hybrid': ('#d55e00', 's'),
}


def draw(lines: Sequence[dict[str, Any]]) -> bytes:
  """Draws a panel each of steps, plans and states; a PNG.

  Args:
    lines: what was measured.
  """
  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(12.5, 4.4), dpi=160, facecolor=_THEME.background
  )
  panels = figure.subplots(1, 3)
  for axes, what, title in zip(
    panels,
    ('step', 'plan', 'step'),
    ('a step, milliseconds', 'a plan, milliseconds', 'a state, kilobytes'),
  ):
    is_state = title.startswith('a state')
    for name, (color, marker) in _MARKS.items():
      own = [x for x in lines if x['name'] == f'memory/{what}/{name}']
      axes.plot(
        [x['config']['history'] for x in own],
        [
          x['config']['state_bytes'] / 1e3 if is_state else x['value']
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
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    loc='lower center',
    ncols=len(labels),
    frameon=False,
    labelcolor=_THEME.ink,
    fontsize=9.5,
  )
  figure.subplots_adjust(left=0.05, right=0.98, top=0.88, bottom=0.22)
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=_THEME.background)
  return stream.getvalue()


def _decorate(axes: matplotlib.axes.Axes, title: str) -> None:
  """Scales, labels and a grid."""
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.xaxis.set_major_formatter('{x:,g}')
  axes.yaxis.set_major_formatter('{x:,g}')
  panels_lib.dress(axes, title, 'latents seen before')
