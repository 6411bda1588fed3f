"""Pictures of findings: lines over time, clouds of points, a field."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jepa_wm.evaluation.report import figures

if TYPE_CHECKING:
  import matplotlib.figure

DrawFn = Callable[[figures.Theme], bytes]


def both(name: str, draw_fn: DrawFn) -> dict[str, bytes]:
  """A picture for light and for dark pages, as `Finding.figures` has them."""
  return {
    f'{name}.png': draw_fn(figures.LIGHT),
    f'{name}_dark.png': draw_fn(figures.DARK),
  }


def lines(
  along: np.ndarray,
  series: Mapping[str, np.ndarray],
  theme: figures.Theme,
  *,
  title: str,
  labels: tuple[str, str],
  mark: float | None = None,
) -> bytes:
  """Draws medians over episodes in bands of their 10th to 90th percentiles.

  Args:
    along: `[T]`, the horizontal axis.
    series: `[N, T]` by name, three at most.
    theme: colours.
    title: of the picture.
    labels: of the horizontal and of the vertical axis, which is logarithmic
      where the medians span a factor of 20.
    mark: where to draw a vertical line.

  Returns:
    A PNG.
  """
  figure, axes = subplots(theme)
  middles = []
  for (name, values), color in zip(series.items(), _colors(theme, len(series))):
    low, middle, high = np.percentile(values, [10, 50, 90], axis=0)
    middles.append(middle)
    axes.fill_between(along, low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(along, middle, color=color, linewidth=2.2, label=name)
  if mark is not None:
    axes.axvline(mark, color=theme.faint, linewidth=1.0, linestyle=':')
  least, most = np.min(middles), np.max(middles)
  if least > 0 and most > 20 * least:
    axes.set_yscale('log')
  else:
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
  return _close(figure, axes, theme, title, labels)


def points(
  series: Mapping[str, tuple[np.ndarray, np.ndarray]],
  theme: figures.Theme,
  *,
  title: str,
  labels: tuple[str, str],
) -> bytes:
  """Draws `[N]` over `[N]`, a colour a name, three at most.

  Returns:
    A PNG.
  """
  figure, axes = subplots(theme)
  for (name, (x, y)), color in zip(series.items(), _colors(theme, len(series))):
    axes.scatter(x, y, s=9, color=color, alpha=0.6, linewidth=0, label=name)
  return _close(figure, axes, theme, title, labels)


def field(
  values: np.ndarray,
  along: np.ndarray,
  up: np.ndarray,
  marks: Mapping[str, tuple[float, float]],
  theme: figures.Theme,
  *,
  title: str,
  labels: tuple[str, str],
) -> bytes:
  """Draws a number over a plane, and places in it.

  Args:
    values: `[rows, columns]`, the first row lowest.
    along: `[columns]`, evenly spaced.
    up: `[rows]`, evenly spaced.
    marks: places `(x, y)` by name, three at most.
    theme: colours.
    title: of the picture.
    labels: of the horizontal and of the vertical axis.

  Returns:
    A PNG.
  """
  figure, axes = subplots(theme, width=5.4, height=4.4)
  shown = axes.pcolormesh(along, up, values, cmap='viridis', shading='nearest')
  axes.contour(along, up, values, 8, colors='white', linewidths=0.5, alpha=0.5)
  bar = figure.colorbar(shown, ax=axes)
  bar.ax.tick_params(colors=theme.faint, labelsize=8, length=0)
  bar.outline.set_visible(False)  # type: ignore[operator]
  faces = figures.FAILURE, 'white', 'black'
  for (name, (x, y)), sign, face in zip(marks.items(), 'oD^', faces):
    axes.plot(
      x,
      y,
      sign,
      color=face,
      markeredgecolor='white' if sign == 'o' else figures.FAILURE,
      markersize=12 if sign == 'o' else 6,
      markeredgewidth=1.5,
      linestyle='none',
      label=name,
    )
  axes.set_aspect('equal')
  return _close(figure, axes, theme, title, labels)


def _colors(theme: figures.Theme, number: int) -> tuple[str, ...]:
  every = theme.second, theme.first, figures.FAILURE
  return every if number > 1 else (theme.first,)


def subplots(
  theme: figures.Theme, *, width: float = 7.2, height: float = 3.6
) -> 'tuple[matplotlib.figure.Figure, Any]':
  """A figure on a page of `theme`, in inches, and its axes."""
  import matplotlib.figure

  # Not pyplot: it keeps global state and asks for a display.
  figure = matplotlib.figure.Figure(
    figsize=(width, height),
    dpi=160,
    facecolor=theme.background,
    layout='constrained',
  )
  return figure, figure.subplots()


def _close(
  figure: 'matplotlib.figure.Figure',
  axes: Any,
  theme: figures.Theme,
  title: str,
  labels: tuple[str, str],
) -> bytes:
  figures.style(axes, theme, title, labels[1], labels[0])
  figure.legend(
    loc='outside lower center',
    ncols=3,
    frameon=False,
    labelcolor=theme.ink,
    fontsize=9,
  )
  return figures.png(figure)
