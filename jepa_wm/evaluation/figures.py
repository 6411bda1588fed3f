"""Figures of a planning result: the search, the map, the score over time."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence

import jax
import matplotlib.figure
import numpy as np
from PIL import Image

from jepa_wm import planning
from jepa_wm.evaluation import pairs as pairs_lib
from jepa_wm.evaluation import planning_benchmark

SUCCESS, FAILURE, PLAN = '#0d9488', '#e8590c', '#4f46e5'
"""Colours of reached goals, missed goals and planned paths, everywhere."""


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours of a figure that must stand on a page of either kind."""

  background: str
  ink: str
  faint: str
  grid: str
  first: str
  second: str


LIGHT = Theme('#ffffff', '#1c1f26', '#667085', '#e4e7ec', PLAN, '#98a2b3')
DARK = Theme('#171a21', '#e6e8ec', '#98a2b3', '#2b303b', '#8b8cf8', '#667085')


def draw_search(
  diagnostics: planning.Diagnostics, theme: Theme = LIGHT
) -> bytes:
  """Draws how cost and spread of the candidates shrink over iterations.

  Lines are medians over problems, bands their 10th to 90th percentiles.

  Args:
    diagnostics: of one plan per problem, leaves `[I, P]`.
    theme: colours.

  Returns:
    A PNG.
  """
  iterations = np.arange(1, diagnostics.spread.shape[0] + 1)
  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(9.0, 3.6), dpi=160, facecolor=theme.background
  )
  cost_axes, spread_axes = figure.subplots(1, 2)
  cost_lines = (
    ('all candidates', diagnostics.mean_cost, theme.second),
    ('elites', diagnostics.elite_cost, theme.first),
  )
  spread_lines = (('', diagnostics.spread, theme.first),)
  for axes, title, lines in (
    (cost_axes, 'Cost of the candidates', cost_lines),
    (spread_axes, 'Spread of the candidates', spread_lines),
  ):
    for label, values, color in lines:
      values = np.where(np.isfinite(values), values, np.nan)
      low, middle, high = np.nanpercentile(values, [10, 50, 90], axis=1)
      axes.fill_between(
        iterations, low, high, color=color, alpha=0.18, linewidth=0
      )
      axes.plot(iterations, middle, color=color, linewidth=2.2)
      if label:
        axes.annotate(
          label,
          (iterations[-1], middle[-1]),
          xytext=(6, 0),
          textcoords='offset points',
          color=color,
          va='center',
          fontsize=9,
        )
    if all(np.all(values > 0) for _, values, _ in lines):
      axes.set_yscale('log')
    axes.set_title(
      title, loc='left', color=theme.ink, fontsize=11, fontweight='bold', pad=12
    )
    axes.set_xlabel('iteration', color=theme.faint, fontsize=9)
    axes.set_xlim(1, max(iterations[-1], 2))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_facecolor(theme.background)
    axes.grid(axis='y', color=theme.grid, linewidth=0.8)
    axes.tick_params(which='both', colors=theme.faint, labelsize=9, length=0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
      spine.set_visible(side == 'bottom')
      spine.set_color(theme.grid)
  cost_axes.set_ylabel(
    'squared distance to the goal', color=theme.faint, fontsize=9
  )
  spread_axes.set_ylabel(
    'standard deviation of an action', color=theme.faint, fontsize=9
  )
  # Room on the right of the left panel for its labels.
  figure.subplots_adjust(
    left=0.08, right=0.98, top=0.86, bottom=0.14, wspace=0.42
  )
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=theme.background)
  return stream.getvalue()
