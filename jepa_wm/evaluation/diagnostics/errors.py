"""How far predictions are from what came, on held-out windows."""

import dataclasses

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Errors:
  """What the model's own `evaluate` measures."""

  name, group = 'errors', 'held_out'

  def __call__(self, question: diagnostic.Question) -> Finding:
    return Finding(
      title='How far predictions are off',
      scalars=question.look().metrics,
      sentence='On held-out windows, in units of the latents: errors of '
      'different models do not compare.',
    )
