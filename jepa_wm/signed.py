"""JSON with its own hash in it, so that who has changed it is found out."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jepa_wm import files


def sign(content: Mapping[str, Any]) -> dict[str, Any]:
  """JSON-able content with its hash, `sha256`, which comes first."""
  return {'sha256': files.digest_json(content), **content}


def read(path: pathlib.Path) -> dict[str, Any]:
  """What `sign` was given, out of a file.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it is cut off, no such JSON, or not as it was signed.
  """
  content = files.read_json(path)
  if not isinstance(content, dict) or 'sha256' not in content:
    raise files.damaged(path, 'no hash in it')
  if content.pop('sha256') != files.digest_json(content):
    raise ValueError(
      f'{path}: its content does not have the hash written in it; it was '
      'changed after it was made.'
    )
  return content
