"""How many frames of a clip a model looks at, and a token spans."""

from jepa_wm import models


def num_frames(asked: int | None, model: models.Encodes) -> int:
  """Frames of a clip: the model's own number where it encodes clips.

  Raises:
    ValueError: others were asked for than such a model takes.
  """
  if model.clip_length is None:
    return asked or 1
  size = tubelet_size(model)
  if asked and asked % size:
    raise ValueError(
      f'num_frames must be a multiple of the {size} frames that a '
      f'token of {model.config.name} spans, got {asked}.'
    )
  return asked or model.clip_length


def tubelet_size(model: models.Encodes) -> int:
  """Frames that a token spans."""
  if model.clip_length is None or model.token_grid is None:
    return 1
  return model.clip_length // model.token_grid[0]
