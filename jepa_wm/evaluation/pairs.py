"""Starts and goals of the planning benchmarks, and where they come from.

The pairs of a protocol are fixed by a manifest, a JSON file whose hash goes
into every result. Those of Two Room and Push-T ship with the package; those of
other simulated worlds are generated where they are first asked for. `generate`
made all of them and makes them again:

  python -m jepa_wm.evaluation.pairs two_room short long
"""

import dataclasses
import functools
import os
import pathlib
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from jepa_wm import provenance
from jepa_wm.envs import host, worlds
from jepa_wm.evaluation import host_baselines, manifests
from jepa_wm.evaluation import protocol as protocol_lib

MANIFEST_PAIRS = 200
"""Pairs in each generated manifest."""

_STREAM = zlib.crc32(b'jepa_wm.evaluation.pairs')


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
  """

  ids: np.ndarray
  starts: Any
  goals: Any
  manifest_sha256: str | None = None
  initially_solved: float | None = None
  worlds: Any = None
  num_invalid: int = 0

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
    if not path.exists() and not _simulated(protocol):
      raise ValueError(
        f'The pairs of protocol {protocol.name!r} in '
        f'{protocol.environment!r} are taken from recorded episodes; name the '
        f'archive with --episodes (such as data/{protocol.environment}).'
      )
    if not path.exists():
      path = manifests.cached_path(protocol)
      if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        manifests.write(generate(protocol), path)
  manifest = manifests.read(pathlib.Path(path), protocol)
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
  manifest = describe_archive(_original(protocol), path, num_pairs)
  return _from_manifest(manifest, protocol, num_pairs)


def describe_archive(
  protocol: protocol_lib.Protocol,
  path: str | os.PathLike[str],
  num_pairs: int,
) -> dict[str, Any]:
  """The manifest of what `from_archive` cuts out, which raises the same."""
  # Where TFDS is not needed it is not imported.
  from jepa_wm.data import episodes as episodes_lib

  if protocol.origin == 'reset':
    raise ValueError(
      f'The pairs of protocol {protocol.name!r} are resets of the world and '
      'lie on no episode; leave the archive out.'
    )
  trained_on = protocol.origin == 'training'
  source = episodes_lib.open_episodes(
    path, split='train' if trained_on else 'held_out'
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
  states = [source.column(index, 'state') for index in range(len(source))]
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
      'start_state': _decimals(states[episode][start]),
      'goal_state': _decimals(states[episode][start + protocol.goal_offset]),
    }
    for row, episode, start in chosen
  ]
  return _sign(
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


def generate(
  protocol: protocol_lib.Protocol, num_pairs: int = MANIFEST_PAIRS
) -> dict[str, Any]:
  """Plays episodes and cuts one pair out of each, the same ones every time.

  Episode number `i` has the key `fold_in(k, i)`, where `k` is that of
  `protocol.pair_seed` with a constant of this file folded in: no seed of
  `experiments.collect` leads to one of these episodes. The world is reset, the
  policy plays to the end of the episode, and of the frames that have a frame
  `goal_offset` steps after them one is drawn uniformly. Episodes without such a
  frame are left out, and so are pairs solved at the start (`drop_solved`).
  Where the origin is 'reset', start and goal are a reset's state and its
  target, moved to where the world lets it stand.

  Args:
    protocol: what to generate for.
    num_pairs: how many.

  Returns:
    The manifest, hash included, ready for JSON. `start_state` and `goal_state`
    are the world's vectors.
  """
  found: list[dict[str, Any]] = []
  batch, offset = 64, protocol.goal_offset
  num_played = num_short = num_solved = 0
  make: Any = _play
  if protocol.origin == 'reset':
    make, offset = _reset_twice, 0
  if worlds.get(protocol.environment).on_host:
    # In processes, a few at a time.
    make, batch = host_baselines.play_episodes, 64
  bar = tqdm.tqdm(
    total=num_pairs,
    desc=f'pairs ({protocol.environment}, {protocol.name})',
    unit='pair',
    delay=3.0,
  )
  while len(found) < num_pairs:
    episodes = num_played + np.arange(batch)
    played = jax.tree.map(np.asarray, make(protocol, np.asarray(episodes)))
    for i, episode in enumerate(episodes):
      num_played += 1
      if played['length'][i] < offset:
        num_short += 1
        continue
      num_solved += bool(played['solved'][i])
      if protocol.drop_solved and played['solved'][i]:
        continue
      found.append(
        {
          'episode': int(episode),
          'start': int(played['start'][i]),
          'start_state': _decimals(played['start_vector'][i]),
          'goal_state': _decimals(played['goal_vector'][i]),
        }
      )
      if len(found) == num_pairs:
        break
    bar.update(len(found) - bar.n)
  bar.close()
  return _sign(
    {
      'about': (
        'Pairs of the planning benchmark, made by '
        'jepa_wm.evaluation.pairs.generate; see its docstring for what was '
        'done.'
      ),
      'recipe': manifests.recipe(protocol),
      'made_with': provenance.versions_of('jax'),
      'episodes_played': num_played,
      'episodes_too_short': num_short,
      'pairs_solved_at_start': num_solved,
      'pairs': found,
    }
  )


def _original(protocol: protocol_lib.Protocol) -> protocol_lib.Protocol:
  """The same in the world whose pairs its world shares."""
  name = worlds.get(protocol.environment).same_as or protocol.environment
  return dataclasses.replace(protocol, environment=name)


def _sign(manifest: dict[str, Any]) -> dict[str, Any]:
  return {'sha256': manifests.fingerprint(manifest), **manifest}


def _simulated(protocol: protocol_lib.Protocol) -> bool:
  """Whether the pairs can be made here, without recorded episodes."""
  return protocol.origin != 'training'


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
  """States of vectors `[P][V]`; those themselves for a world on the host."""
  numbers = np.asarray(vectors, np.float32)
  if worlds.get(protocol.environment).on_host:
    return numbers
  env = worlds.get(protocol.environment).make()
  states = jax.jit(jax.vmap(env.from_vector))(jnp.asarray(numbers))
  return jax.tree.map(np.asarray, states)


def _are_solved(
  protocol: protocol_lib.Protocol, starts: np.ndarray, goals: np.ndarray
) -> np.ndarray:
  """Whether vectors `[P, V]` lie in their goals, bool `[P]`."""
  env = worlds.get(protocol.environment).make()
  if isinstance(env, host.HostWorld):
    return np.asarray(env.success(starts, goals), bool)

  @jax.jit
  @jax.vmap
  def judge(start: jax.Array, goal: jax.Array) -> jax.Array:
    return env.success(env.from_vector(start), env.from_vector(goal))

  return np.asarray(judge(starts, goals))


Cut = tuple[list[tuple[int, int, int]], int, int]
"""`(row, episode, start)` of each pair, how many of them (of those and of the
dropped ones) are solved at the start, and how many episodes are too short."""


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
  return _are_solved(protocol, starts, goals)


@functools.partial(jax.jit, static_argnames=('protocol',))
def _play(
  protocol: protocol_lib.Protocol, episodes: jax.Array
) -> dict[str, jax.Array]:
  """Plays episodes `[E]` and draws a pair on each."""
  world = worlds.get(protocol.environment)
  env = world.make()
  policy = world.policy(protocol.policy, env, protocol.action_noise)
  seed_key = jax.random.fold_in(jax.random.key(protocol.pair_seed), _STREAM)

  def play_one(episode: jax.Array) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.fold_in(seed_key, episode), 4)
    reset_key, memory_key, action_key, start_key = keys
    first = env.reset(reset_key)
    destination = env.from_vector(first.target)

    def step(carry, t):
      state, memory = carry
      action_t = jax.random.fold_in(action_key, t)
      action, memory = policy(action_t, state, memory)
      state = env.step(state, action)
      arrived = env.success(state, destination)
      return (state, memory), (env.vector(state), arrived)

    carry = (first, policy.init(memory_key, first))
    steps = jnp.arange(protocol.episode_steps)
    _, (vectors, arrived) = jax.lax.scan(step, carry, steps)
    vectors = jnp.concatenate([env.vector(first)[None], vectors])
    length = jnp.asarray(protocol.episode_steps)
    if protocol.ends_at_success:
      length = jnp.where(jnp.any(arrived), jnp.argmax(arrived) + 1, length)
    num_starts = jnp.maximum(length - protocol.goal_offset + 1, 1)
    start = jax.random.randint(start_key, (), 0, num_starts)
    start_vector, goal_vector = (
      vectors[start],
      vectors[start + protocol.goal_offset],
    )
    return {
      'start_vector': start_vector,
      'goal_vector': goal_vector,
      'length': length,
      'start': start,
      'solved': env.success(
        env.from_vector(start_vector), env.from_vector(goal_vector)
      ),
    }

  return jax.vmap(play_one)(episodes)


@functools.partial(jax.jit, static_argnames=('protocol',))
def _reset_twice(
  protocol: protocol_lib.Protocol, episodes: jax.Array
) -> dict[str, jax.Array]:
  """Resets, and goals that their targets become when nobody acts."""
  env = worlds.get(protocol.environment).make()
  seed_key = jax.random.fold_in(jax.random.key(protocol.pair_seed), _STREAM)
  still = jnp.clip(0.0, env.action_low, env.action_high)

  def draw(episode: jax.Array) -> dict[str, jax.Array]:
    start = env.reset(jax.random.fold_in(seed_key, episode))
    # A target may lie where nothing can be, as in the wall of Two Room.
    goal = env.step(env.from_vector(start.target), still)
    return {
      'start_vector': env.vector(start),
      'goal_vector': env.vector(goal),
      'length': jnp.zeros((), int),
      'start': jnp.zeros((), int),
      'solved': env.success(start, goal),
    }

  return jax.vmap(draw)(episodes)


def _decimals(values: np.ndarray) -> list[float]:
  """Shortest decimals that read back as the same float32."""
  return [float(np.format_float_positional(v)) for v in values]


def main(arguments: Sequence[str]) -> None:
  """Writes shipped manifests again: a world, then protocols, by default all."""
  environment, *names = arguments
  for name in names or protocol_lib.PROTOCOLS:
    protocol = protocol_lib.get(name, environment=environment)
    if _simulated(protocol):
      path = manifests.shipped_path(protocol)
      manifests.write(generate(protocol), path)
      print(path)


if __name__ == '__main__':
  main(sys.argv[1:])
