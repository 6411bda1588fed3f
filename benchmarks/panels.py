"""How the panels of benchmarks' pictures are dressed, all alike."""

import matplotlib.axes

from jepa_wm.evaluation.report import figures

_THEME = figures.LIGHT


def dress(axes: matplotlib.axes.Axes, title: str, across: str) -> None:
  """Gives a panel its title, the name of its horizontal axis and a grid.

  Args:
    axes: the panel.
    title: of it.
    across: what its horizontal axis is.
  """
  axes.set_xlabel(across, color=_THEME.faint, fontsize=10)
  axes.set_title(
    title,
    loc='left',
    color=_THEME.ink,
    fontsize=11,
    fontweight='bold',
    pad=8,
  )
  axes.set_facecolor(_THEME.background)
  axes.grid(color=_THEME.grid, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(which='both', colors=_THEME.faint, labelsize=9, length=0)
  axes.spines[:].set_visible(False)
