"""Accelerators that programs are compiled for, by what is published of them."""

from typing import NamedTuple


class Chip(NamedTuple):
  """One chip.

  Attributes:
    name: of its kind.
    memory: high-bandwidth memory, GiB.
    peak: products of bfloat16, TFLOP/s; XLA computes those of float32 so, too,
      unless `jax.default_matmul_precision` says otherwise.
    bandwidth: of the memory, GB/s.
    links: of the connections to other chips, all together, GB/s.
    products: multiplications of its matrix units in a cycle, 128 x 128 each.
    source: where that is published.
  """

  name: str
  memory: float
  peak: float
  bandwidth: float
  links: float
  products: int
  source: str

  @property
  def clock(self) -> float:
    """Cycles a second, GHz, which its peak says."""
    return 1e3 * self.peak / (2 * self.products)


CHIPS = {
  'v5e': Chip(
    'TPU v5e',
    16,
    197,
    819,
    400,
    4 * 128**2,
    'https://cloud.google.com/tpu/docs/v5e',
  ),
  'v5p': Chip(
    'TPU v5p',
    95,
    459,
    2765,
    1200,
    8 * 128**2,
    'https://cloud.google.com/tpu/docs/v5p',
  ),
}
"""By the first word of a topology's name."""


def of(topology: str) -> Chip:
  """The chip of a topology such as 'v5e:2x2'.

  Raises:
    ValueError: nothing is known of it.
  """
  kind = topology.partition(':')[0]
  if kind not in CHIPS:
    raise ValueError(
      f'--topologies: nothing is known of the chips of {topology!r}; choose '
      f'those of {", ".join(CHIPS)}, as in v5e:2x2, or add them to '
      'benchmarks/chips.py.'
    )
  return CHIPS[kind]
