"""The base of all modules; linear maps by how they start, GELU, LayerNorm."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

DenseFn = Callable[..., nn.Dense]
"""`(features, fan_in, **nn.Dense fields) -> nn.Dense`: how a map starts."""


class Module(nn.Module, kw_only=True):
  """A Linen module that says what it computes in.

  Attributes:
    dtype: of the computation.
    param_dtype: of the parameters.
  """

  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32

  @property
  def dtypes(self) -> dict[str, Any]:
    """The two by name, for the modules inside."""
    return {'dtype': self.dtype, 'param_dtype': self.param_dtype}


def flat_dot_general(
  lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, **options: Any
) -> jax.Array:
  """`lax.dot_general` of `[..., D]` and a kernel, as a product of two matrices.

  The gradient of a kernel sums over all axes but the last: of several, XLA
  copies what it sums to put them together; of one it does not. A LeWM training
  step at 64 px takes a tenth less (CPU, jax 0.10).

  Args:
    lhs: `[..., D]`.
    rhs: `[D, F]`.
    dimension_numbers: those of `nn.Dense`, and no others.
    **options: of `lax.dot_general`.

  Returns:
    `[..., F]`.
  """
  *lead, width = lhs.shape
  flat = lhs.reshape(-1, width)
  del dimension_numbers
  out = jax.lax.dot_general(flat, rhs, (((1,), (0,)), ((), ())), **options)
  return out.reshape(*lead, rhs.shape[-1])


def uniform_dense(features: int, fan_in: int, **fields: Any) -> nn.Dense:
  """A linear map whose kernel and bias start in `U(-1, 1) / sqrt(fan_in)`.

  PyTorch's default for `nn.Linear`, in which LeWM's predictor, projectors and
  action encoder start.

  Args:
    features: size of the output.
    fan_in: size of the input, which the bias cannot see for itself.
    **fields: fields of `nn.Dense`.

  Returns:
    The module, to be called within a compact `__call__`.
  """
  bound = fan_in**-0.5

  def bias_init(rng_key, shape, dtype=jnp.float32):
    return jax.random.uniform(rng_key, shape, dtype, -bound, bound)

  fields.setdefault('bias_init', bias_init)
  # 1/3 of the fan-in variance, drawn uniformly, has the bound 1/sqrt(fan_in).
  fields.setdefault(
    'kernel_init', nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
  )
  return nn.Dense(features, dot_general=flat_dot_general, **fields)


def normal_dense(features: int, fan_in: int, **fields: Any) -> nn.Dense:
  """A linear map whose kernel starts in `N(0, 0.02)` and whose bias at zero.

  The ViT convention.

  Args:
    features: size of the output.
    fan_in: unused, so that it can stand where `uniform_dense` stands.
    **fields: fields of `nn.Dense`.

  Returns:
    The module, to be called within a compact `__call__`.
  """
  del fan_in
  fields.setdefault('kernel_init', nn.initializers.normal(0.02))
  return nn.Dense(features, dot_general=flat_dot_general, **fields)


def depth_scaled_dense(index: int) -> DenseFn:
  """How linear maps of block `index` start whose depth scales its outputs.

  As `normal_dense`, the maps that end in the residual stream divided by the
  root of twice the number of blocks up to here.

  Args:
    index: of the block, from 0.

  Returns:
    Takes what `normal_dense` takes.

  Source: BEiT (arXiv 2106.08254), section 2.5; V-JEPA 2's released code.
  """

  def dense(features: int, fan_in: int, **fields: Any) -> nn.Dense:
    if fields.get('name') == 'out':
      std = 0.02 / (2 * (index + 1)) ** 0.5
      fields['kernel_init'] = nn.initializers.normal(std)
    return normal_dense(features, fan_in, **fields)

  return dense


def gelu(x: jax.Array) -> jax.Array:
  """Exact GELU by erf, as PyTorch has it; `nn.gelu` takes the slower erfc."""
  return 0.5 * x * (1.0 + jax.lax.erf(x * 0.5**0.5))


def layer_norm(epsilon: float, **fields: Any) -> nn.LayerNorm:
  """A LayerNorm that also normalises features far smaller than one.

  The variance is computed in two passes: the fast formula's rounding drowns
  the epsilon of 1e-12 that published ViTs use.

  Args:
    epsilon: added to the variance.
    **fields: fields of `nn.LayerNorm`.

  Returns:
    The module, to be called within a compact `__call__`.
  """
  return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, **fields)
