"""Videos of imagination: true frames above, decoded latents below."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jepa_wm.evaluation.diagnostics import imagination
from jepa_wm.evaluation.report import figures

_PANEL, _GAP, _LABEL = 96, 4, 16
_FRAME_MS, _HOLD_MS = 350, 1500
_PAPER, _INK = '#ffffff', '#667085'


def draw_gif(videos: imagination.Videos) -> bytes:
  """An animated GIF, rollouts side by side."""
  count, length = videos.true.shape[:2]
  frames = [
    _sheet(
      videos.true[:, t],
      videos.imagined[:, t],
      f'step {t * videos.steps}',
      count,
    )
    for t in range(length)
  ]
  return figures.gif(frames, _FRAME_MS, _HOLD_MS)


def draw_strip(videos: imagination.Videos, row: int = 0) -> bytes:
  """One rollout as a PNG, time from left to right."""
  length = videos.true.shape[1]
  label = f'every {videos.steps} steps'
  sheet = _sheet(videos.true[row], videos.imagined[row], label, length)
  stream = io.BytesIO()
  sheet.save(stream, format='PNG')
  return stream.getvalue()


def _sheet(
  true: np.ndarray, imagined: np.ndarray, label: str, count: int
) -> Image.Image:
  """Pictures `[count, height, width, 3]` in two rows, named."""
  width = count * (_PANEL + _GAP) + _GAP
  height = 2 * (_PANEL + _LABEL + _GAP)
  sheet = Image.new('RGB', (width, height), _PAPER)
  draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
  for line, (name, pictures) in enumerate(
    ((f'true, {label}', true), ('imagined', imagined))
  ):
    top = line * (_PANEL + _LABEL + _GAP)
    draw.text((_GAP, top + 1), name, _INK, font)
    for column, picture in enumerate(pictures):
      panel = Image.fromarray(picture).resize((_PANEL, _PANEL))
      left = _GAP + column * (_PANEL + _GAP)
      sheet.paste(panel, (left, top + _LABEL))
  return sheet
