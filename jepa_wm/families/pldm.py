"""PLDM: latent dynamics learned from offline data, kept apart by VCReg."""

import dataclasses
from typing import ClassVar

from jepa_wm.families import latent_dynamics


@dataclasses.dataclass(frozen=True)
class PLDM(latent_dynamics.LatentDynamics):
  """PLDM as plain fields; the defaults are stable-worldmodel's PLDM.

  The loss is `prediction + 18 variance + 12 covariance + 0.7 time variance +
  0.2 temporal similarity`, on LeWM's networks, one step ahead. The paper's own
  has a GRU for a predictor and an IMPALA encoder, rolls out over the whole
  sequence, and adds inverse dynamics:

      encoder='impala', predictor='recurrent', history=1, rollout_steps=16,
      inverse_dynamics_weight=1.0

  with weights that its authors tune for every dataset; EB-JEPA's for Two Rooms
  (variance 16, covariance 8, temporal similarity 12, inverse dynamics 1, 8
  steps) are those of the same form.

  Source: PLDM, arXiv 2502.14819; EB-JEPA, arXiv 2602.03604; stable-worldmodel
  0.1.1.
  """

  name: ClassVar[str] = 'pldm'

  regularizer: str = 'vcreg'
  temporal_similarity_weight: float = 0.2
