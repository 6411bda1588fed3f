"""Colours of pictures, pictures as files, and how a search went."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jepa_wm import planning

if TYPE_CHECKING:
  import matplotlib.axes
  import matplotlib.figure

SUCCESS, FAILURE, PLAN = '#0d9488', '#e8590c', '#4f46e5'
"""Colours of reached goals, missed goals and planned paths, everywhere."""
SUBGOAL = '#d9a300'
"""Of what a level above wants to be reached first."""


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

  Costs are relative to each problem's first candidates. Lines are medians over
  problems, bands their 10th to 90th percentiles.

  Args:
    diagnostics: of one plan per problem, leaves `[I, P]`; `P` may be 0.
    theme: colours.

  Returns:
    A PNG.
  """
  import matplotlib.figure
  import matplotlib.ticker

  first_cost = np.abs(diagnostics.mean_cost[:1]) + np.finfo(np.float32).tiny
  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(9.0, 3.5), dpi=160, facecolor=theme.background
  )
  cost_axes, spread_axes = figure.subplots(1, 2)
  elites = np.asarray(diagnostics.elite_cost / first_cost)
  everyone = np.asarray(diagnostics.mean_cost / first_cost)
  _draw_band(cost_axes, everyone, 'all candidates', theme.second)
  _draw_band(cost_axes, elites, 'elites', theme.first)
  # A logarithm where there are decades to show; a cost may also be negative.
  if elites.size and np.nanmin(elites) > 0 and cost_axes.dataLim.y0 < 0.1:
    cost_axes.set_yscale('log')
    cost_axes.yaxis.set_major_formatter('{x:g}')
    cost_axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  elif cost_axes.dataLim.y0 > 0:
    cost_axes.set_ylim(bottom=0)
  if elites.size:
    cost_axes.legend(
      frameon=False, labelcolor=theme.ink, fontsize=9, loc='lower left'
    )
  _draw_band(spread_axes, np.asarray(diagnostics.spread), 'spread', theme.first)
  spread_axes.set_ylim(bottom=0)
  style(cost_axes, theme, 'Cost', "share of the first candidates' mean cost")
  style(spread_axes, theme, 'Spread', 'standard deviation of an action')
  figure.subplots_adjust(
    left=0.08, right=0.98, top=0.88, bottom=0.15, wspace=0.24
  )
  return png(figure)


def draw_rows(rows: Mapping[str, np.ndarray], theme: Theme) -> bytes:
  """Draws rows of pictures, each with its name at the left.

  Args:
    rows: `[T, height, width, 3]` by name, uint8 or in 0..1, all of one length.
    theme: colours.

  Returns:
    A PNG.
  """
  import matplotlib.figure

  shown = len(next(iter(rows.values())))
  width = 1.1 * shown + 1.5
  figure = matplotlib.figure.Figure(
    figsize=(width, 1.15 * len(rows) + 0.1), dpi=160, facecolor=theme.background
  )
  grid = figure.subplots(len(rows), shown, squeeze=False)
  for axes_row, (name, images) in zip(grid, rows.items()):
    for axes, image in zip(axes_row, images):
      axes.imshow(image, interpolation='nearest')
      axes.set_xticks([])
      axes.set_yticks([])
      for spine in axes.spines.values():
        spine.set_visible(False)
    axes_row[0].set_ylabel(
      name,
      rotation=0,
      ha='right',
      va='center',
      color=theme.ink,
      fontsize=9,
      labelpad=8,
    )
  figure.subplots_adjust(
    left=1.35 / width,
    right=0.99,
    top=0.98,
    bottom=0.02,
    wspace=0.05,
    hspace=0.05,
  )
  return png(figure)


def png(figure: 'matplotlib.figure.Figure') -> bytes:
  """A figure as a file."""
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=figure.get_facecolor())
  return stream.getvalue()


def gif(frames: Sequence[Image.Image], frame_ms: int, hold_ms: int) -> bytes:
  """Frames as an animation without end, whose last frame stands for longer."""
  stream = io.BytesIO()
  frames[0].save(
    stream,
    format='GIF',
    save_all=True,
    append_images=frames[1:],
    duration=[frame_ms] * (len(frames) - 1) + [hold_ms],
    loop=0,
    optimize=True,
  )
  return stream.getvalue()


def _draw_band(
  axes: 'matplotlib.axes.Axes', values: np.ndarray, label: str, color: str
) -> None:
  """Median over the problems of `values` `[I, P]`, in a band."""
  if not values.size:
    return
  iterations = np.arange(1, len(values) + 1)
  values = np.where(np.isfinite(values), values, np.nan)
  low, middle, high = np.nanpercentile(values, [10, 50, 90], axis=1)
  axes.fill_between(iterations, low, high, color=color, alpha=0.16, linewidth=0)
  marker = 'o' if len(iterations) < 2 else None
  axes.plot(
    iterations, middle, color=color, linewidth=2.2, label=label, marker=marker
  )
  axes.set_xlim(1, max(len(iterations), 2))


def style(
  axes: 'matplotlib.axes.Axes',
  theme: Theme,
  title: str,
  unit: str,
  along: str = 'iteration',
) -> None:
  """Gives axes a title, the names of what they show, and quiet lines."""
  import matplotlib.ticker

  axes.set_title(
    title, loc='left', color=theme.ink, fontsize=11, fontweight='bold', pad=10
  )
  axes.set_xlabel(along, color=theme.faint, fontsize=9)
  axes.set_ylabel(unit, color=theme.faint, fontsize=9)
  axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
  axes.set_facecolor(theme.background)
  axes.grid(axis='y', color=theme.grid, linewidth=0.8)
  axes.tick_params(which='both', colors=theme.faint, labelsize=9, length=0)
  axes.set_axisbelow(True)
  for side, spine in axes.spines.items():
    spine.set_visible(side == 'bottom')
    spine.set_color(theme.grid)
