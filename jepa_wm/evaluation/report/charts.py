"""Charts of a planning result as inline SVG, coloured by the page around it.

Classes, not colours: the page's style sheet gives them the colours of a light
or a dark reader.
"""

import base64
import html
import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import zone_drawing
from jepa_wm.evaluation.statistics import comparison

_MAP = 448


def score_strip(record: dict[str, Any]) -> str:
  """Draws success with its interval between the floor and the ceiling."""
  width, height, left, right, axis = 960, 118, 16, 16, 62
  low, high = record['interval_95']

  def x(rate: float) -> float:
    return round(left + rate * (width - left - right), 1)

  def mark(rate: float, label: str) -> str:
    anchor = 'start' if rate < 0.1 else 'end' if rate > 0.9 else 'middle'
    return (
      f'<line class="mark" x1="{x(rate)}" x2="{x(rate)}" y1="{axis - 13}" '
      f'y2="{axis + 13}"/><text class="faint" x="{x(rate)}" y="{axis + 32}" '
      f'text-anchor="{anchor}">{label} {rate:.0%}</text>'
    )

  ticks = ''.join(
    f'<text class="faint" x="{x(rate)}" y="{height - 4}" text-anchor="'
    f'{anchor}">{rate:.0%}</text>'
    for rate, anchor in ((0.0, 'start'), (0.5, 'middle'), (1.0, 'end'))
  )
  rate = record['success_rate']
  return (
    f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="success '
    f'{rate:.0%}, 95% interval {low:.0%} to {high:.0%}">'
    f'<line class="axis" x1="{x(0)}" x2="{x(1)}" y1="{axis}" y2="{axis}"/>'
    f'{mark(record["random_floor"], "random actions")}'
    f'{mark(record["expert_ceiling"], "expert")}'
    f'<line class="interval" x1="{x(low)}" x2="{x(high)}" y1="{axis}" '
    f'y2="{axis}"/><circle class="dot" cx="{x(rate)}" cy="{axis}" r="9"/>'
    f'<text class="value" x="{x(rate)}" y="{axis - 24}" text-anchor="'
    f'{"end" if rate > 0.9 else "middle"}">{rate:.0%}</text>{ticks}</svg>'
  )


def forest(summaries: Sequence[comparison.Summary]) -> str:
  """Draws many runs under one another: success, its interval, every seed."""
  width, left, right, top, row = 960, 300, 24, 30, 34
  height = top + row * len(summaries) + 10

  def x(rate: float) -> float:
    return round(left + rate * (width - left - right), 1)

  lines = ''
  for rate in (0.0, 0.25, 0.5, 0.75, 1.0):
    lines += (
      f'<line class="grid" x1="{x(rate)}" x2="{x(rate)}" y1="{top - 6}" '
      f'y2="{height - 8}"/><text class="faint" x="{x(rate)}" y="16" '
      f'text-anchor="middle">{rate:.0%}</text>'
    )
  for number, summary in enumerate(summaries):
    y = top + row * number + row // 2
    label = html.escape(comparison.name(summary, summaries))
    low, high = summary.interval
    floor, ceiling = (
      f'<line class="mark" x1="{x(rate)}" x2="{x(rate)}" y1="{y - 8}" '
      f'y2="{y + 8}"><title>{what} {rate:.1%}</title></line>'
      for what, rate in (
        ('random actions', summary.floor),
        ('expert', summary.ceiling),
      )
    )
    seeds = ''.join(
      f'<circle class="seed" cx="{x(rate)}" cy="{y}" r="3"/>'
      for rate in summary.rates
      if len(summary.rates) > 1
    )
    lines += (
      f'<text x="{left - 16}" y="{y + 4}" text-anchor="end">{label}</text>'
      f'{floor}{ceiling}<line class="interval" x1="{x(low)}" x2="{x(high)}" '
      f'y1="{y}" y2="{y}"/><circle class="dot" cx="{x(summary.rate)}" '
      f'cy="{y}" r="7"><title>{summary.rate:.1%} ({low:.1%} to {high:.1%})'
      f'</title></circle>{seeds}'
    )
  return (
    f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="success of '
    f'every run with its 95% interval">{lines}</svg><p class="note">Dot and '
    'bar: success and its 95% interval; small dots: seeds; ticks: random '
    'actions and the expert on the same pairs.</p>'
  )


def success_curve(result: planning_benchmark.Result) -> str:
  """Draws the share of goals reached against the steps played."""
  width, height = 448, 448
  left, right, top, bottom = 44, 12, 14, 44
  budget = result.protocol.budget
  steps = sorted(
    e.first_success_step
    for e in result.episodes
    if e.first_success_step is not None
  )

  def x(step: float) -> float:
    return round(left + step / budget * (width - left - right), 1)

  def y(rate: float) -> float:
    return round(top + (1 - rate) * (height - top - bottom), 1)

  path = f'M{x(0)} {y(0)}'
  for number, step in enumerate(steps, start=1):
    path += f'H{x(step)}V{y(number / len(result.episodes))}'
  path += f'H{x(budget)}'
  grid = ''.join(
    f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(rate)}" '
    f'y2="{y(rate)}"/><text class="faint" x="{left - 8}" y="{y(rate) + 4}" '
    f'text-anchor="end">{rate:.0%}</text>'
    for rate in (0.0, 0.25, 0.5, 0.75, 1.0)
  )
  ticks = ''.join(
    f'<text class="faint" x="{x(step)}" y="{height - bottom + 20}" '
    f'text-anchor="{anchor}">{step}</text>'
    for step, anchor in (
      (0, 'middle'),
      (budget // 2, 'middle'),
      (budget, 'end'),
    )
  )
  area = f'{path}V{y(0)}Z'
  return (
    f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="share of '
    f'goals reached against environment steps">{grid}{ticks}'
    f'<path class="area" d="{area}"/><path class="curve" d="{path}"/>'
    f'<text class="faint" x="{(left + width - right) / 2}" y="{height - 6}" '
    'text-anchor="middle">environment steps</text></svg>'
  )


def episode_map(result: planning_benchmark.Result) -> str:
  """Draws every problem as an arrow from start to goal, over the world.

  Pointing at an arrow shows the path that the agent took and says how it went.
  """
  world = worlds.get(result.protocol.environment)
  starts = _MAP * world.place(result.vectors[:, 0])
  ends = _MAP * world.place(result.goals)
  # Failures last, so that they lie on top.
  order = sorted(
    range(len(result.episodes)), key=lambda i: not result.episodes[i].success
  )
  arrows = ''
  for i in order:
    episode = result.episodes[i]
    kind = 'reached' if episode.success else 'missed'
    played = episode.first_success_step
    if played is None:
      played = result.protocol.budget
    trail = _MAP * world.place(result.vectors[i, : played + 1])
    points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in trail)
    (x1, y1), (x2, y2) = starts[i], ends[i]
    arrows += (
      f'<g class="{kind}"><title>{html.escape(tell(episode, world.unit))}'
      f'</title><polyline class="trail" points="{points}"/>'
      f'{_mark_of_move(result, i)}'
      f'<line class="aim" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
      f'y2="{y2:.1f}"/><line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
      f'y2="{y2:.1f}" marker-end="url(#{kind}-head)"/>'
      f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="3"/></g>'
    )
  # Several maps may share a page, and the first may be folded away.
  number = zlib.crc32(arrows.encode())
  arrows = arrows.replace('-head)', f'-{number})')
  heads = ''.join(
    f'<marker id="{kind}-{number}" class="{kind}" viewBox="0 0 8 8" refX="7" '
    'refY="4" markerWidth="8" markerHeight="8" orient="auto" '
    'markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8Z"/></marker>'
    for kind in ('reached', 'missed')
  )
  zone = zone_drawing.polygon(result.record, result.vectors[0, 0], _MAP)
  crowd = ' crowded' if len(result.episodes) > 60 else ''
  ground = f'<rect class="ground" width="{_MAP}" height="{_MAP}"/>'
  # Where every problem has its own world there is no one picture of it.
  alike = result.pairs.worlds is None and not _layouts_differ(result.vectors)
  picture = _empty_world(world, result.vectors[:15, 0]) if alike else None
  if picture is not None:
    empty = data_uri(picture, 'image/png')
    ground = f'<image href="{empty}" width="{_MAP}" height="{_MAP}"/>'
  return (
    f'<svg class="map{crowd}" viewBox="0 0 {_MAP} {_MAP}" role="img" '
    f'aria-label="starts and goals over the world"><defs>{heads}</defs>'
    f'{ground}{zone}{arrows}</svg>'
  )


def _mark_of_move(result: planning_benchmark.Result, row: int) -> str:
  """A cross where a problem was moved from, and a line to where it was put."""
  moved = result.moved
  if moved is None or row not in moved.indices:
    return ''
  found = int(np.flatnonzero(moved.indices == row)[0])
  place = worlds.get(result.protocol.environment).place
  (x, y), (a, b) = (_MAP * place(v[found]) for v in (moved.before, moved.after))
  return (
    f'<path class="moved" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10'
    f'M{x:.1f} {y:.1f}L{a:.1f} {b:.1f}"/>'
  )


def tell(episode: planning_benchmark.Episode, unit: str) -> str:
  """How a problem went, in a few words."""
  start, end = (
    f'{distance:.{2 if distance < 10 else 0}f} {unit}'
    for distance in (episode.start_distance, episode.final_distance)
  )
  start = f'pair {episode.pair}: goal {start} away'
  if episode.success:
    return f'{start}, reached at step {episode.first_success_step}'
  return f'{start}, missed by {end}'


def data_uri(content: bytes, kind: str) -> str:
  """`content` as an address that needs no file."""
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def _layouts_differ(vectors: np.ndarray) -> bool:
  """Whether problems differ in what no episode of `[P, T, V]` changes."""
  stays = np.all(vectors == vectors[:, :1], axis=(0, 1))
  return bool(np.any(stays & (np.ptp(vectors[:, 0], axis=0) > 0)))


def _empty_world(world: worlds.World, vectors: np.ndarray) -> bytes | None:
  """A PNG of what does not move: the median picture of many states.

  Args:
    world: the world.
    vectors: states `[n, V]` to show where the world has no others at hand.

  Returns:
    None where such a state cannot be shown.
  """
  try:
    with world.stage(image_size=_MAP) as stage:
      frames = stage.scenes(vectors)
  except ValueError:
    return None
  stream = io.BytesIO()
  Image.fromarray(np.median(frames, axis=0).astype(np.uint8)).save(
    stream, format='PNG'
  )
  return stream.getvalue()
