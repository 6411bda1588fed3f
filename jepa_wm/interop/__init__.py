"""Published weights of others, read and written; nothing in them is executed.

`pretrained` finds and recognises folders, `state_dicts` reads and writes their
tensors (`torch_files` those of PyTorch, without running what is beside them),
`layouts` is what tables of names are made of, and each published system has a
module with its own table.
"""

from jepa_wm.interop.pretrained import (
  Pretrained,
  read,
  write_lewm,
  write_masked,
)

__all__ = ['Pretrained', 'read', 'write_lewm', 'write_masked']
