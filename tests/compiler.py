"""How XLA compiles in tests: fast, rather than what runs fast.

Tests are small, and compilation is most of their time. With the old emitters,
one LLVM module and few passes it takes a quarter of it, and the last bits are
others; where those matter, a test asks for `AS_USERS_HAVE_IT`.
"""

import threading

import jaxlib

_OURS = {
  'xla_cpu_parallel_codegen_split_count': 1,
  # At 0 jaxlib 0.12 turns hues wrong (augmentation_test).
  'xla_backend_optimization_level': 1,
}
_USERS = {
  'xla_cpu_parallel_codegen_split_count': 32,
  'xla_backend_optimization_level': 3,
}
if jaxlib.__version__.split('.')[:2] == ['0', '10']:
  # Later ones have no other emitters, and end at a flag they do not know.
  _OURS |= {
    'xla_cpu_use_fusion_emitters': False,
    'xla_backend_optimization_level': 0,
  }
  _USERS |= {'xla_cpu_use_fusion_emitters': True}

FLAGS = ' '.join(f'--{name}={str(x).lower()}' for name, x in _OURS.items())
"""For `XLA_FLAGS`, also of a process that a test starts."""

AS_USERS_HAVE_IT = _USERS
"""XLA's defaults, for `jax.jit(compiler_options=)`."""


_LOWERED_IN_ONE = 50
"""Programs; a context keeps every type and constant that was in one of them."""


def share_contexts():
  """Lowers programs in one MLIR context after another's, not each in its own.

  To make one and to take it apart is four in five parts of the time in which a
  small program is lowered. What is lowered amid another program has its own, as
  it would be written into that one. Where JAX makes contexts elsewhere, nothing
  changes.
  """
  from jax._src.interpreters import mlir

  make = getattr(mlir, 'make_ir_context', None)
  if make is None:
    return
  of_thread = threading.local()

  def context():
    if mlir.ir.Context.current is not None:
      return make()
    number = getattr(of_thread, 'number', 0)
    if number % _LOWERED_IN_ONE == 0:
      of_thread.context = make()
    of_thread.number = number + 1
    return of_thread.context

  mlir.make_ir_context = context
