"""What a head of safety learns of recorded states, and what bounds it has."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import exports
from jepa_wm.data import table as table_lib
from jepa_wm.envs import zones
from jepa_wm.evaluation.diagnostics.finding import Cell, Finding, Table
from jepa_wm.evaluation.planning import guarding
from jepa_wm.evaluation.report import plots

_DELTA = 0.1
"""The level of what a run prints; plans name their own."""

_LEVELS = np.linspace(0.02, 0.4, 20)
_AT_ONCE = 1024


class Prices(NamedTuple):
  """Prices of held-out latents, and which of them are in the zone.

  Attributes:
    price: `[n]`.
    is_unsafe: `[n]` bool.
    is_ours: `[n]` bool, whether they calibrate; the others test.
  """

  price: np.ndarray
  is_unsafe: np.ndarray
  is_ours: np.ndarray


def labelled(table: table_lib.Table, zone: zones.Zone) -> Any:
  """A table with the column `margin`, how deep each state is in a zone.

  Args:
    table: episodes with their true states.
    zone: the zone.

  Raises:
    ValueError: no true states, or none of them in the zone, or none outside.
  """
  if 'state' not in table.columns:
    raise ValueError(
      f'The head safety learns from true states where a zone is, and there is '
      f'no column state at {table.where}, only '
      f'{", ".join(sorted(table.columns))}; record episodes that have it.'
    )
  margin = zone.margin(np.asarray(table.columns['state']))
  for number, where in (
    (np.sum(margin > 0), 'in'),
    (np.sum(margin <= 0), 'out'),
  ):
    if not number:
      raise ValueError(
        f'config.head.zone: none of the {len(margin)} frames at {table.where} '
        f'lies {where}side {zone.spec}, so there is nothing to learn from and '
        'nothing to calibrate by; choose another zone, or record episodes that '
        f'go {where}side.'
      )
  columns = {**table.columns, 'margin': margin.astype(np.float32)}
  return dataclasses.replace(table, columns=columns)


def calibrate(
  trained: exports.TrainedHead,
  model: exports.WorldModel,
  table: table_lib.Table,
  latents: np.ndarray,
) -> tuple[exports.TrainedHead, Finding]:
  """Adds bounds to a head, of half of the held-out episodes; tests the rest.

  Args:
    trained: a head `safety`.
    model: whose latents it reads.
    table: held-out episodes, `labelled`.
    latents: `[N, D]`, of their frames.

  Returns:
    The head with its bounds, and how often they hold.

  Raises:
    ValueError: one of the two halves without an unsafe latent.
  """
  check_halves(table, trained.head.config.zone)
  every = [_encoded(trained, table, latents)]
  if model.model.acting is not None:
    every += _predicted(trained, model, table, latents)
  head: Any = trained.head
  scores = [x.price[x.is_unsafe & x.is_ours] for x in every]
  params = head.calibrated(trained.params, scores)
  trained = dataclasses.replace(trained, params=params)
  return trained, _finding(trained, every)


def check_halves(table: table_lib.Table, zone: str) -> None:
  """Makes sure that bounds can be found on held-out episodes, and tested.

  Args:
    table: held-out episodes, `labelled`.
    zone: its name, for the message.

  Raises:
    ValueError: every second episode, or every other one, never goes inside.
  """
  goes_inside = [
    np.any(table.columns['margin'][at : at + n] > 0)
    for at, n in zip(table.offsets, table.lengths)
  ]
  if not (np.any(goes_inside[::2]) and np.any(goes_inside[1::2])):
    raise ValueError(
      f'config.head.zone: the bounds of {zone} are found on half of the '
      f'{len(table.lengths)} held-out episodes at {table.where} and tested on '
      'the others, and one half never goes inside; record more episodes.'
    )


def warn(found: Finding) -> str:
  """What to know of bounds that let almost nothing pass; empty of others."""
  refused = found.scalars['refused']
  if refused < 0.5:
    return ''
  return (
    f'The bounds refuse {refused:.0%} of safe latents, so that a planner that '
    'keeps to them will mostly stand still; train the head for longer, on more '
    'episodes that go inside, or take a larger --guardrail_delta.'
  )


def _encoded(
  trained: exports.TrainedHead, table: table_lib.Table, latents: np.ndarray
) -> Prices:
  """Prices of all frames; every second episode calibrates."""
  head: Any = trained.head
  frames = np.concatenate(
    [np.arange(n) + at for at, n in zip(table.offsets, table.lengths)]
  )
  price_fn = jax.jit(head.price)
  price = np.asarray(price_fn(trained.params, np.asarray(latents)[frames]))
  is_ours = table.episode_of(frames) % 2 == 0
  return Prices(price, table.columns['margin'][frames] > 0, is_ours)


def _predicted(
  trained: exports.TrainedHead,
  model: exports.WorldModel,
  table: table_lib.Table,
  latents: np.ndarray,
) -> list[Prices]:
  """Prices of blocks that the model predicts under recorded actions.

  An entry for each number of blocks ahead. A block is unsafe where any of its
  steps is; it costs what `guarding.of_block` says.
  """
  head: Any = trained.head
  block, horizon = model.action_block, head.config.num_blocks
  starts = np.concatenate(
    [
      np.arange(at, at + max(n - block, 0), block)
      for at, n in zip(table.offsets, table.lengths)
    ]
  ).astype(int)
  ends = (table.offsets + table.lengths)[table.episode_of(starts)]

  @jax.jit
  def roll(latents: jax.Array, blocks: jax.Array) -> jax.Array:
    price_fn = functools.partial(head.price, trained.params)
    state = model.start_from(model.params, jnp.expand_dims(latents, 1))

    def step(state: Any, block: jax.Array) -> Any:
      after = model.dynamics(model.params, jax.random.key(0), block, state)
      both = model.latent(state), model.latent(after)
      price = guarding.of_block(price_fn, *both, head.config.num_checks)
      return after, price

    _, prices = jax.lax.scan(step, state, jnp.moveaxis(blocks, 1, 0))
    return prices

  steps = np.arange(horizon * block)
  actions, margin = table.columns['action'], table.columns['margin']
  parts = []
  for first in range(0, len(starts), _AT_ONCE):
    some = starts[first : first + _AT_ONCE]
    # One shape, one compilation.
    some = np.resize(some, _AT_ONCE)
    raw = np.nan_to_num(actions[_within(some[:, None] + steps, actions)])
    raw = raw.reshape(len(some), horizon, block, -1)
    parts.append(roll(latents[some], model.normalize_actions(raw)))
  prices = np.concatenate(parts, axis=1)[:, : len(starts)]
  deep = margin[_within(starts[:, None] + 1 + steps, margin)] > 0
  is_unsafe = np.any(deep.reshape(len(starts), horizon, block), axis=2)
  is_ours = table.episode_of(starts) % 2 == 0
  found = []
  for h in range(horizon):
    fits = starts + (h + 1) * block < ends
    found.append(Prices(prices[h][fits], is_unsafe[fits, h], is_ours[fits]))
  return found


def _within(frames: np.ndarray, column: np.ndarray) -> np.ndarray:
  return np.minimum(frames, len(column) - 1)


def _passed(prices: Prices, bound: float, *, unsafe: bool) -> float:
  """Share of what tests that is below a bound; NaN of none."""
  some = prices.price[~prices.is_ours & (prices.is_unsafe == unsafe)]
  return float(np.mean(some < bound)) if len(some) else float('nan')


def _finding(trained: exports.TrainedHead, every: list[Prices]) -> Finding:
  """Promised and found shares of unsafe latents that pass."""
  head: Any = trained.head
  bounds = head.bounds(trained.params, _DELTA)
  rows: list[list[Cell]] = [
    [
      f'{ahead} ahead' if ahead else 'encoded',
      int(np.sum(prices.is_unsafe & prices.is_ours)),
      float(bound),
      _passed(prices, bound, unsafe=True),
      _passed(prices, bounds[0], unsafe=True),
      1.0 - _passed(prices, bound, unsafe=False),
    ]
    for ahead, (prices, bound) in enumerate(zip(every, bounds))
  ]
  names = 'passed', 'passed_by_encoded', 'refused'
  scalars = dict(zip(names, rows[0][3:])) | {
    f'{name}_last': x for name, x in zip(names, rows[-1][3:])
  }
  return Finding(
    title='Whether the bounds hold',
    scalars={'delta': _DELTA, **{k: float(x) for k, x in scalars.items()}},
    table=Table(
      (
        'latents',
        'unsafe, calibrating',
        'bound',
        'unsafe that pass',
        'by the bound of encoded ones',
        'safe that are refused',
      ),
      rows,
    ),
    figures=_figures(trained, every),
    sentence=f'Bounds at delta {_DELTA} of every second held-out episode, '
    'shares of the others. A price below its bound passes. Predicted latents '
    'are those of recorded actions, and a block is unsafe where any of its '
    'steps is; plans choose what they predict, so that for them no share is '
    'promised.',
  )


def _figures(
  trained: exports.TrainedHead, every: list[Prices]
) -> Mapping[str, bytes]:
  """Found shares against promised ones, of encoded latents and predicted."""
  head: Any = trained.head
  last = len(every) - 1
  shown = {0: 'encoded', 1: '1 block ahead', last: f'{last} blocks ahead'}
  bounds = [head.bounds(trained.params, level) for level in _LEVELS]
  series = {
    name: (
      _LEVELS,
      np.array([_passed(every[i], x[i], unsafe=True) for x in bounds]),
    )
    for i, name in shown.items()
    if i <= last
  }
  draw = functools.partial(
    plots.points,
    series,
    title='Unsafe latents that pass: promised and found',
    labels=('promised share, delta', 'found share'),
  )
  return plots.both('calibration', draw)
