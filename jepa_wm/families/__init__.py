"""Published systems: which networks, which objectives, which defaults."""

from collections.abc import Mapping
from typing import Any

import jax

from jepa_wm import fields
from jepa_wm.families.dino_wm import DinoWM
from jepa_wm.families.ijepa import IJEPA
from jepa_wm.families.latent_dynamics import LatentDynamics
from jepa_wm.families.latent_networks import ENCODING_FIELDS
from jepa_wm.families.lewm import LeWM
from jepa_wm.families.on_latents import OnLatents
from jepa_wm.families.pldm import PLDM
from jepa_wm.families.vjepa import VJEPA
from jepa_wm.families.vjepa2_ac import VJEPA2AC
from jepa_wm.types import Params

FAMILIES: fields.Registry[Any] = fields.Registry('family')
for _family in (LeWM, PLDM, DinoWM, IJEPA, VJEPA, VJEPA2AC):
  FAMILIES.register(_family.name)(_family)

__all__ = [
  'ENCODING_FIELDS',
  'FAMILIES',
  'IJEPA',
  'PLDM',
  'VJEPA',
  'VJEPA2AC',
  'DinoWM',
  'LatentDynamics',
  'LeWM',
  'OnLatents',
  'from_config',
  'has_dynamics',
  'inference_family',
  'inference_shapes',
  'inference_variables',
  'to_config',
]


def from_config(config: Mapping[str, Any]) -> Any:
  """Builds a family from its name and fields.

  Args:
    config: `{'name': 'lewm', **fields}`; fields left out have their defaults.
      A field may be such a mapping itself (a frozen encoder's family).

  Returns:
    The family, a frozen dataclass.

  Raises:
    ValueError: no name, no such family, no such field (the message suggests
      the nearest), or a field out of its range.
  """
  return fields.from_dict(FAMILIES, config)


def to_config(family: Any) -> dict[str, Any]:
  """The name and all fields of `family`, which `from_config` reads back."""
  return fields.to_dict(FAMILIES, family)


def has_dynamics(family: Any) -> bool:
  """Whether `family` takes actions and can be stepped, so planned with."""
  return hasattr(family, 'step')


def inference_family(family: Any) -> Any:
  """The family that `inference_variables` are those of, mostly the same."""
  return getattr(family, 'inference_family', family)


def inference_variables(
  family: Any, variables: Params, target_variables: Params | None
) -> Params:
  """What a trained model is made of: what evaluations see and exports hold.

  Args:
    family: may say it by a method of this name.
    variables: what the optimiser trains.
    target_variables: of the target encoder.

  Returns:
    `variables`, with those of the target encoder where the family wants them.
  """
  if hasattr(family, 'inference_variables'):
    return family.inference_variables(variables, target_variables)
  return variables


def inference_shapes(family: Any) -> Params:
  """Shapes of `inference_variables`, without computing any."""

  def init(rng_key):
    variables = family.init(rng_key)
    return inference_variables(family, variables, family.init_target(variables))

  return jax.eval_shape(init, jax.random.key(0))
