"""Objects whose arrays JAX sees, and whose other attributes it compares.

`jax.jit`, `vmap`, `grad` and `tree.map` take such an object as they take a
dict of arrays: what is no array decides which program is meant.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import numpy as np

Class = TypeVar('Class', bound=type)


class _Rest:
  """All attributes of an object but its leaves; equal where it means the same.

  Attributes:
    kind: the object's class.
    attributes: by name.
    meaning: what is compared.
  """

  def __init__(self, kind: type, attributes: dict[str, Any], meaning: Any):
    self.kind, self.attributes, self.meaning = kind, attributes, meaning

  def __eq__(self, other: object) -> bool:
    return (
      isinstance(other, _Rest)
      and self.kind is other.kind
      and bool(self.meaning == other.meaning)
    )

  def __hash__(self) -> int:
    # Settings may hold what has no hash; few classes are told apart by more.
    return hash(self.kind)

  def __repr__(self) -> str:
    return f'{self.kind.__name__}({self.meaning!r:.200})'


def count_parameters(params: Any) -> int:
  """Numbers in a pytree."""
  return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))


def register(
  *leaves: str, meaning: Callable[[Any], Hashable | Any]
) -> Callable[[Class], Class]:
  """Makes a class of plain attributes a pytree; a decorator.

  Args:
    *leaves: attributes that are pytrees of arrays.
    meaning: what else two objects must agree in to be of one kind, compared by
      `==`. Attributes that are in neither (how something was trained) are
      kept, and where a program returns an object, they are those of the first
      one that it was compiled for.
  """

  def flatten(thing: Any) -> tuple[list[tuple[Any, Any]], _Rest]:
    attributes = dict(vars(thing))
    keyed = [
      (jax.tree_util.GetAttrKey(name), attributes.pop(name)) for name in leaves
    ]
    return keyed, _Rest(type(thing), attributes, meaning(thing))

  def unflatten(rest: _Rest, children: Any) -> Any:
    # Not by its constructor, which may check what is no array just now.
    thing: Any = object.__new__(rest.kind)
    vars(thing).update(rest.attributes, **dict(zip(leaves, children)))
    return thing

  def add(kind: Class) -> Class:
    jax.tree_util.register_pytree_with_keys(kind, flatten, unflatten)
    return kind

  return add
