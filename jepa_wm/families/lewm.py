"""LeWorldModel: next-latent prediction, kept informative by a regulariser."""

import dataclasses
from typing import ClassVar

from jepa_wm.families import latent_dynamics


@dataclasses.dataclass(frozen=True)
class LeWM(latent_dynamics.LatentDynamics):
  """LeWorldModel as plain fields; the defaults are the published model.

  The loss is `prediction + sigreg_weight * SIGReg(Z)`, of a batch of
  `T = history + 1` frames, one window. The other terms of
  `latent_dynamics.LatentDynamics` are ours (PLDM has some of them) and off by
  default.

  Source: LeWorldModel, arXiv 2603.19312, and its released code (le-wm at
  c8a4417), which has 18.0 M parameters where the paper says 15 M.
  """

  name: ClassVar[str] = 'lewm'
