"""Starts and goals of the planning benchmarks, read from manifests.

The pairs of a protocol are fixed by a manifest, a JSON file whose hash goes
into every result. Those of Two Room and Push-T ship with the package; those of
other simulated worlds are made (`pair_making`) where they are first asked for;
others are cut out of recorded episodes (`pair_cutting`).
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jepa_wm import files
from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import manifests, pair_cutting, pair_making
from jepa_wm.evaluation.planning import protocol as protocol_lib

_DEVELOPMENT = 500_000
"""Added to the seed of pairs that settings are chosen by."""


@dataclasses.dataclass(frozen=True)
class Pairs:
  """A batch of planning problems.

  Attributes:
    ids: int `[P]`, mostly the episode each pair lies on; keys are derived from
      it, so that a problem is the same problem in any batch.
    starts: states, leaves `[P, ...]`; of a world on the host, vectors `[P, V]`.
    goals: as `starts`.
    manifest_sha256: hash of the manifest they come from.
    initially_solved: share of the pairs that the world calls solved at the
      start, before any was dropped for it; None where nobody counted.
    worlds: where problems lie in worlds of their own: these worlds, leaves
      `[P, ...]`.
    num_invalid: pairs left out because start or goal cannot be in these worlds.
    num_forbidden: pairs left out because start or goal lies in a forbidden
      zone.
  """

  ids: np.ndarray
  starts: Any
  goals: Any
  manifest_sha256: str | None = None
  initially_solved: float | None = None
  worlds: Any = None
  num_invalid: int = 0
  num_forbidden: int = 0

  def __len__(self) -> int:
    return len(self.ids)

  def take(self, rows: np.ndarray) -> 'Pairs':
    """Some of the pairs, `rows` `[n]` of them."""
    some = jax.tree.map(
      lambda leaf: np.asarray(leaf)[rows],
      (self.ids, self.starts, self.goals, self.worlds),
    )
    ids, starts, goals, own = some
    return dataclasses.replace(
      self, ids=ids, starts=starts, goals=goals, worlds=own
    )


def load_pairs(
  protocol: protocol_lib.Protocol,
  num_pairs: int | None = None,
  *,
  path: str | os.PathLike[str] | None = None,
) -> Pairs:
  """Reads the first pairs of a protocol's manifest.

  Args:
    protocol: whose pairs.
    num_pairs: how many; `protocol.num_pairs` by default.
    path: of the manifest; by default the one that ships with the package or,
      where none does, one generated now and kept (`manifests.cached_path`).

  Raises:
    ValueError: more pairs than there are, a manifest whose content does not
      have the hash written in it, or one of another protocol; or pairs that
      come from an archive, which must be given to `from_archive`.
    FileNotFoundError: no manifest.
  """
  num_pairs = protocol.num_pairs if num_pairs is None else num_pairs
  asked, protocol = protocol, _original(protocol)
  if path is None:
    path = manifests.shipped_path(protocol)
    if not path.exists() and protocol.origin == 'training':
      raise ValueError(
        f'The pairs of protocol {protocol.name!r} in '
        f'{protocol.environment!r} are taken from recorded episodes; name the '
        f'archive with --episodes (such as data/{protocol.environment}).'
      )
    if not path.exists():
      path = manifests.cached_path(protocol)
      if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        manifests.write(pair_making.generate(protocol), path)
  manifest = manifests.read(files.expand(path), protocol)
  return _from_manifest(manifest, asked, num_pairs)


def from_archive(
  protocol: protocol_lib.Protocol,
  path: str | os.PathLike[str],
  num_pairs: int | None = None,
) -> Pairs:
  """Cuts pairs out of recorded episodes, the same ones every time.

  Where the protocol's origin is 'training', by the rule of stable-worldmodel:
  of all frames of the training split that have one `goal_offset` steps after
  them, in order and but for the last, `num_pairs` are drawn. Else one start is
  drawn on each episode of the held-out split, in order, and pairs solved at the
  start are dropped if the protocol says so.

  Args:
    protocol: whose rule.
    path: of the archive, see `data.episodes`.
    num_pairs: how many; `protocol.num_pairs` by default.

  Raises:
    ValueError: episodes of another world, without a state, or too few.
    FileNotFoundError: no archive.
  """
  num_pairs = protocol.num_pairs if num_pairs is None else num_pairs
  manifest = pair_cutting.describe_archive(_original(protocol), path, num_pairs)
  return _from_manifest(manifest, protocol, num_pairs)


def development(
  protocol: protocol_lib.Protocol,
  num_pairs: int,
  *,
  episodes: str | os.PathLike[str] | None = None,
) -> Pairs:
  """Pairs of the same kind that no result is of, to choose settings by.

  Those of a protocol without an archive are made as its own are, with a seed
  apart from theirs. Of an archive they lie on episodes of its training split,
  and where those are the protocol's own, have another seed.

  Args:
    protocol: whose kind.
    num_pairs: how many, 200 at most without an archive.
    episodes: archive, as for `from_archive`.

  Raises:
    ValueError: more pairs than there are.
    FileNotFoundError: no archive.
  """
  other = dataclasses.replace(
    protocol, pair_seed=protocol.pair_seed + _DEVELOPMENT
  )
  if episodes is not None and protocol.origin != 'reset':
    trained_on = dataclasses.replace(other, origin='training')
    return from_archive(trained_on, episodes, num_pairs)
  # A manifest that ships has the protocol's name.
  path = manifests.cached_path(_original(other))
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    manifests.write(pair_making.generate(_original(other)), path)
  return load_pairs(other, num_pairs, path=path)


def _original(protocol: protocol_lib.Protocol) -> protocol_lib.Protocol:
  """The same in the world whose pairs its world shares."""
  name = worlds.get(protocol.environment).same_as or protocol.environment
  return dataclasses.replace(protocol, environment=name)


def _from_manifest(
  manifest: dict[str, Any], protocol: protocol_lib.Protocol, num_pairs: int
) -> Pairs:
  entries = manifest['pairs']
  fixed = protocol.origin == 'training'
  if not 1 <= num_pairs <= len(entries) or (fixed and num_pairs < len(entries)):
    lie = 'be' if fixed else 'lie in 1..'
    raise ValueError(
      f'num_pairs must {lie}{" " * fixed}{len(entries)}, the pairs of the '
      f'manifest of protocol {protocol.name!r}, got {num_pairs}'
      + (
        '; other numbers are other draws, from the archive (--episodes).'
        if fixed
        else '.'
      )
    )
  kept, dropped = len(entries), manifest['pairs_solved_at_start']
  whole = kept + dropped if protocol.drop_solved else kept
  entries = entries[:num_pairs]
  return Pairs(
    ids=np.asarray([entry.get('row', entry['episode']) for entry in entries]),
    starts=_states(protocol, [entry['start_state'] for entry in entries]),
    goals=_states(protocol, [entry['goal_state'] for entry in entries]),
    manifest_sha256=manifest['sha256'],
    initially_solved=dropped / whole,
  )


def _states(
  protocol: protocol_lib.Protocol, vectors: Sequence[Sequence[float]]
) -> Any:
  """States of vectors `[P][V]`."""
  with worlds.get(protocol.environment).stage() as stage:
    return stage.states(np.asarray(vectors, np.float32))
