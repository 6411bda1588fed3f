"""A graph of latents that were seen and of what led where: spatial memory."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jepa_wm import fields
from jepa_wm.models.heads import graphs, head
from jepa_wm.types import Params, Variables

_MOST = 16_384
"""Nodes: a table of the paths between them all is a gibibyte."""


@head.HEADS.register
@dataclasses.dataclass(frozen=True)
class LandmarksConfig:
  """The settings of `Landmarks`.

  Attributes:
    num_landmarks: nodes that are chosen among recorded latents.
    num_spare: nodes that are left for `Landmarks.remember`.
    num_seen: times that a block must have led from a node's surroundings to
      another's for that to be an edge.
    num_near: nodes around a latent by which it may enter and leave the graph.
    stride: blocks from where one is to the landmark to reach first.
    radius: a latent farther than this from every node is a new one, and within
      it the way is straight; 0 is how far recorded latents are from the nodes
      at most, and before any are chosen nothing.
  """

  name: ClassVar[str] = 'landmarks'
  batches: ClassVar[str] = 'episodes'
  columns: ClassVar[tuple[str, ...]] = ()

  num_landmarks: int = 512
  num_spare: int = 64
  num_seen: int = 2
  num_near: int = 4
  stride: int = 2
  radius: float = 0.0

  def __post_init__(self) -> None:
    fields.check(self, may_be_zero=('num_spare',))
    if (number := self.num_landmarks + self.num_spare) > _MOST:
      raise ValueError(
        f'num_landmarks and num_spare must be at most {_MOST} together, got '
        f'{number}: the paths between all of them are kept.'
      )
    if self.num_near > self.num_landmarks:
      raise ValueError(
        f'num_near must be at most num_landmarks={self.num_landmarks}, got '
        f'{self.num_near}.'
      )

  def build(self, sizes: head.Sizes) -> 'Landmarks':
    """See `head.HeadConfig`."""
    if not sizes.action_dim:
      raise ValueError(
        'landmarks keeps what blocks of actions led to, and the encoder is of '
        'a model without any; take one that acts, such as lewm.'
      )
    return Landmarks(self, sizes)


class Memory(NamedTuple):
  """What is kept, K nodes of which the first `number` are there.

  Attributes:
    latents: `[K, D]`, of the nodes.
    blocks: `[K, K]`, of the shortest path from row to column; negative where
      none is known, as no file keeps infinities.
    number: int32, nodes that are there.
    radius: a latent farther than this from every node is a new one.
    speed: how far a block moves a latent.
  """

  latents: jax.Array
  blocks: jax.Array
  number: jax.Array
  radius: jax.Array
  speed: jax.Array


@dataclasses.dataclass(frozen=True)
class Landmarks:
  """Knows the way as far as somebody went it.

  Nodes are recorded latents, chosen so that none of the others is far from all
  of them. An edge of one block leads from a node to another where a block led
  from a latent around the one to a latent around the other; nothing that was
  not seen is an edge, however near two latents are. Nothing is learnt by
  gradients, and what is seen later can be added (`remember`).

  A way enters and leaves the graph at nodes near its ends, straight, and is
  straight between latents within the radius of each other. Nodes must be nearer
  to each other than the two sides of a wall are.

  Attributes:
    config: its settings.
    sizes: of the latents.
  """

  config: LandmarksConfig
  sizes: head.Sizes

  @property
  def roles(self) -> head.Roles:
    """See `head.Head`."""
    return head.Roles(cost=self.steps, subgoals=self.subgoals)

  def init(self, rng_key: jax.Array) -> Variables:
    """A memory of nothing; see `head.Head`."""
    del rng_key
    settings = self.config
    number = settings.num_landmarks + settings.num_spare
    memory = Memory(
      latents=jnp.zeros((number, self.sizes.latent_dim)),
      blocks=_saved(_edges(jnp.zeros((number, number), bool))),
      number=jnp.int32(0),
      radius=jnp.float32(settings.radius),
      speed=jnp.float32(1),
    )
    return _kept(memory)

  def for_inference(self, variables: Variables) -> Variables:
    """See `head.Head`."""
    return variables

  def fit(
    self, latents: jax.Array, after: jax.Array, rng_key: jax.Array
  ) -> tuple[Variables, dict[str, jax.Array]]:
    """See `head.Fits`; on the device, in one pass.

    Returns:
      The variables, and as metrics how many `edges` there are, the mean of
      `blocks` of all known ways, the share of pairs without one (`unknown`)
      and the `radius`.
    """
    settings = self.config
    if settings.num_landmarks > len(latents):
      raise ValueError(
        f'num_landmarks={settings.num_landmarks}: there are {len(latents)} '
        'recorded latents to choose them among; choose fewer, or record more.'
      )
    nodes, radius = graphs.farthest_points(
      latents, settings.num_landmarks, rng_key
    )
    if settings.radius:
      radius = jnp.float32(settings.radius)
    cells = graphs.nearest(latents, nodes)
    # Latents without one point at themselves.
    has_after = after != jnp.arange(len(after))
    size = settings.num_landmarks + settings.num_spare
    seen = jnp.zeros((size, size), jnp.int32)
    seen = seen.at[cells, cells[after]].add(has_after.astype(jnp.int32))
    is_edge = (seen >= settings.num_seen) & ~jnp.eye(size, dtype=bool)
    spare = jnp.zeros((settings.num_spare, latents.shape[-1]))
    moved = jnp.sqrt(jnp.sum(jnp.square(latents[after] - latents), axis=-1))
    speed = jnp.nanquantile(jnp.where(has_after, moved, jnp.nan), 0.9)
    memory = Memory(
      latents=jnp.concatenate([nodes, spare]),
      blocks=_saved(graphs.shortest(_edges(is_edge))),
      number=jnp.int32(settings.num_landmarks),
      radius=radius,
      speed=speed,
    )
    known = memory.blocks[: len(nodes), : len(nodes)]
    is_known = known >= 0
    return _kept(memory), {
      'edges': jnp.sum(is_edge),
      'blocks': jnp.mean(known, where=is_known),
      'unknown': 1.0 - jnp.mean(is_known),
      'radius': radius,
      'speed': speed,
    }

  def remember(self, params: Params, latents: jax.Array) -> Params:
    """What is known after somebody went a path; may be jitted.

    A latent farther than the radius from every node becomes one while there is
    room, and is left out, with the two blocks around it, when there is none.

    Args:
      params: variables of the head.
      latents: `[T, D]`, a block apart, in the order in which they were seen;
        one that is not finite stands between two paths.

    Returns:
      The variables, of the same shapes.
    """

    def step(carry: tuple[Memory, jax.Array], latent: jax.Array) -> Any:
      memory, before = carry
      far = self._apart(memory, latent)
      near = jnp.argmin(far)
      is_far = far[near] > memory.radius
      has_room = memory.number < len(memory.latents)
      is_seen = jnp.all(jnp.isfinite(latent))
      is_new = is_far & has_room & is_seen
      here = jnp.where(is_new, memory.number, near)
      is_known = (~is_far & is_seen) | is_new
      is_edge = is_known & (before >= 0)
      length = jnp.where(is_edge, 1.0, jnp.inf)
      kept = jnp.where(is_new, latent, memory.latents[here])
      memory = memory._replace(
        latents=memory.latents.at[here].set(kept),
        number=memory.number + is_new,
        blocks=graphs.with_edge(memory.blocks, before, here, length),
      )
      return (memory, jnp.where(is_known, here, -1)), None

    known = Memory(**params['params'])
    known = known._replace(blocks=_lengths(known.blocks))
    (memory, _), _ = jax.lax.scan(step, (known, jnp.int32(-1)), latents)
    return _kept(memory._replace(blocks=_saved(memory.blocks)))

  def steps(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """Environment steps `[...]` from latents to goals, `[..., D]` each.

    Where no way is known, as many as the longest that is, and beyond that
    straight ahead.
    """
    memory = Memory(**params['params'])
    way = self._way(memory, latents, goals)
    instead = jnp.max(memory.blocks) + way.straight
    blocks = jnp.where(jnp.isfinite(way.blocks), way.blocks, instead)
    return self.sizes.action_block * blocks

  def subgoals(
    self, params: Params, latents: jax.Array, goals: jax.Array
  ) -> jax.Array:
    """The landmark about `stride` blocks ahead on the way, `[..., D]`.

    The goal itself where it is as near as that, or where no way is known.

    Args:
      params: variables of the head.
      latents: `[..., D]`, where one is.
      goals: `[..., D]`.
    """
    stride, memory = self.config.stride, Memory(**params['params'])
    way = self._way(memory, latents, goals)
    from_here = _lengths(memory.blocks[way.first])
    to_goal = _lengths(memory.blocks.T[way.last])
    length = _lengths(memory.blocks[way.first, way.last])
    is_on_way = from_here + to_goal <= jnp.expand_dims(length, -1)
    off = jnp.where(is_on_way, jnp.abs(from_here - stride), jnp.inf)
    ahead = memory.latents[jnp.argmin(off, axis=-1)]
    is_far = jnp.isfinite(way.blocks) & (way.blocks > stride)
    return jnp.where(jnp.expand_dims(is_far, -1), ahead, goals)

  def _way(
    self, memory: Memory, latents: jax.Array, goals: jax.Array
  ) -> '_Way':
    """The shortest way: through the graph, or straight within the radius."""
    latents, goals = jnp.broadcast_arrays(latents, goals)
    count = self.config.num_near
    (up, enter), (down, leave) = (
      _smallest(self._apart(memory, x) / memory.speed, count)
      for x in (latents, goals)
    )
    inside = _lengths(memory.blocks[enter[..., :, None], leave[..., None, :]])
    whole = up[..., :, None] + inside + down[..., None, :]
    flat = whole.reshape(*whole.shape[:-2], -1)
    best = jnp.argmin(flat, axis=-1)
    pick = lambda x, at: jnp.take_along_axis(x, at[..., None], -1)[..., 0]
    through = pick(flat, best)
    apart = jnp.sqrt(jnp.sum(jnp.square(latents - goals), axis=-1))
    straight = apart / memory.speed
    is_beside = apart <= memory.radius
    return _Way(
      jnp.where(is_beside, jnp.minimum(straight, through), through),
      straight,
      pick(enter, best // count),
      pick(leave, best % count),
    )

  def _apart(self, memory: Memory, latents: jax.Array) -> jax.Array:
    """How far latents are from nodes, `[..., K]`, infinite where none is."""
    is_there = jnp.arange(len(memory.latents)) < memory.number
    far = graphs.apart(latents, memory.latents)
    lead = (1,) * (far.ndim - 1)
    return jnp.where(is_there.reshape(*lead, -1), far, jnp.inf)


class _Way(NamedTuple):
  """From latents to goals, `[...]`.

  Attributes:
    blocks: along the graph, infinite where it knows no way.
    straight: blocks as if there were no walls.
    first: node at which it enters the graph.
    last: node at which it leaves it.
  """

  blocks: jax.Array
  straight: jax.Array
  first: jax.Array
  last: jax.Array


def _smallest(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  found, rows = jax.lax.top_k(-values, count)
  return -found, rows


def _edges(is_edge: jax.Array) -> jax.Array:
  """Blocks of edges, and none from a node to itself."""
  steps = jnp.where(is_edge, 1.0, jnp.inf)
  return jnp.where(jnp.eye(len(steps), dtype=bool), 0.0, steps)


def _saved(lengths: jax.Array) -> jax.Array:
  """Paths as `Memory` keeps them."""
  return jnp.where(jnp.isfinite(lengths), lengths, -1.0)


def _lengths(blocks: jax.Array) -> jax.Array:
  """Paths that `Memory` keeps, infinite where none is known."""
  return jnp.where(blocks < 0, jnp.inf, blocks)


def _kept(memory: Memory) -> Any:
  return {'params': memory._asdict()}
