"""What keeps a family's latents from collapsing: one field chooses."""

import dataclasses
from typing import ClassVar

import jax

from jepa_wm.objectives import barlow_twins, info_nce, sigreg, vcreg

REGULARIZERS = ('sigreg', 'vcreg', 'barlow_twins', 'info_nce', 'none')

Term = tuple[str, float, jax.Array]
"""Of a loss: its name among the metrics, its weight and its value."""


@dataclasses.dataclass(frozen=True)
class Regularized:
  """The fields of a family whose latents need a regulariser.

  `regularizer` names the one that counts; the fields of the others wait. Every
  term has a weight of its own, relative to the prediction loss, whose default
  is a published one, so that the name alone swaps one for another.

  Attributes:
    regularizer: one of `REGULARIZERS`. 'sigreg' tests every frame's batch of
      latents for a Gaussian; 'vcreg' bounds their variance from below and
      decorrelates them; 'barlow_twins' correlates predictions with their
      targets, all frames of the batch as one, and knows no scale (see
      `objectives.barlow_twins`); 'info_nce' tells a frame's neighbours from the
      frames of other sequences, of which there must be two.
    sigreg_weight: LeWM's lambda; .09 in the code, .1 in the paper's text.
    sigreg_statistic: one of `sigreg.STATISTICS`, SIGReg's test; the weight's
      default is that of 'epps_pulley'.
    num_projections: random directions of SIGReg.
    num_knots: nodes of its quadrature on [0, 3].
    variance_weight: of VCReg over the batch; it and the next three are those
      of PLDM in stable-worldmodel.
    covariance_weight: of VCReg over the batch.
    time_variance_weight: of VCReg over time.
    time_covariance_weight: of VCReg over time.
    barlow_twins_weight: of Barlow Twins, R2-Dreamer's.
    redundancy_weight: its lambda, of the off-diagonal.
    info_nce_weight: of InfoNCE over time.
  """

  choices: ClassVar[dict[str, tuple[str, ...]]] = {
    'regularizer': REGULARIZERS,
    'sigreg_statistic': sigreg.STATISTICS,
  }

  regularizer: str = 'sigreg'
  sigreg_weight: float = 0.09
  sigreg_statistic: str = 'epps_pulley'
  num_projections: int = 1024
  num_knots: int = 17
  variance_weight: float = 18.0
  covariance_weight: float = 12.0
  time_variance_weight: float = 0.7
  time_covariance_weight: float = 0.0
  barlow_twins_weight: float = 0.05
  redundancy_weight: float = 0.005
  info_nce_weight: float = 1.0

  def __post_init__(self):
    """Checks what the kind of a field does not say.

    Raises:
      ValueError: a field out of its range; the message names it.
    """
    if self.num_knots < 3 or self.num_knots % 2 == 0:
      raise ValueError(
        f'num_knots must be odd and at least 3, got {self.num_knots!r}.'
      )

  def regularizer_terms(
    self,
    latents: jax.Array,
    predicted: jax.Array,
    targets: jax.Array,
    rng_key: jax.Array,
  ) -> list[Term]:
    """The terms of the regulariser that was chosen.

    Args:
      latents: `[B, T, D]`, of all frames; `T` may be 1.
      predicted: `[..., D]`, predictions of one step.
      targets: the same shape, what they should have been.
      rng_key: draws SIGReg's directions; consumed.

    Returns:
      Names, weights and values of its terms; none for 'none'.
    """
    terms: list[Term] = []
    if self.regularizer == 'sigreg':
      statistic = sigreg.sigreg(
        latents.swapaxes(0, 1),
        rng_key,
        num_projections=self.num_projections,
        num_knots=self.num_knots,
        statistic=self.sigreg_statistic,
      ).mean()
      terms = [('sigreg', self.sigreg_weight, statistic)]
    elif self.regularizer == 'vcreg' and latents.shape[-2] == 1:
      # Images: there is no time to have statistics over.
      samples = latents[..., 0, :]
      terms = [
        ('variance', self.variance_weight, vcreg.variance(samples)),
        ('covariance', self.covariance_weight, vcreg.covariance(samples)),
      ]
    elif self.regularizer == 'vcreg':
      values = vcreg.vcreg(latents)
      terms = [
        ('variance', self.variance_weight, values.variance),
        ('covariance', self.covariance_weight, values.covariance),
        ('time_variance', self.time_variance_weight, values.time_variance),
        (
          'time_covariance',
          self.time_covariance_weight,
          values.time_covariance,
        ),
      ]
    elif self.regularizer == 'barlow_twins':
      size = latents.shape[-1]
      distance = barlow_twins.barlow_twins(
        predicted.reshape(-1, size),
        targets.reshape(-1, size),
        redundancy_weight=self.redundancy_weight,
      )
      terms = [('barlow_twins', self.barlow_twins_weight, distance)]
    elif self.regularizer == 'info_nce':
      terms = [('info_nce', self.info_nce_weight, info_nce.info_nce(latents))]
    return terms
