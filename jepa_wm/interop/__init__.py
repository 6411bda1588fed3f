"""Published weights of others, read and written; nothing in them is executed.

`pretrained` finds and recognises folders, `state_dicts` reads and writes their
tensors (those of PyTorch with `data.torch_files`, which runs nothing),
`layouts` is what tables of names are made of, and each published system has a
module with its own table.
"""

from jepa_wm.interop.dinov2 import is_dinov2, read_dinov2, write_dinov2
from jepa_wm.interop.pretrained import (
  Pretrained,
  read,
  write_lewm,
  write_masked,
)
from jepa_wm.interop.vjepa2_ac import read_vjepa2_ac, write_vjepa2_ac

__all__ = [
  'Pretrained',
  'is_dinov2',
  'read',
  'read_dinov2',
  'read_vjepa2_ac',
  'write_dinov2',
  'write_lewm',
  'write_masked',
  'write_vjepa2_ac',
]
