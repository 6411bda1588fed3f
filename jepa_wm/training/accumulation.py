"""The gradient of a loss of the whole batch, a few samples at a time.

A loss that compares samples with each other (SIGReg, VCReg, BatchNorm) is no
sum over parts of a batch. So latents are computed in chunks that keep nothing,
the loss and its slope by them of the whole batch, and then every chunk once
more, to be followed back from that slope: exact, for one more pass forward.

Source: GradCache, arXiv 2101.06983.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jepa_wm import sharding
from jepa_wm.training import state as state_lib
from jepa_wm.types import Params


class Parts(Protocol):
  """A loss in two parts, see `jepa_wm.models.model.Parts`."""

  @property
  def look(self) -> Callable[[Params, Any, jax.Array], Any]:
    """What every sample makes for itself."""
    ...

  @property
  def price(self) -> Callable[[Params, Any, Any, jax.Array], Any]:
    """What that costs, of the whole batch."""
    ...


class Splits(state_lib.Learner, Protocol):
  """A learner whose loss has two parts: `models.model.Learns` has this."""

  def parts(self) -> Parts:
    """The two; a ValueError where there are none."""
    ...


def value_and_grad(
  parts: Parts,
  variables_fn: Callable[[Params], Params],
  params: Params,
  batch: Any,
  rng_key: jax.Array,
  *,
  count: int,
) -> tuple[tuple[jax.Array, Any], Params]:
  """What `jax.value_and_grad` of the loss gives, in less memory.

  Args:
    parts: of the loss.
    variables_fn: all variables, to compute with, of those that are learnt.
    params: those.
    batch: leaves `[B, ...]`, split over `data`.
    rng_key: of the step.
    count: chunks; with the number of devices it divides `B`.

  Returns:
    The loss with its metrics and new batch statistics, and its gradient.
  """
  chunks = in_chunks(batch, count)
  # Both passes of a chunk draw alike.
  keys = jax.random.split(jax.random.fold_in(rng_key, 3), count)

  def look(params: Params, chunk: Any, key: jax.Array) -> Any:
    return parts.look(variables_fn(params), chunk, key)

  def loss_fn(params: Params, seen: Any) -> tuple[jax.Array, Any]:
    losses = parts.price(variables_fn(params), seen, batch, rng_key)
    return losses.loss, (losses.metrics, losses.batch_stats)

  def add(gradient: Params, given: Any) -> tuple[Params, None]:
    chunk, key, slopes = given
    _, backward_fn = jax.vjp(lambda params: look(params, chunk, key), params)
    (more,) = backward_fn(slopes)
    return jax.tree.map(jnp.add, gradient, more), None

  seen = joined(jax.lax.map(lambda given: look(params, *given), (chunks, keys)))
  found, (gradient, slopes) = jax.value_and_grad(
    loss_fn, argnums=(0, 1), has_aux=True
  )(params, seen)
  given = chunks, keys, in_chunks(slopes, count)
  gradient, _ = jax.lax.scan(add, gradient, given)
  return found, gradient


def in_chunks(batch: Any, count: int) -> Any:
  """Leaves `[B, ...]` as `[count, B / count, ...]`.

  Sample `b` is in chunk `b % count`, so that each device has as many of every
  chunk as any other, and those that it has already.
  """

  def cut(x: jax.Array) -> jax.Array:
    x = x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)
    return sharding.constrain(x, None, 'data')

  return jax.tree.map(cut, batch)


def joined(chunks: Any) -> Any:
  """What `in_chunks` has cut, in its order."""

  def join(x: jax.Array) -> jax.Array:
    x = x.swapaxes(0, 1)
    return sharding.constrain(x.reshape(-1, *x.shape[2:]), 'data')

  return jax.tree.map(join, chunks)
