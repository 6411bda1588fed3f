"""Command lines: `python -m experiments.<name>`; flags live here."""

import gc
import sys

# What a command imports and traces stays: to look through it for garbage every
# 700 objects, as Python does, is a tenth of the CPU time of a short run.
gc.set_threshold(10_000)

# So is it while Python looks for the module of `-m`.
if sys.argv[:1] == ['-m']:
  from experiments import starting

  starting.begin()
