"""Command lines: `python -m experiments.<name>`; flags live here."""

import gc
import sys

# What a command imports and traces stays: to look through it for garbage every
# 700 objects, as Python does, is a tenth of the CPU time of a short run.
gc.set_threshold(10_000)

_COMMANDS = {
  *('experiments.ablate', 'experiments.collect', 'experiments.convert'),
  *('experiments.export', 'experiments.plan', 'experiments.probe'),
  *('experiments.train', 'experiments.train_agent'),
}

# Python looks for the module of `-m` now, before all that it imports.
if sys.argv[:1] == ['-m'] and _COMMANDS & {*sys.orig_argv}:
  from experiments import starting

  starting.begin()
