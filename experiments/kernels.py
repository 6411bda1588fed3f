"""The flag that says by which kernel attention is computed, `--attention`."""

import contextlib
import sys
from typing import Any

import jax
from absl import flags

from jepa_wm.networks import attention_kernels

_BACKENDS = {'cudnn': 'gpu', 'splash': 'tpu'}


def define(own_flags: flags.FlagValues) -> None:
  """Makes the flag, once."""
  if 'attention' not in own_flags:
    flags.DEFINE_enum(
      'attention',
      'plain',
      attention_kernels.KERNELS,
      f'By what attention over {attention_kernels.MANY} tokens or more is '
      "computed: by plain products, by cuDNN on NVIDIA's GPUs or Pallas' "
      'splash attention on TPUs, or (auto) by one of these where it can.',
      flag_values=own_flags,
    )


def in_use(
  own_flags: flags.FlagValues,
) -> contextlib.AbstractContextManager[Any]:
  """The context that the flag asks for.

  Raises:
    ValueError: a kernel of another kind of device than there is.
  """
  kernel, backend = str(own_flags['attention'].value), 'cpu'
  if kernel != 'plain':
    backend = jax.default_backend()
  if (wanted := _BACKENDS.get(kernel, backend)) != backend:
    raise ValueError(
      f'--attention={kernel} is for a {wanted}, and this runs on a {backend}: '
      'leave it out, or say auto.'
    )
  if kernel == 'auto' and backend == 'cpu':
    print(
      '--attention=auto does nothing on a cpu: attention is plain.',
      file=sys.stderr,
    )
  return attention_kernels.use(kernel)
