"""Ways to damage a file, or to make it hostile; each is a function of bytes."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

PWNED = 'pwned'
"""A file of this name in the current folder: code of a file was run."""

Damage = Callable[[bytes, random.Random], bytes]


def _cut(share: float) -> Damage:
  return lambda data, rng: data[: int(len(data) * share)]


def _flips(count: int, first: int | None = None) -> Damage:
  def flip(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    most = len(found) if first is None else min(first, len(found))
    for _ in range(count if most else 0):
      found[rng.randrange(most)] ^= 1 << rng.randrange(8)
    return bytes(found)

  return flip


def _overwritten(word: bytes, most: int | None = None) -> Damage:
  def overwrite(data: bytes, rng: random.Random) -> bytes:
    end = len(data) if most is None else min(most, len(data))
    place = rng.randrange(max(1, end - len(word)))
    return data[:place] + word + data[place + len(word) :]

  return overwrite


def _bomb(data: bytes, rng: random.Random) -> bytes:
  """A zip archive whose members come to 8 GB."""
  found = io.BytesIO()
  with zipfile.ZipFile(found, 'w', zipfile.ZIP_DEFLATED) as file:
    for name in ('archive/data.pkl', 'archive/data/0', 'data/main_data.hdf5'):
      with file.open(name, 'w', force_zip64=True) as member:
        for _ in range(32):
          member.write(bytes(2**23))
  return found.getvalue()


def _pickle(data: bytes, rng: random.Random) -> bytes:
  """A pickle that calls `open` for a file to write."""
  return b"cbuiltins\nopen\n(S'" + PWNED.encode() + b"'\nS'w'\ntR."


def _zipped_pickle(data: bytes, rng: random.Random) -> bytes:
  """The same as PyTorch wraps it."""
  found = io.BytesIO()
  with zipfile.ZipFile(found, 'w') as file:
    file.writestr('archive/data.pkl', _pickle(data, rng))
    file.writestr('archive/version', '3\n')
  return found.getvalue()


def _object_array(data: bytes, rng: random.Random) -> bytes:
  """An array of objects, whose content is a pickle."""
  header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
  header += b' ' * (117 - len(header)) + b'\n'
  lead = b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header))
  return lead + header + _pickle(data, rng)


def _long_header(data: bytes, rng: random.Random) -> bytes:
  """A length that no file has, where most formats have one."""
  return struct.pack('<Q', 2**63 - 1) + data[8:]


BINARY: dict[str, Damage] = {
  'empty': _cut(0.0),
  'a tenth': _cut(0.1),
  'half': _cut(0.5),
  'all but the end': _cut(0.99),
  'one bit': _flips(1),
  'bits of the head': _flips(4, 64),
  'bits of the header': _flips(8, 1024),
  'many bits': _flips(200),
  'ones': _overwritten(b'\xff' * 8, 256),
  'ones anywhere': _overwritten(b'\xff' * 16),
  'zeros': _overwritten(bytes(64)),
  'a long length': _long_header,
  'twice': lambda data, rng: data + data,
  'noise': lambda data, rng: rng.randbytes(min(len(data), 4096)),
  'a zip bomb': _bomb,
  'a pickle': _pickle,
  'a pickle in a zip': _zipped_pickle,
  'an array of objects': _object_array,
  'text': lambda data, rng: b'<!DOCTYPE html><html>404</html>',
}
"""Damages of any file, by name."""

_LEAVES: tuple[Any, ...] = (
  *(None, -1, 0, 10**18, 10**30, 1.5, True, 'x', '', [], {}, [[]]),
  *('../../../../etc/passwd', '/dev/zero', 'float8_e4m3fn', 'a' * 100_000),
  *(float('nan'), float('inf'), {'name': None}, ['x'] * 3, '\x00', '\ud800'),
)


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
  """Where something is in JSON, the whole first."""
  yield path
  parts = tree.items() if isinstance(tree, dict) else ()
  if isinstance(tree, list):
    parts = enumerate(tree[:3])
  for key, part in parts:
    yield from _paths(part, (*path, key))


def _with(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
  if not path:
    return value
  found = dict(tree) if isinstance(tree, dict) else list(tree)
  found[path[0]] = _with(found[path[0]], path[1:], value)
  return found


def _without(tree: Any, path: tuple[Any, ...]) -> Any:
  found = dict(tree) if isinstance(tree, dict) else list(tree)
  if len(path) > 1:
    found[path[0]] = _without(found[path[0]], path[1:])
  else:
    del found[path[0]]
  return found


JSON: dict[str, Damage] = {
  'deep lists': lambda data, rng: b'[' * 100_000,
  'deep objects': lambda data, rng: b'{"a":' * 100_000,
  'deep and closed': lambda data, rng: b'[' * 50_000 + b']' * 50_000,
  'long number': lambda data, rng: b'{"a": ' + b'9' * 100_000 + b'}',
  'another encoding': lambda data, rng: data.decode().encode('utf-16'),
  'no text': lambda data, rng: b'\xff\xfe\x00' + data,
  'a byte order mark': lambda data, rng: b'\xef\xbb\xbf' + data,
}
"""Damages of JSON, beside those of any file."""


def changed_json(data: bytes, rng: random.Random) -> bytes:
  """JSON, or the first line of JSON lines, with one part another."""
  first, *rest = data.split(b'\n') if b'}\n{' in data else [data]
  tree = json.loads(first)
  path = rng.choice(list(_paths(tree)))
  if path and rng.random() < 0.2:
    tree = _without(tree, path)
  else:
    tree = _with(tree, path, rng.choice(_LEAVES))
  return b'\n'.join([json.dumps(tree).encode(), *rest])


def of(name: str, number: int) -> dict[str, Damage]:
  """Damages for a file of that name.

  Args:
    name: of the file.
    number: how many of its parts are changed, of JSON.
  """
  if not name.endswith(('.json', '.jsonl')):
    return BINARY
  changes = {f'changed {i}': changed_json for i in range(number)}
  return {**JSON, **changes, 'empty': BINARY['empty'], 'half': BINARY['half']}
