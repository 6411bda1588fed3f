"""Masks in a few static shapes, so that a step is compiled a few times.

The released samplers cut the sets of a batch to the shortest, which is of
another length nearly every time. Here the lengths come from a handful of
buckets, planned once from trial batches; a bucket holds the lengths of all
masks of a step, so that a step with V-JEPA's short-range and long-range masks
has as many shapes as there are buckets and not their square:

  specs = masking.short_range(grid), masking.long_range(grid)
  buckets = mask_buckets.plan_buckets(specs, batch_size)
  rng = np.random.default_rng([seed, step])  # Resumes at any step.
  short, long = mask_buckets.sample(specs, rng, batch_size, buckets=buckets)

Where several processes share a batch, each draws all of it, from one seed, and
takes its rows: the length then is the same everywhere.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.objectives import masking

Bucket = tuple[tuple[int, int], ...]
"""For every spec, the lengths `(context, target)` of its sets."""

TRUNCATIONS = ('raster', 'random', 'none')
"""Which tokens of a set go when it is longer than its bucket.

`raster` drops the last: late frames, bottom rows, as the released samplers do.
`random` drops any with the same chance. `none` drops none: buckets hold the
longest set of a batch, and the others are padded, with a validity.
"""


class Masks(NamedTuple):
  """Sets of token ids, sorted; 0 where they are padding.

  Attributes:
    context_ids: int32 `[B, Kc]`.
    context_valid: bool `[B, Kc]`, all true unless `truncate` is `none`.
    target_ids: int32 `[B, Kt]`, or `[B, num_targets, Kt]` for targets that are
      predicted each on its own.
    target_valid: bool, as `target_ids`.
  """

  context_ids: np.ndarray
  context_valid: np.ndarray
  target_ids: np.ndarray
  target_valid: np.ndarray


def sample(
  specs: Sequence[masking.MaskSpec],
  rng: np.random.Generator,
  batch_size: int,
  *,
  buckets: Sequence[Bucket],
  truncate: str = 'raster',
) -> tuple[Masks, ...]:
  """Draws the masks of one batch, in the shapes of one of `buckets`.

  The bucket is the one that keeps the largest share of the tokens (that pads
  least, for `truncate='none'`). As in the released samplers, no sample of a
  batch is longer than the shortest, so that larger batches have shorter sets.
  If a batch fits no bucket, its samples beyond the smallest are drawn again:
  with planned buckets, about one sample in ten thousand.

  Args:
    specs: the kinds of mask that a step needs.
    rng: consumed; `np.random.default_rng([seed, step])` makes a run resumable.
    batch_size: samples `B`.
    buckets: as `plan_buckets` returns them.
    truncate: one of `TRUNCATIONS`.

  Returns:
    One `Masks` a spec.

  Raises:
    ValueError: an unknown `truncate`, a `batch_size` below 1, or buckets that
      were not made for these specs.
  """
  _check(truncate, batch_size)
  if not buckets or any(len(bucket) != len(specs) for bucket in buckets):
    raise ValueError(
      f'buckets must have a pair of lengths for each of the {len(specs)} '
      f'specs, got {buckets}.'
    )
  sign = _sign(truncate)
  signed = sign * np.array(buckets).reshape(len(buckets), -1)
  sizes = _draw_sizes(specs, rng)
  drawn = _place(specs, sizes, rng, batch_size)
  lengths = _signed_lengths(drawn, sign)
  usable = signed[(signed <= lengths).all(-1)]
  if not len(usable):
    # Rare, so changing the few samples at fault is the least change.
    usable = signed[[signed.sum(-1).argmin()]]
    for spec, size, pair, limits in zip(
      specs, sizes, drawn, usable.reshape(-1, 2)
    ):
      masking.redraw(
        functools.partial(spec.place, size, rng),
        pair,
        functools.partial(_is_short, limits, sign),
        f'plan the buckets for these specs and truncate={truncate!r}.',
      )
  # As shares of what was drawn, so that few context tokens count as much as
  # many target tokens.
  best = usable[(usable / np.abs(lengths)).sum(-1).argmax()]
  return tuple(
    Masks(
      *pack(context, kept[0], rng, truncate=truncate),
      *pack(target, kept[1], rng, truncate=truncate),
    )
    for (context, target), kept in zip(drawn, _bucket(sign * best))
  )


def plan_buckets(
  specs: Sequence[masking.MaskSpec],
  batch_size: int,
  *,
  truncate: str = 'raster',
  num_buckets: int = 8,
  num_trials: int = 400,
) -> tuple[Bucket, ...]:
  """Chooses lengths that lose few tokens, from trial batches.

  The trials' lengths are merged, always the two that lose the smallest share
  of tokens, until `num_buckets` are left. One of them fits every trial. For
  V-JEPA's masks at 224 pixels in batches of 24, 8 buckets keep 90 % of the
  tokens of the short-range masks, and 16 keep 94 %; of both kinds at once, 8
  buckets keep 88 %.

  Args:
    specs: the kinds of mask that a step needs.
    batch_size: samples `B` of a batch, on which the lengths depend.
    truncate: one of `TRUNCATIONS`.
    num_buckets: how many shapes, at most: each is compiled when first met.
    num_trials: how many batches are tried; always the same ones.

  Returns:
    Distinct buckets, shortest first.

  Raises:
    ValueError: an unknown `truncate`, a count below 1, or specs that leave the
      context too small however often they are drawn.
  """
  _check(truncate, batch_size)
  if num_buckets < 1 or num_trials < 1:
    raise ValueError(
      'num_buckets and num_trials must be at least 1, got '
      f'{num_buckets} and {num_trials}.'
    )
  rng = np.random.default_rng(0)
  sign = _sign(truncate)
  trials = []
  for _ in range(num_trials):
    drawn = _place(specs, _draw_sizes(specs, rng), rng, batch_size)
    trials.append(_signed_lengths(drawn, sign))
  # Every size once: a rare one must not find all buckets out of its reach.
  base = np.concatenate(
    [
      np.min(
        [
          _signed_lengths([spec.place(size, rng, batch_size)], sign)
          for size in spec.sizes()
        ],
        axis=0,
      )
      for spec in specs
    ]
  )
  base = np.minimum(base, np.min(trials, axis=0))
  shapes, counts = np.unique(trials, axis=0, return_counts=True)
  # No trial needs the base itself, so it weighs nothing.
  merged = _merge(
    np.stack([base, *shapes]), np.array([0, *counts]), num_buckets
  )
  return tuple(sorted(_bucket(sign * lengths) for lengths in merged))


def pack(
  members: np.ndarray,
  length: int,
  rng: np.random.Generator,
  *,
  truncate: str = 'raster',
) -> tuple[np.ndarray, np.ndarray]:
  """The ids of boolean sets, cut or padded to one length.

  Args:
    members: bool `[..., P]`, which tokens are in the set.
    length: `K`, how many ids each set gets.
    rng: draws which tokens go, for `truncate='random'` alone.
    truncate: one of `TRUNCATIONS`.

  Returns:
    `ids` int32 `[..., K]`, sorted, 0 where they are padding, and `valid` bool
    `[..., K]`.

  Raises:
    ValueError: a `length` longer than there are tokens.
  """
  if length > members.shape[-1]:
    raise ValueError(
      f'length must be at most the {members.shape[-1]} tokens of the grid, got '
      f'{length}.'
    )
  if truncate == 'random':
    places = np.where(members, rng.random(members.shape), 2.0)
    order = np.argsort(places, axis=-1)[..., :length]
    chosen = np.zeros_like(members)
    np.put_along_axis(chosen, order, True, axis=-1)
    members = members & chosen
  # Stable, so that members keep their order.
  ids = np.argsort(~members, axis=-1, kind='stable')[..., :length]
  valid = np.arange(length) < members.sum(-1, keepdims=True)
  return np.where(valid, ids, 0).astype(np.int32), valid


def take(tokens: jax.Array, ids: jax.Array) -> jax.Array:
  """Gathers the tokens of given ids, sample by sample.

  Args:
    tokens: `[B, P, D]`.
    ids: integers `[B, K]` or `[B, num_targets, K]`, in 0..P-1 (not checked).

  Returns:
    `[B, K, D]` or `[B, num_targets, K, D]`.

  Raises:
    ValueError: shapes that are not these, or of two batch sizes.
  """
  if tokens.ndim != 3 or ids.ndim < 2 or ids.shape[0] != tokens.shape[0]:
    raise ValueError(
      'take needs tokens [B, P, D] and ids [B, ..., K] of the same B, got '
      f'shapes {tokens.shape} and {ids.shape}.'
    )
  flat = jnp.reshape(ids, (ids.shape[0], -1, 1))
  taken = jnp.take_along_axis(tokens, flat, axis=1)
  return taken.reshape(*ids.shape, tokens.shape[-1])


def _check(truncate: str, batch_size: int) -> None:
  fields.check_choice('truncate', truncate, TRUNCATIONS)
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')


def _sign(truncate: str) -> int:
  """Lengths are negated for padding, so that a bucket is always below them."""
  return -1 if truncate == 'none' else 1


def _bucket(lengths: np.ndarray) -> Bucket:
  context, target = lengths[0::2].tolist(), lengths[1::2].tolist()
  return tuple(zip(context, target))


def _draw_sizes(
  specs: Sequence[masking.MaskSpec], rng: np.random.Generator
) -> list[Any]:
  # From the same numbers for every spec, as in the released samplers: tall
  # blocks come with tall blocks, so the lengths of a step go together.
  seed = rng.integers(2**63)
  return [spec.draw_size(np.random.default_rng(seed)) for spec in specs]


def _place(
  specs: Sequence[masking.MaskSpec],
  sizes: Sequence[Any],
  rng: np.random.Generator,
  batch_size: int,
) -> list[masking.Sets]:
  return [spec.place(size, rng, batch_size) for spec, size in zip(specs, sizes)]


def _signed_lengths(drawn: Sequence[masking.Sets], sign: int) -> np.ndarray:
  """Lengths `[2 * specs]` of the shortest sets (minus the longest, to pad)."""
  return np.array([(sign * x.sum(-1)).min() for pair in drawn for x in pair])


def _is_short(
  limits: np.ndarray, sign: int, context: np.ndarray, target: np.ndarray
) -> np.ndarray:
  """Which samples `[B]` cannot be brought to the signed lengths `limits`."""
  lengths = sign * target.sum(-1).reshape(len(target), -1).T
  return (sign * context.sum(-1) < limits[0]) | (lengths < limits[1]).any(0)


def _merge(lows: np.ndarray, counts: np.ndarray, num: int) -> np.ndarray:
  """Clusters shapes `[S, L]` met `counts` `[S]` times; the minima `[num, L]`.

  A cluster's shapes all become its minimum; what that loses, in shares of the
  mean length, is its waste. Merges the two that add least waste.
  """
  lows = lows.copy()
  scale = np.abs((lows * counts[:, None]).sum(0) / counts.sum())
  weights = counts.astype(float)
  totals = lows * weights[:, None]
  waste = np.zeros(len(lows))

  def added(i: int) -> np.ndarray:
    """Waste `[S]` that merging cluster `i` with each other would add."""
    low = np.minimum(lows, lows[i])
    weight = (weights + weights[i])[:, None]
    merged = ((totals + totals[i] - weight * low) / scale).sum(-1)
    return np.where(alive, merged - waste - waste[i], np.inf)

  alive = np.ones(len(lows), bool)
  cost = np.stack([added(i) for i in range(len(lows))])
  np.fill_diagonal(cost, np.inf)
  for _ in range(len(lows) - num):
    i, j = np.unravel_index(cost.argmin(), cost.shape)
    waste[i] += waste[j] + cost[i, j]
    lows[i] = np.minimum(lows[i], lows[j])
    totals[i] += totals[j]
    weights[i] += weights[j]
    alive[j] = False
    cost[i] = cost[:, i] = added(int(i))
    cost[i, i] = np.inf
    cost[j] = cost[:, j] = np.inf
  return np.unique(lows[alive], axis=0)
