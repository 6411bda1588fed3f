"""How XLA compiles in tests: fast, rather than what runs fast.

Tests are small, and compilation is most of their time. With the old emitters,
one LLVM module and few passes it takes a quarter of it, and the last bits are
others; where those matter, a test asks for `AS_USERS_HAVE_IT`.
"""

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
