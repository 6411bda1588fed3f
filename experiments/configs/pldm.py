"""PLDM on Two Room: a small one, the published terms and sizes, a look.

  --config=experiments/configs/pldm.py:two_room_small   (the default)
  --config=experiments/configs/pldm.py:two_room_gru     the same with a GRU
  --config=experiments/configs/pldm.py:two_room_plain   published terms, small
  --config=experiments/configs/pldm.py:two_room         stable-worldmodel's
  --config=experiments/configs/pldm.py:push_t           the same of Push-T
  --config=experiments/configs/pldm.py:two_room_tiny    seconds, for a look

Every field of the model is a flag, those left at their defaults too, see
`lewm.py`: `--config.model.terms.vcreg.variance=16`.

Source: PLDM, arXiv 2502.14819; EB-JEPA, arXiv 2602.03604, for the weight of
inverse dynamics; stable-worldmodel 0.1.1 for the full size and VCReg's weights.
"""

from typing import Any

import ml_collections

from experiments.configs import lewm, variants

VARIANTS = (
  'two_room_small',
  'two_room_gru',
  'two_room_plain',
  'two_room',
  'push_t',
  'two_room_tiny',
)

_TERMS = {
  'prediction': {'steps': 3},
  'vcreg': {},
  # VCReg's hinge lets go at deviation 1, so that this weight moves less than
  # beside SIGReg; what it does is the same, see the README here.
  'temporal_similarity': {'weight': 5.0},
  'straightening': {},
  'inverse_dynamics': {'weight': 1.0, 'hidden_dim': 128},
}


def get_config(variant: str = 'two_room_small') -> ml_collections.ConfigDict:
  """The fields of a run of one of `VARIANTS`; a ValueError for another."""
  variants.check(variant, VARIANTS)
  # Data, optimiser and sizes are LeWM's, as in stable-worldmodel.
  of_lewm = 'two_room_small' if variant == 'two_room_gru' else variant
  config = lewm.get_config(of_lewm)
  if variant in lewm.FULL_SIZE:
    model: dict[str, Any] = {'name': 'pldm', 'dtype': 'bfloat16'}
  elif variant == 'two_room_plain':
    model = {**config.model.to_dict(), 'name': 'pldm'}
    del model['terms']
  else:
    model = {**config.model.to_dict(), 'name': 'pldm', 'terms': _TERMS}
    config.num_steps = min(config.num_steps, 1500)
    config.eval_every = min(config.eval_every, 500)
    config.checkpoint_every = min(config.checkpoint_every, 500)
  if variant == 'two_room_gru':
    model['predictor'] = {'name': 'recurrent', 'history': 1}
  config.model = ml_collections.ConfigDict(model)
  variants.fill_in(config)
  return config
