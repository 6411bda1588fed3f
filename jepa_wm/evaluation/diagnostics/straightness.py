"""Whether episodes run straight through latent space."""

import dataclasses

import numpy as np

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding, Table


def straightness(latents: np.ndarray) -> np.ndarray:
  """Mean cosine between successive steps of paths.

  One minus a measure of curvature (Hénaff et al., 2019; LeWM, arXiv
  2603.19312): 1 on a line walked one way, 0 for a random walk in many
  dimensions, -1 for there and back. A step of no length counts as 0.

  Args:
    latents: `[..., T, D]`.

  Returns:
    `[...]`.

  Raises:
    ValueError: fewer than three latents.
  """
  if latents.shape[-2] < 3:
    raise ValueError(
      'straightness takes windows of three frames or more, got '
      f'{latents.shape[-2]}; raise data.num_frames.'
    )
  steps = np.diff(latents.astype(np.float64), axis=-2)
  lengths = np.linalg.norm(steps, axis=-1)
  along = np.sum(steps[..., 1:, :] * steps[..., :-1, :], axis=-1)
  most = lengths[..., 1:] * lengths[..., :-1]
  cosines = np.where(most > 0, along / np.where(most > 0, most, 1.0), 0.0)
  return np.mean(cosines, axis=-1)


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Straightness:
  """Cosines between successive latent steps, by episode."""

  name = group = 'straightness'

  def __call__(self, question: diagnostic.Question) -> Finding:
    paths = question.look().paths
    each = straightness(paths)
    walked = np.linalg.norm(np.diff(paths, axis=-2), axis=-1).sum(-1)
    gone = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=-1)
    return Finding(
      title='How straight episodes run in latent space',
      scalars={'mean_cosine': float(each.mean()), 'std': float(each.std())},
      table=Table(
        ['episode', 'mean cosine', 'length of the path', 'from end to end'],
        [
          [index, *map(float, numbers)]
          for index, numbers in enumerate(zip(each, walked, gone))
        ],
      ),
      sentence='Cosine between successive latent steps, averaged over each '
      'episode: 1 is a straight line, 0 a random walk. Mean and deviation over '
      f'{len(each)} held-out episodes.',
    )
