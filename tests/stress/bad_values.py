"""Values that a flag or field should refuse, or have a meaning for."""

from typing import Any

HUGE = '9' * 40
LONG = 'a' * 5000

_NUMBERS = {
  'empty': '',
  'word': 'five',
  'nan': 'nan',
  'infinite': 'inf',
  'negative': '-7',
  'zero': '0',
  'huge': HUGE,
}
_TEXTS = {
  'empty': '',
  'blank': ' ',
  'unknown': 'no_such_thing',
  'traversal': '../../../../etc/passwd',
  'device': '/dev/zero',
  'long': LONG,
  'format': '%s%n{0}{x!r}',
  'letters': 'é☃\U0001f600',
  'number': '-1',
  'bucket': 'gs://bucket/x',
  'home': '~nobody_of_that_name/x',
}

VALUES: dict[str, dict[str, str]] = {
  'int': {**_NUMBERS, 'fraction': '1.5', 'billion': '1000000000'},
  'float': {**_NUMBERS, 'minus_infinite': '-inf', 'beyond_float32': '1e39'},
  'bool': {'empty': '', 'word': 'perhaps', 'number': '2'},
  'text': _TEXTS,
  'texts': {**_TEXTS, 'commas': ',,', 'twice': 'x,x'},
  'tuple': {
    'empty': '',
    'none': '()',
    'word': 'x',
    'negative': '(-1,)',
    'huge': f'({HUGE},)',
    'words': "('a', 'b')",
    'nested': '((1,), (2,))',
    'infinite': '(1e999,)',
    'code': '__import__("os").getpid()',
    'deep': '(' * 500 + ')' * 500,
  },
}
"""By type and kind; how command lines write them."""

NEVER = frozenset(
  {
    *('nan', 'infinite', 'minus_infinite', 'word', 'fraction', 'words'),
    *('nested', 'code', 'deep', 'huge', 'beyond_float32', 'device', 'long'),
  }
)
"""Kinds that mean nothing, wherever they are given."""


def type_of_flag(flag: Any) -> str:
  """Which of `VALUES` are for a flag of absl."""
  kind = flag.flag_type()
  if 'list' in kind or kind == 'multi string':
    return 'texts'
  kind = kind.removeprefix('multi ')
  return {'string': 'text', 'string enum': 'text'}.get(kind, kind)


def type_of_value(value: Any) -> str:
  """Which of `VALUES` are for a field of a config."""
  for kind, name in (
    (bool, 'bool'),
    (int, 'int'),
    (float, 'float'),
    ((tuple, list), 'tuple'),
  ):
    if isinstance(value, kind):
      return name
  return 'text'


def misspelt(name: str) -> str:
  """The name without its middle letter."""
  middle = len(name) // 2
  return name[:middle] + name[middle + 1 :]
