"""A joint-embedding predictive architecture, put together from five slots.

Encoder, actions, predictor, terms, target: a published system is a page that
fills them. Everything else that a model is asked for (`model.Learns`,
`model.Advances`) is here, once.

Source: A path towards autonomous machine intelligence (LeCun, 2022), section
4.4.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_wm.models import acting, encoding, model, modules, targets
from jepa_wm.networks import encoders
from jepa_wm.objectives import terms as terms_lib
from jepa_wm.types import (
  ActionSpec,
  LatentState,
  Observation,
  PolicyFn,
  Variables,
)

Terms = tuple[terms_lib.Prediction, *tuple[terms_lib.Term, ...]]
"""The terms of a loss, that of the prediction first."""

DistanceFn = Callable[[jax.Array, jax.Array], jax.Array]
"""Latents `[..., D]` and a goal, broadcast, to `[...]`."""


def squared_distance(latents: jax.Array, goal: jax.Array) -> jax.Array:
  """The squared Euclidean distance; a `DistanceFn`."""
  return jnp.sum(jnp.square(latents - goal), axis=-1)


@dataclasses.dataclass(frozen=True)
class Jepa(model.Built, model.Alone):
  """A JEPA as pure functions of its variables: `model.Learns` and `Advances`.

  Attributes:
    config: the settings it was built from.
    encoder: says what is observed.
    networks: the modules, the encoder's among them.
    latent_dim: size `D` of a latent.
    action_spec: the actions of a latent step.
    terms: of the loss, that of the prediction first.
    target: what encodes the latents to be predicted.
    distance_fn: how far a latent is from a goal.
    token_grid: rows and columns of the tokens that a latent consists of, row by
      row; None where it is one vector.
    feature_dim: size of what the encoder makes of a frame, where that is not
      `latent_dim`.
    state_dim: numbers of a latent after its tokens, which no network predicts.
  """

  config: Any
  encoder: encoders.Encoder
  networks: modules.Networks
  latent_dim: int
  action_spec: ActionSpec
  terms: Terms
  target: targets.Target
  distance_fn: DistanceFn = squared_distance
  token_grid: tuple[int, int] | None = None
  feature_dim: int | None = None
  state_dim: int = 0

  def __post_init__(self) -> None:
    """Checks that the slots fit each other.

    Raises:
      ValueError: they do not; the message names the one to change.
    """
    names = [term.name for term in self.terms]
    known = terms_lib.PREDICTIONS.names()
    if not names or names[0] not in known:
      raise ValueError(
        f'terms: the first must be one of {known}, which predict, got {names}.'
      )
    _ = self.num_frames
    shaping = [term.name for term in self.terms if term.shapes_latents]
    if self.target.is_frozen and shaping:
      raise ValueError(
        f'terms: {", ".join(shaping)} would do nothing, since target is '
        f'{self.target.name!r} and latents are what they are; leave them out, '
        'or set their weights to 0.'
      )
    if 'barlow_twins' in names and not self.terms[0].reaches_encoder:
      raise ValueError(
        'terms.barlow_twins works on predictions alone, of which '
        'terms.prediction.gradient=0 keeps the encoder: choose one of the two.'
      )

  @property
  def acting(self) -> 'Jepa':
    """The model itself: actions move it."""
    return self

  @property
  def num_tokens(self) -> int:
    """Tokens `P` of a latent."""
    return math.prod(self.token_grid or ())

  @property
  def clip_length(self) -> None:
    """None: every frame has a latent."""
    return None

  @property
  def history(self) -> int:
    """See `model.Advances`."""
    return self.networks.predictor.history

  @property
  def stride(self) -> int:
    """See `model.Learns`."""
    return self.action_spec.block

  @property
  def num_frames(self) -> int:
    """See `model.Learns`."""
    return self.terms[0].num_frames(self.history)

  @property
  def is_frozen(self) -> bool:
    """See `model.Learns`."""
    return self.target.is_frozen

  def init(self, rng_key: jax.Array) -> Variables:
    """See `model.Learns`."""
    observation = encoders.zeros(self.observation_spec)
    actions = jnp.zeros((1, 1, self.action_spec.size))
    variables = self.networks.init(
      rng_key, self.encoder.inputs(observation), actions
    )
    return self.target.split({'batch_stats': {}, **variables})

  def fitted(self, frozen: Any, observation: Observation) -> Any:
    """See `model.Learns`: what the settings of the encoder ask for."""
    part = {
      name: modules['encoder']
      for name, modules in frozen.items()
      if 'encoder' in modules
    }
    found = self.encoder.fitted(part, observation)
    if found is part:
      return frozen
    return {
      name: {**modules, **({'encoder': found[name]} if name in found else {})}
      for name, modules in frozen.items()
    }

  def draw(
    self, rng: np.random.Generator, batch_size: int
  ) -> Mapping[str, Any]:
    """See `model.Learns`: nothing is drawn."""
    del rng, batch_size
    return {}

  def encode(
    self,
    variables: Variables,
    observation: Observation,
    *,
    tokens: bool = False,
  ) -> jax.Array:
    """See `model.Encodes`."""
    if tokens and self.token_grid is None:
      raise ValueError(
        f'The model {self.config.name!r} has one latent a frame and no tokens; '
        'encode without tokens=True.'
      )
    inputs = self.encoder.inputs(observation)
    latents: jax.Array = self._apply(variables, inputs, method='encode')
    if not tokens:
      return latents
    flat = latents[..., : self.latent_dim - self.state_dim]
    return flat.reshape(*flat.shape[:-1], self.num_tokens, -1)

  def features(
    self, variables: Variables, observation: Observation
  ) -> jax.Array:
    """See `model.Learns`."""
    inputs = self.encoder.inputs(observation)
    found: jax.Array = self._apply(variables, inputs, method='features')
    return found

  def predict(
    self, variables: Variables, latents: jax.Array, actions: jax.Array
  ) -> jax.Array:
    """Predicts one latent step on for every token of a window, in eval mode.

    Args:
      variables: of the model.
      latents: `[..., L, D]`, `L` at most `history`.
      actions: `[..., L, A]`, normalised, the block taken at each latent.

    Returns:
      float32 `[..., L, D]`; the last token is the latent after the window.

    Raises:
      ValueError: sizes that do not fit the model, or too long a window.
    """
    for name, value, size in (
      ('latents', latents, self.latent_dim),
      ('actions', actions, self.action_spec.size),
    ):
      if value.ndim < 2 or value.shape[-1] != size:
        raise ValueError(
          f'{name} must be [..., L, {size}], got shape {value.shape}.'
        )
    return self._apply(variables, latents, actions, method='predict')

  def start(
    self,
    variables: Variables,
    latents: jax.Array,
    actions: jax.Array,
    *,
    grows: bool = False,
  ) -> LatentState:
    """See `model.Advances`; refuses goals, which may lack a state."""
    if latents.shape[-1] != self.latent_dim:
      raise ValueError(
        f'latents must be [..., L, {self.latent_dim}], {self.state_dim} '
        f'numbers of them the state (proprio), got shape {latents.shape}.'
      )
    return self._apply(variables, latents, actions, method='start', grows=grows)

  def advance(
    self, variables: Variables, state: LatentState, action: jax.Array
  ) -> LatentState:
    """See `model.Advances`."""
    return self._apply(variables, state, action, method='advance')

  def absorb(
    self,
    variables: Variables,
    state: LatentState,
    action: jax.Array,
    latent: jax.Array,
  ) -> LatentState:
    """See `model.Advances`."""
    return self._apply(variables, state, action, latent, method='absorb')

  def read(self, state: LatentState) -> jax.Array:
    """See `model.Advances`."""
    return self.networks.predictor.read(state)

  def distance(self, latents: jax.Array, goal: jax.Array) -> jax.Array:
    """See `model.Advances`."""
    return self.distance_fn(latents, goal)

  @property
  def policy(self) -> PolicyFn | None:
    """What acts, where a term has taught it; its draws are the likeliest."""
    if self.networks.policy is None:
      return None

    def act(
      params: Variables,
      rng_key: jax.Array | None,
      latents: jax.Array,
      goals: jax.Array,
      steps: jax.Array,
    ) -> jax.Array:
      del rng_key, steps
      found: jax.Array = self._apply(params, latents, goals, method='act')
      return found

    return act

  def losses(
    self, variables: Variables, batch: model.Batch, rng_key: jax.Array
  ) -> model.Losses:
    """See `model.Learns`; latents in a batch are for a frozen encoder."""
    return self._price(variables, None, batch, rng_key)

  def parts(self) -> model.Parts:
    """See `model.Learns`: encoding, up to where a projector normalises."""
    drawn = jax.eval_shape(self.init, jax.random.key(0))
    encoding.check_chunks(self.config.name, self.encoder.name, drawn)
    return model.Parts(self._look, self._price)

  def _look(
    self, variables: Variables, batch: model.Batch, rng_key: jax.Array
  ) -> encoding.Encoded:
    """What encoders make of a batch, see `model.Parts`."""
    _, inputs = self._given(variables, batch)
    return encoding.look(self.networks, variables, inputs, rng_key)

  def _price(
    self,
    variables: Variables,
    encoded: encoding.Encoded | None,
    batch: model.Batch,
    rng_key: jax.Array,
  ) -> model.Losses:
    """The losses of what is encoded, or is still to be."""
    actions = batch['action']
    given, inputs = self._given(variables, batch)
    dropout_key, term_key = jax.random.split(rng_key)
    averaged = encoding.averaged(self.networks, variables, inputs, encoded)

    def forward(networks: modules.Networks) -> Any:
      goals = averaged
      if encoded is not None:
        latents = networks.latents(encoded['encoder'], train=True)
      elif given is None:
        latents = networks.encode(inputs, train=True)
      else:
        latents = networks.embed(given)
        # What is learnt on top must not pull targets to what is predicted.
        goals = jax.lax.stop_gradient(latents)
      rolled = self.terms[0].roll(
        terms_lib.Windows(
          functools.partial(networks.predict, train=True),
          latents,
          goals,
          actions,
          self.history,
          self.state_dim,
          jax.random.fold_in(rng_key, 2),
        )
      )
      beside = (
        networks.infer_actions(latents),
        networks.mean_actions(latents),
      )
      return latents, rolled, beside, networks.draw(latents)

    (latents, rolled, beside, drawn), updates = self.networks.apply(
      targets.merged(variables),
      method=forward,
      rngs={'dropout': dropout_key},
      mutable=['batch_stats'],
    )
    outcome = terms_lib.Outcome(latents, rolled, actions, *beside)
    outcome = outcome._replace(num_tokens=max(1, self.num_tokens))
    if drawn is not None:
      seen = batch['observation']['pixels'].astype(jnp.float32) / 255.0
      outcome = outcome._replace(pictures=(drawn, seen))
    priced = terms_lib.price(self.terms, outcome, term_key)
    batch_stats = updates.get('batch_stats', {})
    if self.is_frozen:
      learnt = targets.learnt_part({'batch_stats': batch_stats})
      batch_stats = learnt['batch_stats']
    return model.Losses.of(priced, batch_stats, latents)

  def evaluate(
    self, variables: Variables, batch: model.Batch
  ) -> tuple[dict[str, jax.Array], jax.Array]:
    """See `model.Learns`: `acting.prediction_errors`."""
    return acting.prediction_errors(self, variables, batch)

  def for_inference(self, variables: Variables) -> Variables:
    """See `model.Learns`."""
    return targets.merged(variables)

  def _apply(self, variables: Variables, *args: Any, **how: Any) -> Any:
    return self.networks.apply(targets.merged(variables), *args, **how)

  def _given(
    self, variables: Variables, batch: model.Batch
  ) -> tuple[jax.Array | None, Any]:
    """Features of a frozen encoder, or what one to be trained takes.

    Raises:
      ValueError: what `check_windows` says, or latents for an encoder that
        is to be trained.
    """
    actions, size = batch['action'], self.feature_dim or self.latent_dim
    if 'latents' in batch:
      if not self.is_frozen:
        raise ValueError(
          'The batch holds latents, which train no encoder: set target to '
          "'frozen'."
        )
      acting.check_windows(self, size, 'latents', batch['latents'], actions)
      return batch['latents'], None
    observation = batch['observation']
    # The batches of a world have its state even where nobody asks for it.
    observation = {name: observation[name] for name in self.observation_spec}
    for name, array in observation.items():
      acting.check_windows(self, size, name, array, actions)
    if self.is_frozen:
      features = self.features(variables, observation)
      return jax.lax.stop_gradient(features), None
    return None, self.encoder.inputs(observation)
