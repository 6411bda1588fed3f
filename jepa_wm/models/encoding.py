"""How the networks of a JEPA encode a batch: at once, or in chunks of it."""

import functools
from typing import Any

import jax

from jepa_wm.models import modules, targets
from jepa_wm.types import Variables

Encoded = dict[str, jax.Array]
"""Features `[B, T, F]` before any projector, of the 'encoder' and, where there
is one, of its average, the 'target'."""


def check_chunks(name: str, encoder: str, variables: Variables) -> None:
  """Refuses a model whose frames are not encoded each for itself.

  Args:
    name: of the model.
    encoder: of its encoder.
    variables: of it, or their shapes.

  Raises:
    ValueError: they are not, or nothing of them is kept.
  """
  if 'frozen' in variables:
    raise ValueError(
      f'the encoder of {name!r} is frozen, so that nothing that it computes is '
      'kept; leave it at 1.'
    )
  if 'encoder' in variables['batch_stats']:
    raise ValueError(
      f'the encoder {encoder!r} normalises by the whole batch (BatchNorm), of '
      'which a chunk knows nothing; leave it at 1.'
    )


def look(
  networks: modules.Networks,
  variables: Variables,
  inputs: Any,
  rng_key: jax.Array,
) -> Encoded:
  """Encodes `inputs` of a batch, or of a chunk of it."""
  encode = functools.partial(networks.apply, method='encoded', train=True)
  own, rngs = targets.merged(variables), {'dropout': rng_key}
  found: dict[str, Any] = {'encoder': encode(own, inputs, rngs=rngs)}
  if 'target' in variables:
    average = encode(variables['target'], inputs)
    found['target'] = jax.lax.stop_gradient(average)
  return found


def averaged(
  networks: modules.Networks,
  variables: Variables,
  inputs: Any,
  encoded: Encoded | None,
) -> jax.Array | None:
  """Latents `[B, T, D]` of the average; None where there is none.

  It normalises by the statistics of the batch, as the encoder does that it
  follows.

  Args:
    networks: of the model.
    variables: of it.
    inputs: what is encoded.
    encoded: what is encoded already; None where nothing is.
  """
  if 'target' not in variables:
    return None
  method, given = 'encode', inputs
  if encoded is not None:
    method, given = 'latents', encoded['target']
  latents: Any = networks.apply(
    variables['target'], given, train=True, method=method
  )
  return jax.lax.stop_gradient(latents)
