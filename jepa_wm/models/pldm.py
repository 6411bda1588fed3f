"""PLDM: latent dynamics learned from offline data, kept apart by VCReg."""

import dataclasses
from typing import ClassVar

from jepa_wm import fields
from jepa_wm.models import jepa, lewm, model
from jepa_wm.objectives import dynamics, prediction, vcreg
from jepa_wm.objectives import terms as terms_lib


@model.MODELS.register
@dataclasses.dataclass(frozen=True)
class PLDM(lewm.LeWM):
  """The settings of PLDM; the defaults are stable-worldmodel's PLDM.

  The loss is `prediction + 18 variance + 12 covariance + 0.7 time variance +
  0.2 temporal similarity`, on LeWM's networks, one step ahead. The paper's own
  has a GRU for a predictor and an IMPALA encoder, rolls out over the whole
  sequence, and adds inverse dynamics:

      encoder=conv.ImpalaConfig(),
      predictor=recurrent.RecurrentConfig(history=1),
      terms=(
        prediction.NextLatent(steps=16), vcreg.VCReg(),
        dynamics.TemporalSimilarity(0.2), dynamics.InverseDynamics(1.0))

  with weights that its authors tune for every dataset; EB-JEPA's for Two Rooms
  (variance 16, covariance 8, temporal similarity 12, inverse dynamics 1, 8
  steps) are those of the same form.

  Source: PLDM, arXiv 2502.14819; EB-JEPA, arXiv 2602.03604; stable-worldmodel
  0.1.1.
  """

  name: ClassVar[str] = 'pldm'

  terms: jepa.Terms = fields.some_of(
    terms_lib.TERMS,
    (
      prediction.NextLatent(),
      vcreg.VCReg(),
      dynamics.TemporalSimilarity(weight=0.2),
      dynamics.Straightening(weight=0.0),
    ),
  )
