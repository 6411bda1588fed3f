"""The files that fix the pairs of a protocol: read, checked, written."""

import inspect
import json
import os
import pathlib
from typing import Any

import numpy as np

from jepa_wm import files, signed
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import protocol as protocol_lib

SHIPPED = pathlib.Path(__file__).parent / 'manifests'
"""Folder of the manifests that come with the package."""

_DECISIVE: tuple[str, ...] = (
  'environment',
  'goal_offset',
  'policy',
  'action_noise',
  'episode_steps',
  'ends_at_success',
  'origin',
  'drop_solved',
  'pair_seed',
)
_DECISIVE_OF_RESETS = ('environment', 'origin', 'drop_solved', 'pair_seed')
_DECISIVE_OF_ARCHIVES = (
  'environment',
  'goal_offset',
  'origin',
  'drop_solved',
  'pair_seed',
)


def recipe(
  protocol: protocol_lib.Protocol, *, recorded: bool = False
) -> dict[str, Any]:
  """The fields of a protocol that decide its pairs.

  Args:
    protocol: whose.
    recorded: whether they lie on episodes that somebody recorded.
  """
  fields = _DECISIVE
  if recorded or protocol.origin == 'training':
    fields = _DECISIVE_OF_ARCHIVES
  elif protocol.origin == 'reset':
    fields = _DECISIVE_OF_RESETS
  # Manifests that take all pairs were written before there were detours.
  detour = {'detour': protocol.detour} if protocol.detour else {}
  return {field: getattr(protocol, field) for field in fields} | detour


def fingerprint(manifest: dict[str, Any]) -> str:
  """SHA-256 of a manifest's content in canonical JSON, without its own hash."""
  content = {k: v for k, v in manifest.items() if k != 'sha256'}
  return files.digest_json(content)


def sign(manifest: dict[str, Any]) -> dict[str, Any]:
  """The manifest with its hash, which comes first."""
  return signed.sign(manifest)


def decimals(values: np.ndarray) -> list[float]:
  """Shortest decimals of `[V]` that read back as the same float32."""
  return [float(np.format_float_positional(np.float32(v))) for v in values]


def shipped_path(protocol: protocol_lib.Protocol) -> pathlib.Path:
  """Where the manifest of a protocol ships, if it does."""
  return SHIPPED / f'{protocol.environment}_{protocol.name}.json'


def cache_folder() -> pathlib.Path:
  """Where what was computed once is kept on this machine.

  `$XDG_CACHE_HOME/jepa_wm`, by default under `~/.cache`.
  """
  root = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(root) / 'jepa_wm'


def cached_path(protocol: protocol_lib.Protocol) -> pathlib.Path:
  """Where a manifest lies that was generated on this machine.

  The name ends in a hash of what decides the pairs: the protocol, and the code
  of the world and its players, which may be somebody's own and change.
  """
  name = f'{protocol.environment}_{protocol.name}'
  decisive = {**recipe(protocol), 'code': _code(protocol.environment)}
  key = fingerprint(decisive)[:16]
  return cache_folder() / 'manifests' / f'{name}_{key}.json'


def _code(environment: str) -> list[str]:
  """Hashes of the files in which a world and its policies are written."""
  world = worlds.get(environment)
  made = type(world.make())
  parts: list[Any] = [world.make, made, *world.policies.values()]
  # What a partial or an instance was made of.
  parts = [getattr(part, 'func', part) for part in parts]
  parts = [x if hasattr(x, '__qualname__') else type(x) for x in parts]
  sources = {inspect.getsourcefile(part) for part in parts}
  return sorted(
    files.digest_file(source)
    for source in sources
    if source and pathlib.Path(source).is_file()
  )


def read(path: pathlib.Path, protocol: protocol_lib.Protocol) -> dict[str, Any]:
  """Reads a manifest and makes sure that it is what it says it is.

  Args:
    path: of the file.
    protocol: whose pairs it should hold.

  Raises:
    ValueError: content that does not have the hash written in it, or that of
      another protocol.
    FileNotFoundError: no manifest.
  """
  try:
    manifest = files.read_json(path)
    stored = manifest['sha256']
    made_for, _ = manifest['recipe'], manifest['pairs'][0]
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{path}: the manifest of protocol {protocol.name!r} is missing; '
      'reinstall the package or make it again with pair_making.generate.'
    ) from None
  except (ValueError, KeyError, TypeError, IndexError) as error:
    raise ValueError(
      f'{path}: not a manifest of pairs ({error!r:.200}); it may be cut off.'
    ) from error
  if stored != fingerprint(manifest):
    raise ValueError(
      f'{path}: its content does not have the hash written in it; it was '
      'changed after it was made, so results would not be comparable.'
    )
  wanted = recipe(protocol)
  if made_for != wanted:
    changed = sorted(
      key
      for key in made_for.keys() | wanted.keys()
      if made_for.get(key) != wanted.get(key)
    )
    raise ValueError(
      f'{path}: made for another protocol, they differ in {changed}; generate '
      'a manifest of its own for it.'
    )
  return manifest


def write(manifest: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes a manifest with one line per pair, so that changes can be read.

  Raises:
    OSError: the file cannot be written.
  """
  entries = ',\n'.join(f'    {json.dumps(e)}' for e in manifest['pairs'])
  text = json.dumps({**manifest, 'pairs': []}, indent=2)
  text = text.replace('"pairs": []', f'"pairs": [\n{entries}\n  ]')
  files.write_whole(path, text + '\n')
