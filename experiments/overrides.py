"""Overrides on a command line that change nothing, told by name."""

import re
from collections.abc import Sequence

from experiments.configs import variants
from jepa_wm.recipes import study_checks

# What is watched with, or says where data lies, changes no training.
_BESIDE = (
  *study_checks.BESIDE,
  'data.path',
  'data.num_eval_windows',
  'frozen_encoder',
  'initialise_from',
)


def inert(argv: Sequence[str]) -> list[str]:
  """Fields of a config that a command line sets to no effect.

  Each is left out on its own, and what would be trained is compared with what
  is; see `recipes.study_checks`. Nothing is computed.

  Args:
    argv: a command line with `--config=FILE:VARIANT` and `--config.FIELD=...`.

  Returns:
    A sentence for each field that is set to another value than the config has,
    and trains the same.
  """
  spec, given = '', {}
  for argument in argv:
    if found := re.fullmatch(r'--?config=(.*)', argument):
      spec = found[1]
    elif found := re.fullmatch(r'--?config\.([\w.]+)=(.*)', argument):
      given[found[1]] = found[2]
  looked = [
    name for name in given if name not in _BESIDE and not name.endswith('.name')
  ]
  if not spec or not looked:
    return []
  named = {name: variants.literal(text) for name, text in given.items()}
  try:
    whole = variants.resolve(spec, named)
    effect = study_checks.effect(whole)
  except ValueError:
    return []  # Whoever trains it says what is wrong.
  flat = study_checks.flat(whole)
  told: list[str] = []
  for name in looked:
    others = {k: x for k, x in named.items() if k != name}
    try:
      without = variants.resolve(spec, others)
      is_set = study_checks.flat(without).get(name) != flat.get(name)
      if is_set and study_checks.effect(without) == effect:
        told.append(
          f'--config.{name}={given[name]} has no effect: without it the same '
          'is trained.'
        )
    except ValueError:
      continue  # The others stand on it.
  return told
