"""V-JEPA 2-AC's loss: every next frame from true ones, and a short rollout."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.objectives import prediction, terms


@terms.PREDICTIONS.register
@terms.TERMS.register
@dataclasses.dataclass(frozen=True)
class TeacherForcing:
  """How far predictions are, fed the truth and fed themselves.

  `teacher_forcing` is over all frames after the first, `rollout` over the first
  `steps` of them, rolled out from the first frame. True states are fed in both.

  Source: V-JEPA 2, arXiv 2506.09985, section 3, and its released code, whose
  rollout loss is the mean over its steps, where the paper has the last one.

  Attributes:
    weight: of teacher forcing.
    rollout_weight: of the rollout.
    distance: one of `prediction.DISTANCES`, of latents without their states.
    steps: frames of the rollout, at least 2 for it to add anything.
    rollout: what of it counts, the 'mean' over its steps, as in the code, or
      the 'last' step alone, as in the text.
  """

  name: ClassVar[str] = 'teacher_forcing'
  shapes_latents: ClassVar[bool] = False
  reaches_encoder: ClassVar[bool] = True

  weight: float = 1.0
  rollout_weight: float = 1.0
  distance: str = 'l1'
  steps: int = 2
  rollout: str = 'mean'

  def __post_init__(self) -> None:
    choices = {
      'distance': tuple(prediction.DISTANCES),
      'rollout': ('mean', 'last'),
    }
    fields.check(self, choices)
    if self.rollout != 'mean' and self.steps == 1:
      raise ValueError(
        f'rollout={self.rollout!r} would do nothing: a rollout of steps=1 has '
        'one step.'
      )

  def num_frames(self, history: int) -> int:
    """See `terms.Prediction`.

    Raises:
      ValueError: a rollout longer than the predictor's window.
    """
    if self.steps > history:
      raise ValueError(
        f'terms.teacher_forcing.steps={self.steps} must be at most '
        f'predictor.history={history}, the longest window of the predictor.'
      )
    return self.steps + 1

  def roll(self, batch: terms.Windows) -> list[tuple[jax.Array, jax.Array]]:
    """See `terms.Prediction`: teacher forcing, then the rollout.

    Raises:
      ValueError: more frames than a window and the one after it.
    """
    latents, actions, history = batch.latents, batch.actions, batch.history
    if actions.shape[1] > history:
      raise ValueError(
        f'A batch must have at most {history + 1} frames (predictor.history='
        f'{history} and the one after), got {actions.shape[1] + 1}.'
      )
    size = latents.shape[-1] - batch.state_dim
    states = latents[..., size:]
    forced = batch.predict_fn(latents[:, :-1], actions)
    window, rolled = latents[:, :1], [forced[:, :1]]
    for step in range(1, self.steps):
      # What was predicted, where the robot really was.
      seen = jnp.concatenate(
        [rolled[-1][..., :size], states[:, step : step + 1]], axis=-1
      )
      window = jnp.concatenate([window, seen], axis=1)
      after = batch.predict_fn(window, actions[:, : step + 1])
      rolled.append(after[:, -1:])
    truth = latents if batch.targets is None else batch.targets
    return [
      (x[..., :size], truth[:, 1 : 1 + x.shape[1], :size])
      for x in (forced, jnp.concatenate(rolled, axis=1))
    ]

  def price(self, outcome: terms.Outcome, rng_key: jax.Array) -> terms.Priced:
    """See `terms.Term`."""
    del rng_key
    distance = prediction.DISTANCES[self.distance]
    (predicted, truth), (after, came) = outcome.rolled
    forced = distance(predicted, truth).mean()
    if self.rollout == 'last':
      after, came = after[:, -1:], came[:, -1:]
    rolled = distance(after, came).mean()
    return terms.Priced(
      {'teacher_forcing': forced, 'rollout': rolled},
      {'teacher_forcing': self.weight, 'rollout': self.rollout_weight},
      {},
    )
