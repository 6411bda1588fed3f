"""What a diagnostic is: one question about a model, one file that answers it.

A file of this room registers a frozen dataclass in `DIAGNOSTICS`; training,
planning and the report page then know it by its name.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

from jepa_wm import fields, models, sharding
from jepa_wm.envs import worlds
from jepa_wm.evaluation.diagnostics.finding import Finding
from jepa_wm.evaluation.planning import planning_model
from jepa_wm.types import LatentState, Observation, Params, Variables
from jepa_wm.units import ActionStatistics

DIAGNOSTICS = fields.Registry('diagnostic', 'jepa_wm.evaluation.diagnostics')
"""Frozen dataclasses by name, each a `Diagnostic` with defaults alone."""

Batch = Mapping[str, Any]
"""`observation` `[B, T, ...]`, raw `action` blocks `[B, T - 1, A]`, and as far
as it is known the true `state` `[B, T, S]` or the `label` `[B]`."""


class Imagines(planning_model.Steps, Protocol):
  """A world model that is rolled out; `jepa_wm.WorldModel` is one."""

  def encode(self, params: Params, observation: Observation) -> jax.Array:
    """Latents `[..., D]` of arrays `[..., *shape]`."""
    ...

  def start(self, params: Params, observation: Observation) -> LatentState:
    """A state from arrays `[B, T, *shape]`."""
    ...

  def normalize_actions(self, actions: jax.Array) -> jax.Array:
    """Raw actions `[..., action_block, raw]` as blocks `[..., A]`."""
    ...


class Examined(Imagines, planning_model.PlanningModel, Protocol):
  """What is asked about; `jepa_wm.WorldModel` is one."""

  @property
  def model(self) -> models.Learns:
    """The model itself, which `params` are the variables of."""
    ...

  @property
  def units(self) -> ActionStatistics | None:
    """What normalises raw actions; None of a model without actions."""
    ...


@dataclasses.dataclass(frozen=True)
class Looked:
  """What a model makes of windows, in eval mode.

  Attributes:
    metrics: what the model's `evaluate` says, means over the batches.
    latents: `[N, T, D]`; of a model of clips `[N, D]`.
    action: `[N, T - 1, A]`, normalised; None of a model without actions.
    state: `[N, T, S]`, the true state, None where it is not known; of a model
      of clips `[N, S]`, its mean over each.
    label: `[N]`, None where there is none.
  """

  metrics: dict[str, float]
  latents: np.ndarray
  action: np.ndarray | None
  state: np.ndarray | None
  label: np.ndarray | None

  @property
  def rows(self) -> Any:
    """Latents `[M, D]`, one row a frame or a clip."""
    return rows(self.latents)

  @property
  def paths(self) -> np.ndarray:
    """Latents `[N, T, D]`, of episodes in time.

    Raises:
      ValueError: a clip has one latent.
    """
    if self.latents.ndim != 3:
      raise ValueError(
        'The model has one latent a clip, which goes nowhere; this diagnostic '
        'takes models with one a frame.'
      )
    return self.latents


@dataclasses.dataclass(frozen=True)
class Episodes:
  """Windows of episodes to examine a model on, and what is known of them.

  Attributes:
    windows_fn: 'train' or 'held_out' to batches. All is measured on the latter;
      what must be fitted is fitted on the former.
    world: where they were played, for those who play on; None where it is not
      known.
    horizon: action blocks to look ahead.
    picture_fn: latents `[..., D]` to pixels uint8 `[..., height, width, 3]`,
      of a decoder head; None where there is none.
    records: what a run has logged so far, oldest first.
  """

  windows_fn: Callable[[str], Sequence[Batch]]
  world: worlds.World | None = None
  horizon: int = 5
  picture_fn: Callable[[jax.Array], jax.Array] | None = None
  records: Sequence[Mapping[str, Any]] = ()
  _looked: dict[str, tuple[Params, Looked]] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  def look(self, model: Examined, split: str = 'held_out') -> Looked:
    """What `model` makes of the windows of a split.

    Looked at once for all who ask.
    """
    of, looked = self._looked.get(split, (None, None))
    if looked is None or of is not model.params:
      looked = _look_at(model, self.windows_fn(split))
      self._looked[split] = model.params, looked
    return looked


class Question(NamedTuple):
  """What a diagnostic is asked.

  Attributes:
    model: that is asked about.
    episodes: that it is asked on.
    rng_key: of all draws, consumed.
  """

  model: Examined
  episodes: Episodes
  rng_key: jax.Array

  def look(self, split: str = 'held_out') -> Looked:
    """What the model makes of the windows of a split."""
    return self.episodes.look(self.model, split)

  def acting(self, name: str) -> models.Advances:
    """The model as one that actions move.

    Args:
      name: of the diagnostic that asks.

    Raises:
      ValueError: it has no dynamics.
    """
    model = self.model.model
    if model.acting is None:
      raise ValueError(
        f'{name} takes a model with dynamics, and {model.config.name} has none.'
      )
    return model.acting

  def world(self, name: str) -> worlds.World:
    """The JAX world that the episodes are of.

    Args:
      name: of the diagnostic that asks.

    Raises:
      ValueError: it is not known, or steps on the host.
    """
    world = self.episodes.world
    if world is None or world.on_host:
      raise ValueError(
        f'{name} plays the world that the episodes are of, and these are of '
        'none that is written in JAX, or do not say of which; leave it out.'
      )
    return world


class Diagnostic(Protocol):
  """A question about a model.

  Attributes:
    name: what configs and flags call it.
    group: what a training log calls it: `group/scalar`.
  """

  name: ClassVar[str]
  group: ClassVar[str]

  def __call__(self, question: Question) -> Finding:
    """Answers it.

    Raises:
      ValueError: the model or the episodes have not what it takes.
    """
    ...


def named(names: Iterable[str]) -> tuple[Diagnostic, ...]:
  """Diagnostics by name, in the order given.

  Args:
    names: of them; one may be several, with commas between, as flags have it.

  Raises:
    ValueError: there is none of that name; the nearest is suggested.
  """
  if isinstance(names, str):
    names = (names,)
  names = tuple(names) if isinstance(names, Iterable) else names
  if not isinstance(names, tuple) or not all(
    isinstance(name, str) for name in names
  ):
    raise ValueError(
      f'evals must be names of diagnostics, got {repr(names)[:60]}.'
    )
  split = [x.strip() for name in names for x in name.split(',')]
  return tuple(DIAGNOSTICS.find(name)() for name in split if name)


def rows(array: Any) -> Any:
  """`[..., D]` as `[M, D]`."""
  return array.reshape(-1, array.shape[-1])


@functools.partial(jax.jit, static_argnames='model')
def evaluate(
  model: models.Learns,
  variables: Variables,
  units: ActionStatistics | None,
  batch: Batch,
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array | None]:
  """What the model's `evaluate` says of a batch whose actions are raw.

  Compiled once for a model, whatever its variables.

  Returns:
    Metrics, latents and normalised actions, in eval mode (no dropout, running
    batch statistics).
  """
  action = None
  if units is not None:
    action = units.normalize(batch['action'])
    batch = {**batch, 'action': action}
  return *model.evaluate(variables, batch), action


def _look_at(model: Examined, batches: Sequence[Batch]) -> Looked:
  mesh = sharding.make_mesh()
  metrics, latents, actions = zip(
    *jax.device_get(
      [
        evaluate(model.model, model.params, model.units, _shared(batch, mesh))
        for batch in batches
      ]
    )
  )
  state = label = None
  if np.shape(batches[0].get('state', ()))[-1:] > (0,):
    states = [np.asarray(batch['state']) for batch in batches]
    if np.ndim(latents[0]) == 2:
      # A clip has one latent: where things were on the whole.
      states = [x.mean(1) for x in states]
    state = np.concatenate(states)
  seen = np.concatenate([np.asarray(x) for x in latents])
  if 'label' in batches[0] and len(rows(seen)) == len(seen):
    label = np.concatenate([np.asarray(batch['label']) for batch in batches])
  return Looked(
    metrics={k: float(np.mean([m[k] for m in metrics])) for k in metrics[0]},
    latents=seen,
    action=None if actions[0] is None else np.concatenate(actions),
    state=state,
    label=label,
  )


def _shared(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
  """A batch over all devices; as it is where they cannot share it evenly."""
  if len(jax.tree.leaves(batch)[0]) % mesh.size:
    return batch
  shared: Batch = sharding.shard_batch(batch, mesh)
  return shared
