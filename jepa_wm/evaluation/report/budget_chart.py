"""Success of a planner against what its plans cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm.evaluation.report import figures, plots


def draw(
  rows: Sequence[Mapping[str, Any]],
  names: Sequence[str],
  margin: float,
  theme: figures.Theme,
) -> bytes:
  """Draws budgets as dots with intervals, the chosen one in colour.

  Args:
    rows: `success_rate`, `interval_95`, `flops_per_plan` and `chosen` of each
      budget, the largest first.
    names: of them.
    margin: below the largest one's success, drawn as a line.
    theme: colours.

  Returns:
    A PNG.
  """
  import matplotlib.ticker

  figure, axes = plots.subplots(theme, height=3.8)
  bound = rows[0]['success_rate'] - margin
  axes.axhline(bound, color=theme.faint, linewidth=1.0, linestyle=':')
  for row, name in zip(rows, names, strict=True):
    rate, (low, high) = row['success_rate'], row['interval_95']
    color = figures.SUCCESS if row['chosen'] else theme.first
    cost = row['flops_per_plan'] / 1e6
    axes.errorbar(
      [cost],
      [rate],
      # A rate of 1 may lie a rounding above its interval.
      yerr=np.maximum([[rate - low], [high - rate]], 0.0),
      fmt='o',
      color=color,
      markersize=8 if row['chosen'] else 5,
      capsize=3,
    )
    axes.annotate(
      f'{name}, chosen' if row['chosen'] else name,
      (cost, low),
      xytext=(0, -6),
      textcoords='offset points',
      ha='center',
      va='top',
      fontsize=8,
      color=color if row['chosen'] else theme.faint,
    )
  axes.set_xscale('log')
  axes.margins(x=0.08, y=0.18)
  title, unit = 'Success against the cost of a plan', 'success'
  figures.style(axes, theme, title, unit, 'million operations a plan')
  axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter('{x:g}')
  axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, 0))
  return figures.png(figure)
