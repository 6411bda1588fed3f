"""The picture of `time_to_success`: a panel per protocol, a curve a planner."""

import io
from typing import Any

import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from benchmarks import panels as panels_lib
from jepa_wm.evaluation.report import figures

Lines = dict[str, list[dict[str, Any]]]
"""What was measured, by planner."""

Panels = dict[str, Lines]
"""The same by the title of its panel."""

_THEME = figures.LIGHT

# Okabe and Ito's colours, which the colour-blind can tell apart.
_MARKS = {
  'cem': ('#0072b2', 'o'),
  'icem': ('#d55e00', 's'),
  'mppi': ('#009e73', '^'),
  'predictive_sampling': ('#cc79a7', 'D'),
  'random_shooting': ('#8c8c8c', 'X'),
  'gradient': ('#e69f00', 'v'),
  'grasp': ('#56b4e9', 'P'),
}


def draw(panels: Panels, conditions: str) -> bytes:
  """Draws a panel per protocol; a PNG.

  Args:
    panels: what was measured.
    conditions: under which, for the margin.
  """
  width = 1.5 + 5.2 * len(panels)
  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(width, 5.2), dpi=160, facecolor=_THEME.background
  )
  grid = figure.subplots(
    1, len(panels), sharex=True, sharey=True, squeeze=False
  )[0]
  for axes, (title, panel) in zip(grid, panels.items()):
    _draw_panel(axes, panel)
    _decorate(axes, title)
  grid[0].set_ylabel('success', color=_THEME.faint, fontsize=10)
  handles, labels = grid[0].get_legend_handles_labels()
  figure.legend(
    handles,
    labels,
    loc='lower center',
    ncols=min(len(labels), 4 * len(panels)),
    frameon=False,
    labelcolor=_THEME.ink,
    fontsize=9.5,
    columnspacing=1.4,
  )
  figure.text(
    1 - 0.2 / width,
    0.98,
    conditions,
    ha='right',
    va='top',
    color=_THEME.faint,
    fontsize=8,
  )
  figure.subplots_adjust(
    left=0.75 / width, right=1 - 0.2 / width, top=0.86, bottom=0.2, wspace=0.06
  )
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=_THEME.background)
  return stream.getvalue()


def _draw_panel(axes: matplotlib.axes.Axes, planners: Lines) -> None:
  """Draws the results of one protocol."""
  for planner, lines in planners.items():
    points = sorted(
      (
        line['config']['ms_per_plan'],
        line['value'],
        *line['config']['interval_95'],
      )
      for line in lines
    )
    milliseconds, rate, low, high = np.transpose(points)
    color, marker = _MARKS[planner]
    axes.vlines(milliseconds, low, high, color=color, alpha=0.4, linewidth=1.2)
    axes.plot(
      milliseconds,
      rate,
      color=color,
      marker=marker,
      markersize=7,
      markeredgecolor=_THEME.background,
      linewidth=1.8,
      label=planner.replace('_', ' '),
    )
  config = next(iter(planners.values()))[0]['config']
  for key, label in (
    ('expert_ceiling', 'expert'),
    ('random_floor', 'random actions'),
  ):
    axes.axhline(config[key], color=_THEME.faint, linestyle='--', linewidth=1)
    axes.annotate(
      f'{label} {config[key]:.0%}',
      (1.0, config[key]),
      xycoords=('axes fraction', 'data'),
      xytext=(-3, 4),
      textcoords='offset points',
      ha='right',
      color=_THEME.faint,
      fontsize=9,
    )


def _decorate(axes: matplotlib.axes.Axes, title: str) -> None:
  """Scales, labels and a grid."""
  axes.set_xscale('log')
  axes.set_ylim(0, 1.08)
  axes.xaxis.set_major_formatter('{x:g}')
  axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  axes.yaxis.set_major_locator(matplotlib.ticker.MultipleLocator(0.25))
  axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
  panels_lib.dress(axes, title, 'milliseconds per plan')
