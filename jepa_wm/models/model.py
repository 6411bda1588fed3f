"""What a model is to everybody else: it encodes, advances and learns."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm import fields
from jepa_wm.models import targets
from jepa_wm.networks import encoders
from jepa_wm.objectives import terms
from jepa_wm.types import (
  ActionSpec,
  LatentState,
  Observation,
  ObservationSpec,
  PolicyFn,
  Variables,
)

MODELS = fields.Registry('model', 'jepa_wm.models')
"""Published systems by name: frozen dataclasses whose `build` gives a model."""

Batch = Mapping[str, Any]
"""`observation` (or its features as `latents`, where they are cached), `action`
`[B, T - 1, A]` in normalised units, and what else the data has."""


class Losses(NamedTuple):
  """What a batch costs, and what came of looking at it.

  Attributes:
    values: every term of the loss before its weight, scalars by name.
    weights: of the terms, the same names.
    loss: scalar, the weighted values added up.
    metrics: scalars to report: the values, `loss`, and what does not count.
    batch_stats: the collection of that name after the batch.
    latents: `[B, T, D]`, of the batch.
  """

  values: dict[str, jax.Array]
  weights: dict[str, float]
  loss: jax.Array
  metrics: dict[str, jax.Array]
  batch_stats: Any
  latents: jax.Array

  @classmethod
  def of(
    cls, priced: terms.Priced, batch_stats: Any, latents: jax.Array
  ) -> 'Losses':
    """What a batch costs by its priced terms."""
    loss = terms.total(priced)
    metrics = {**priced.values, **priced.metrics, 'loss': loss}
    return cls(
      priced.values, priced.weights, loss, metrics, batch_stats, latents
    )


class Parts(NamedTuple):
  """A loss in two parts: `price` of what `look` gives is `Learns.losses`.

  Attributes:
    look: variables, batch and key to what every sample makes for itself, a
      pytree of floats `[B, ...]`; a part of a batch gives a part of it.
    price: variables, what the whole batch made, batch and key to `Losses`.
  """

  look: Callable[[Variables, Batch, jax.Array], Any]
  price: Callable[[Variables, Any, Batch, jax.Array], Losses]


class Encodes(Protocol):
  """A model that turns observations into latents.

  All that a model is in words is its `config`, a frozen dataclass registered
  in `MODELS`: `fields.to_dict` of it can be saved, and its `build` gives the
  model back.
  """

  @property
  def config(self) -> Any:
    """The settings that the model was built from."""
    ...

  @property
  def observation_spec(self) -> ObservationSpec:
    """What a frame, or where `clip_length` is given a clip's frame, is."""
    ...

  @property
  def latent_dim(self) -> int:
    """Size `D` of a latent."""
    ...

  @property
  def token_grid(self) -> tuple[int, ...] | None:
    """Tokens of what is encoded, by axis; None for a model without tokens.

    `(rows, columns)` of a frame, or `(time, rows, columns)` of a clip.
    """
    ...

  @property
  def clip_length(self) -> int | None:
    """Frames of a clip that has one latent; None where every frame has."""
    ...

  def encode(
    self,
    variables: Variables,
    observation: Observation,
    *,
    tokens: bool = False,
  ) -> jax.Array:
    """Encodes what is seen, in eval mode.

    Args:
      variables: of the model, as it trains or as `for_inference` gives them.
      observation: arrays `[..., *shape]` of `observation_spec`, as they come;
        for a model of clips the last leading dim is time.
      tokens: whether tokens are asked for.

    Returns:
      float32 `[..., D]`, or `[..., P, F]`.

    Raises:
      ValueError: an array is missing, of another size or dtype, or the model
        has no tokens.
    """
    ...


class Advances(Encodes, Protocol):
  """A model of one timescale, which actions move through its latents."""

  @property
  def action_spec(self) -> ActionSpec:
    """The actions of a latent step."""
    ...

  @property
  def history(self) -> int:
    """Most latents that a state can be started from."""
    ...

  @property
  def policy(self) -> PolicyFn | None:
    """What acts, learnt with the model; None where nothing was."""
    ...

  def start(
    self,
    variables: Variables,
    latents: jax.Array,
    actions: jax.Array,
    *,
    grows: bool = False,
  ) -> LatentState:
    """Starts a state from the past.

    Args:
      variables: of the model.
      latents: `[..., L, D]`, `L` from 1 to `history`, oldest first.
      actions: `[..., L - 1, A]`, normalised, between them.
      grows: whether the state may change its shapes while it fills, which
        costs a rollout less; otherwise it has one shape.

    Returns:
      A state for `advance`: opaque, the predictor's own.
    """
    ...

  def advance(
    self, variables: Variables, state: LatentState, action: jax.Array
  ) -> LatentState:
    """Steps a state by one normalised action block `[..., A]`."""
    ...

  def absorb(
    self,
    variables: Variables,
    state: LatentState,
    action: jax.Array,
    latent: jax.Array,
  ) -> LatentState:
    """Steps a state by what was seen, in place of what is predicted.

    However much has been absorbed before, the cost is that of one step. What
    the predictor cannot hold is forgotten: a window of `history` latents is
    then that which `start` makes of the last ones.

    Args:
      variables: of the model.
      state: what `start`, `advance` or `absorb` returned.
      action: `[..., A]`, the normalised block that was played in it.
      latent: `[..., D]`, of what that led to.
    """
    ...

  def read(self, state: LatentState) -> jax.Array:
    """The newest latent `[..., D]` of a state."""
    ...

  def distance(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """How far latents `[..., D]` are from a goal, broadcast: `[...]`."""
    ...

  @property
  def num_agents(self) -> int:
    """Agents `G` whose actions an action is, one after another; mostly 1."""
    ...

  def agent_costs(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """What of `distance` is each agent's, `[..., G]`; they add up to it."""
    ...


class Learns(Encodes, Protocol):
  """A model that can be trained: by any optimiser, on any device."""

  @property
  def acting(self) -> Advances | None:
    """The model as one that actions move; None where it only encodes."""
    ...

  @property
  def stride(self) -> int:
    """Environment steps from one frame of a batch to the next."""
    ...

  @property
  def num_frames(self) -> int:
    """Fewest frames `T` of a batch that the loss can use."""
    ...

  @property
  def is_frozen(self) -> bool:
    """Whether the encoder is, so that its features may be cached."""
    ...

  def features(
    self, variables: Variables, observation: Observation
  ) -> jax.Array:
    """What the encoder makes of frames, in eval mode: `[..., F]`.

    Where `is_frozen`, a batch may hold these as `latents`, `[B, T, F]`, in
    place of `observation`. They are latents but for what is learnt on top.
    """
    ...

  def init(self, rng_key: jax.Array) -> Variables:
    """Fresh variables, float32; consumes the key.

    Returns:
      `{'params', 'batch_stats'}`, and as the target says 'frozen', which
      nothing changes, or 'target', which `after_update` moves.
    """
    ...

  def fitted(self, frozen: Any, observation: Observation) -> Any:
    """The collection 'frozen' with statistics of frames of the dataset.

    Args:
      frozen: the collection.
      observation: frames of the dataset, arrays `[..., *shape]`.

    Returns:
      `frozen` itself where the model asks for no such statistics.
    """
    ...

  def draw(
    self, rng: np.random.Generator, batch_size: int
  ) -> Mapping[str, Any]:
    """What a batch needs beside data, drawn on the host: masks, or nothing."""
    ...

  def losses(
    self, variables: Variables, batch: Batch, rng_key: jax.Array
  ) -> Losses:
    """The losses of a batch, batch statistics and dropout on.

    Args:
      variables: of the model.
      batch: see `Batch`.
      rng_key: of all that is drawn, consumed.

    Raises:
      ValueError: the batch has other shapes or a wrong dtype.
    """
    ...

  def parts(self) -> Parts:
    """`losses` in two parts, for batches that are encoded in chunks.

    Raises:
      ValueError: there are none, or they would spare nothing; says why.
    """
    ...

  def after_update(
    self, variables: Variables, step: jax.Array | int
  ) -> Variables:
    """Variables after an update of 'params', where a target follows them.

    Args:
      variables: with the new `params` and `batch_stats`.
      step: updates before this one.
    """
    ...

  def evaluate(
    self, variables: Variables, batch: Batch
  ) -> tuple[dict[str, jax.Array], jax.Array]:
    """A look at held-out data, in eval mode.

    Args:
      variables: of the model.
      batch: as for `losses`.

    Returns:
      Scalars by name, and the latents of the batch.
    """
    ...

  def for_inference(self, variables: Variables) -> Variables:
    """What an export holds and evaluations see: `{'params', 'batch_stats'}`."""
    ...


class Built:
  """The part of a model that its encoder and its target say."""

  encoder: encoders.Encoder
  target: targets.Target

  @property
  def observation_spec(self) -> ObservationSpec:
    """See `Encodes`."""
    return self.encoder.spec

  def after_update(
    self, variables: Variables, step: jax.Array | int
  ) -> Variables:
    """See `Learns`."""
    return self.target.after_update(variables, step)


class Alone:
  """The part of a model whose actions are those of one agent."""

  num_agents: int = 1

  def distance(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """See `Advances`."""
    raise NotImplementedError

  def agent_costs(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """See `Advances`: all of it."""
    return jnp.expand_dims(self.distance(latents, goal), -1)


class Level(NamedTuple):
  """One timescale of a world model.

  Attributes:
    model: steps latents on it.
    units: action statistics, of what the model's actions are normalised by.
    stride: environment steps that a latent step spans.
    params: first argument of the model's methods.
  """

  model: Advances
  units: Any
  stride: int
  params: Variables
