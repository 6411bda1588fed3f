"""Starts and goals of the planning benchmarks, and where they come from.

The pairs of a protocol are fixed by a manifest, a JSON file that ships with the
package and whose hash goes into every result. `generate` made it and makes it
again.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.envs import worlds
from jepa_wm.evaluation import protocol as protocol_lib

MANIFESTS = pathlib.Path(__file__).parent / 'manifests'
"""Folder of the manifests that come with the package."""

MANIFEST_PAIRS = 200
"""Pairs in each of them."""

_STREAM = zlib.crc32(b'jepa_wm.evaluation.pairs')


@dataclasses.dataclass(frozen=True)
class Pairs:
  """A batch of planning problems.

  Attributes:
    ids: int `[P]`, the episode each pair lies on; keys are derived from it, so
      that a problem is the same problem in any batch.
    starts: states, leaves `[P, ...]`.
    goals: states, leaves `[P, ...]`.
    manifest_sha256: hash of the manifest they come from.
  """

  ids: np.ndarray
  starts: Any
  goals: Any
  manifest_sha256: str | None = None

  def __len__(self) -> int:
    return len(self.ids)


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
    path: of the manifest; by default the one that ships with the package.

  Raises:
    ValueError: more pairs than there are, a manifest whose content does not
      have the hash written in it, or one of another protocol.
    FileNotFoundError: no manifest.
  """
  path = manifest_path(protocol) if path is None else pathlib.Path(path)
  num_pairs = protocol.num_pairs if num_pairs is None else num_pairs
  try:
    manifest = json.loads(path.read_text())
    stored = manifest.pop('sha256')
    entries, recipe = manifest['pairs'], manifest['recipe']
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{path}: the manifest of protocol {protocol.name!r} is missing; '
      'reinstall the package or make it again with pairs.generate.'
    ) from None
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path}: not a manifest of pairs ({error!r}); it may be cut off.'
    ) from error
  if stored != fingerprint(manifest):
    raise ValueError(
      f'{path}: its content does not have the hash written in it; it was '
      'changed after it was made, so results would not be comparable.'
    )
  if recipe != _recipe(protocol):
    changed = sorted(
      key
      for key in recipe.keys() | _recipe(protocol).keys()
      if recipe.get(key) != _recipe(protocol).get(key)
    )
    raise ValueError(
      f'{path}: made for another protocol, they differ in {changed}; generate '
      'a manifest of its own for it.'
    )
  if not 1 <= num_pairs <= len(entries):
    raise ValueError(
      f'num_pairs must lie in 1..{len(entries)}, the pairs of the manifest of '
      f'protocol {protocol.name!r}, got {num_pairs}.'
    )
  entries = entries[:num_pairs]
  env = worlds.get(protocol.environment).make()
  make_states = jax.vmap(env.from_vector)

  def states(key: str) -> Any:
    numbers = np.asarray([entry[key] for entry in entries], np.float32)
    return jax.tree.map(np.asarray, make_states(jnp.asarray(numbers)))

  return Pairs(
    ids=np.asarray([entry['episode'] for entry in entries]),
    starts=states('start_state'),
    goals=states('goal_state'),
    manifest_sha256=stored,
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

  Args:
    protocol: what to generate for.
    num_pairs: how many.

  Returns:
    The manifest, hash included, ready for JSON. `start_state` and `goal_state`
    are the world's vectors.
  """
  found: list[dict[str, Any]] = []
  batch, offset = 256, protocol.goal_offset
  num_played = num_short = num_solved = 0
  while len(found) < num_pairs:
    episodes = num_played + np.arange(batch)
    played = jax.tree.map(np.asarray, _play(protocol, jnp.asarray(episodes)))
    for i, episode in enumerate(episodes):
      num_played += 1
      if played['length'][i] < offset:
        num_short += 1
      elif protocol.drop_solved and played['solved'][i]:
        num_solved += 1
      else:
        start = int(played['start'][i])
        found.append(
          {
            'episode': int(episode),
            'start': start,
            'start_state': _decimals(played['vectors'][i, start]),
            'goal_state': _decimals(played['vectors'][i, start + offset]),
          }
        )
      if len(found) == num_pairs:
        break
  manifest = {
    'about': (
      'Pairs of the planning benchmark, made by '
      'jepa_wm.evaluation.pairs.generate; see its docstring for what was done.'
    ),
    'recipe': _recipe(protocol),
    'made_with': {
      name: importlib.metadata.version(name) for name in ('jepa-wm', 'jax')
    },
    'episodes_played': num_played,
    'episodes_too_short': num_short,
    'pairs_solved_at_start': num_solved,
    'pairs': found,
  }
  return {'sha256': fingerprint(manifest), **manifest}


def write_manifest(
  manifest: dict[str, Any], path: str | os.PathLike[str]
) -> None:
  """Writes a manifest with one line per pair, so that changes can be read."""
  entries = ',\n'.join(f'    {json.dumps(e)}' for e in manifest['pairs'])
  text = json.dumps({**manifest, 'pairs': []}, indent=2)
  text = text.replace('"pairs": []', f'"pairs": [\n{entries}\n  ]')
  pathlib.Path(path).write_text(text + '\n')


def fingerprint(manifest: dict[str, Any]) -> str:
  """SHA-256 of a manifest's content in canonical JSON, without its own hash."""
  content = {k: v for k, v in manifest.items() if k != 'sha256'}
  text = json.dumps(content, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def manifest_path(protocol: protocol_lib.Protocol) -> pathlib.Path:
  """Where the manifest of a protocol ships."""
  return MANIFESTS / f'{protocol.environment}_{protocol.name}.json'


def _recipe(protocol: protocol_lib.Protocol) -> dict[str, Any]:
  """The fields of a protocol that decide its pairs."""
  decisive = (
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
  return {field: getattr(protocol, field) for field in decisive}


@functools.partial(jax.jit, static_argnames=('protocol',))
def _play(
  protocol: protocol_lib.Protocol, episodes: jax.Array
) -> dict[str, jax.Array]:
  """Plays episodes `[E]`; vectors are `[E, episode_steps + 1, V]`."""
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
    solved = env.success(
      env.from_vector(vectors[start]),
      env.from_vector(vectors[start + protocol.goal_offset]),
    )
    return {
      'vectors': vectors,
      'length': length,
      'start': start,
      'solved': solved,
    }

  return jax.vmap(play_one)(episodes)


def _decimals(values: np.ndarray) -> list[float]:
  """Shortest decimals that read back as the same float32."""
  return [float(np.format_float_positional(v)) for v in values]
