"""The animation of a planning result: agents, plans and goals side by side."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import planning_benchmark
from jepa_wm.evaluation.report import figures, overlays, zone_drawing

_COLUMNS, _ROWS = 3, 3
_PANEL = 128
_BORDER, _GAP, _MARGIN, _CAPTION = 3, 2, 14, 20
_MAX_FRAMES = 52
_FRAME_MS, _HOLD_MS = 90, 2500
_PAPER, _INK, _FAINT, _RUNNING = '#ffffff', '#1c1f26', '#667085', '#cbd2dc'

PictureFn = Callable[[jax.Array], jax.Array]
"""Latents `[..., D]` to pixels uint8 `[..., height, width, 3]`."""


def choose(result: planning_benchmark.Result) -> list[int]:
  """Picks episodes to show: the first ones, with up to three failures last.

  Returns:
    Rows of `result.episodes`, at most nine.
  """
  reached, missed = _split(result)
  num_shown = _COLUMNS * _ROWS
  num_missed = max(min(len(missed), _COLUMNS), num_shown - len(reached))
  missed = missed[:num_missed]
  return reached[: num_shown - len(missed)] + missed


def apart(result: planning_benchmark.Result) -> tuple[list[int], list[int]]:
  """Picks the first successes and the first failures, at most six of either."""
  reached, missed = _split(result)
  return reached[: 2 * _COLUMNS], missed[: 2 * _COLUMNS]


def _split(result: planning_benchmark.Result) -> tuple[list[int], list[int]]:
  rows = range(len(result.episodes))
  reached = [i for i in rows if result.episodes[i].success]
  return reached, [i for i in rows if not result.episodes[i].success]


def draw_episodes(
  result: planning_benchmark.Result,
  rows: list[int] | None = None,
  picture_fn: PictureFn | None = None,
) -> bytes:
  """Draws some episodes as they went, the plan over the agent's picture.

  Each cell shows the agent and, beside it, its goal. The line is the path that
  the world would take under the whole current plan, its dots one block apart.
  What is forbidden has another hue.
  Where an agent was moved, a cross says where it was taken from and a thin line
  where to. A diamond is what a level above wants to be reached first, where
  that is not the goal: the nearest state that was seen.

  Args:
    result: of a benchmark run.
    rows: which of its episodes; those of `choose` if left out.
    picture_fn: draws such a subgoal beside the goal, as the model has it.

  Returns:
    An animated GIF.
  """
  rows = choose(result) if rows is None else rows
  world = worlds.get(result.protocol.environment)
  budget = result.protocol.budget
  last = max(
    episode.first_success_step or 0 if episode.success else budget
    for episode in (result.episodes[row] for row in rows)
  )
  stride = -(-(last + 1) // _MAX_FRAMES)
  steps = sorted({*range(0, last + 1, stride), last})

  goal_vectors = result.goals[rows]
  shown = np.concatenate(
    [result.vectors[rows][:, steps], goal_vectors[:, None]], axis=1
  )
  pictures = _pictures(result, rows, shown)
  agents, goals = pictures[:, :-1], pictures[:, -1]
  plans: dict[tuple[int, int], Image.Image] = {}
  decoded = _decoded(result, rows, picture_fn)
  frames = []
  for number, step in enumerate(steps):
    canvas = _Canvas(len(rows), ['goal', *(['subgoal'] if decoded else [])])
    for cell, row in enumerate(rows):
      plan = _current_plan(result, row, step)
      agent = Image.fromarray(agents[cell, number])
      if plan is not None:
        made, path = plan
        if (row, made) not in plans:
          plans[row, made] = overlays.draw_path(
            world.place(path),
            world.place(goal_vectors[cell]),
            result.protocol.action_block,
            size=_PANEL,
          )
        overlays.lay(plans[row, made], over=agent)
      if (move := _move(result, row, step)) is not None:
        overlays.lay(overlays.draw_move(*move, size=_PANEL), over=agent)
      panels = [agent, Image.fromarray(goals[cell])]
      if (found := _current_subgoal(result, row, step)) is not None:
        made, place = found
        if place is not None:
          mark = overlays.draw_subgoal(place, size=_PANEL)
          overlays.lay(mark, over=agent)
        panels += [decoded[row, made]] if decoded else []
      canvas.add(cell, panels, *_caption(result, row, step))
    frames.append(canvas.image)
  return _encode(frames)


def _encode(frames: list[Image.Image]) -> bytes:
  """An animated GIF of frames."""
  # One palette for all frames, of the first, where plans are longest, and the
  # last, where outcomes are.
  both = Image.new('RGB', (frames[0].width, 2 * frames[0].height))
  both.paste(frames[0])
  both.paste(frames[-1], (0, frames[0].height))
  palette = both.quantize(255, Image.Quantize.MAXCOVERAGE)
  frames = [
    frame.quantize(palette=palette, dither=Image.Dither.NONE)
    for frame in frames
  ]
  return figures.gif(frames, _FRAME_MS, _HOLD_MS)


class _Canvas:
  """One frame of the grid."""

  def __init__(self, num_cells: int, names: Sequence[str]):
    self._names = names
    self._cell_width = _PANEL + 2 * _BORDER + len(names) * (_PANEL + _GAP)
    self._cell_height = _PANEL + 2 * _BORDER + _CAPTION
    columns = min(num_cells, _COLUMNS)
    rows = -(-num_cells // _COLUMNS)
    self._columns = columns
    self.image = Image.new(
      'RGB',
      (
        columns * (self._cell_width + _MARGIN) + _MARGIN,
        rows * (self._cell_height + _MARGIN) + _MARGIN,
      ),
      _PAPER,
    )
    self._draw = ImageDraw.Draw(self.image)
    self._font = ImageFont.load_default(12)

  def add(
    self,
    cell: int,
    panels: Sequence[Image.Image],
    caption: str,
    color: str,
  ) -> None:
    """Pictures side by side, the first with a caption, the rest by name."""
    row, column = divmod(cell, self._columns)
    x = _MARGIN + column * (self._cell_width + _MARGIN)
    y = _MARGIN + row * (self._cell_height + _MARGIN) + _CAPTION
    bottom = y + _PANEL + 2 * _BORDER
    self._draw.rectangle((x, y, x + self._cell_width - 1, bottom - 1), color)
    left = x + _BORDER
    for number, panel in enumerate(panels):
      self.image.paste(panel, (left + number * (_PANEL + _GAP), y + _BORDER))
    ink = _FAINT if color == _RUNNING else color
    self._draw.text((x, y - 5), caption, ink, self._font, anchor='ls')
    for number, name in enumerate(self._names, start=1):
      right = left + number * (_PANEL + _GAP) + _PANEL + _BORDER
      self._draw.text((right, y - 5), name, _FAINT, self._font, anchor='rs')


def _caption(
  result: planning_benchmark.Result, row: int, step: int
) -> tuple[str, str]:
  """What is written over a cell at `step`, and the colour of its frame."""
  episode, budget = result.episodes[row], result.protocol.budget
  done = episode.first_success_step
  if done is not None and step >= done and episode.success:
    return f'reached at step {done}', figures.SUCCESS
  if step >= budget:
    return f'missed in {budget} steps', figures.FAILURE
  if _move(result, row, step) is not None:
    return f'step {step}, moved at {result.protocol.disturbed_at}', _RUNNING
  return f'step {step}', _RUNNING


def _move(
  result: planning_benchmark.Result, row: int, step: int
) -> tuple[np.ndarray, np.ndarray] | None:
  """Where a problem was moved from and to before `step`, None of no such."""
  at, moved = result.protocol.disturbed_at, result.moved
  if at is None or moved is None or step <= at:
    return None
  found = np.flatnonzero(moved.indices == row)
  if not len(found):
    return None
  place = worlds.get(result.protocol.environment).place
  return place(moved.before[found[0]]), place(moved.after[found[0]])


def _current_subgoal(
  result: planning_benchmark.Result, row: int, step: int
) -> tuple[int, np.ndarray | None] | None:
  """When the subgoal in force was given, and its place if it is not the goal.

  None where there is no level above, or the episode is over.
  """
  current = None
  place = worlds.get(result.protocol.environment).place
  for moment, vectors, is_goal in result.subgoals:
    found = np.flatnonzero(moment.indices == row)
    if len(found) and (moment.step < step or moment.step == 0):
      at = found[0]
      current = moment.step, None if is_goal[at] else place(vectors[at])
  return current


def _decoded(
  result: planning_benchmark.Result,
  rows: Sequence[int],
  picture_fn: PictureFn | None,
) -> dict[tuple[int, int], Image.Image]:
  """Subgoals of problems as the model has them, by problem and step."""
  if picture_fn is None or not result.subgoals:
    return {}
  keys, latents = [], []
  for moment, _, _ in result.subgoals:
    for at in np.flatnonzero(np.isin(moment.indices, rows)):
      keys.append((int(moment.indices[at]), moment.step))
      latents.append(moment.latents[at])
  pictures = np.asarray(picture_fn(jnp.asarray(np.stack(latents))))
  size = _PANEL, _PANEL
  return {
    key: Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    for key, picture in zip(keys, pictures)
  }


def _pictures(
  result: planning_benchmark.Result, rows: list[int], vectors: np.ndarray
) -> np.ndarray:
  """What states `[n, T, V]` of problems `rows` look like."""
  count = vectors.shape[1]
  own = jax.tree.map(
    lambda leaf: leaf[np.repeat(rows, count)], result.pairs.worlds
  )
  world = worlds.get(result.protocol.environment)
  with world.stage(image_size=_PANEL) as stage:
    flat = stage.pictures(vectors.reshape(-1, vectors.shape[-1]), own)
  whole = flat.reshape(*vectors.shape[:2], *flat.shape[1:])
  return zone_drawing.tint(whole, result.record, vectors[0, 0])


def _current_plan(
  result: planning_benchmark.Result, row: int, step: int
) -> tuple[int, np.ndarray] | None:
  """When the plan in force at `step` was made, and its path."""
  current = None
  for planned in result.planned:
    found = np.flatnonzero(planned.indices == row)
    if len(found) and (planned.step < step or planned.step == 0):
      current = planned.step, planned.vectors[found[0]]
  return current
