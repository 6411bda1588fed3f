"""Cuts starts and goals out of recorded episodes, the same every time."""

import os
from typing import Any

import numpy as np

from jepa_wm.envs import worlds
from jepa_wm.evaluation.planning import manifests
from jepa_wm.evaluation.planning import protocol as protocol_lib

Cut = tuple[list[tuple[int, int, int]], int, int]
"""`(row, episode, start)` of each pair, how many of them (of those and of the
dropped ones) are solved at the start, and how many episodes are too short."""


def describe_archive(
  protocol: protocol_lib.Protocol, path: str | os.PathLike[str], num_pairs: int
) -> dict[str, Any]:
  """The manifest of pairs cut out of recorded episodes.

  Args:
    protocol: whose rule, see `pairs.from_archive`.
    path: of the archive.
    num_pairs: how many.

  Raises:
    ValueError: episodes of another world, without a state, or too few.
    FileNotFoundError: no archive.
  """
  source = _open_source(protocol, path)
  states = [source.column(index, 'state') for index in range(len(source))]
  trained_on = protocol.origin == 'training'
  cut = _cut_as_swm if trained_on else _cut_one_each
  chosen, solved, num_short = cut(protocol, states, num_pairs)
  if len(chosen) < num_pairs:
    raise ValueError(
      f'num_pairs must be at most {len(chosen)}, the pairs that the '
      f'{len(states)} episodes of split {source.split!r} at {path} give, got '
      f'{num_pairs}.'
    )
  entries = [
    {
      'episode': episode,
      'start': start,
      **({'row': row} if trained_on else {}),
      'start_state': manifests.decimals(states[episode][start]),
      'goal_state': manifests.decimals(
        states[episode][start + protocol.goal_offset]
      ),
    }
    for row, episode, start in chosen
  ]
  return manifests.sign(
    {
      'about': (
        'Pairs of the planning benchmark, cut out of recorded episodes by '
        'jepa_wm.evaluation.pairs.from_archive; see its docstring.'
      ),
      'recipe': manifests.recipe(protocol, recorded=True),
      'episodes': {
        'split': source.split,
        'num_episodes': len(states),
        **{
          key: value
          for key, value in source.provenance.items()
          if key in ('environment', 'recipe')
        },
      },
      'episodes_too_short': num_short,
      'pairs_solved_at_start': solved,
      'pairs': entries,
    }
  )


def _open_source(
  protocol: protocol_lib.Protocol, path: str | os.PathLike[str]
) -> Any:
  """The recorded episodes, which must be of the protocol's world."""
  # Where TFDS is not needed it is not imported.
  from jepa_wm.data import episodes as episodes_lib

  if protocol.origin == 'reset':
    raise ValueError(
      f'The pairs of protocol {protocol.name!r} are resets of the world and '
      'lie on no episode; leave the archive out.'
    )
  source = episodes_lib.open_episodes(
    path, split='train' if protocol.origin == 'training' else 'held_out'
  )
  recorded = source.provenance.get('environment', protocol.environment)
  if recorded != protocol.environment:
    raise ValueError(
      f'The episodes at {path} are of {recorded!r} and the protocol is for '
      f'{protocol.environment!r}; choose either with --environment.'
    )
  if 'state' not in source.spec:
    raise ValueError(
      f'The episodes at {path} say nothing of the true state, so a problem '
      'cannot be set up from them; record them with their state.'
    )
  return source


def _cut_as_swm(
  protocol: protocol_lib.Protocol, states: list[np.ndarray], num_pairs: int
) -> Cut:
  """As stable-worldmodel 0.1.1 draws them (scripts/plan/eval_wm.py)."""
  lengths = np.asarray([len(episode) for episode in states])
  offsets = np.cumsum(lengths) - lengths
  starts = [np.arange(max(n - protocol.goal_offset, 0)) for n in lengths]
  valid = np.concatenate([at + off for at, off in zip(starts, offsets)])
  num_short = int(np.sum(lengths <= protocol.goal_offset))
  if len(valid) - 1 < num_pairs:
    return [], 0, num_short
  rng = np.random.default_rng(protocol.pair_seed)
  # The last row is never drawn; their slip, kept.
  drawn = rng.choice(len(valid) - 1, size=num_pairs, replace=False)
  rows = np.sort(valid[drawn])
  episodes = np.searchsorted(offsets, rows, side='right') - 1
  chosen = [
    (int(row), int(episode), int(row - offsets[episode]))
    for row, episode in zip(rows, episodes)
  ]
  solved = _solved_of(protocol, states, chosen)
  return chosen, int(np.sum(solved)), num_short


def _cut_one_each(
  protocol: protocol_lib.Protocol, states: list[np.ndarray], num_pairs: int
) -> Cut:
  """One start an episode, in order, until there are enough."""
  candidates, num_short = [], 0
  for index, episode in enumerate(states):
    num_starts = len(episode) - protocol.goal_offset
    if num_starts < 1:
      num_short += 1
      continue
    rng = np.random.default_rng([protocol.pair_seed, index])
    candidates.append((index, index, int(rng.integers(num_starts))))
  if not candidates:
    return [], 0, num_short
  solved = _solved_of(protocol, states, candidates)
  chosen: list[tuple[int, int, int]] = []
  num_solved = 0
  for candidate, is_solved in zip(candidates, solved):
    if len(chosen) == num_pairs:
      break
    num_solved += bool(is_solved)
    if not (is_solved and protocol.drop_solved):
      chosen.append(candidate)
  return chosen, num_solved, num_short


def _solved_of(
  protocol: protocol_lib.Protocol,
  states: list[np.ndarray],
  chosen: list[tuple[int, int, int]],
) -> np.ndarray:
  offset = protocol.goal_offset
  starts = np.stack([states[episode][at] for _, episode, at in chosen])
  goals = np.stack([states[episode][at + offset] for _, episode, at in chosen])
  with worlds.get(protocol.environment).stage() as stage:
    return stage.are_solved(starts, goals)
