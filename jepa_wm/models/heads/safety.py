"""Whether a latent lies in a forbidden zone, and a bound on how often not."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.models.heads import head
from jepa_wm.networks import mlp
from jepa_wm.types import Params, Variables


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class SafetyConfig:
  """The settings of `Safety`.

  Attributes:
    zone: what is forbidden, `disc:75,100,25` or a name that the world has for
      it (`envs.zones`).
    buffer: how far around the zone it learns to refuse latents too, in the
      unit of the zone; bounds are of the zone itself.
    width: of the hidden layers.
    depth: hidden layers.
    hinge: m, by how much a price is to be on its side of 0.
    num_blocks: blocks ahead for which predicted latents have a bound of their
      own; farther ones have the last.
    num_checks: places in a block that are looked at, its end the last; those
      between are on the straight line from where it began.
    num_scores: prices of unsafe latents that are kept for bounds.
  """

  name: ClassVar[str] = 'safety'
  batches: ClassVar[str] = 'frames'
  columns: ClassVar[tuple[str, ...]] = ('margin',)

  zone: str = ''
  buffer: float = 0.0
  width: int = 128
  depth: int = 2
  hinge: float = 1.0
  num_blocks: int = 10
  num_checks: int = 2
  num_scores: int = 1000

  def __post_init__(self) -> None:
    if not isinstance(self.zone, str):
      raise ValueError(f'zone must be text, got {self.zone!r}.')
    # What a world has to forbid is known where the world is.
    fields.check(self, {'zone': (self.zone,)})
    if not self.hinge:
      raise ValueError('hinge must be above 0, got 0.')

  def build(self, sizes: head.Sizes) -> 'Safety':
    """See `head.HeadConfig`."""
    return Safety(self, sizes)


@dataclasses.dataclass(frozen=True)
class Safety(head.Plain):
  """Prices latents: above 0 in the zone, below it outside.

  The signed hinge `mean max(0, m - y s)`, y = 1 in the zone and -1 outside, the
  two sides counted alike however rare the zone is. What it says is made a bound
  by split-conformal calibration (`bounds`) on the prices of held-out unsafe
  latents, which a run adds at its end.

  Source: the classifier and its calibration are le-wm-safe's
    (LeoToso/le-wm-safe), turned so that lower is safer.
  """

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    guardrail = head.GuardrailRole(self.price, self.bounds)
    return head.Roles(guardrail=guardrail)

  @property
  def _network(self) -> mlp.MLP:
    return mlp.MLP(1, self.config.width, self.config.depth)

  def init(self, rng_key: jax.Array) -> Variables:
    """See `head.Head`; nothing is calibrated."""
    latent = jnp.zeros((1, self.sizes.latent_dim))
    found = head.fresh(self._network, rng_key, latent)
    return {**found, 'batch_stats': self.uncalibrated()}

  def uncalibrated(self) -> dict[str, jax.Array]:
    """No prices of unsafe latents."""
    rows = 1 + self.config.num_blocks
    return {
      'scores': jnp.zeros((rows, self.config.num_scores)),
      'counts': jnp.zeros(rows),
    }

  def losses(
    self, variables: Variables, batch: Mapping[str, Any], rng_key: jax.Array
  ) -> head.HeadLosses:
    """See `head.Head`; `margin` is how deep a frame's state is in the zone."""
    del rng_key
    price = self.price(variables, batch['latents'])
    is_unsafe = batch['margin'] > -self.config.buffer
    side = jnp.where(is_unsafe, 1.0, -1.0)
    errors = jnp.maximum(0.0, self.config.hinge - side * price)
    is_wrong = (side * price <= 0.0).astype(jnp.float32)

    def mean(values: jax.Array, some: jax.Array) -> jax.Array:
      return jnp.sum(values * some) / jnp.maximum(jnp.sum(some), 1)

    loss = 0.5 * (mean(errors, is_unsafe) + mean(errors, ~is_unsafe))
    missed, refused = mean(is_wrong, is_unsafe), mean(is_wrong, ~is_unsafe)
    return head.HeadLosses(
      loss,
      {'unsafe_missed': missed, 'safe_refused': refused},
      variables['batch_stats'],
    )

  def for_inference(self, variables: Variables) -> Variables:
    """With what bounds are found of."""
    return {name: variables[name] for name in ('params', 'batch_stats')}

  def price(self, params: Params, latents: jax.Array) -> jax.Array:
    """How unsafe latents `[..., D]` are, `[...]`: 0 at the zone's edge."""
    return head.applied(self._network, params, latents)[..., 0]

  def calibrated(
    self, variables: Variables, scores: list[np.ndarray]
  ) -> Variables:
    """The variables with the prices of held-out unsafe latents.

    Args:
      variables: of the head.
      scores: `[n]` each, of encoded latents and then of those predicted 1, 2
        and more blocks ahead, `num_blocks` of them.
    """
    rows, most = 1 + self.config.num_blocks, self.config.num_scores
    kept = np.zeros((rows, most), np.float32)
    counts = np.zeros(rows, np.float32)
    for i, found in enumerate(scores):
      # As good as all: which are left out does not depend on the price.
      some = np.random.default_rng(i).permutation(found)[:most]
      kept[i, : len(some)], counts[i] = np.sort(some), len(some)
    return {**variables, 'batch_stats': {'scores': kept, 'counts': counts}}

  def bounds(self, params: Params, delta: float) -> np.ndarray:
    """What a price must stay below, `[1 + num_blocks]`.

    The first is for encoded latents, the others for those predicted so many
    blocks ahead. Of unsafe latents like the held-out ones no more than a share
    of delta is below: the bound is the `floor((n + 1) delta)`-th lowest of
    their n prices (split conformal), and 0 at most.

    Args:
      params: variables of the head.
      delta: between 0 and 1.

    Returns:
      Minus infinity where there are too few unsafe latents to say.
    """
    stats = jax.device_get(params['batch_stats'])
    found = []
    for scores, count in zip(stats['scores'], stats['counts'], strict=True):
      rank = int(min(np.floor((count + 1) * delta + 1e-9), count))
      found.append(min(float(scores[rank - 1]), 0.0) if rank else -np.inf)
    return np.asarray(found, np.float32)
