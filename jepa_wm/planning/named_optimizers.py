"""Optimisers of planners by name, as a command line can say them."""

from collections.abc import Callable, Mapping

import optax

from jepa_wm.planning import checks

LEARNING_RATE = 0.1
"""Where none is given."""

OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
  'adam': optax.adam,
  'sgd': optax.sgd,
  'rmsprop': optax.rmsprop,
}
"""By the names that `make` takes."""

_TAKES = {'momentum': ('sgd', 'rmsprop'), 'decay': ('rmsprop',)}


def make(
  name: str,
  *,
  learning_rate: float | None = None,
  momentum: float | None = None,
  decay: float | None = None,
) -> optax.GradientTransformation:
  """The optimiser of a name.

  Args:
    name: one of `OPTIMIZERS`.
    learning_rate: `LEARNING_RATE` by default.
    momentum: of 'sgd' and 'rmsprop', the share of the last step that is made
      again; none by default.
    decay: of 'rmsprop', the share that is kept of the mean squared gradient;
      0.9 by default.

  Raises:
    ValueError: no such name, a number out of its range, or one that this
      optimiser does not have.
  """
  if name not in OPTIMIZERS:
    raise ValueError(
      f'optimizer must be one of {", ".join(OPTIMIZERS)} or an optax.'
      f'GradientTransformation, got {name!r}.'
    )
  rate = LEARNING_RATE if learning_rate is None else learning_rate
  checks.not_negative(learning_rate=rate)
  given = {'momentum': momentum, 'decay': decay}
  settings = {key: x for key, x in given.items() if x is not None}
  for key, value in settings.items():
    if name not in _TAKES[key]:
      raise ValueError(
        f'{key} would do nothing: {name!r} has none, only '
        f'{" and ".join(_TAKES[key])}.'
      )
    if not 0.0 <= value < 1.0:
      raise ValueError(f'{key} must be at least 0 and below 1, got {value}.')
  return OPTIMIZERS[name](rate, **settings)
