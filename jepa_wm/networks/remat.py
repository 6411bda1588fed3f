"""Blocks that compute again in the backward pass what they do not keep.

A transformer's activations are those of its blocks. What a policy does not
save is computed again from the block's input: memory for time. Parameters,
their names and what is computed stay the same.

Source: Training deep nets with sublinear memory cost, arXiv 1604.06174.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import flax.linen as nn
import jax

_SAVED = jax.checkpoint_policies

POLICIES: dict[str, Any] = {
  'none': None,
  'full': _SAVED.nothing_saveable,
  'dots': _SAVED.dots_saveable,
  'dots_with_no_batch_dims': _SAVED.dots_with_no_batch_dims_saveable,
}
"""What a block keeps for its backward pass, by name.

  'none': everything, nothing is computed again;
  'full': its input alone, all is computed again;
  'dots': products of matrices, those of attention too;
  'dots_with_no_batch_dims': what its linear maps give; attention is computed
    again.
"""

_Kind = TypeVar('_Kind', bound=type[nn.Module])

_BLOCKS: set[type[nn.Module]] = set()


def block(kind: _Kind) -> _Kind:
  """Declares a class of modules to be a block; a decorator."""
  _BLOCKS.add(kind)
  return kind


@contextlib.contextmanager
def applied(policy: str) -> Iterator[None]:
  """Within it, blocks that are called keep what one of `POLICIES` says."""
  if policy == 'none':
    yield
    return
  is_within = False

  def intercept(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    nonlocal is_within
    module = context.module
    if is_within or not _is_call(context) or module.is_initializing():
      return next_fn(*args, **kwargs)

    def call(own: nn.Module, *inputs: Any) -> Any:
      return type(own).__call__(own, *inputs, **kwargs)

    is_within = True
    try:
      return nn.remat(call, policy=POLICIES[policy])(module, *args)
    finally:
      is_within = False

  with nn.intercept_methods(intercept):
    yield


def paths(function: Callable[..., Any], *args: Any) -> list[tuple[str, ...]]:
  """Where the blocks are that `function` calls; nothing is computed.

  Args:
    function: calls modules.
    *args: of it, arrays or their shapes.
  """
  found = []

  def intercept(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if _is_call(context):
      found.append(tuple(context.module.path))
    return next_fn(*args, **kwargs)

  with nn.intercept_methods(intercept):
    jax.eval_shape(function, *args)
  return found


def _is_call(context: Any) -> bool:
  """Whether a block is what is called."""
  is_block = type(context.module) in _BLOCKS
  return is_block and context.method_name == '__call__'
