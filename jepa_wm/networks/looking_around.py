"""A predictor that moves points by what it sees around them on a map."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.networks import (
  encoders,
  layers,
  points_on_map,
  predictors,
  windows,
)


@predictors.PREDICTORS.register
@dataclasses.dataclass(frozen=True)
class LookingAroundConfig:
  """The settings of a `LookingAround`.

  Attributes:
    history: longest window of latents.
    num_points: of the encoder `points_on_map`.
    rows: of its map, and columns: a quarter of the side of its pictures.
    reach: cells of the map that it sees to each side of a point.
    width: of the hidden layers.
    depth: hidden layers that are added to the first.
  """

  name: ClassVar[str] = 'looking_around'

  history: int = 2
  num_points: int = 1
  rows: int = 16
  reach: int = 3
  width: int = 256
  depth: int = 3

  def __post_init__(self) -> None:
    fields.check(self)

  def build(
    self, grid: tuple[int, int], dtype: Any, *, state_dim: int = 0
  ) -> nn.Module:
    """See `predictors.PredictorConfig`; the latent's layout is its own."""
    del grid, state_dim
    return LookingAround(**vars(self), dtype=dtype)

  def check_fits(
    self, encoder: encoders.Encoder, projector: str, predicts: str
  ) -> None:
    """Refuses to predict any latents but points on a map.

    Args:
      encoder: of the model.
      projector: name of its projector.
      predicts: what its predictor gives.

    Raises:
      ValueError: they are not, or the two disagree on their layout.
    """
    if (
      not isinstance(encoder, points_on_map.PointsOnMapConfig)
      or projector != 'none'
      or predicts != 'change'
    ):
      raise ValueError(
        "predictor.name='looking_around' says how points move on a map: it "
        "needs encoder.name='points_on_map', projector.name='none' and "
        f"predicts='change', got {encoder.name!r}, {projector!r} and "
        f'{predicts!r}.'
      )
    ours, theirs = (self.num_points, self.rows), encoder.layout
    if ours != theirs:
      raise ValueError(
        f'predictor.num_points={ours[0]} and predictor.rows={ours[1]} must be '
        f'those of the encoder, {theirs.num_points} and {theirs.rows} (a '
        'quarter of its image_size).'
      )


class LookingAround(predictors.WindowPredictor, layers.Module):
  """How far each point moves, by its past, the action and the map around it.

  The map is sampled, between its cells linearly, at a grid of places around
  each point, one cell apart, and nothing else says where the point is: what is
  learnt at one wall holds at all. Lengths are counted in cells of the map. The
  past of a point is how far it was from here at every earlier latent of the
  window, and the action taken there. What comes out is a change, of points
  alone: the map stays (`LeWM.predicts` 'change').

  Its fields are those of `LookingAroundConfig`.
  """

  history: int
  num_points: int
  rows: int
  reach: int
  width: int
  depth: int

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    conditions: jax.Array,
    *,
    look: windows.Look | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, windows.Memory]:
    """See `predictors.WindowPredictor`; outputs are changes `[..., T, D]`."""
    del train
    predictors.check_window(latents, conditions, self.history, look)
    given = conditions
    if look is not None:
      given = windows.whole(look.memory.given, look.place, conditions)
    layout = points_on_map.Layout(self.num_points, self.rows)
    points, _ = layout.split(latents)
    told = _past(points, given, self.history)
    if look is not None:
      told, latents = (
        windows.take(x.reshape(*x.shape[: latents.ndim - 1], -1), look.place)
        for x in (told, latents)
      )
      told = told.reshape(*latents.shape[:-1], self.num_points, -1)
    points, maps = layout.split(latents)
    around = _around(maps, points, self.reach)
    hidden = self._hidden(jnp.concatenate([around, told], axis=-1))
    moved = nn.Dense(
      2, kernel_init=nn.initializers.zeros, name='out', **self.dtypes
    )(hidden)
    moved = moved.reshape(*latents.shape[:-1], -1)
    still = latents.shape[-1] - moved.shape[-1]
    changes = jnp.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, still)])
    return changes, windows.Memory(conditions, None)

  def _hidden(self, inputs: jax.Array) -> jax.Array:
    """The last hidden layer `[..., width]` of inputs `[..., X]`."""
    hidden = nn.Dense(self.width, name='in', **self.dtypes)(inputs)
    for index in range(self.depth):
      name = f'hidden_{index}'
      normed = layers.layer_norm(1e-5, name=f'{name}_norm', **self.dtypes)
      more = nn.Dense(self.width, name=name, **self.dtypes)
      hidden = hidden + more(nn.silu(normed(hidden)))
    return hidden


def _past(points: jax.Array, given: jax.Array, history: int) -> jax.Array:
  """What is told each token of its past, `[..., T, P, X]`.

  For each of `history - 1` latents before it how far away its points were and
  the action taken there, and whether there was one; then its own action.

  Args:
    points: `[..., T, P, 2]`.
    given: conditions `[..., T, C]`.
    history: longest window.
  """
  *lead, num_tokens, num_points, _ = points.shape
  many = lambda x: jnp.broadcast_to(
    x[..., None, :], (*x.shape[:-1], num_points, x.shape[-1])
  )
  given, parts = many(given), []
  for lag in range(1, history):
    is_there = np.arange(num_tokens)[:, None, None] >= lag
    is_there = is_there.reshape((1,) * len(lead) + (num_tokens, 1, 1))
    before, action = (jnp.roll(x, lag, axis=-3) for x in (points, given))
    away = jnp.concatenate([points - before, action], axis=-1)
    parts.append(jnp.where(is_there, away, 0.0))
    parts.append(
      jnp.broadcast_to(is_there, (*away.shape[:-1], 1)).astype(away.dtype)
    )
  return jnp.concatenate([*parts, given], axis=-1)


def _around(maps: jax.Array, points: jax.Array, reach: int) -> jax.Array:
  """Samples maps around points, linearly; 0 beyond the edge.

  Args:
    maps: `[..., rows, rows, C]`.
    points: `[..., P, 2]`, x and y in cells from the middle.
    reach: cells to each side.

  Returns:
    `[..., P, (2 reach + 1)^2 C]`.
  """
  rows = maps.shape[-2]
  cells = points + (rows - 1) / 2
  steps = np.arange(-reach, reach + 1, dtype=np.float32)
  steps = steps.reshape((1,) * cells.ndim + (-1,))
  places = (cells[..., None] + steps)[..., None]  # [..., P, 2, places, 1]
  columns = np.arange(rows, dtype=np.float32)
  columns = columns.reshape((1,) * (places.ndim - 1) + (-1,))
  shares = jax.nn.relu(1.0 - jnp.abs(places - columns))
  x, y = shares[..., 0, :, :], shares[..., 1, :, :]
  # Columns first: the maps are the larger part.
  found = jnp.einsum('...yxc,...pjx->...pyjc', maps, x)
  found = jnp.einsum('...pyjc,...piy->...pijc', found, y)
  return found.reshape(*points.shape[:-1], -1)
