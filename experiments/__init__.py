"""Command lines: `python -m experiments.<name>`; flags live here."""

import gc

# What a command imports and traces stays: to look through it for garbage every
# 700 objects, as Python does, is a tenth of the CPU time of a short run.
gc.set_threshold(10_000)
