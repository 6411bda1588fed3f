"""How far predictions are from what came, on held-out windows."""

import dataclasses
from typing import ClassVar

import jax

from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Errors:
  """What the model's own `evaluate` measures."""

  name: ClassVar[str] = 'errors'
  group: ClassVar[str] = 'held_out'

  def __call__(
    self,
    model: diagnostic.Examined,
    episodes: diagnostic.Episodes,
    rng_key: jax.Array,
  ) -> Finding:
    """Means over the held-out windows; see `diagnostic.Diagnostic`."""
    del rng_key
    return Finding(
      title='How far predictions are off',
      scalars=episodes.look(model).metrics,
      sentence='On held-out windows, in units of the latents: errors of '
      'different models do not compare.',
    )
