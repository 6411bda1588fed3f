"""Attention over many tokens by an accelerator's own kernel; the switch.

A kernel never writes the weights of all queries for all keys to memory, which
is most of what a large vision transformer moves. It computes what plain
attention does, to rounding; so no model says by which it was trained. Whoever
runs it does, around what is traced:

  with attention_kernels.use('auto'):
    state, metrics = train_step(state, batch)

What was traced under another kernel is traced anew.
"""

import contextlib
import functools
import importlib.util
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jepa_wm import fields

KERNELS = ('plain', 'auto', 'cudnn', 'splash')
"""What attends over `MANY` keys or more.

  'plain': matrix products and a softmax, by the compiler;
  'cudnn': on NVIDIA's GPUs cuDNN's flash attention, by
    `jax.nn.dot_product_attention`;
  'splash': on TPUs the splash attention of Pallas;
  'auto': both, each where it can.

On other chips than its own a kernel's attention is plain. What it cannot do is
refused where it was named, and done plainly with 'auto'. What is traced so is
lowered for any platform, but for one at a time.
"""

MANY = 128
"""Fewest keys that a kernel is asked for, the side of its blocks."""

# Of splash attention; the first that divides the tokens.
_BLOCKS = (512, 384, 256, 128)

_switch: Any = jax.make_user_context('plain')


def use(kernel: str) -> contextlib.AbstractContextManager[Any]:
  """Attends by `kernel` in all that is traced within.

  Args:
    kernel: one of `KERNELS`.

  Raises:
    ValueError: none of them.
  """
  fields.check_choice('attention', kernel, KERNELS)
  context: contextlib.AbstractContextManager[Any] = _switch(kernel)
  return context


def attend(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  *,
  mask: jax.Array | None = None,
  causal: bool = False,
  dropout: bool = False,
) -> jax.Array | None:
  """Mixes values by the kernel in use, if any is.

  Args:
    query: `[..., Q, num_heads, d]`, divided by the root of `d`.
    keys: `[..., T, num_heads, d]`.
    values: as `keys`.
    mask: bool, broadcasts against `[..., num_heads, Q, T]`: which keys a query
      sees, at least one each; all by default.
    causal: whether the queries are the last of the tokens, and none sees what
      comes after it.
    dropout: whether weights are dropped.

  Returns:
    `[..., Q, num_heads, d]`; None where it is to be done plainly.

  Raises:
    ValueError: the kernel was named, and cannot do this.
  """
  kernel = _switch.value
  if kernel == 'plain' or keys.shape[-3] < MANY:
    return None
  found = {}
  for name, platform, why_not, attend_fn in _OURS:
    if kernel not in ('auto', name):
      continue
    why = why_not(query, mask, dropout)
    if why is None:
      found[platform] = functools.partial(attend_fn, causal=causal)
    elif kernel == name:
      raise ValueError(
        f'attention={name!r} cannot be used here: {why}; with attention=auto '
        'what a kernel cannot do is done plainly.'
      )
  if not cudnn_is_there():
    # It cannot even be traced, and no program will run it.
    found.pop('cuda', None)
  if not found:
    return None
  given = (query, keys, values) if mask is None else (query, keys, values, mask)
  plain = functools.partial(_plain, causal=causal)
  mixed: jax.Array = jax.lax.platform_dependent(*given, default=plain, **found)
  return mixed


def cudnn_is_there() -> bool:
  """Whether JAX's plugin for CUDA is installed, by which it calls cuDNN."""
  return any(
    importlib.util.find_spec(name) is not None
    for name in ('jax_cuda12_plugin', 'jax_cuda13_plugin')
  )


def _why_not_cudnn(
  query: jax.Array, mask: jax.Array | None, dropout: bool
) -> str | None:
  """Why cuDNN cannot; its limits are those that JAX checks for."""
  num_queries, _, head_dim = query.shape[-3:]
  if query.dtype not in (jnp.bfloat16, jnp.float16):
    return f'cuDNN computes in bfloat16 or float16, and dtype is {query.dtype}'
  if dropout:
    return 'weights are dropped, which takes dropout=0'
  if head_dim > 128 or head_dim % 8:
    return f'heads must be at most 128 wide and a multiple of 8, not {head_dim}'
  if mask is not None and (num_queries % 2 or mask.shape[-1] % 2):
    return (
      'with a mask it wants an even number of tokens, and there are '
      f'{num_queries} queries and {mask.shape[-1]} keys'
    )
  return None


def _why_not_splash(
  query: jax.Array, mask: jax.Array | None, dropout: bool
) -> str | None:
  """Why splash attention cannot."""
  if query.dtype not in (jnp.bfloat16, jnp.float32):
    return f'it computes in bfloat16 or float32, and dtype is {query.dtype}'
  if dropout:
    return 'weights are dropped, which takes dropout=0'
  if mask is not None and any(size > 1 for size in mask.shape[-3:-1]):
    return 'the mask is not the same for all heads and queries'
  return None


def _plain(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None = None,
  *,
  causal: bool,
  implementation: Any = 'xla',
) -> jax.Array:
  """By `jax.nn.dot_product_attention`."""
  lead = query.shape[:-3]
  num_queries, num_keys = query.shape[-3], keys.shape[-3]
  if causal and (num_queries != num_keys or mask is not None):
    seen = jnp.tril(jnp.ones((num_keys, num_keys), bool))[-num_queries:]
    seen = seen.reshape((1,) * len(lead) + (1, *seen.shape))
    mask, causal = seen if mask is None else mask & seen, False
  if mask is not None:
    # Nobody sees more of the mask than it has: it may be one for all.
    *own, heads, _, _ = (1,) * (query.ndim - mask.ndim) + mask.shape
    first = lead if math.prod(own) > 1 else (1,) * len(lead)
    mask = jnp.broadcast_to(mask, (*first, heads, num_queries, num_keys))
    mask = mask.reshape(-1, *mask.shape[-3:])
  flat = [x.reshape(-1, *x.shape[-3:]) for x in (query, keys, values)]
  mixed: jax.Array = jax.nn.dot_product_attention(
    flat[0],
    flat[1],
    flat[2],
    mask=mask,
    scale=1.0,
    is_causal=causal,
    implementation=implementation,
  )
  return mixed.reshape(query.shape)


def splash(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None = None,
  *,
  causal: bool,
  interpret: bool = False,
) -> jax.Array:
  """Splash attention, see `attend`; the batch of every device by itself.

  Args:
    query: see `attend`, as all that is not here.
    keys: likewise.
    values: likewise.
    mask: of keys alone, `[..., 1, 1, T]`.
    causal: see `attend`.
    interpret: whether Python plays the kernel, on any device.
  """
  lead, num_keys = query.shape[:-3], keys.shape[-3]
  flat = [x.reshape(-1, *x.shape[-3:]) for x in (query, keys, values)]
  seen = jnp.ones((len(flat[0]), num_keys), bool)
  if mask is not None:
    seen = jnp.broadcast_to(mask[..., 0, 0, :], (*lead, num_keys))
    seen = seen.reshape(-1, num_keys)
  attend_fn: Any = functools.partial(
    _splash_whole, causal=causal, interpret=interpret
  )
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and mesh.size > 1:
    # No compiler can split a kernel; every device gets its part of the batch.
    size = mesh.shape.get('data', 1)
    spec = PartitionSpec('data' if size > 1 and not len(seen) % size else None)
    attend_fn = jax.shard_map(
      attend_fn, in_specs=(spec,) * 4, out_specs=spec, check_vma=False
    )
  return attend_fn(*flat, seen).reshape(query.shape)


def _splash_whole(
  query: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  seen: jax.Array,
  *,
  causal: bool,
  interpret: bool,
) -> jax.Array:
  """Of `[B, Q, num_heads, d]`, `[B, T, num_heads, d]` and bool `[B, T]`."""
  # Pallas takes half a second to import.
  from jax.experimental.pallas.ops.tpu import splash_attention as ops

  num_queries, num_keys = query.shape[1], keys.shape[1]
  # Blocks are whole; what fills them up is seen by nobody.
  query, keys, values = (
    jnp.swapaxes(_filled(x), 1, 2) for x in (query, keys, values)
  )
  shape = query.shape[2], keys.shape[2]
  own = (
    ops.splash_attention_mask.CausalMask(shape, offset=num_keys - num_queries)
    if causal
    else ops.splash_attention_mask.FullMask(shape)
  )
  block_q, block_kv = (
    next(block for block in _BLOCKS if not size % block) for size in shape
  )
  kernel = ops.splash_attention_kernel.make_splash_mha(
    ops.splash_attention_mask.MultiHeadMask([own] * query.shape[1]),
    block_sizes=ops.splash_attention_kernel.BlockSizes(
      block_q=block_q,
      block_kv=block_kv,
      block_q_dkv=block_q,
      block_kv_dkv=block_kv,
      block_q_dq=block_q,
      block_kv_dq=block_kv,
    ),
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )
  segments = ops.splash_attention_kernel.SegmentIds(
    jnp.ones((len(query), shape[0]), jnp.int32),
    jnp.pad(seen, ((0, 0), (0, shape[1] - num_keys))).astype(jnp.int32),
  )
  mixed = jax.vmap(kernel)(query, keys, values, segments)
  return jnp.swapaxes(mixed, 1, 2)[:, :num_queries]


def _filled(x: jax.Array) -> jax.Array:
  """Tokens `[B, T, num_heads, d]`, and zeros up to a multiple of `MANY`."""
  return jnp.pad(x, ((0, 0), (0, -x.shape[1] % MANY), (0, 0), (0, 0)))


_OURS: tuple[tuple[str, str, Any, Any], ...] = (
  (
    'cudnn',
    'cuda',
    _why_not_cudnn,
    functools.partial(_plain, implementation='cudnn'),
  ),
  ('splash', 'tpu', _why_not_splash, splash),
)
"""Name, platform, why it cannot and how it does, of every kernel."""
