"""What devices tell each other."""

import re


def collectives(program):
  """The kinds of messages between devices in a compiled program."""
  found = re.findall(
    r' (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)'
    r'(?:-start)?\(',
    program.as_text(),
  )
  return set(found)
