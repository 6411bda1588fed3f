"""Tables of published tensor names beside ours, read in both directions."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import numpy as np


@dataclasses.dataclass(frozen=True)
class Entry:
  """One published tensor, and where we keep its numbers.

  Attributes:
    theirs: its name, '{}' for the index of a block.
    ours: paths in our variables, such as 'params/encoder/block_{}/norm/bias'.
    to_ours: the tensor as one array per path.
    to_theirs: takes these arrays, inverts `to_ours`.
  """

  theirs: str
  ours: tuple[str, ...]
  to_ours: Callable[[np.ndarray], Sequence[np.ndarray]]
  to_theirs: Callable[..., np.ndarray]


def _one(
  theirs: str,
  ours: str,
  to_ours: Callable[[np.ndarray], np.ndarray] = lambda x: x,
  to_theirs: Callable[[np.ndarray], np.ndarray] = lambda x: x,
) -> Entry:
  return Entry(theirs, (ours,), lambda x: [to_ours(x)], to_theirs)


def _bias(theirs: str, ours: str) -> Entry:
  return _one(f'{theirs}.bias', f'params/{ours}/bias')


def linear(theirs: str, ours: str) -> list[Entry]:
  """A linear map: weight `[out, in]` as kernel `[in, out]`, and its bias."""
  kernel = f'params/{ours}/kernel'
  weight = _one(f'{theirs}.weight', kernel, np.transpose, np.transpose)
  return [weight, _bias(theirs, ours)]


def stacked_linear(
  theirs: str, ours: Sequence[str], *, bias: bool = False
) -> list[Entry]:
  """Linear maps whose rows lie in one weight, and their biases if any."""
  kernels, biases = (
    tuple(f'params/{path}/{kind}' for path in ours)
    for kind in ('kernel', 'bias')
  )
  weight = Entry(
    f'{theirs}.weight',
    kernels,
    lambda x: [rows.T for rows in np.split(x, len(ours))],
    lambda *kernels: np.concatenate([x.T for x in kernels]),
  )
  stacked_bias = Entry(
    f'{theirs}.bias',
    biases,
    lambda x: np.split(x, len(ours)),
    lambda *biases: np.concatenate(biases),
  )
  return [weight, stacked_bias] if bias else [weight]


def pointwise(theirs: str, ours: str) -> list[Entry]:
  """A convolution `[out, in, 1]` of kernel one, which is a linear map."""
  kernel = f'params/{ours}/kernel'
  weight = _one(
    f'{theirs}.weight', kernel, lambda x: x[:, :, 0].T, lambda x: x.T[..., None]
  )
  return [weight, _bias(theirs, ours)]


def patches(theirs: str, ours: str, *, channels: int = 3) -> list[Entry]:
  """A convolution `[out, C, p, p]` over patches: kernel `[p * p * C, out]`."""

  def to_ours(weight):
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1).T

  def to_theirs(kernel):
    side = math.isqrt(len(kernel) // channels)
    return np.moveaxis(kernel.T.reshape(-1, side, side, channels), -1, 1)

  kernel = f'params/{ours}/kernel'
  weight = _one(f'{theirs}.weight', kernel, to_ours, to_theirs)
  return [weight, _bias(theirs, ours)]


def tubelets(
  theirs: str, ours: str, *, tubelet_size: int, channels: int = 3
) -> list[Entry]:
  """A convolution `[out, C, t, p, p]`: kernel `[t * p * p * C, out]`."""

  def to_ours(weight):
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1).T

  def to_theirs(kernel):
    side = math.isqrt(len(kernel) // (channels * tubelet_size))
    shape = -1, tubelet_size, side, side, channels
    return np.moveaxis(kernel.T.reshape(shape), -1, 1)

  kernel = f'params/{ours}/kernel'
  weight = _one(f'{theirs}.weight', kernel, to_ours, to_theirs)
  return [weight, _bias(theirs, ours)]


def norm(theirs: str, ours: str) -> list[Entry]:
  """A normalisation's scale and bias."""
  scale = _one(f'{theirs}.weight', f'params/{ours}/scale')
  return [scale, _bias(theirs, ours)]


def batch_norm(theirs: str, ours: str) -> list[Entry]:
  """A batch normalisation, with its running statistics."""
  return norm(theirs, ours) + [
    _one(f'{theirs}.running_{kind}', f'batch_stats/{ours}/{kind}')
    for kind in ('mean', 'var')
  ]


def table(theirs: str, ours: str, *, num_leading: int = 1) -> list[Entry]:
  """A table of numbers, theirs with `num_leading` axes of size one before."""
  lead = (0,) * num_leading
  expand = tuple(range(num_leading))
  return [
    _one(
      theirs,
      f'params/{ours}',
      lambda x: x[lead],
      lambda x: np.expand_dims(x, expand),
    )
  ]


class Layout:
  """A table of entries.

  The counters that PyTorch's batch norms keep beside their running statistics
  are left out in reading and written as zero.

  Args:
    entries: the table; of every published tensor at most one.
    ignored: names that may be there and mean nothing.
  """

  def __init__(self, entries: Iterable[Entry], *, ignored: Sequence[str] = ()):
    entries = tuple(entries)
    self._theirs = [(_pattern(entry.theirs), entry) for entry in entries]
    self._ours = [
      (_pattern(path), entry) for entry in entries for path in entry.ours
    ]
    self._ignored = frozenset(ignored)

  def convert(self, name: str, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """A published tensor as `{our path: our array}`, empty if it is ignored.

    Raises:
      ValueError: no such tensor in this layout.
    """
    if self._is_ignored(name):
      return {}
    entry, index = _find(self._theirs, name)
    if entry is None:
      raise ValueError(f'No tensor {name!r} is known in this layout.')
    paths = [path.format(index) for path in entry.ours]
    return dict(zip(paths, entry.to_ours(tensor)))

  def knows(self, name: str) -> bool:
    """Whether a published tensor of that name is in this layout."""
    return self._is_ignored(name) or _find(self._theirs, name)[0] is not None

  def to_variables(self, tensors: Mapping[str, np.ndarray]) -> Any:
    """Published tensors as our variables, nested.

    Raises:
      ValueError: a tensor that this layout does not have.
    """
    flat: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
      flat |= self.convert(name, tensor)
    return {
      'batch_stats': {},
      **flax.traverse_util.unflatten_dict(flat, sep='/'),
    }

  def to_tensors(self, variables: Any) -> dict[str, np.ndarray]:
    """Inverts `to_variables`; arrays may be views, in the order of blocks.

    Raises:
      ValueError: variables that this layout has no name for.
    """
    left = flax.traverse_util.flatten_dict(variables, sep='/')
    tensors, without_place = {}, []
    while left:
      path = next(iter(left))
      entry, index = _find(self._ours, path)
      paths = [p.format(index) for p in entry.ours] if entry else [path]
      if missing := [p for p in paths if p not in left]:
        raise ValueError(
          f'The variables hold {path!r} and not {missing[0]!r}, which the '
          'published model keeps in one tensor.'
        )
      arrays = [np.asarray(left.pop(p)) for p in paths]
      if entry is None:
        without_place.append(path)
        continue
      name = entry.theirs.format(index)
      tensors[name] = entry.to_theirs(*arrays)
      if name.endswith('.running_var'):
        counter = name.replace('.running_var', '.num_batches_tracked')
        tensors[counter] = np.zeros((), np.int64)
    if without_place:
      raise ValueError(
        f'The published model has no place for {without_place[0]!r}'
        f'{_others(len(without_place) - 1)}; only a model configured as '
        'published can be written for it.'
      )
    return dict(sorted(tensors.items(), key=lambda item: _natural(item[0])))

  def check(
    self, tensors: Mapping[str, np.ndarray], variables: Any, *, where: str
  ) -> None:
    """Compares names and shapes with what a model needs, before converting.

    Args:
      tensors: published, by name.
      variables: the model's, anything with shapes.
      where: they are from, for the message.

    Raises:
      ValueError: they differ; the message names the first, in the order of
        blocks, its expected and actual shape, and how many others differ.
    """
    # Broadcast, so that a model of any size takes no memory.
    empty = {
      path: np.broadcast_to(np.float32(0), leaf.shape)
      for path, leaf in flax.traverse_util.flatten_dict(
        variables, sep='/'
      ).items()
    }
    expected = {
      name: tensor.shape
      for name, tensor in self.to_tensors(
        flax.traverse_util.unflatten_dict(empty, sep='/')
      ).items()
      if not self._is_ignored(name)
    }
    actual = {
      name: tensor.shape
      for name, tensor in tensors.items()
      if not self._is_ignored(name)
    }
    names = sorted(expected.keys() | actual.keys(), key=_natural)
    differ = [x for x in names if expected.get(x) != actual.get(x)]
    if not differ:
      return
    first = differ[0]
    if first not in actual:
      problem = f'is missing, expected {list(expected[first])}'
    elif first not in expected:
      problem = f'{list(actual[first])} has no place in the model'
    else:
      problem = f'is {list(actual[first])}, expected {list(expected[first])}'
    heads = {name.partition('.')[0] for name in actual}
    if len(heads) == 1 and not expected.keys() & actual.keys():
      raise ValueError(
        f'{where}: all names of its tensors begin with {heads.pop() + "."!r}, '
        'which is no prefix that is known here; save them without it.'
      )
    raise ValueError(
      f'{where}: the tensor {first!r} {problem} by its config'
      f'{_others(len(differ) - 1, "differ")}; take weights and config of one '
      'model.'
    )

  def _is_ignored(self, name: str) -> bool:
    return name in self._ignored or name.endswith('.num_batches_tracked')


def _pattern(template: str) -> re.Pattern[str]:
  return re.compile(re.escape(template).replace(r'\{\}', r'(\d+)'))


def _find(
  table: Sequence[tuple[re.Pattern[str], Entry]], name: str
) -> tuple[Entry | None, str]:
  """The entry that `name` matches, and its block's index."""
  for pattern, entry in table:
    if match := pattern.fullmatch(name):
      return entry, ''.join(match.groups())
  return None, ''


def _natural(name: str) -> list[tuple[int, str]]:
  """Sorts block 2 before block 10."""
  return [(int(x), '') if x.isdigit() else (-1, x) for x in name.split('.')]


def _others(count: int, verb: str = '') -> str:
  if not count:
    return ''
  return f', and {count} {"others" if count > 1 else "other"} {verb}'.rstrip()
