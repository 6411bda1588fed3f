"""What tells one model from another in the name of a result."""

import json

import jax

from jepa_wm import exports, fields, files


def of_model(model: exports.WorldModel) -> str:
  """Identity of what plans: settings, weights and units."""
  described = {
    'model': fields.to_dict(model.model.config),
    'units': None if model.units is None else model.units.to_dict(),
  }
  weights = jax.tree_util.tree_leaves_with_path(model.params)
  return files.digest(
    json.dumps(described, sort_keys=True, default=str),
    *(
      part
      for path, leaf in weights
      for part in (jax.tree_util.keystr(path), leaf)
    ),
  )
