"""Published sizes of transformers, by name: one table for all of them."""

from collections.abc import Mapping
from typing import Any

VIT: dict[str, dict[str, Any]] = {
  'micro': {'width': 96, 'depth': 4, 'num_heads': 3, 'mlp_dim': 384},
  'tiny': {'width': 192, 'depth': 12, 'num_heads': 3, 'mlp_dim': 768},
  'small': {'width': 384, 'depth': 12, 'num_heads': 6, 'mlp_dim': 1536},
  'base': {'width': 768, 'depth': 12, 'num_heads': 12, 'mlp_dim': 3072},
  'large': {'width': 1024, 'depth': 24, 'num_heads': 16, 'mlp_dim': 4096},
  'huge': {'width': 1280, 'depth': 32, 'num_heads': 16, 'mlp_dim': 5120},
  'giant': {'width': 1408, 'depth': 40, 'num_heads': 22, 'mlp_dim': 6144},
  'giant16': {'width': 1408, 'depth': 40, 'num_heads': 16, 'mlp_dim': 6144},
}
"""Vision transformers: DeiT's (arXiv 2012.12877), ViT's (2010.11929), and the
giants of V-JEPA 2 (2506.09985) and, with 16 heads, of I-JEPA (2301.08243).
'micro' is ours, for a CPU: a twelfth of 'tiny'."""

CAUSAL = {
  'tiny': {'depth': 3, 'num_heads': 8, 'mlp_dim': 1024},
  'small': {'depth': 6, 'num_heads': 16, 'mlp_dim': 2048},
  'base': {'depth': 12, 'num_heads': 32, 'mlp_dim': 4096},
}
"""Predictors of LeWM by the names of its ablation (arXiv 2603.19312).

'small' is the released predictor. What the paper's other two are is published
nowhere (its text says ViT-T, ViT-S and ViT-B, and the released one is none of
them): here they have half and twice the blocks, heads and MLP of it.
"""

OWN = 'own'
"""The size of settings whose fields say themselves how large it is."""


def fill_in(settings: Any, table: Mapping[str, Mapping[str, int]]) -> None:
  """Sets the fields that `settings.size` says, of a dataclass being made.

  Args:
    settings: has a field `size`, `OWN` or a name in `table`.
    table: fields of every size.

  Raises:
    ValueError: a field has a value that is neither its default nor that of a
      size, and so was meant to count.
  """
  for name, value in table.get(str(settings.size), {}).items():
    given = getattr(settings, name)
    known = [getattr(type(settings), name)]
    known += [fields[name] for fields in table.values()]
    if given not in known:
      raise ValueError(
        f'{name}={given} would do nothing: size={settings.size!r} says '
        f'{value}; leave one of the two out.'
      )
    object.__setattr__(settings, name, value)
