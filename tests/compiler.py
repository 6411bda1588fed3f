"""How XLA compiles in tests: fast, rather than what runs fast.

Tests are small, and compilation is most of their time. With the old emitters,
one LLVM module and few passes it takes a quarter of it, and the last bits are
others; where those matter, a test asks for `AS_USERS_HAVE_IT`.
"""

FLAGS = (
  '--xla_cpu_use_fusion_emitters=false '
  '--xla_cpu_parallel_codegen_split_count=1 '
  '--xla_backend_optimization_level=0'
)
"""For `XLA_FLAGS`, also of a process that a test starts."""

AS_USERS_HAVE_IT = {
  'xla_cpu_use_fusion_emitters': True,
  'xla_cpu_parallel_codegen_split_count': 32,
  'xla_backend_optimization_level': 3,
}
"""XLA's defaults, for `jax.jit(compiler_options=)`."""
