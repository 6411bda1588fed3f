"""A level above: macro-actions, and where they lead in the same latents."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import mlp
from jepa_wm.types import Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class WaypointsConfig:
  """The settings of `Waypoints`.

  Attributes:
    width: of the hidden layers.
    depth: hidden layers.
    macro_dim: M, numbers of a macro-action.
    stride: blocks that a macro-action spans at most.
    min_stride: blocks that it spans at least; the gaps of training are drawn
      between the two.
    num_waypoints: W, macro-actions that are rolled out in training.
    num_recorded: sequences of recorded macro-actions that are kept for search.
  """

  name: ClassVar[str] = 'waypoints'
  batches: ClassVar[str] = 'paths'
  columns: ClassVar[tuple[str, ...]] = ()

  width: int = 256
  depth: int = 2
  macro_dim: int = 8
  stride: int = 4
  min_stride: int = 2
  num_waypoints: int = 3
  num_recorded: int = 1024

  def __post_init__(self) -> None:
    fields.check(self)
    if self.min_stride > self.stride:
      raise ValueError(
        f'min_stride must be at most stride={self.stride}, got '
        f'{self.min_stride}.'
      )

  @property
  def num_blocks(self) -> int:
    """Blocks of a window that it learns of."""
    return self.num_waypoints * self.stride

  def build(self, sizes: head.Sizes) -> 'Waypoints':
    """See `head.HeadConfig`."""
    if not sizes.action_dim:
      raise ValueError(
        'waypoints learns what actions lead to, and the encoder is of a model '
        'without any; take one that acts, such as lewm.'
      )
    return Waypoints(self, sizes)


class _Macro(nn.Module):
  """Blocks `[..., S, A]`, of which the first `[...]` count, to `[..., M]`."""

  features: int
  width: int
  depth: int

  @nn.compact
  def __call__(self, blocks: jax.Array, number: jax.Array) -> jax.Array:
    length = blocks.shape[-2]
    within = jnp.arange(length).reshape((1,) * number.ndim + (length,))
    counts = within < jnp.expand_dims(number, -1)
    counted = jnp.where(jnp.expand_dims(counts, -1), blocks, 0.0)
    flat = counted.reshape(*blocks.shape[:-2], -1)
    found = mlp.MLP(self.features, self.width, self.depth, 1.0, name='encoder')(
      flat, counts.astype(jnp.float32)
    )
    # Of one length, so that a search knows how far to look.
    norm = nn.LayerNorm(use_bias=False, use_scale=False)
    macro: jax.Array = norm(found)
    return macro


@dataclasses.dataclass(frozen=True)
class Waypoints(head.Plain):
  """Learns where several blocks lead at once, by a code for them.

  The encoder of macro-actions and the predictor are trained together on
  rollouts of W waypoints, by the mean absolute error; gaps differ from waypoint
  to waypoint. The latents stay those of the level below, so any cost and any
  goal means the same on both.

  Recorded sequences of macro-actions are kept: free ones between them lead
  where the predictor knows nothing.

  Source: HWM (arXiv 2604.03208) for the level, and arXiv 2607.12547 for
    the search near recorded macro-actions.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    settings = self.config
    return head.Roles(
      level=head.UpperLevel(
        self.step, self.recorded, settings.macro_dim, settings.stride
      )
    )

  @property
  def _macro(self) -> _Macro:
    settings = self.config
    return _Macro(settings.macro_dim, settings.width, settings.depth)

  @property
  def _predictor(self) -> mlp.MLP:
    settings = self.config
    return mlp.MLP(self.sizes.latent_dim, settings.width, settings.depth)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`."""
    settings = self.config
    macro_key, predictor_key = jax.random.split(rng_key)
    blocks = jnp.zeros((1, settings.stride, self.sizes.action_dim))
    macro = self._macro.init(macro_key, blocks, jnp.ones(1))['params']
    latent = jnp.zeros((1, self.sizes.latent_dim))
    code = jnp.zeros((1, settings.macro_dim))
    predictor = self._predictor.init(predictor_key, latent, code)['params']
    shape = (settings.num_recorded, settings.num_waypoints, settings.stride)
    return {
      'params': {'macro': macro, 'predictor': predictor},
      'batch_stats': {'blocks': jnp.zeros((*shape, self.sizes.action_dim))},
    }

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`."""
    settings, params = self.config, variables['params']
    latents, actions = batch['latents'], batch['action']
    size, count = latents.shape[0], settings.num_waypoints
    gaps = jax.random.randint(
      rng_key, (size, count), settings.min_stride, settings.stride + 1
    )
    ends = jnp.cumsum(gaps, axis=1)
    begins = ends - gaps
    within = jnp.arange(settings.stride).reshape(1, 1, -1)
    rows = begins[:, :, None] + within
    rows = jnp.minimum(rows, actions.shape[1] - 1)
    blocks = jax.vmap(lambda x, at: x[at])(actions, rows)
    macros = self.encode(variables, blocks, gaps)
    wanted = jax.vmap(lambda x, at: x[at])(latents, ends)

    def step(latent: jax.Array, macro: jax.Array) -> Any:
      latent = self._step(params, macro, latent)
      return latent, latent

    _, found = jax.lax.scan(step, latents[:, 0], jnp.moveaxis(macros, 1, 0))
    found = jnp.moveaxis(found, 0, 1)
    errors = jnp.abs(found - wanted)
    moved = jnp.abs(latents[:, :1] - wanted)
    # As planners use it, every macro-action is as long as it may be.
    recorded = actions.reshape(size, count, settings.stride, -1)
    kept = jnp.concatenate([recorded, variables['batch_stats']['blocks']])
    return head.HeadLosses(
      jnp.mean(errors),
      {
        'error_of_first': jnp.mean(errors[:, 0]),
        'error_of_last': jnp.mean(errors[:, -1]),
        # 1 is no better than to stay.
        'share_of_moved': jnp.mean(errors) / jnp.mean(moved),
      },
      {'blocks': kept[: settings.num_recorded]},
    )

  def for_inference(self, variables: Variables) -> Variables:
    """With the recorded sequences."""
    return {
      'params': variables['params'],
      'batch_stats': variables['batch_stats'],
    }

  def encode(
    self, params: Params, blocks: jax.Array, number: jax.Array
  ) -> jax.Array:
    """Macro-actions `[..., M]`.

    Args:
      params: variables of the head.
      blocks: `[..., S, A]`, normalised, S the stride.
      number: `[...]`, how many of them count.
    """
    macro = params['params']['macro']
    found: Any = self._macro.apply({'params': macro}, blocks, number)
    return found

  def step(
    self, params: Params, macros: jax.Array, latents: jax.Array
  ) -> jax.Array:
    """The latents `[..., D]` that macro-actions `[..., M]` lead to."""
    return self._step(params['params'], macros, latents)

  def _step(
    self, params: Params, macros: jax.Array, latents: jax.Array
  ) -> jax.Array:
    moved: Any = self._predictor.apply(
      {'params': params['predictor']}, latents, macros
    )
    return latents + moved

  def recorded(self, params: Params) -> jax.Array:
    """Macro-actions `[R, W, M]` that were played, as long as they may be."""
    blocks = params['batch_stats']['blocks']
    number = jnp.full(blocks.shape[:2], self.config.stride)
    return self.encode(params, blocks, number)
