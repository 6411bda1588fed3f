"""Where the model sees the cheapest action, beside the one that was taken."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import models
from jepa_wm.evaluation.diagnostics import diagnostic
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.report import plots
from jepa_wm.types import Params

_NUM_SHOWN = 2


@diagnostic.DIAGNOSTICS.register
@dataclasses.dataclass(frozen=True)
class Energy:
  """The cost over two action dimensions, one step from a recorded frame.

  The goal is the next recorded frame; all steps of the block take the same two
  numbers, its other numbers are as recorded (V-JEPA 2-AC, arXiv 2506.09985,
  whose figure varies two of the arm's displacements). Where dynamics are
  right, the least cost is at the mean of the recorded action.

  Attributes:
    dims: the two numbers of a raw action.
    num_values: of each, evenly spaced over what was recorded.
    num_windows: that are looked at, at most.
  """

  name = group = 'energy'
  dims: tuple[int, int] = (0, 1)
  num_values: int = 21
  num_windows: int = 64

  def __call__(self, question: diagnostic.Question) -> Finding:
    acting, looked = question.acting(self.name), question.look()
    if looked.action is None or acting.action_spec.dim < 2:
      raise ValueError(
        'energy varies two numbers of an action, and these have '
        f'{acting.action_spec.dim}.'
      )
    raw = np.asarray(question.model.raw_actions(jnp.asarray(looked.action)))
    along, up = (
      np.linspace(raw[..., d].min(), raw[..., d].max(), self.num_values)
      for d in self.dims
    )
    taken = raw[: self.num_windows, -1]
    grid = np.stack(np.meshgrid(along, up), axis=-1).astype(np.float32)
    blocks = np.broadcast_to(
      taken[:, None, None],
      (*taken.shape[:1], *grid.shape[:2], *taken.shape[1:]),
    ).copy()
    blocks[..., list(self.dims)] = grid[None, :, :, None]
    energies = np.asarray(
      _energies(
        acting,
        question.model.params,
        looked.paths[: self.num_windows],
        looked.action[: self.num_windows],
        question.model.normalize_actions(jnp.asarray(blocks)),
      )
    )
    lowest = energies.reshape(len(energies), -1).argmin(1)
    found = grid.reshape(-1, 2)[lowest]
    recorded = taken[..., list(self.dims)].mean(1)
    reach = np.array([np.ptp(along), np.ptp(up)]) / 2
    away = lambda places: np.linalg.norm((places - recorded) / reach, axis=-1)
    chance = np.mean([away(place) for place in grid.reshape(-1, 2)])
    offset = (found - recorded) / reach
    return Finding(
      title='Where the cheapest action lies',
      scalars={
        'offset': float(away(found).mean()),
        'chance': float(chance),
        'bias_0': float(offset[:, 0].mean()),
        'bias_1': float(offset[:, 1].mean()),
      },
      figures=self._figures(energies, along, up, recorded, found),
      sentence='offset is how far the least cost lies from the recorded '
      f'action in dimensions {self.dims[0]} and {self.dims[1]}, in halves of '
      'their range; chance is what a place drawn at random would have, bias '
      f'the mean by dimension, with its sign. Over {len(found)} windows; the '
      f'grid\u2019s own step is {2 / (self.num_values - 1):.2g}.',
    )

  def _figures(
    self,
    energies: np.ndarray,
    along: np.ndarray,
    up: np.ndarray,
    recorded: np.ndarray,
    found: np.ndarray,
  ) -> dict[str, bytes]:
    """The first windows' planes."""
    figures: dict[str, bytes] = {}
    for number in range(min(_NUM_SHOWN, len(energies))):
      draw = functools.partial(
        plots.field,
        energies[number],
        along,
        up,
        {
          name: (float(place[number, 0]), float(place[number, 1]))
          for name, place in (('recorded', recorded), ('least cost', found))
        },
        title=f'Cost of an action, window {number}',
        labels=(
          f'action dimension {self.dims[0]}',
          f'action dimension {self.dims[1]}',
        ),
      )
      figures |= plots.both(f'energy_{number}', draw)
    return figures


@functools.partial(jax.jit, static_argnames='model')
def _energies(
  model: models.Advances,
  params: Params,
  latents: jax.Array,
  actions: jax.Array,
  blocks: jax.Array,
) -> jax.Array:
  """Costs `[N, rows, columns]` of the last step's action.

  Args:
    model: looks back as far as it does.
    params: of it.
    latents: `[N, T, D]`; the last is the goal.
    actions: `[N, T - 1, A]`; the last is replaced.
    blocks: `[N, rows, columns, A]` in its place.
  """
  first = max(0, latents.shape[1] - 1 - model.history)

  def window(
    latents: jax.Array, actions: jax.Array, blocks: jax.Array
  ) -> jax.Array:
    def price(block: jax.Array) -> jax.Array:
      state = model.start(
        params, latents[None, first:-1], actions[None, first:-1]
      )
      state = model.advance(params, state, block[None])
      return model.distance(model.read(state), latents[None, -1])[0]

    return jax.vmap(jax.vmap(price))(blocks)

  return jax.lax.map(lambda row: window(*row), (latents, actions, blocks))
