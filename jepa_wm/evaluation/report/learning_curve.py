"""How far a model gets in its world, against what it has played there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jepa_wm.evaluation.report import figures, plots


def draw(
  rounds: Sequence[Mapping[str, float]],
  theme: figures.Theme = figures.LIGHT,
  *,
  title: str = 'Success while learning',
) -> bytes:
  """Draws success in its interval against environment steps.

  Lines show what random actions and the expert solve of the same problems.

  Args:
    rounds: the oldest first, at least one: `environment_steps` and `episodes`
      played so far, `success` with its interval from `low` to `high`, `floor`
      and `ceiling`, all but the first two in 0..1. Of those at one number of
      steps the last counts.
    theme: colours.
    title: of the picture.

  Returns:
    A PNG; episodes are at its top.
  """
  from matplotlib import ticker

  figure, axes = plots.subplots(theme, height=3.9)
  rows = list({x['environment_steps']: x for x in rounds}.values())
  column = lambda name: np.asarray([row[name] for row in rows], float)
  steps, rate = column('environment_steps'), 100 * column('success')
  low, high = 100 * column('low'), 100 * column('high')
  axes.errorbar(
    steps,
    rate,
    np.maximum([rate - low, high - rate], 0.0),
    color=theme.first,
    linewidth=2.2,
    elinewidth=0.8,
    marker='o',
    markersize=4,
    label=f'success, {rate[-1]:.0f} % at the end',
  )
  kept: dict[str, Any] = {'color': theme.first, 'linewidth': 0, 'alpha': 0.16}
  axes.fill_between(steps, low, high, label='95 % interval', **kept)
  for name, color, word in (
    ('ceiling', figures.SUCCESS, 'expert'),
    ('floor', theme.second, 'random actions'),
  ):
    height = 100 * rows[-1][name]
    axes.axhline(
      height,
      color=color,
      linewidth=1.2,
      linestyle='--',
      label=f'{word}, {height:.0f} %',
    )
  figures.style(axes, theme, title, 'solved in per cent', 'environment steps')
  axes.set_ylim(-2, 104)
  widest = max(steps[-1], 1)
  axes.set_xlim(-0.02 * widest, 1.03 * widest)
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  if rows[-1]['episodes']:
    length = rows[-1]['environment_steps'] / rows[-1]['episodes']
    above = axes.secondary_xaxis(
      'top', functions=(lambda x: x / length, lambda x: x * length)
    )
    above.set_xlabel('episodes', color=theme.faint, fontsize=9)
    above.tick_params(colors=theme.faint, labelsize=9, length=0)
    above.spines['top'].set_visible(False)
    above.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  figure.legend(
    loc='outside lower center',
    ncols=4,
    frameon=False,
    labelcolor=theme.ink,
    fontsize=9,
  )
  return figures.png(figure)
