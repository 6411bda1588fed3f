"""What a loss is made of: terms with names and weights, added up here.

A term is a small frozen dataclass with its own weights and settings, in a file
of its own, registered by name. It prices an `Outcome`: what a forward pass made
of a batch.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from jepa_wm import fields

TERMS = fields.Registry('term', 'jepa_wm.objectives')

PREDICTIONS = fields.Registry('prediction', 'jepa_wm.objectives')
"""The terms, among `TERMS`, that also make the predictions (`Prediction`)."""


class Outcome(NamedTuple):
  """What a forward pass made of a batch; a term reads what it needs.

  Attributes:
    latents: `[B, T, D]`, of all frames; `T` may be 1.
    rolled: for every step of a rollout (or kind of mask), what was predicted
      and what it should have been, two arrays of one shape `[B, ..., D]`.
    actions: `[B, T - 1, A]` in normalised units, None without actions.
    inferred: the same, by a head that saw the latents; None without one.
    meant: `[B, T - 1, T - 1, A]`, by a policy, at each frame for each later
      one; None without one.
    weights: for every entry of `rolled`, which of its rows `[B, ...]` count;
      None where all do.
    extra: what only one model and its own terms know of.
    pictures: drawn of the latents, and what was seen, both
      `[B, T, height, width, 3]` in 0..1; None where nothing draws.
    num_tokens: tokens in a row that a latent consists of.
  """

  latents: jax.Array
  rolled: Sequence[tuple[jax.Array, jax.Array]] = ()
  actions: jax.Array | None = None
  inferred: jax.Array | None = None
  meant: jax.Array | None = None
  weights: Sequence[jax.Array] | None = None
  extra: Any = None
  pictures: tuple[jax.Array, jax.Array] | None = None
  num_tokens: int = 1


class Priced(NamedTuple):
  """What a term makes of an outcome.

  Attributes:
    values: scalars by the names that metrics have for them.
    weights: their weights in the loss, the same names.
    metrics: scalars that are reported and do not count.
  """

  values: dict[str, jax.Array]
  weights: dict[str, float]
  metrics: dict[str, jax.Array]


class Windows(NamedTuple):
  """What a `Prediction` predicts.

  Attributes:
    predict_fn: windows of latents `[..., h, D]` and actions `[..., h, A]` to
      the latents one step on, for every token of the window.
    latents: `[B, T, D]`.
    targets: the same, of another encoder; None for `latents` themselves.
    actions: `[B, T - 1, A]`.
    history: longest window `h`.
    state_dim: numbers at the end of a latent that no network predicts.
    rng_key: of what is drawn, consumed.
  """

  predict_fn: Callable[[jax.Array, jax.Array], jax.Array]
  latents: jax.Array
  targets: jax.Array | None
  actions: jax.Array
  history: int
  state_dim: int
  rng_key: jax.Array


class Term(fields.Named, Protocol):
  """One term of a loss."""

  @property
  def shapes_latents(self) -> bool:
    """Whether it has weight, and nothing to act on but latents.

    Beside a frozen encoder it would do nothing.
    """
    ...

  def price(self, outcome: Outcome, rng_key: jax.Array) -> Priced:
    """Prices an outcome.

    Args:
      outcome: of a forward pass.
      rng_key: draws what the term needs; every term is given the same key.
    """
    ...


class Prediction(Term, Protocol):
  """The first term of a model with dynamics: it also makes the predictions."""

  @property
  def reaches_encoder(self) -> bool:
    """Whether any of its gradient reaches the encoder."""
    ...

  def num_frames(self, history: int) -> int:
    """Fewest frames of a batch that it needs, for windows of `history`."""
    ...

  def roll(self, batch: Windows) -> list[tuple[jax.Array, jax.Array]]:
    """Predicts, and says what should have been: `Outcome.rolled`."""
    ...


class OneValue(abc.ABC):
  """The part of a term that has one value, which is called as it is.

  Attributes:
    weight: in the loss; with 0 it is reported only.
  """

  name: ClassVar[str]

  weight: float

  def __post_init__(self) -> None:
    fields.check(self)

  @abc.abstractmethod
  def value(self, outcome: Outcome, rng_key: jax.Array) -> jax.Array:
    """The scalar, see `Term.price`."""

  def price(self, outcome: Outcome, rng_key: jax.Array) -> Priced:
    """See `Term`."""
    return one(self.name, self.weight, self.value(outcome, rng_key))


class Shaping(OneValue):
  """The part of a term with one value that acts on latents."""

  @property
  def shapes_latents(self) -> bool:
    """See `Term`."""
    return self.weight > 0


def one(
  name: str,
  weight: float,
  value: jax.Array,
  metrics: dict[str, jax.Array] | None = None,
) -> Priced:
  """What a term of a single value makes of an outcome."""
  return Priced({name: value}, {name: weight}, metrics or {})


def price(
  terms: Sequence[Term], outcome: Outcome, rng_key: jax.Array
) -> Priced:
  """Prices an outcome by all `terms`, in their order.

  Args:
    terms: of the loss.
    outcome: of a forward pass.
    rng_key: given to each of them.

  Returns:
    Everything together.

  Raises:
    ValueError: a value has no weight, or two terms give one name.
  """
  total = Priced({}, {}, {})
  for term in terms:
    priced = term.price(outcome, rng_key)
    if set(priced.values) != set(priced.weights):
      raise ValueError(
        f'The term {term.name!r} has values {sorted(priced.values)} and '
        f'weights {sorted(priced.weights)}; give one weight to each.'
      )
    if twice := total.values.keys() & priced.values.keys():
      raise ValueError(f'Two terms give a value named {min(twice)!r}.')
    total.values.update(priced.values)
    total.weights.update(priced.weights)
    total.metrics.update(priced.metrics)
  return total


def total(priced: Priced) -> jax.Array:
  """The loss: the weighted values, added up in their order.

  A value without weight is left out, and not times 0: it must not send back
  `0 * inf`.

  Raises:
    ValueError: no value has a weight.
  """
  parts = [
    priced.weights[name] * value
    for name, value in priced.values.items()
    if priced.weights[name]
  ]
  if not parts:
    raise ValueError(
      f'None of the terms {sorted(priced.values)} has a weight above 0.'
    )
  return sum(parts[1:], parts[0])
