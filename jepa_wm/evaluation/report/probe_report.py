"""Probe results for people: a table and a chart."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from jepa_wm.evaluation.report import figures


def table(records: Sequence[dict[str, Any]]) -> str:
  """Sets result records as a table: a row for every representation.

  Args:
    records: as in `results.json`; every one has `representation`, `scores` (see
      `probe_training.Outcome`) and `target`, 'label' or 'state'.

  Returns:
    Lines of text. Accuracies stand with Wilson's 95 % interval, states with
    the mean squared error and the correlation.
  """
  names = list(dict.fromkeys(record['representation'] for record in records))
  cells: dict[str, dict[str, str]] = {name: {} for name in names}
  for record in records:
    row, scores = cells[record['representation']], record['scores']
    row['tokens'] = ' x '.join(map(str, record['tokens']))
    if record['target'] == 'label':
      low, high = scores['interval_95']
      row['accuracy'] = f'{scores["accuracy"]:.1%}'
      row['95% interval'] = f'{low:.1%} \u2013 {high:.1%}'
    else:
      for name, values in scores.items():
        row[f'{name} MSE'] = f'{values["mse"]:.4g}'
        row[f'{name} r'] = f'{values["r"]:.3f}'
  columns = list(dict.fromkeys(key for row in cells.values() for key in row))
  lines = [['representation', *columns]]
  lines += [
    [name, *(cells[name].get(c, '') for c in columns)] for name in names
  ]
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  text = [
    '  '.join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(line, widths))
    )
    for line in lines
  ]
  text.insert(1, '  '.join('\u2500' * width for width in widths))
  return '\n'.join(text)


def draw(
  records: Sequence[dict[str, Any]], theme: figures.Theme = figures.LIGHT
) -> bytes:
  """Draws a panel for every target, a bar for every representation.

  Args:
    records: as for `table`, the representation that matters first.
    theme: colours.

  Returns:
    A PNG.
  """
  import matplotlib.figure

  names = list(dict.fromkeys(record['representation'] for record in records))
  panels: dict[str, dict[str, tuple[float, float, float]]] = {}
  for record in records:
    scores, name = record['scores'], record['representation']
    if record['target'] == 'label':
      bar = (scores['accuracy'], *scores['interval_95'])
      panels.setdefault('accuracy', {})[name] = bar
    else:
      for target, values in scores.items():
        # What matters for negative R^2 is that it is one.
        r2 = max(values['r2'], 0.0)
        panels.setdefault(f'{target}: R\u00b2', {})[name] = (r2, r2, r2)
  figure = matplotlib.figure.Figure(
    figsize=(2.6 * len(panels) + 1.8, 0.42 * len(names) + 1.0),
    dpi=160,
    facecolor=theme.background,
  )
  all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  places = np.arange(len(names))[::-1]
  for axes, (title, bars) in zip(all_axes, panels.items()):
    for place, name in zip(places, names):
      value, low, high = bars[name]
      color = theme.first if name == names[0] else theme.second
      axes.barh(place, value, height=0.62, color=color)
      if high > low:
        axes.plot([low, high], [place, place], color=theme.ink, linewidth=1.2)
      axes.text(
        max(value, high) + 0.03,
        place,
        f'{value:.0%}' if title == 'accuracy' else f'{value:.2f}',
        va='center',
        color=theme.ink,
        fontsize=9,
      )
    axes.set_xlim(0, 1.2)
    axes.set_xticks([])
    axes.set_yticks(places, names, color=theme.ink, fontsize=9)
    axes.set_title(
      title, loc='left', color=theme.ink, fontsize=11, fontweight='bold'
    )
    axes.set_facecolor(theme.background)
    axes.tick_params(length=0)
    for side, spine in axes.spines.items():
      spine.set_visible(side == 'left')
      spine.set_color(theme.grid)
  figure.subplots_adjust(
    left=1.6 / figure.get_figwidth(),
    right=0.98,
    top=1 - 0.42 / figure.get_figheight(),
    bottom=0.2 / figure.get_figheight(),
    wspace=0.12,
  )
  stream = io.BytesIO()
  figure.savefig(stream, format='png', facecolor=theme.background)
  return stream.getvalue()
